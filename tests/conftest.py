"""What every test stands on: a real Valkey over a socket, the sandbox over HTTP, a worker built of real parts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import msgspec
import psutil
import pytest
import redis
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from jsonschema_rs import Draft202012Validator
from pydantic import SecretStr
from redis.asyncio import Redis

from worker.app import open_services
from worker.capture.registry import ORDERS
from worker.capture.resources import Captured
from worker.capture.state.cursor import Cursor
from worker.capture.state.run import Run
from worker.capture.state.store import StateStore
from worker.clock import SystemClock
from worker.config.sections import Account, ApiSettings
from worker.contracts.log_schema import log_schema
from worker.ordermesh.contract.findings import Capabilities, fingerprint, no, yes
from worker.queue.envelope import Event
from worker.queue.streams import tail as stream
from worker.redis.connections import answer
from worker.redis.embedded import _binary
from worker.sandbox import CLIENT_ID, CLIENT_SECRET, SandboxServer
from worker.services import AccountServices, Services
from worker.telemetry import log as logs
from worker.telemetry.catalog import EXTRA, LIBRARY, UNLISTED
from worker.telemetry.catalog.conformity import conformity

# How fast examples are made says how busy the machine is, and nothing about what is tested.
hypothesis_settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("patient")


PATIENCE = 100.0
"""Seconds to wait for what must come. A slow machine with much else to do needs a part of it, a quick one none."""


def free_port() -> int:
    """A port that nothing listens on at the moment, and that no client is given for its end of a connection.

    Those that the system gives away by itself begin at 32768; one of them may be gone before it is used.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Server:
    """A Redis or Valkey server of our own, which a test may stop, kill and start again."""

    def __init__(self, folder: Path, binary: str | None = None, *options: str) -> None:
        self.folder, self.port, self._options = folder, free_port(), options
        self._binary = binary or os.environ.get("TEST_SERVER") or _binary()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it on its port, with what its append-only file holds, and wait until it answers."""
        self._process = subprocess.Popen(
            [
                *(self._binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
                *("--save", "", "--appendonly", "yes", "--hash-max-listpack-value", "256", *self._options),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + PATIENCE
        with redis.Redis(port=self.port) as client:
            while time.monotonic() < deadline:
                assert self._process.poll() is None, "the server has ended"
                try:
                    client.ping()
                except redis.ConnectionError:
                    time.sleep(0.01)
                else:
                    return
        raise AssertionError("the server did not start")

    def stop(self, *, kill: bool = False) -> None:
        """End it: in order, or with SIGKILL."""
        if self._process is not None:
            self._process.kill() if kill else self._process.terminate()
            self._process.wait(PATIENCE)
            self._process = None


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        server.start()
        yield server
        server.stop()


@pytest.fixture
def redis_url(shared_server: Server) -> str:
    """An empty database."""
    with redis.Redis.from_url(shared_server.url) as client:
        client.flushall()
    return shared_server.url


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """A server of the test's own, to be stopped and killed."""
    server = Server(tmp_path)
    server.start()
    yield server
    server.stop(kill=True)


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    """An OrderMesh with 50 orders that change only when the test says so."""
    with SandboxServer(orders=50) as server:
        yield server


@pytest.fixture(autouse=True)
def quiet_logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Logs go to stderr as JSON, where pytest shows them for a failed test only.

    Every line is held against the catalogue of log events (`worker.telemetry.catalog`): one that it does not know fails
    the test, also where the code under test swallows the error.
    """
    logs.configure("json", "debug")
    monkeypatch.setattr(conformity, "strict", True)
    conformity.found.clear()
    yield
    logs.redaction.forget_all()
    assert conformity.found == []


LOG_LINE = Draft202012Validator(log_schema(), validate_formats=True)
"""The published schema of a line of the log."""


def check_log(lines: Iterable[dict[str, Any]]) -> None:
    """See that lines fit the published schema, and that none is of an event or a field that is not in the catalogue."""
    for line in lines:
        errors = "; ".join(error.message for error in LOG_LINE.iter_errors(line))
        assert not errors, f"not a line of the log: {line}: {errors}"
        known = line["event"] == LIBRARY or not {line["event"]} & {UNLISTED} | line.keys() & {EXTRA}
        assert known, f"not in worker/telemetry/catalog: {line}"


def account_for(sandbox: SandboxServer, name: str = "default", **api: Any) -> Account:
    """An account at the sandbox, with a budget that does not slow a test down."""
    settings = {"requests_per_second": 10_000, "timeout": 30, "attempts": 3, **api}
    return Account(
        name=name,
        api=ApiSettings(
            base_url=sandbox.url, client_id=CLIENT_ID, client_secret=SecretStr(CLIENT_SECRET), **settings
        ),
        intervals={"orders": 1.0},
        ignore_fields={},
    )


async def know_contract(place: Services) -> None:
    """Let it be found, for every account, that the orders are where and what the profile says."""
    for desk in place.accounts.values():
        believed = desk.capabilities.configured
        found = Capabilities(
            resource="orders",
            search="orders.search",
            at=place.clock.now(),
            configured=fingerprint(believed),
            state="found",
            pages=yes("the profile says so"),
            filtering=no("the profile says so"),
            single=yes("the profile says so"),
            single_alike=True,
        )
        await answer(place.redis.hset(desk.keys.contract, "orders", msgspec.json.encode(found).decode()))


@dataclass(slots=True)
class Bench:
    """A worker's parts at work on one account, for tests that poll by hand."""

    place: Services
    desk: AccountServices
    redis: Redis
    sandbox: SandboxServer
    store: StateStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = StateStore(self.redis, self.desk.keys, ORDERS)

    async def poll(self, captured: Captured = ORDERS, **options: Any) -> Run:
        """One poll, of the orders unless something else is named."""
        return await self.desk.poller.poll(captured, **options)

    async def events(self, name: str = "orders") -> list[Event]:
        """Every event of the orders, or of something else, in order."""
        key = self.desk.keys.stream(name)
        return [event async for event in stream.follow(self.redis, key, "0", wait=False)]

    async def cursor(self) -> Cursor:
        """Where the orders stand."""
        return await self.store.load_cursor()


BenchMaker = Callable[..., Any]


@pytest.fixture
def bench(redis_url: str, sandbox: SandboxServer) -> Callable[..., AsyncExitStack]:
    """Builds a worker for `async with`; its options, such as `page_size=10`, are those of `ApiSettings`.

    `privacy`, `events`, `reconcile` and `intervals` are those parts of the settings.
    It believes what the profile says, as after a probe, so that a test sees its own requests alone; with
    `probe=True` it asks the gateway first, as a worker does. `clock` is what it takes for the time.
    """

    def make(server: SandboxServer = sandbox, url: str = redis_url, **api: Any) -> Any:
        return _Bench(server, url, api)

    return make


class _Bench:
    def __init__(self, sandbox: SandboxServer, url: str, api: dict[str, Any]) -> None:
        self._probe, self._clock = api.pop("probe", False), api.pop("clock", None) or SystemClock()
        self._parts = {
            name: api.pop(name)
            for name in ("privacy", "events", "reconcile", "intervals", "interest")
            if name in api
        }
        self._sandbox, self._url, self._api = sandbox, url, api
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Bench:
        account = replace(account_for(self._sandbox, **self._api), **self._parts)
        place = await self._stack.enter_async_context(open_services([account], self._url, self._clock))
        if not self._probe:
            await know_contract(place)
        return Bench(place, place.accounts[account.name], place.redis, self._sandbox)

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()
        await asyncio.sleep(0)  # lets the transports that were closed say goodbye


async def eventually(check: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Wait until `check()`, which may be a coroutine function, gives something true; give it back."""
    deadline = time.monotonic() + seconds
    while True:
        result = check()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return result
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.02)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def program_env(**settings: str) -> dict[str, str]:
    """The environment of a program under test: this one without settings of the worker, and with these."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ORDERSYNC_", "XDG_")) and name not in {"NO_COLOR", "FORCE_COLOR"}
    }
    return inherited | {f"ORDERSYNC_{name.upper()}": value for name, value in settings.items()}


def login_settings(sandbox: SandboxServer, redis_url: str, data_dir: Path, **more: str) -> dict[str, str]:
    """The settings of a worker at the sandbox that polls every second."""
    return {
        "api__base_url": sandbox.url,
        "api__client_id": CLIENT_ID,
        "api__client_secret": CLIENT_SECRET,
        "api__requests_per_second": "1000",
        "redis__url": redis_url,
        "poll__intervals": '{"orders": 1}',
        "data_dir": str(data_dir),
        **more,
    }


def ordersync(*arguments: str, cwd: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command of `ordersync` to its end, in a folder without `.env`."""
    return subprocess.run(
        [sys.executable, "-m", "worker.cli", *arguments],
        cwd=cwd,
        env=program_env(**settings),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


async def run_beside(*command: str, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run any program to its end, without holding up the loop."""
    return await asyncio.to_thread(
        subprocess.run,
        command,
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


class Program:
    """A program that runs beside the test; its output goes to files. A context manager that leaves nothing running."""

    def __init__(self, folder: Path, *command: str, **settings: str) -> None:
        self._folder, self._command, self._settings = folder, command, settings
        self._out, self._err = folder / f"out-{id(self)}", folder / f"err-{id(self)}"
        self.process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                self._command or (sys.executable, "-m", "worker.cli", "run"),
                cwd=self._folder,
                env=program_env(**self._settings),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        return self

    def __exit__(self, *exc: object) -> None:
        family = [self.process.pid, *(child.pid for child in self.children())]
        for pid in family:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait(PATIENCE)
        if exc[0] is None and self._command == ():
            check_log(self.logs())

    @property
    def out(self) -> str:
        """What it has written to standard output so far."""
        return self._out.read_text()

    @property
    def err(self) -> str:
        """What it has written to standard error so far."""
        return self._err.read_text()

    def logs(self, event: str | None = None) -> list[dict[str, Any]]:
        """The whole lines of its log; those of one event."""
        lines = [json.loads(line) for line in self.err.splitlines(keepends=True) if line.endswith("}\n")]
        return [line for line in lines if event in (None, line["event"])]

    async def logged(self, event: str, times: int = 1, seconds: float = PATIENCE) -> dict[str, Any]:
        """Wait for a line of the log; the last one so far."""
        await eventually(lambda: len(self.logs(event)) >= times or self.process.poll() is not None, seconds)
        assert len(self.logs(event)) >= times, self.err
        return self.logs(event)[-1]

    def children(self) -> list[psutil.Process]:
        """The processes that it has started and that still run."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    async def ended(self, seconds: float = PATIENCE) -> int:
        """Wait for its end; the exit code."""
        await eventually(lambda: self.process.poll() is not None, seconds)
        return self.process.wait()
