"""HTTP as it goes wrong: each fault by httpx's name, nothing sent twice, no connection lost."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
import zlib
from contextlib import ExitStack, suppress

import httpx
import pytest

from tests.support.scripted_server import Lab, http
from tests.support.sending import ask, sender
from tests.support.servers import free_port
from tests.support.waiting import eventually
from worker.config.sections import ApiSettings
from worker.ordermesh.http import transport
from worker.ordermesh.http.decoding import BodyTooLarge, TooLarge
from worker.ordermesh.http.transport import MAX_ERROR, Http

pytestmark = pytest.mark.anyio

BODY = b'{"orders":[' + b"1," * 100_000 + b"1]}"
SHORT = 1.0
"""Seconds after which nothing comes any more; a busy machine connects in less."""


async def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"


@pytest.mark.parametrize(
    ("written", "error"),
    [
        (b"", httpx.RemoteProtocolError),
        (LENGTH, httpx.RemoteProtocolError),
        (CHUNKED, httpx.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Le", httpx.RemoteProtocolError),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", httpx.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nBad Header\x00: x\r\n\r\n{}", httpx.RemoteProtocolError),
        (http(b"{}", "X-Big: " + "x" * 100_000), TooLarge),
        (http(b"\x1f\x8b not gzip", "Content-Encoding: gzip"), httpx.DecodingError),
        (http(gzip.compress(BODY, mtime=0)[:1000], "Content-Encoding: br"), None),
    ],
    ids=[
        "closed without an answer",
        "truncated by length",
        "truncated chunks",
        "truncated head",
        "not HTTP",
        "bad header",
        "header of 100 KB",
        "broken gzip",
        "unknown compression is handed on",
    ],
)
async def test_bad_answers(served: Lab, written: bytes, error: type[Exception] | None) -> None:
    """A broken answer is a protocol error of httpx's, whose cause says more; never one of aiohttp's."""
    served.closing["/x"] = written
    if error is None:
        assert (await ask(served, "/x")).status_code == 200
        return
    with pytest.raises(error) as caught:
        await ask(served, "/x")
    assert str(caught.value)
    assert len(served.seen) == 1


async def test_reset(served: Lab) -> None:
    """A connection that is reset is a network error, and the request is not sent again."""
    served.handlers["/x"] = reset
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        await ask(served, "/x")
    assert len(served.seen) == 1


async def test_refused() -> None:
    """Nobody listens: no connection."""
    url = f"http://127.0.0.1:{free_port()}"
    async with sender(url) as made:
        with pytest.raises(httpx.ConnectError):
            await made.send("GET", url, headers={})


async def test_read_timeout(served: Lab) -> None:
    """No answer in time: the time is the setting's, and the error says that it was reading."""
    served.handlers["/x"] = served.held
    with pytest.raises(httpx.ReadTimeout):
        await ask(served, "/x", timeout=SHORT)


async def test_read_timeout_in_the_body(served: Lab) -> None:
    """An answer that stops half way is a timeout as well."""

    async def half(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(http(BODY)[:1000])
        await served.release.wait()

    served.handlers["/x"] = half
    with pytest.raises(httpx.ReadTimeout):
        await ask(served, "/x", timeout=SHORT)


async def test_an_answer_that_drips(served: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that sends a byte now and then holds a request for ten timeouts, not for ever."""

    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    assert transport.MAX_REQUEST == 10
    monkeypatch.setattr(transport, "MAX_REQUEST", 0.5)
    served.handlers["/x"] = drip
    with pytest.raises(httpx.ReadTimeout, match="no complete response"):
        await ask(served, "/x", timeout=4)  # so that no byte comes too late for itself on a busy machine
    await eventually(lambda: served.open == 0)


async def test_connect_timeout() -> None:
    """A listener whose backlog is full: the handshake never ends, and the error says so."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0)
            filler.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with sender(url, timeout=SHORT) as made:
            with pytest.raises(httpx.ConnectTimeout):
                await made.send("GET", url, headers={})


async def test_header_of_20_kb(served: Lab) -> None:
    """Gateways send long headers (policies, cookies): 20 KB in one are no fault."""
    served.answers["/x"] = http(b"{}", "X-Big: " + "x" * 20_000)
    response = await ask(served, "/x")
    assert len(response.headers["x-big"]) == 20_000


@pytest.mark.parametrize(
    "answer",
    [
        http(BODY),
        http(gzip.compress(BODY, mtime=0), "Content-Encoding: gzip"),
        http(zlib.compress(BODY), "Content-Encoding: deflate"),
    ],
    ids=["plain", "gzip", "deflate"],
)
async def test_whole_body(served: Lab, answer: bytes) -> None:
    """The body comes whole and decompressed; compressed answers are asked for."""
    served.answers["/x"] = answer
    response = await ask(served, "/x")
    assert response.content == BODY
    assert response.num_bytes_downloaded == len(answer.partition(b"\r\n\r\n")[2])
    assert b"accept-encoding: gzip, deflate" in served.seen[0].lower()


@pytest.mark.parametrize("status", ["204 No Content", "302 Found", "500 Oops"])
async def test_any_status_is_an_answer(served: Lab, status: str) -> None:
    """Statuses are the client's business; a redirect is not followed."""
    served.answers["/x"] = http(b"", "Location: /y", status=status)
    assert (await ask(served, "/x")).status_code == int(status[:3])
    assert len(served.seen) == 1


async def test_keep_alive(served: Lab) -> None:
    """Thirty requests in a row use one connection."""
    async with sender(served.url) as made:
        for _ in range(30):
            await made.send("GET", served.url + "/x", headers={})
    assert (served.connections, len(served.seen)) == (1, 30)


async def test_connections_are_bounded(served: Lab) -> None:
    """However many requests there are, connections are as many as permitted and two for logins."""
    async with sender(served.url, max_concurrency=2) as made:
        await asyncio.gather(*(made.send("GET", served.url + "/x", headers={}) for _ in range(60)))
    assert served.most_open == 4
    assert len(served.seen) == 60


async def test_nothing_is_sent_twice(served: Lab) -> None:
    """A kept connection that dies under the next request is an error: sending again is the client's choice."""
    served.closing["/dies"] = b""
    async with sender(served.url) as made:
        await made.send("GET", served.url + "/x", headers={})
        with pytest.raises(httpx.RemoteProtocolError):
            await made.send("GET", served.url + "/dies", headers={})
    assert (served.connections, len(served.seen)) == (1, 2)


async def test_cookies_are_not_kept(served: Lab) -> None:
    """A cookie of one answer is not sent with the next request."""
    served.answers["/x"] = http(b"{}", "Set-Cookie: a=1; Path=/")
    url = served.url.replace("127.0.0.1", "localhost")  # a bare address would get none anyway
    async with sender(url) as made:
        for _ in range(2):
            await made.send("GET", url + "/x", headers={})
    assert len(served.seen) == 2
    assert b"cookie" not in served.seen[1].lower()


async def test_the_request_arrives_as_written(served: Lab) -> None:
    """Not one escape of path and query is changed; a body arrives whole, with its headers."""
    target = "/orders/a%2Fb%25%3b?at=2026-01-01T00%3A00%3A00%2B00%3A00&a=b%20c&s=x+y%2Fz%26q&t=~!*'()"
    async with sender(served.url) as made:
        await made.send("GET", served.url + target, headers={"Authorization": "Bearer t"})
        await made.send("POST", served.url + "/post", headers={}, content=BODY)
    first = served.seen[0].decode()
    assert first.split(" ")[1] == target
    assert "authorization: bearer t" in first.lower()
    assert f"host: {served.url.removeprefix('http://')}" in first.lower()
    assert served.bodies == [b"", BODY]


async def test_an_address_that_cannot_be_sent_is_quoted(served: Lab) -> None:
    """Settings may have a space or a letter beyond ASCII in the path of the gateway."""
    async with sender(served.url) as made:
        await made.send("GET", f"{served.url}/a b/ü?x=%2F", headers={})
    assert served.seen[0].startswith(b"GET /a%20b/%C3%BC?x=/ HTTP/1.1\r\n")


async def test_headers(served: Lab) -> None:
    """Those of the settings replace those of the worker, in any case of letters. A line break is not sent."""
    async with sender(served.url) as made:
        await made.send("GET", served.url, headers={"user-agent": "mine", "X-Key": "k"})
        with pytest.raises(ValueError, match="injection"):
            await made.send("GET", served.url, headers={"X-Key": "k\r\nX-Other: 1"})
    assert len(served.seen) == 1
    sent = served.seen[0].decode().lower().split("\r\n")[1:-2]
    assert sorted(sent) == [
        "accept-encoding: gzip, deflate",
        "accept: application/json",
        f"host: {served.url.removeprefix('http://')}",
        "user-agent: mine",
        "x-key: k",
    ]


def test_a_transport_is_refused() -> None:
    """Its limits would be others, so the error names the way to send differently."""
    transport = httpx.MockTransport(lambda _: httpx.Response(200))
    with pytest.raises(TypeError, match="make_http"):
        Http(ApiSettings(), transport)  # type: ignore[arg-type]


async def test_cancelled_requests_give_their_connections_back(served: Lab) -> None:
    """Three hundred requests cut off under way leave no connection behind and nothing that blocks the next."""
    served.handlers["/slow"] = served.held
    async with sender(served.url, max_concurrency=2) as made:
        for _ in range(75):
            tasks = [
                asyncio.create_task(made.send("GET", served.url + "/slow", headers={})) for _ in range(4)
            ]
            await asyncio.wait(tasks, timeout=0.002)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        response = await made.send("GET", served.url + "/x", headers={})
    assert response.status_code == 200


# Limits


@pytest.mark.parametrize("packed", [True, False])
async def test_a_body_that_is_too_long(served: Lab, packed: bool) -> None:
    """It is not read to its end, neither from the wire nor out of its compression; the next request works."""
    body = bytes(4 << 20)
    headers = ("Content-Encoding: gzip",) if packed else ()
    served.answers["/x"] = http(gzip.compress(body) if packed else body, *headers)
    async with sender(served.url, max_response_bytes=65_536) as made:
        for _ in range(3):
            with pytest.raises(BodyTooLarge, match="65536 bytes"):
                await made.send("GET", f"{served.url}/x", headers={})
        served.answers["/x"] = http(b"{}")
        assert (await made.send("GET", f"{served.url}/x", headers={})).content == b"{}"


async def test_a_body_without_end(served: Lab) -> None:
    """A server that never stops sending does not fill the memory."""

    async def endless(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        with suppress(ConnectionError):
            while True:
                writer.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
                await writer.drain()

    served.handlers["/x"] = endless
    with pytest.raises(BodyTooLarge):
        await ask(served, "/x")


@pytest.mark.parametrize("status", ["200 OK", "500 Oops"])
async def test_a_body_in_very_many_chunks(served: Lab, status: str) -> None:
    """A byte in each, as fast as they go: the worker has other things to do."""

    async def chunks(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        with suppress(ConnectionError):
            while True:
                writer.write(b"1\r\n \r\n" * 10_000)
                await writer.drain()

    served.handlers["/x"] = chunks
    with pytest.raises(TooLarge, match="50000 chunks"):
        await ask(served, "/x")


async def test_the_body_of_an_error_is_cut(served: Lab) -> None:
    """Its first 64 KiB are enough for a message."""
    served.closing["/x"] = http(b"no " * 100_000, status="500 Oops")
    assert len((await ask(served, "/x")).content) == MAX_ERROR
