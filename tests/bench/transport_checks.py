"""What becomes of faults in each HTTP transport: `python -m tests.bench.transport_checks`.

Small scripted servers on loopback answer badly on purpose; the table tells, side by side, what comes out
of httpx as it comes and of httpx over `httpx_aiohttp.AiohttpTransport`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import os
import random
import socket
import ssl
import struct
import subprocess
import tempfile
import time
import zlib
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import uvloop
from httpx_aiohttp import AiohttpTransport, HttpxAiohttpClient

from worker.ordermesh.transport import Transport, environment_proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    Check = Callable[["Lab", "Maker"], Awaitable[str]]
    Maker = Callable[..., httpx.AsyncClient]

BODY = b'{"orders":[' + b"1," * 100_000 + b"1]}"
SHORT = 0.25


def http(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


ANSWERS = {
    "/ok": http(BODY),
    "/gzip": http(gzip.compress(BODY), "Content-Encoding: gzip"),
    "/deflate": http(zlib.compress(BODY), "Content-Encoding: deflate"),
    "/badgzip": http(b"\x1f\x8b not gzip", "Content-Encoding: gzip"),
    "/cookie": http(b"{}", "Set-Cookie: a=1; Path=/"),
    "/moved": http(b"", "Location: /ok", status="302 Found"),
    "/bigheader": http(b"{}", "X-Big: " + "x" * 20_000),
    "/badheader": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nBad Header\x00: x\r\n\r\n{}",
    "/204": b"HTTP/1.1 204 No Content\r\n\r\n",
}
CLOSING = {
    "/truncated": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{",
    "/truncated-chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "/truncated-head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "/garbage": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "/none": b"",
}


class Lab:
    """A scripted server, what it was asked, and how often it was connected to."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.connections = 0
        self.open = 0
        self.most_open = 0
        self.url = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        answered = 0
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.seen.append(head)
                path = head.split(b" ", 2)[1].decode().split("?", 1)[0]
                if path.startswith("http://"):
                    path = "/ok"
                if not await self.answer(path, reader, writer, answered):
                    return
                answered += 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def answer(  # noqa: PLR0912 - one branch for each fault
        self, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, served: int
    ) -> bool:
        """Answer as the path says; False closes the connection."""
        if path in ANSWERS:
            writer.write(ANSWERS[path])
        elif path in CLOSING:
            writer.write(CLOSING[path])
            return False
        elif path in {"/reset", "/reset-body"}:
            if path == "/reset-body":
                writer.write(http(BODY)[:1000])
                await asyncio.sleep(0.05)
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return False
        elif path == "/slow-head":
            await asyncio.sleep(SHORT * 6)
            writer.write(http(b"{}"))
        elif path == "/slow-body":
            writer.write(http(BODY)[:1000])
            await asyncio.sleep(SHORT * 6)
            return False
        elif path == "/drip":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
            for _ in range(10):
                await asyncio.sleep(SHORT / 3)
                writer.write(b"x")
        elif path == "/second-dies":
            if served:
                return False
            writer.write(http(b"{}"))
        elif path == "/idle-dies":
            writer.write(http(b"{}"))
            await writer.drain()
            return False
        elif path == "/random":
            await asyncio.sleep(random.random() * 0.004)
            writer.write(http(BODY[:60_000]))
        else:
            writer.write(http(b"{}", status="404 Not Found"))
        await writer.drain()
        return not reader.at_eof()


@asynccontextmanager
async def lab(context: ssl.SSLContext | None = None) -> AsyncIterator[Lab]:
    served = Lab()
    server = await asyncio.start_server(served.handle, "127.0.0.1", 0, ssl=context, limit=1 << 20)
    port = server.sockets[0].getsockname()[1]
    served.url = f"http{'s' if context else ''}://127.0.0.1:{port}"
    try:
        yield served
    finally:
        server.close()


def plain(*, origin: str = "", **given: object) -> httpx.AsyncClient:
    return httpx.AsyncClient(**given)  # type: ignore[arg-type]


def over_aiohttp(*, origin: str = "", **given: object) -> httpx.AsyncClient:
    """As a user would: `transport=`, with what concerns the transport handed to it."""
    own = {name: given.pop(name) for name in ("verify", "limits") if name in given}
    return httpx.AsyncClient(transport=AiohttpTransport(**own), **given)  # type: ignore[arg-type]


def candidate(*, origin: str = "http://127.0.0.1", **given: object) -> httpx.AsyncClient:
    own = {name: given.pop(name) for name in ("verify", "limits") if name in given}
    return httpx.AsyncClient(transport=Transport(proxy=environment_proxy(origin), **own), **given)  # type: ignore[arg-type]


def subclass(*, origin: str = "", **given: object) -> httpx.AsyncClient:
    return HttpxAiohttpClient(**given)  # type: ignore[arg-type]


def name_of(error: BaseException) -> str:
    kind = type(error)
    family = "httpx" if isinstance(error, httpx.HTTPError) else f"ESCAPED {kind.__module__}"
    cause = f" <- {type(error.__cause__).__name__}" if error.__cause__ is not None else ""
    return f"{family}.{kind.__name__}{cause}"


async def fetch(client: httpx.AsyncClient, url: str) -> str:
    started = time.perf_counter()
    try:
        response = await client.get(url)
    except Exception as error:
        return f"{name_of(error)} ({time.perf_counter() - started:.2f} s)"
    return f"{response.status_code}, {len(response.content)} B"


def path_check(path: str, times: int = 1, pause: float = 0.0) -> Check:
    """Ask for one path, `times` times on one client; what came out, and what the server saw."""

    async def check(served: Lab, make: Maker) -> str:
        answers = []
        async with make(timeout=httpx.Timeout(SHORT * 2, read=SHORT)) as client:
            for _ in range(times):
                answers.append(await fetch(client, served.url + path))
                await asyncio.sleep(pause)
        text = " / ".join(answers)
        return text if times == len(served.seen) == 1 else f"{text}; server saw {len(served.seen)}"

    return check


async def connect_timeout(_: Lab, make: Maker) -> str:
    return await full_backlog(make, httpx.Timeout(5, connect=SHORT))


async def slow_connect(_: Lab, make: Maker) -> str:
    """The pool's timeout is shorter: it concerns waiting for a slot, not connecting."""
    return await full_backlog(make, httpx.Timeout(5, connect=SHORT * 4, pool=SHORT))


async def full_backlog(make: Maker, patience: httpx.Timeout) -> str:
    """A listener whose backlog is full: the handshake never ends."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0)
            filler.connect_ex(listener.getsockname())
        await asyncio.sleep(0.05)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        async with make(timeout=patience) as client:
            return await fetch(client, url)


async def refused(_: Lab, make: Maker) -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        async with make() as client:
            return await fetch(client, url)


async def no_such_host(_: Lab, make: Maker) -> str:
    async with make() as client:
        return await fetch(client, "http://no-such-host.invalid/")


async def unsupported_scheme(_: Lab, make: Maker) -> str:
    async with make() as client:
        return await fetch(client, "ftp://127.0.0.1/")


async def pool_timeout(served: Lab, make: Maker) -> str:
    limits = httpx.Limits(max_connections=1)
    timeout = httpx.Timeout(5, pool=SHORT)
    async with make(limits=limits, timeout=timeout) as client:
        holding = asyncio.create_task(client.get(served.url + "/slow-head"))
        await asyncio.sleep(0.1)
        answer = await fetch(client, served.url + "/ok")
        await holding
        return f"{answer}; later {await fetch(client, served.url + '/ok')}"


async def limits_held(served: Lab, make: Maker) -> str:
    limits = httpx.Limits(max_connections=3, max_keepalive_connections=1)
    async with make(limits=limits, timeout=10) as client:
        await asyncio.gather(*(client.get(served.url + "/random") for _ in range(60)))
        await asyncio.sleep(0.05)
        return f"most open {served.most_open} of 3; idle kept {served.open} of 1; made {served.connections}"


async def keep_alive(served: Lab, make: Maker) -> str:
    async with make() as client:
        for _ in range(30):
            await client.get(served.url + "/ok")
    return f"{served.connections} connection(s) for 30 requests"


async def expiry(served: Lab, make: Maker) -> str:
    async with make(limits=httpx.Limits(keepalive_expiry=0.2)) as client:
        for _ in range(2):
            await client.get(served.url + "/ok")
            await asyncio.sleep(0.5)
    return f"{served.connections} connections (2 = honoured)"


async def headers_sent(served: Lab, make: Maker) -> str:
    async with make(headers={"Authorization": "Bearer t"}) as client:
        await client.get(served.url + "/ok?at=2026-01-01T00%3A00%3A00%2B00%3A00&a=b%20c&s=x+y%2Fz")
    first, *rest = served.seen[0].decode().split("\r\n")
    return f"{first} | " + ", ".join(line for line in rest if line and not line.startswith("Host"))


async def cookies(served: Lab, make: Maker) -> str:
    url = served.url.replace("127.0.0.1", "localhost")  # aiohttp keeps none of a bare address
    async with make() as client:
        await client.get(url + "/cookie")
        client.cookies.clear()
        await client.get(url + "/ok")
    return "cookie sent although the client's jar was cleared" if b"ookie: a=1" in served.seen[1] else "none"


async def abandoned_body(served: Lab, make: Maker) -> str:
    """A body left unread: the slot must come back."""
    async with make(limits=httpx.Limits(max_connections=1), timeout=SHORT * 4) as client:
        async with client.stream("GET", served.url + "/ok"):
            pass
        return await fetch(client, served.url + "/ok")


async def after_close(served: Lab, make: Maker) -> str:
    client = make()
    await client.aclose()
    return await fetch(client, served.url + "/ok")


async def cancelled(served: Lab, make: Maker, total: int = 3000) -> str:
    """Requests cancelled from outside at random moments; then four that are not."""
    rng = random.Random(7)
    outcomes: Counter[str] = Counter()
    async with make(limits=httpx.Limits(max_connections=4), timeout=httpx.Timeout(5, pool=1)) as client:

        async def one() -> None:
            task = asyncio.create_task(client.get(served.url + "/random"))
            await asyncio.sleep(rng.random() * 0.012)
            task.cancel()
            try:
                await task
                outcomes["done"] += 1
            except asyncio.CancelledError:
                outcomes["cancelled"] += 1
            except Exception as error:
                outcomes[name_of(error)] += 1

        for _ in range(total // 8):
            await asyncio.gather(*(one() for _ in range(8)))
        later = Counter([await fetch(client, served.url + "/ok") for _ in range(4)])
        await asyncio.sleep(0.1)
        told = ", ".join(f"{count} {what}" for what, count in outcomes.most_common())
        return f"{told}; later: {dict(later)}; open {served.open} of 4"


@contextlib.contextmanager
def environment(**values: str) -> Iterator[None]:
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
    before = {
        name: os.environ.pop(name) for one in names for name in (one, one.lower()) if name in os.environ
    }
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            del os.environ[name]
        os.environ.update(before)


async def proxy_used(served: Lab, make: Maker) -> str:
    """The server plays the proxy; the origin does not exist."""
    with environment(HTTP_PROXY=served.url):
        async with make() as client:
            answer = await fetch(client, "http://origin.invalid/ok")
    return f"{answer}; proxy saw {served.seen[0].split(b' HTTP')[0].decode() if served.seen else 'nothing'}"


async def no_proxy(served: Lab, make: Maker) -> str:
    with environment(HTTP_PROXY="http://127.0.0.1:9", NO_PROXY="127.0.0.1"):
        async with make() as client:
            return await fetch(client, served.url + "/ok")


async def proxy_refused(_: Lab, make: Maker) -> str:
    with environment(HTTP_PROXY="http://127.0.0.1:9"):
        async with make() as client:
            return await fetch(client, "http://origin.invalid/ok")


async def proxy_denies(served: Lab, make: Maker) -> str:
    """CONNECT is answered with 404."""
    with environment(HTTPS_PROXY=served.url):
        async with make(origin="https://origin.invalid") as client:
            return await fetch(client, "https://origin.invalid/ok")


CHECKS: dict[str, Check] = {
    "connect timeout": connect_timeout,
    "connect timeout 1 s, pool 0.25 s": slow_connect,
    "read timeout, head": path_check("/slow-head"),
    "read timeout, body": path_check("/slow-body"),
    "slow drip within read timeout": path_check("/drip"),
    "pool timeout": pool_timeout,
    "connection refused": refused,
    "no such host": no_such_host,
    "unsupported scheme": unsupported_scheme,
    "closed without an answer": path_check("/none"),
    "reset without an answer": path_check("/reset"),
    "closed on the second request": path_check("/second-dies", 2),
    "closed while idle": path_check("/idle-dies", 2, 0.1),
    "closed while idle, no pause": path_check("/idle-dies", 4),
    "body truncated (length)": path_check("/truncated"),
    "body truncated (chunked)": path_check("/truncated-chunked"),
    "head truncated": path_check("/truncated-head"),
    "reset in the body": path_check("/reset-body"),
    "not HTTP": path_check("/garbage"),
    "invalid header": path_check("/badheader"),
    "header of 20 KB": path_check("/bigheader"),
    "no content": path_check("/204"),
    "redirect": path_check("/moved"),
    "gzip": path_check("/gzip"),
    "deflate": path_check("/deflate"),
    "broken gzip": path_check("/badgzip"),
    "limits": limits_held,
    "keep-alive": keep_alive,
    "keepalive_expiry": expiry,
    "headers sent": headers_sent,
    "cookies of its own": cookies,
    "body left unread": abandoned_body,
    "after aclose": after_close,
    "HTTP_PROXY": proxy_used,
    "NO_PROXY": no_proxy,
    "proxy refused": proxy_refused,
    "proxy denies CONNECT": proxy_denies,
    "3,000 cancelled": cancelled,
}


def certificate(folder: Path, host: str) -> tuple[str, str]:
    """A self-signed certificate by the `openssl` command: paths of certificate and key."""
    made, key = folder / "cert.pem", folder / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        f"/CN={host}",
    ]
    command += ["-addext", f"subjectAltName={host}", "-keyout", str(key), "-out", str(made)]
    subprocess.run(command, check=True, capture_output=True)
    return str(made), str(key)


async def tls_checks(make: Maker) -> dict[str, str]:
    results = {}
    for host, label in (("IP:127.0.0.1", "TLS"), ("DNS:other.example", "TLS, other name")):
        with tempfile.TemporaryDirectory(prefix="ordersync-bench-") as folder:
            made, key = await asyncio.to_thread(certificate, Path(folder), host)
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(made, key)
            async with lab(context) as served:
                if label == "TLS":
                    async with make() as client:
                        results["TLS, unknown CA"] = await fetch(client, served.url + "/ok")
                ours = ssl.create_default_context(cafile=made)
                async with make(verify=ours) as client:
                    results[f"{label}, custom CA"] = await fetch(client, served.url + "/ok")
    async with lab() as served, make() as client:
        results["TLS to a plain port"] = await fetch(client, served.url.replace("http", "https") + "/ok")
    return results


async def examine(make: Maker, only: str | None) -> dict[str, str]:
    results = {}
    for name, check in CHECKS.items():
        if only is None or only in name:
            async with lab() as served:
                try:
                    async with asyncio.timeout(120):
                        results[name] = await check(served, make)
                except Exception as error:
                    results[name] = name_of(error)
    if only is None or "TLS" in only:
        results |= await tls_checks(make)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.transport_checks", description=__doc__)
    parser.add_argument("--only", help="part of a check's name")
    given = parser.parse_args()
    makers = {
        "httpx": plain,
        "httpx over aiohttp": over_aiohttp,
        "HttpxAiohttpClient": subclass,
        "candidate": candidate,
    }
    results = {name: uvloop.run(examine(make, given.only)) for name, make in makers.items()}
    for check in results["httpx"]:
        print(check)
        for name, one in results.items():
            print(f"    {name:>18}  {one[check]}")


if __name__ == "__main__":
    main()
