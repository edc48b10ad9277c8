"""The HTTP endpoint for probes, scrapers and people: GET and HEAD of fixed paths, one answer for each connection.

aiohttp.web serves it. Callers are strangers: `worker.telemetry.http_limits` limits their number and the life of each
connection, this module what they may send, and under which names they may call it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeAlias

from aiohttp import web
from aiohttp.http import HttpProcessingError

from worker.errors import SettingsError
from worker.telemetry.http_limits import Connections

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

PORT_SETTING = "ORDERSYNC_METRICS__PORT"
ANSWER_SECONDS = 10.0
"""Time for a route to answer; after it the caller gets 503."""
SHUTDOWN_SECONDS = 1.0
"""Time for requests in progress when the block ends."""
_LIMITS: dict[str, Any] = {
    "max_line_size": 4096,
    "max_field_size": 4096,
    "max_headers": 64,
    "lingering_time": 0,  # a body is not read
    "access_log": None,
}
"""Bytes of the request line and of a header, number of headers, and what else aiohttp does with each connection."""

Answer: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """What answers the requests for one path.

    `streams`: the answer goes on until the caller leaves, such as server-sent events. Few callers may have one.
    """

    answer: Answer
    streams: bool = False


Routes: TypeAlias = Mapping[str, Route]


@asynccontextmanager
async def serving(
    host: str, port: int, routes: Routes, *, names: Collection[str] = (), setting: str = PORT_SETTING
) -> AsyncIterator[int]:
    """Serve the routes while the block runs; yields the port, which the system chooses if `port` is 0.

    `names`: further names of this host under which callers may reach it; see `may_be_called`. `setting`: what a user
    sets the port with.

    Raises:
        SettingsError: The address cannot be listened on.

    """
    own = frozenset(name.lower() for name in (host, socket.gethostname(), *names))
    runner = web.ServerRunner(_Server(routes, own), shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            advice = (
                ", or an address of this host as ORDERSYNC_METRICS__HOST" if setting == PORT_SETTING else ""
            )
            raise SettingsError(
                f"{setting}: {host}:{port} cannot be used: {error.strerror or error}. Choose another port{advice}."
            ) from None
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def serving_near(
    host: str, port: int, routes: Routes, *, names: Collection[str] = ()
) -> AsyncIterator[int]:
    """Serve the routes as `serving` does, on another free port if this one is taken; yields the port."""
    async with AsyncExitStack() as stack:
        try:
            number = await stack.enter_async_context(serving(host, port, routes, names=names))
        except SettingsError:
            number = await stack.enter_async_context(serving(host, 0, routes, names=names))
        yield number


def may_be_called(host: str, names: Collection[str]) -> bool:
    """Return True if the header `Host` names this endpoint in a way that a foreign web page cannot.

    A page of a stranger reaches an address of this host by giving its own name that address (DNS rebinding); the
    browser then sends that name. An address is no such name, nor is one without a dot, such as that of a container.
    `names`: further names, in lower case.
    """
    name = host.strip().lower()
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    elif name.count(":") == 1:
        name = name.partition(":")[0]
    name = name.removesuffix(".")
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name in names or (bool(name) and "." not in name)
    return True


class _Server(web.Server):
    """aiohttp's server with fixed routes, and limits on its callers."""

    def __init__(self, routes: Routes, names: Collection[str]) -> None:
        super().__init__(self._handle)
        self._routes, self._names = routes, names
        self._callers = Connections()

    def __call__(self) -> web.RequestHandler:
        """Return the handler of a new connection."""
        return _Handler(self, loop=asyncio.get_running_loop(), logger=_logger, **_LIMITS)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Limit the life of the connection, and their number."""
        super().connection_made(handler, transport)
        self._callers.add(handler, transport)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """Forget the connection."""
        self._callers.remove(handler)
        super().connection_lost(handler, exc)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self._callers.asked(request.protocol)
        response = await self._respond(request)
        return response if response.prepared else _final(response)

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        if refusal := self._refused(request):
            return refusal
        route = self._routes[request.path]
        if route.streams:
            is_free = self._callers.stream(request.protocol)
            return await route.answer(request) if is_free else _plain(HTTPStatus.SERVICE_UNAVAILABLE)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await route.answer(request)
        except TimeoutError:
            return _plain(HTTPStatus.SERVICE_UNAVAILABLE)

    def _refused(self, request: web.BaseRequest) -> web.Response | None:
        """Return the response to a request that no route answers; None for others."""
        host = request.headers.get("Host")  # not in each request of HTTP/1.0, but in all of browsers
        if host is not None and not may_be_called(host, self._names):
            return _plain(
                HTTPStatus.MISDIRECTED_REQUEST,
                "This host is not called by that name. If it is, add the name to ORDERSYNC_METRICS__NAMES.",
            )
        if request.method not in {"GET", "HEAD"}:
            return _plain(HTTPStatus.METHOD_NOT_ALLOWED)
        if request.body_exists:
            return _plain(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return None if request.path in self._routes else _plain(HTTPStatus.NOT_FOUND)


class _Handler(web.RequestHandler):
    """aiohttp's handler of one connection, whose error responses tell nothing of the server."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Log an error of a route, and return the response to it, or to a request that is not HTTP."""
        super().handle_error(request, status, exc, message)
        return _final(_plain(HTTPStatus(status)))


def _plain(status: HTTPStatus, text: str = "") -> web.Response:
    return web.Response(
        status=status, body=f"{text or status.phrase}\n".encode(), headers={"Content-Type": "text/plain"}
    )


def _final(response: web.StreamResponse) -> web.StreamResponse:
    """Return the response with the headers that all have."""
    response.headers.update({"Cache-Control": "no-store", "Server": "ordersync"})
    response.force_close()
    return response


def _is_event(record: logging.LogRecord) -> bool:
    """True unless the caller did not speak HTTP, which aiohttp answers with 400 and logs as an error."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_logger = logging.getLogger("aiohttp.server.monitoring")
_logger.addFilter(_is_event)
