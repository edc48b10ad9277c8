"""The least HTTP/1.1 client that can read a page: one connection, one request at a time, no checks."""

from __future__ import annotations

import asyncio
from typing import Self, cast
from urllib.parse import urlsplit


class RawConnection(asyncio.BufferedProtocol):
    """A keep-alive connection whose answers are received straight into one buffer."""

    def __init__(self, host: str) -> None:
        self._host = host.encode()
        self._buffer = bytearray(1 << 19)
        self._filled = 0
        self._expected = 0
        self._body_at = 0
        self._answer: asyncio.Future[bytes] | None = None
        self._transport: asyncio.WriteTransport | None = None

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connect to the host of a URL."""
        parts = urlsplit(url)
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_connection(
            lambda: cls(parts.netloc), parts.hostname or "127.0.0.1", parts.port or 80
        )
        return protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.WriteTransport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request that is waiting."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("closed without an answer"))

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the name is the protocol's
        """The free part of the buffer."""
        return memoryview(self._buffer)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Hand over the body when it is complete."""
        self._filled += nbytes
        if not self._expected:
            end = self._buffer.find(b"\r\n\r\n", 0, self._filled)
            if end < 0:
                return
            head = bytes(self._buffer[:end]).lower()
            at = head.index(b"content-length:") + 15
            self._body_at = end + 4
            self._expected = self._body_at + int(head[at:].split(b"\r\n", 1)[0])
            if self._expected > len(self._buffer):
                # A buffer cannot grow while a view of it is out: take a new one.
                larger = bytearray(self._expected + 1024)
                larger[: self._filled] = self._buffer[: self._filled]
                self._buffer = larger
        if self._filled >= self._expected:
            body = bytes(memoryview(self._buffer)[self._body_at : self._expected])
            self._filled = self._expected = 0
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(body)

    async def request(self, target: str, method: str = "GET") -> bytes:
        """Send a request without a body; its answer's body, whatever the status."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(
            b"%b %b HTTP/1.1\r\nHost: %b\r\nAuthorization: Bearer bench\r\nContent-Length: 0\r\n\r\n"
            % (method.encode(), target.encode(), self._host)
        )
        return await self._answer

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()
