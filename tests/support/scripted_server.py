"""A scripted HTTP server and a clock of the test's own, for faults that the sandbox does not have."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio.lowlevel
from pydantic import SecretStr

from worker.app import open_services
from worker.clock import SharedClock
from worker.config.sections import Account, ApiSettings
from worker.ordermesh.http.tokens import LOCK_SECONDS
from worker.services import AccountServices

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Writes an answer by hand; the connection is closed after it."""


def http(body: bytes = b"{}", *headers: str, status: str = "200 OK") -> bytes:
    """An answer as it goes over the wire."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Lab:
    """Answers each path as the test says, and remembers what it was asked.

    `seen` and `bodies` hold the requests.
    `answers[path]` is what to write; `closing[path]` likewise, and the connection is closed after it;
    `handlers[path]` writes by hand. Any other path is answered with `default`.
    """

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.closing: dict[str, bytes] = {}
        self.handlers: dict[str, Handler] = {}
        self.default = http()
        self.seen: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = self.open = self.most_open = 0
        self.release = asyncio.Event()
        self.url = ""

    async def held(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A handler that answers when the test calls `release.set()`."""
        await self.release.wait()
        writer.write(self.default)
        await writer.drain()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while await self._one(reader, writer):
                    await writer.drain()
        finally:
            self.open -= 1
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        self.seen.append(head)
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        self.bodies.append(await reader.readexactly(int(length[1])) if length else b"")
        path = head.split(b" ", 2)[1].decode().split("?", 1)[0]
        if path in self.handlers:
            await self.handlers[path](reader, writer)
            return False
        writer.write(self.closing[path] if path in self.closing else self.answers.get(path, self.default))
        if path in self.closing:
            await writer.drain()
            return False
        return True


@asynccontextmanager
async def lab(context: ssl.SSLContext | None = None) -> AsyncIterator[Lab]:
    """The scripted server on a free port of loopback."""
    served = Lab()
    working: set[asyncio.Task[None]] = set()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(served.serve(reader, writer))
        working.add(task)
        task.add_done_callback(working.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context, limit=1 << 20)
    served.url = f"http{'s' if context else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield served
    finally:
        server.close()
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)


def script(answers: Sequence[bytes]) -> Handler:
    """Answers in this order; the last one again and again."""
    left = list(answers)

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        await writer.drain()

    return serve


def count(served: Lab, path: str, method: str = "") -> int:
    """How often a path was asked for."""
    return sum(head.startswith(method.encode()) and f" {path} ".encode() in head for head in served.seen)


def lab_account(served: Lab, **api: Any) -> Account:
    """An account at the scripted server. `api`: settings of the API."""
    settings = {"requests_per_second": 10_000, "timeout": 5, "attempts": 3, **api}
    return Account(
        name="default",
        api=ApiSettings(
            base_url=served.url, client_id="lab", client_secret=SecretStr("lab-secret"), **settings
        ),
        intervals={"orders": 1.0},
        ignore_fields={},
        audit_history="all",
    )


class OwnClock:
    """Time that goes on by itself and that the test may move; waits take no time and are noted."""

    def __init__(self, chance: float = 0.5) -> None:
        self.chance, self.offset = chance, 0.0
        self.slept: list[float] = []
        self.drawn: list[tuple[float, float]] = []

    def now(self) -> float:
        """Seconds since 1970, as far as this clock is concerned."""
        return time.time() + self.offset

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic() + self.offset

    async def sleep(self, seconds: float) -> None:
        """Note it and move on; only the heartbeat of the lock waits for ever."""
        if seconds == LOCK_SECONDS / 3:
            await anyio.sleep_forever()
        self.slept.append(seconds)
        self.offset += seconds
        await anyio.lowlevel.checkpoint()

    async def sync(self, *, within: float = 0.0) -> None:
        """It is compared with nothing."""

    def note(self, at: float, before: float, after: float) -> None:
        """It is compared with nothing."""

    def steady_for(self) -> float:
        """It is compared with nothing."""
        return float("inf")

    def uniform(self, low: float, high: float) -> float:
        """The same share of the way between `low` and `high` each time."""
        self.drawn.append((low, high))
        return low + (high - low) * self.chance


@asynccontextmanager
async def at_work(
    account: Account, redis_url: str, clock: SharedClock | None = None
) -> AsyncIterator[AccountServices]:
    """The parts of one worker, with connections of its own."""
    async with open_services([account], redis_url, clock or OwnClock()) as place:
        yield place.accounts[account.name]
    await asyncio.sleep(0)  # lets the transports that were closed say goodbye
