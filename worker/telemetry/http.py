"""The HTTP endpoint for probes and scrapers: GET and HEAD of fixed paths, one answer for each connection.

aiohttp.web serves it. Callers are strangers: their number and the life of each connection are limited.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeAlias

from aiohttp import web
from aiohttp.http import HttpProcessingError

from worker.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ANSWER_SECONDS = 10.0
"""Time for a route to answer; after it the caller gets 503."""
CONNECTION_SECONDS = 20.0
"""Time for a connection as a whole: to ask, to be answered, and to take the answer. aiohttp sets no limit itself:
before 3.14.5 not even to a caller that never asks."""
MAX_CONNECTIONS = 32
SHUTDOWN_SECONDS = 1.0
"""Time for requests in progress when the block ends."""

Routes: TypeAlias = Mapping[str, Callable[[], Awaitable[web.Response]]]


@asynccontextmanager
async def serving(host: str, port: int, routes: Routes) -> AsyncIterator[int]:
    """Serve the routes while the block runs; yields the port, which the system chooses if `port` is 0.

    Raises:
        SettingsError: The address cannot be listened on.

    """

    async def handle(request: web.BaseRequest) -> web.Response:
        response = await _respond(request, routes)
        response.headers.update({"Cache-Control": "no-store", "Server": "ordersync"})
        response.force_close()
        return response

    runner = web.ServerRunner(_Server(handle), shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise SettingsError(
                f"ORDERSYNC_METRICS__PORT: {host}:{port} cannot be used: {error.strerror or error}. Choose another "
                "port, or an address of this host as ORDERSYNC_METRICS__HOST."
            ) from None
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def _respond(request: web.BaseRequest, routes: Routes) -> web.Response:
    if request.method not in {"GET", "HEAD"}:
        return _plain(HTTPStatus.METHOD_NOT_ALLOWED)
    route = routes.get(request.path)
    if route is None:
        return _plain(HTTPStatus.NOT_FOUND)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await route()
    except TimeoutError:
        return _plain(HTTPStatus.SERVICE_UNAVAILABLE)


def _plain(status: HTTPStatus) -> web.Response:
    return web.Response(
        status=status, body=f"{status.phrase}\n".encode(), headers={"Content-Type": "text/plain"}
    )


class _Server(web.Server):
    """aiohttp's server, which also limits the number of connections and the life of each."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.Response]]) -> None:
        super().__init__(handler, access_log=None, logger=_logger)
        self._deadlines: dict[web.RequestHandler, asyncio.TimerHandle] = {}

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Close the connection after a while, and at once if there are too many."""
        super().connection_made(handler, transport)
        seconds = CONNECTION_SECONDS if len(self.connections) <= MAX_CONNECTIONS else 0.0
        self._deadlines[handler] = asyncio.get_running_loop().call_later(seconds, transport.abort)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """Forget the deadline."""
        if deadline := self._deadlines.pop(handler, None):
            deadline.cancel()
        super().connection_lost(handler, exc)


def _is_event(record: logging.LogRecord) -> bool:
    """True unless the caller did not speak HTTP, which aiohttp answers with 400 and logs as an error."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_logger = logging.getLogger("aiohttp.server.monitoring")
_logger.addFilter(_is_event)
