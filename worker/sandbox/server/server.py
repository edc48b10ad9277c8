"""Running the sandbox as an HTTP server on loopback: in a thread for tests, in the foreground for users."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import os
import signal
import socket
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from worker.sandbox.auth import Auth, IssuedCredentials, Lifetimes
from worker.sandbox.calls import Sandbox
from worker.sandbox.contract import ServedContract
from worker.sandbox.data.orders import DEFAULT_RECORD_BYTES
from worker.sandbox.faults import FaultRule, Faults
from worker.sandbox.permissions import Permissions
from worker.sandbox.server.app import CONNECTION, create_app
from worker.sandbox.server.control import control_routes
from worker.sandbox.services import fill
from worker.sandbox.state.changes import tick
from worker.sandbox.state.store import Store
from worker.sandbox.state.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType, TracebackType

    from worker.sandbox.requests import RequestLog

_START_DEADLINE = 30.0
_STOP_DEADLINE = 5.0
_REQUEST_DEADLINE = 1.0
"""Seconds that requests have to end when the server stops."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class SandboxError(Exception):
    """The sandbox cannot run with these options."""


class NotLoopbackError(SandboxError):
    """The address of the sandbox would be reachable from other machines."""

    def __init__(self, host: str) -> None:
        self.host = host
        super().__init__(f"the sandbox listens on this machine only: use 127.0.0.1, not {host!r}")


class PortInUseError(SandboxError):
    """Another program listens on the port."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        super().__init__(f"port {port} on {host} is in use. Choose another port, or 0 for a free one")


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """The options of a sandbox.

    Args:
        host: A loopback address.
        port: TCP port; 0 uses a free one.
        orders: Orders at the start.
        changes_per_second: Events of the ticker per second: about a fifth are new orders, a tenth change only a
            shipment; 0 turns the ticker off.
        seed: Seed of data, changes and faults.
        record_bytes: Approximate size of an order as JSON.
        contract: Layout of responses and paths.
        faults: Fault rules.
        lifetimes: Lifetimes of tokens.
        credentials: The credentials that may log in.
        permissions: The permissions of their tokens.

    Raises:
        NotLoopbackError: `host` is not a loopback address.
    """

    host: str = "127.0.0.1"
    port: int = 0
    orders: int = 2_000
    changes_per_second: float = 2.0
    seed: int = 1
    record_bytes: int = DEFAULT_RECORD_BYTES
    contract: ServedContract = field(default_factory=ServedContract)
    faults: tuple[FaultRule, ...] = ()
    lifetimes: Lifetimes = field(default_factory=Lifetimes)
    credentials: IssuedCredentials = field(default_factory=IssuedCredentials)
    permissions: Permissions = field(default_factory=Permissions)

    def __post_init__(self) -> None:
        host = "127.0.0.1" if self.host == "localhost" else self.host
        try:
            loopback = ipaddress.ip_address(host).is_loopback
        except ValueError:
            loopback = False
        if not loopback:
            raise NotLoopbackError(self.host)


@dataclass(frozen=True, slots=True)
class SandboxReady:
    """What a program needs to use a sandbox that it started. The program prints these fields as one line of JSON."""

    url: str
    client_id: str
    client_secret: str
    orders: int


class SandboxServer:
    """A sandbox in its own thread with its own event loop; a context manager.

    `start` returns when the server answers requests, `stop` when the port is closed and the thread has ended. The state
    survives a stop: after another start the same orders are served on the same port, so a test can simulate an outage.

    Args:
        options: The options; alternatively pass its fields by keyword.
        fields: Fields of `SandboxOptions`. For tests, the defaults are 50 orders and no ticker.
    """

    def __init__(self, options: SandboxOptions | None = None, **fields: Any) -> None:
        self.options = options or SandboxOptions(**{"orders": 50, "changes_per_second": 0.0} | fields)
        self._sandbox = _build(self.options)
        self._port = self.options.port
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return _url(self.options.host, self._port)

    @property
    def store(self) -> Store:
        """The orders."""
        return self._sandbox.store

    @property
    def world(self) -> World:
        """Shipments, notes, the catalog, and all audit logs."""
        return self._sandbox.world

    @property
    def auth(self) -> Auth:
        """Tokens and logins."""
        return self._sandbox.auth

    @property
    def faults(self) -> Faults:
        """The fault rules in force."""
        return self._sandbox.faults

    def hide(self, kind: str, *ids: str) -> list[str]:
        """Make lists show records as they are now, even after they change; see `Sandbox.hide`."""
        return self._sandbox.hide(kind, ids)

    def show(self, kind: str) -> None:
        """Make lists show the current records of a kind again."""
        self._sandbox.show(kind)

    @property
    def requests(self) -> RequestLog:
        """The log of the requests."""
        return self._sandbox.requests

    def start(self) -> None:
        """Start the server, unless it runs.

        Raises:
            PortInUseError: Another program uses the port.
        """
        if self._thread is not None:
            return
        listener = _bind(self.options.host, self._port)
        self._port = listener.getsockname()[1]
        self._sandbox.stopping = asyncio.Event()
        self._server = server = _Server(self._sandbox, self.options)
        self._thread = threading.Thread(target=server.run_with, args=(listener,), name="sandbox", daemon=True)
        self._thread.start()
        server.ready.wait(_START_DEADLINE)
        if not server.started:
            self.stop()
            raise SandboxError("the sandbox did not start. Read its output on standard error")

    def stop(self) -> None:
        """Close the port and every connection, also of waiting requests, unless the server is stopped."""
        if self._thread is None or self._server is None:
            return
        self._server.end()
        self._thread.join(_STOP_DEADLINE)
        if self._thread.is_alive():
            raise SandboxError(f"the sandbox did not stop within {_STOP_DEADLINE:.0f} s")
        self._thread = self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def serve(
    options: SandboxOptions,
    on_ready: Callable[[SandboxReady], None] | None = None,
    *,
    watch_stdin: bool = False,
) -> None:
    """Run a sandbox in the foreground until SIGINT or SIGTERM. A second SIGINT ends it without waiting.

    Args:
        options: The options.
        on_ready: Called once, as soon as the server answers requests.
        watch_stdin: Also stop at the end of standard input. A sandbox that was started with a pipe then never outlives
            the program that started it, even if that program is killed.

    Raises:
        PortInUseError: Another program uses the port.
    """
    listener = _bind(options.host, options.port)
    sandbox = _build(options)
    server = _Server(sandbox, options)
    if on_ready is not None:
        ready = SandboxReady(
            url=_url(options.host, listener.getsockname()[1]),
            client_id=options.credentials.client_id,
            client_secret=options.credentials.client_secret,
            orders=len(sandbox.store),
        )
        server.on_ready = lambda: on_ready(ready)
    if watch_stdin:
        threading.Thread(target=server.end_with_stdin, name="sandbox-stdin", daemon=True).start()
    server.run_with(listener)


class _Protocol(HttpToolsProtocol):
    """Puts the transport into the scope, so that a fault can close the connection."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        scope = cast("dict[str, object]", self.scope)
        scope[CONNECTION] = self.transport


class _Server(uvicorn.Server):
    """uvicorn with a ticker. It does not wait for hanging requests, and does not raise signals again."""

    def __init__(self, sandbox: Sandbox, options: SandboxOptions) -> None:
        super().__init__(
            uvicorn.Config(
                create_app(sandbox, control_routes(sandbox)),
                http=_Protocol,
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                # Longer than clients keep an idle connection, so that the client closes it.
                timeout_keep_alive=75,
            )
        )
        self.ready = threading.Event()
        self.on_ready: Callable[[], None] = lambda: None
        self._sandbox = sandbox
        self._options = options
        self._ticker: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending = asyncio.Event()

    def end(self) -> None:
        """End the server soon. May be called from any thread, and from the handler of a signal."""
        self.should_exit = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._ending.set)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self.end()

    def run_with(self, listener: socket.socket) -> None:
        """Serve on this socket until `end` is called, then close the socket."""
        try:
            with contextlib.closing(listener), asyncio.Runner(loop_factory=_new_loop) as runner:
                runner.run(self.serve([listener]))
        finally:
            # Also after a failure, so that `start` does not wait for its timeout.
            self.ready.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        options = self._options
        self._ticker = asyncio.create_task(
            tick(
                self._sandbox.store,
                options.changes_per_second,
                options.seed,
                self._sandbox.world.shipments,
            )
        )
        self.ready.set()
        self.on_ready()

    async def main_loop(self) -> None:
        # uvicorn looks ten times a second whether it is to end. A test may start and stop many servers in that time.
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), 1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._sandbox.stopping.set()
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
        for listener in (*self.servers, *(sockets or ())):
            listener.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_REQUEST_DEADLINE):
                while (state.connections or state.tasks) and not self.force_exit:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.002)
        if state.tasks:
            logging.getLogger("uvicorn.error").error("%d requests did not end in time", len(state.tasks))
        for task in state.tasks:
            task.cancel()

    def end_with_stdin(self) -> None:
        """Read standard input to its end, then stop the server."""
        # Not sys.stdin: its lock, held by a daemon thread, would abort the interpreter when it shuts down.
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        self.end()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn raises the signals again after it has stopped, and an orderly end looks like a crash.
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _build(options: SandboxOptions) -> Sandbox:
    store = Store(
        options.orders, seed=options.seed, contract=options.contract, record_bytes=options.record_bytes
    )
    world = World(store)
    fill(world, options.seed)
    auth = Auth(options.credentials, options.lifetimes, permissions=options.permissions)
    return Sandbox(store, world, auth, Faults(options.faults, options.seed), options.contract)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(512)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(host, port) from error
        raise SandboxError(f"cannot listen on {host} port {port}: {error.strerror}") from error
    return listener


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # noqa: PLC0415 - not available on Windows
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
