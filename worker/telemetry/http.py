"""A small HTTP endpoint for probes and scrapers: GET and HEAD of fixed paths, one answer to a connection.

It is no web server: it reads no bodies, keeps no connection, and gives a caller a few seconds and kilobytes.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeAlias

from worker.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

CALLER_SECONDS = 5.0
"""Within which a caller must have asked, and taken the answer."""
ANSWER_SECONDS = 10.0
MAX_HEAD = 8192
MAX_CALLERS = 32


@dataclass(frozen=True, slots=True)
class Answer:
    """What a path answers with."""

    status: int
    body: bytes
    content_type: str = "application/json"


Routes: TypeAlias = "Mapping[str, Callable[[], Awaitable[Answer]]]"


@asynccontextmanager
async def serving(host: str, port: int, routes: Routes) -> AsyncIterator[int]:
    """Answer while the block runs; gives the port, for 0 is any that is free.

    Raises:
        SettingsError: Nobody can listen there.

    """
    callers = asyncio.Semaphore(MAX_CALLERS)
    under_way: set[asyncio.Task[None]] = set()

    async def call(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        try:
            if not callers.locked():
                async with callers:
                    await _answer(reader, writer, routes)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a caller that goes away, or does not speak HTTP, is no event
        finally:
            writer.close()

    try:
        server = await asyncio.start_server(call, host, port, limit=MAX_HEAD)
    except OSError as error:
        raise SettingsError(
            f"ORDERSYNC_METRICS__PORT: {host}:{port} cannot be used: {error.strerror or error}. Choose another port, "
            "or an address of this host as ORDERSYNC_METRICS__HOST."
        ) from None
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(server.wait_closed(), 1)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, routes: Routes) -> None:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), CALLER_SECONDS)
    method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
    path = rest.partition(" ")[0].partition("?")[0]
    if method not in {"GET", "HEAD"}:
        answer = _said(HTTPStatus.METHOD_NOT_ALLOWED)
    elif path not in routes:
        answer = _said(HTTPStatus.NOT_FOUND)
    else:
        try:
            answer = await asyncio.wait_for(routes[path](), ANSWER_SECONDS)
        except TimeoutError:
            answer = _said(HTTPStatus.SERVICE_UNAVAILABLE)
    reason = HTTPStatus(answer.status).phrase
    lines = [
        f"HTTP/1.1 {answer.status} {reason}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(answer.body)}",
        "Cache-Control: no-store",
        "Connection: close",
    ]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + (b"" if method == "HEAD" else answer.body))
    await asyncio.wait_for(writer.drain(), CALLER_SECONDS)


def _said(status: HTTPStatus) -> Answer:
    return Answer(status, f"{status.phrase}\n".encode(), "text/plain")
