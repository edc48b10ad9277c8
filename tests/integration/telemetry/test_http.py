"""The HTTP endpoint, called over real sockets: by probes, by programs that do not speak HTTP, and by attackers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
from aiohttp import web

from tests.support.waiting import PATIENCE, eventually
from worker.errors import SettingsError
from worker.telemetry import http as endpoint
from worker.telemetry import http_limits
from worker.telemetry.http import Route, may_be_called, serving
from worker.telemetry.http_limits import Connection, one_too_many

pytestmark = pytest.mark.anyio

Caller = tuple[asyncio.StreamReader, asyncio.StreamWriter]
ASK = b"GET /here HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def _greet(_: web.BaseRequest) -> web.Response:
    return web.Response(body=b"hello", headers={"Content-Type": "text/plain"})


async def _hang(_: web.BaseRequest) -> web.Response:
    await asyncio.sleep(PATIENCE)
    raise AssertionError


async def _fail(_: web.BaseRequest) -> web.Response:
    raise ZeroDivisionError


async def _tell(request: web.BaseRequest) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await answer.prepare(request)
    await answer.write(b"data: first\n\n")
    await asyncio.sleep(PATIENCE)
    return answer


ROUTES = {
    "/here": Route(_greet),
    "/hangs": Route(_hang),
    "/broken": Route(_fail),
    "/told": Route(_tell, streams=True),
}


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """The port of the endpoint."""
    monkeypatch.setattr(endpoint, "SHUTDOWN_SECONDS", 0.05)
    async with serving("127.0.0.1", 0, ROUTES, names=["Sync.Example.com"]) as number:
        yield number


@pytest.fixture
async def call(port: int) -> AsyncIterator[Callable[[], Awaitable[Caller]]]:
    """Open a connection, which is closed at the end."""
    opened: list[asyncio.StreamWriter] = []

    async def connect() -> Caller:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        opened.append(writer)
        return reader, writer

    yield connect
    for writer in opened:
        writer.close()


async def said(port: int, request: bytes = ASK) -> bytes:
    """Return what the endpoint answers to these bytes until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), PATIENCE)
    finally:
        writer.close()


def status_of(answer: bytes) -> int:
    return int(answer.split()[1])


async def test_fixed_paths_only(port: int) -> None:
    """GET and HEAD of its paths; each connection is closed after its answer."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        for method, path, status, body, length in (
            ("GET", "/here?x=1", 200, "hello", "5"),
            ("HEAD", "/here", 200, "", "5"),
            ("POST", "/here", 405, "Method Not Allowed\n", "19"),
            ("POST", "/elsewhere", 405, "Method Not Allowed\n", "19"),
            ("OPTIONS", "/here", 405, "Method Not Allowed\n", "19"),
            ("GET", "/elsewhere", 404, "Not Found\n", "10"),
            ("GET", "/here/", 404, "Not Found\n", "10"),
            ("GET", "/HERE", 404, "Not Found\n", "10"),
        ):
            found = await http.request(method, path)
            assert (found.status_code, found.text) == (status, body)
            assert {name: value for name, value in found.headers.items() if name != "date"} == {
                "content-type": "text/plain",
                "content-length": length,
                "cache-control": "no-store",
                "connection": "close",
                "server": "ordersync",
            }
        assert (await http.request("GET", "/here", content=b"x")).status_code == 413


async def test_an_address_that_cannot_be_used() -> None:
    """The message names the setting."""
    with pytest.raises(SettingsError, match="ORDERSYNC_METRICS__PORT"):
        async with serving("192.0.2.1", 1, {}):
            pass


async def test_callers_that_do_not_speak_http(port: int, caplog: pytest.LogCaptureFixture) -> None:
    """They neither break it nor are logged, and learn nothing of the server; a route that fails is logged."""
    caplog.set_level("INFO")
    for content in (b"nonsense\r\n\r\n", b"GET /here HTTP/1.1\r\na b\r\n\r\n", b"GET", b"x" * 20_000, b""):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(content)
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
        assert not answer or (
            status_of(answer) == 400 and b"aiohttp" not in answer and b"ython" not in answer
        )
    assert status_of(await said(port)) == 200
    assert [record.message for record in caplog.records if record.name.startswith("aiohttp")] == []
    answer = await said(port, ASK.replace(b"/here", b"/broken"))
    assert (status_of(answer), b"aiohttp" in answer) == (500, False)
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("number", [40, 400])
@pytest.mark.parametrize("beginning", [b"", b"GET /here HT", ASK[:-2], ASK.replace(b"/here", b"/hangs")])
async def test_a_probe_is_answered_beside(
    number: int, beginning: bytes, port: int, call: Callable[[], Awaitable[Caller]]
) -> None:
    """Many connections that say nothing, stop within the request, or wait for a slow route keep no probe out."""
    for _ in range(number):
        _, writer = await call()
        writer.write(beginning)
    for _ in range(3):
        assert status_of(await said(port)) == 200


async def test_slow_headers_end(
    port: int, call: Callable[[], Awaitable[Caller]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller that sends its request byte by byte is cut off in time, however long it goes on."""
    monkeypatch.setattr(http_limits, "HEAD_SECONDS", 0.2)
    reader, writer = await call()
    writer.write(ASK[:-2])

    async def is_cut_off() -> bool:
        writer.write(b"X-Slow: 1\r\n")
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(0.02):
                await reader.read(1)
        return reader.at_eof() or writer.is_closing() or reader.exception() is not None

    await eventually(is_cut_off, PATIENCE)


async def test_a_connection_that_does_not_end(
    port: int, call: Callable[[], Awaitable[Caller]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A route that hangs ends in 503, and one that does not even do that is cut off."""
    monkeypatch.setattr(endpoint, "ANSWER_SECONDS", 0.1)
    assert status_of(await said(port, ASK.replace(b"/here", b"/hangs"))) == 503
    monkeypatch.setattr(endpoint, "ANSWER_SECONDS", PATIENCE)
    monkeypatch.setattr(http_limits, "CONNECTION_SECONDS", 0.1)
    reader, writer = await call()
    writer.write(ASK.replace(b"/here", b"/hangs"))
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b""


@pytest.mark.parametrize(
    "headers",
    [
        b"X: " + b"a" * 100_000 + b"\r\n",
        b"".join(b"X%d: a\r\n" % number for number in range(5_000)),
        b"Cookie: " + b"a" * 5_000 + b"\r\n",
    ],
    ids=["long", "many", "cookie"],
)
async def test_huge_headers(headers: bytes, port: int) -> None:
    """They are refused, and the next caller is answered."""
    with contextlib.suppress(ConnectionResetError):  # it does not read the rest
        assert status_of(await said(port, ASK[:-2] + headers + b"\r\n")) == 400
    assert status_of(await said(port)) == 200
    assert status_of(await said(port, ASK.replace(b"/here", b"/" + b"a" * 10_000))) == 400


async def test_pipelining(port: int) -> None:
    """Of requests that come together the first is answered, and no body passes for a request."""
    assert (await said(port, ASK * 2_000)).count(b"HTTP/1.1 200") == 1
    smuggled = ASK[:-2] + b"Content-Length: %d\r\n\r\n" % len(ASK) + ASK
    assert (await said(port, smuggled)).count(b"HTTP/1.1 ") == 1
    assert status_of(await said(port, ASK[:-2] + b"Connection: keep-alive\r\n\r\n")) == 200
    assert status_of(await said(port, ASK[:-2] + b"Upgrade: websocket\r\nConnection: upgrade\r\n\r\n")) == 200


async def test_foreign_names(port: int) -> None:
    """A page of a stranger, which gives its own name the address of this host, learns nothing."""
    for host, status in (
        (b"evil.example:9464", 421),
        (b"localhost.evil.example", 421),
        (b"127.0.0.1.evil.example", 421),
        (b"sync.example.com.evil.example", 421),
        (b"", 421),
        (b"sync.example.com:9464", 200),
        (b"127.0.0.1:9464", 200),
        (b"[::1]:9464", 200),
        (b"worker:9464", 200),
    ):
        assert (status_of(await said(port, ASK.replace(b"localhost", host))), host) == (status, host)
    assert status_of(await said(port, b"GET /here HTTP/1.0\r\n\r\n")) == 200


@pytest.mark.parametrize(
    ("host", "allowed"),
    [("LOCALHOST", True), ("localhost.", True), ("10.0.0.7", True), ("::1", True), ("A.b", True), ("b.a", False),
     ("10.0.0.7.nip.io", False), ("[evil.example]", False), (" ", False), (":80", False)],
)  # fmt: skip
async def test_names(host: str, allowed: bool) -> None:
    """Addresses, names without a dot, and those that the settings list."""
    assert may_be_called(host, {"a.b"}) is allowed


async def test_answers_that_go_on(
    port: int, call: Callable[[], Awaitable[Caller]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They outlive the limits of other answers; few callers may have one at a time, and none is kept out for them."""
    monkeypatch.setattr(http_limits, "CONNECTION_SECONDS", 1.0)
    monkeypatch.setattr(endpoint, "ANSWER_SECONDS", 1.0)
    told = ASK.replace(b"/here", b"/told")
    callers = [await call() for _ in range(http_limits.MAX_STREAMS)]
    for reader, writer in callers:
        writer.write(told)
        assert await asyncio.wait_for(reader.readuntil(b"first\n\n"), PATIENCE)
    assert status_of(await said(port, told)) == 503
    assert status_of(await said(port)) == 200
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(callers[0][0].read(), 2.0)
    callers[0][1].close()

    async def is_free() -> bool:
        reader, writer = await call()
        writer.write(told)
        return b" 200 " in await asyncio.wait_for(reader.readline(), PATIENCE)

    await eventually(is_free, PATIENCE)


async def test_it_ends_in_time() -> None:
    """Neither a caller that is silent nor a route that hangs delays the end of the worker."""
    loop = asyncio.get_running_loop()
    async with serving("127.0.0.1", 0, ROUTES) as port:
        callers = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        callers[0][1].write(ASK.replace(b"/here", b"/hangs"))
        callers[1][1].write(ASK.replace(b"/here", b"/told"))
        await asyncio.wait_for(callers[1][0].readuntil(b"first"), PATIENCE)
        began = loop.time()
    assert loop.time() - began < PATIENCE
    for reader, writer in callers:
        with contextlib.suppress(ConnectionResetError):
            await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_who_is_closed() -> None:
    """Of the address with the most connections one that has not asked, otherwise the oldest; nobody without need."""
    transport = asyncio.Transport()

    def connections(text: str) -> list[Connection]:
        """`a` is a connection of this address, `A` one that has asked."""
        return [Connection(name.lower(), transport, has_asked=name.isupper()) for name in text]

    for text, expected in (
        ("", None),
        ("aab", None),
        ("aaab", 0),
        ("Aaab", 1),
        ("AAAb", 0),
        ("bcdae", 0),
        ("bAaAc", 2),
    ):
        kept = connections(text)
        found = one_too_many(kept, 4, 2)
        assert (text, found and kept.index(found)) == (text, expected)
