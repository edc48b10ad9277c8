"""A TCP proxy on a port of loopback that does to connections what networks do to them.

with Proxy("127.0.0.1", 6379) as proxy:
    redis_url = f"redis://{proxy.address}/0"
    proxy.latency = 0.02            # seconds that each answer waits
    proxy.hole = True               # nothing comes through any more, and no connection ends
    proxy.refuse = True             # new connections are reset
    proxy.cut()                     # all connections are reset now
    proxy.reset_after(1000)         # the connection is reset when so many more bytes of answers came through
    proxy.drop_answer(b"EVALSHA")   # the next such request is passed on; its answer is dropped, and the
                                    # connection reset
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress

from tests.support.loop_thread import LoopThread, reset

_CHUNK = 1 << 16
_TICK = 0.01


class Proxy(LoopThread):
    """Passes connections on to a server, in a thread of its own. Each attribute may be changed at any time.

    With a context it speaks TLS to clients, and not to the server.

    Attributes:
        latency: Seconds that what the server sends is held back.
        hole: Nothing is passed on, in either direction.
        refuse: New connections are reset at once.
        connections: How many connections there were.
        dropped: How many answers were dropped, or cut off by `reset_after`.
        bytes: How many bytes of answers were passed on.

    """

    def __init__(self, host: str, port: int, context: ssl.SSLContext | None = None) -> None:
        super().__init__("proxy", context)
        self._target = (host, port)
        self.latency = 0.0
        self.hole = False
        self.refuse = False
        self.connections = 0
        self.dropped = 0
        self.bytes = 0
        self._left: int | None = None
        self._mark = b""
        self._skip = 0

    @property
    def address(self) -> str:
        """Host and port of the proxy."""
        return f"127.0.0.1:{self.port}"

    def point_at(self, port: int) -> None:
        """Lead new connections to another server on loopback."""
        self._target = ("127.0.0.1", port)

    def cut(self) -> None:
        """Reset all connections."""
        self.reset_all()

    def reset_after(self, count: int) -> None:
        """Reset the connection on which the server sends byte number `count` from now on; the byte does not arrive."""
        self._left = count

    def drop_answer(self, mark: bytes, *, skip: int = 0) -> None:
        """Pass on the next request that contains `mark`, drop what the server answers, and reset the connection.

        `skip`: so many of these requests are left alone before.
        """
        self._mark, self._skip = mark, skip

    def calm(self) -> None:
        """Forget what was asked of `reset_after` and `drop_answer` and did not happen yet."""
        self._mark, self._left = b"", None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on."""
        self.connections += 1
        if self.refuse:
            reset(writer)
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            reset(writer)
            return
        answer_dropped = asyncio.Event()
        ways = [
            asyncio.ensure_future(self._forth(reader, far_writer, answer_dropped)),
            asyncio.ensure_future(self._back(far_reader, writer, answer_dropped)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            far_writer.close()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _forth(
        self, reader: asyncio.StreamReader, far: asyncio.StreamWriter, dropped: asyncio.Event
    ) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(_CHUNK):
                await self._out_of_hole()
                if self._mark and self._mark in data:
                    if not self._skip:
                        self._mark = b""
                        dropped.set()
                    self._skip -= 1
                far.write(data)
                await far.drain()

    async def _back(
        self, far: asyncio.StreamReader, writer: asyncio.StreamWriter, dropped: asyncio.Event
    ) -> None:
        with suppress(ConnectionError):
            while data := await far.read(_CHUNK):
                await self._out_of_hole()
                if self.latency:
                    await asyncio.sleep(self.latency)
                if dropped.is_set():
                    self.dropped += 1
                    reset(writer)
                    return
                if self._left is not None and len(data) >= self._left:
                    data, self._left = data[: self._left - 1], None
                    self.dropped += 1
                    writer.write(data)
                    await writer.drain()
                    reset(writer)
                    return
                if self._left is not None:
                    self._left -= len(data)
                self.bytes += len(data)
                writer.write(data)
                await writer.drain()

    async def _out_of_hole(self) -> None:
        while self.hole:  # noqa: ASYNC110 - the attribute is set by another thread
            await asyncio.sleep(_TICK)
