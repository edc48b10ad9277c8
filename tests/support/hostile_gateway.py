"""A gateway that answers so as to take the memory and the time of its reader. Its loop runs in a thread of its own."""

from __future__ import annotations

import asyncio
import gzip
import re
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import cache

from tests.support.loop_thread import LoopThread

MIB = 1 << 20
MOST = 15 * MIB
"""Bytes of the largest bodies: fewer than a response may have by default."""
TOKEN = b'{"accessToken":"made-up","expiresIn":86400}'
_LOGIN = re.compile(rb"POST [^ ]*(token|login)")

Pieces = Callable[[int], AsyncIterator[bytes]]
"""Yields an answer as it goes over the wire, header included. The argument is the number of the request, from 0."""


@dataclass(frozen=True)
class Attack:
    """What a hostile gateway answers to a login and to all else. None: what a good gateway answers."""

    answer: Pieces
    login: Pieces | None = None


def plain(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """An answer whose header gives the length of its body."""
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def always(make: Callable[[], bytes]) -> Pieces:
    """The same answer to every request. It is made once, when the first request arrives."""
    kept = cache(make)

    async def answer(number: int) -> AsyncIterator[bytes]:
        yield kept()

    return answer


def zipped(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """An answer with a compressed body."""
    return plain(gzip.compress(body, 1), "Content-Encoding: gzip", *headers, status=status)


def bomb(status: str = "200 OK", size: int = 1024 * MIB) -> bytes:
    """About a megabyte that becomes `size` bytes of spaces."""
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    chunk = b" " * MIB
    body = b"".join(packer.compress(chunk) for _ in range(size // MIB)) + packer.flush()
    return plain(body, "Content-Encoding: gzip", status=status)


async def trickle(number: int) -> AsyncIterator[bytes]:
    """A body in chunks of a byte, one each tenth of a second, for ever."""
    yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    while True:
        yield b"1\r\n \r\n"
        await asyncio.sleep(0.1)


async def tiny_chunks(number: int) -> AsyncIterator[bytes]:
    """A body in chunks of a byte, as fast as they go."""
    yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    while True:
        yield b"1\r\n \r\n" * 10_000


async def endless_headers(number: int) -> AsyncIterator[bytes]:
    """A header block that does not end."""
    yield b"HTTP/1.1 200 OK\r\n"
    line = 0
    while True:
        line += 1
        yield b"X-%d: %s\r\n" % (line, b"a" * 1000)


async def endless_list(number: int) -> AsyncIterator[bytes]:
    """A list whose every page is full and new."""
    records = b",".join(
        b'{"id":"%d-%d","status":"Open","updatedAt":"2026-01-01T00:00:00Z"}' % (number, one)
        for one in range(100)
    )
    yield plain(b'{"orders":[' + records + b"]}")


def records(count: int, fields: bytes = b"") -> bytes:
    """A page of so many small records."""
    return b'{"orders":[' + b",".join(b'{"id":"%d"%s}' % (one, fields) for one in range(count)) + b"]}"


def _deep(depth: int) -> bytes:
    return b'{"orders":[{"id":"1","x":' + b"[" * depth + b"]" * depth + b"}]}"


GOOD = always(lambda: plain(TOKEN))
ATTACKS: dict[str, Attack] = {
    "gzip bomb": Attack(always(bomb)),
    "gzip bomb in 401": Attack(always(lambda: bomb("401 Unauthorized"))),
    "gzip bomb in 429": Attack(always(lambda: bomb("429 Too Many Requests"))),
    "gzip bomb in 500": Attack(always(lambda: bomb("500 Internal Server Error"))),
    "gzip bomb in a login": Attack(GOOD, always(bomb)),
    "31 MB of a login": Attack(GOOD, always(lambda: plain(b'{"accessToken":"' + b"a" * 31 * MIB + b'"}'))),
    "15 MB of values": Attack(always(lambda: zipped(b'{"orders":[' + b"1," * (MOST // 2) + b"1]}"))),
    "1,000,000 records": Attack(always(lambda: zipped(records(1_000_000)))),
    "100,000 records": Attack(always(lambda: zipped(records(100_000, b',"status":"Open","a":[1,2,3]')))),
    "15 MB of one record": Attack(
        always(lambda: zipped(b'{"orders":[{"id":"1","x":"' + b"a" * MOST + b'"}]}'))
    ),
    "15 MB of brackets": Attack(always(lambda: zipped(b"[" * MOST))),
    "15 MB of objects": Attack(always(lambda: zipped(b'{"a":' * (MOST // 5)))),
    "15 MB, broken": Attack(
        always(lambda: zipped(b'{"orders":[' + b'{"id":"1","x":[1,2,NaN]},' * (MOST // 25) + b"{}]}"))
    ),
    "15 MB, broken at its end": Attack(
        always(lambda: zipped(b'{"orders":[' + b'{"id":"1","x":"' + b"abc " * (MOST // 4) + b'\x00"}]}'))
    ),
    "15 MB of half pairs": Attack(
        always(lambda: zipped(b'{"orders":[{"id":"1","x":"' + rb"\ud83d" * (MOST // 6) + b'"}]}'))
    ),
    "15 MB of escapes": Attack(
        always(lambda: zipped(b'{"orders":[{"id":"1","x":"' + rb"\u0041" * (MOST // 6) + b'"}]}'))
    ),
    "one number of 15 MB": Attack(
        always(lambda: zipped(b'{"orders":[{"id":"1","x":' + b"9" * MOST + b"}]}"))
    ),
    "a total of 1 MB": Attack(always(lambda: zipped(b'{"orders":[],"total":' + b"9" * MIB + b"}"))),
    "deep": Attack(always(lambda: plain(_deep(1000)))),
    "very deep": Attack(always(lambda: zipped(_deep(10 * MIB)))),
    "15 MB of keys": Attack(
        always(lambda: zipped(b"{" + b",".join(b'"k%d":[]' % one for one in range(1_000_000)) + b"}"))
    ),
    "one key again and again": Attack(
        always(lambda: zipped(b"{" + b",".join([b'"orders":[{"id":"1"}]'] * 700_000) + b"}"))
    ),
    "15 MB of errors": Attack(
        always(
            lambda: zipped(b'{"orders":[],"errors":[' + b",".join([b'{"message":"no"}'] * 900_000) + b"]}")
        )
    ),
    "trickle": Attack(trickle),
    "tiny chunks": Attack(tiny_chunks),
    "endless header": Attack(endless_headers),
    "endless list": Attack(endless_list),
}
"""Ways to take the memory and the time of a reader, by name."""


class HostileGateway(LoopThread):
    """Answers every request as an attack says, and a login with a token unless the attack says otherwise."""

    def __init__(self, attack: Attack) -> None:
        super().__init__("hostile gateway")
        self._attack = attack
        self.requests = 0

    @property
    def url(self) -> str:
        """The address."""
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests until the client goes."""
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if length := re.search(rb"(?i)\r\ncontent-length: (\d+)", head):
                await reader.readexactly(int(length[1]))
            if _LOGIN.match(head):
                answer = self._attack.login or GOOD
            else:
                answer, self.requests = self._attack.answer, self.requests + 1
            async for piece in answer(self.requests):
                writer.write(piece)
                await writer.drain()
