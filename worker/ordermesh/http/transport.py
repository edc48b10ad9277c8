"""HTTP: httpx's responses and errors over aiohttp's connections.

Chosen by measurement (`python -m tests.bench.transports`): with pages of 250 KB, plain httpx needs five times the CPU
of raw sockets and gets slower with more requests in flight. Its models of a request and of a URL cost as much as all
else that a page needs, and a client that polls makes no use of them: no cookies, no redirects, no merged URLs. So
requests go to aiohttp's session directly, and its responses and errors are returned as those of httpx.
"""

from __future__ import annotations

import asyncio
import base64
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong
from yarl import URL

from worker.errors import SettingsError
from worker.ordermesh.http.body import codings_of
from worker.ordermesh.http.decoding import BodyTooLarge, Decoder, TooLarge
from worker.ordermesh.http.tls import tls_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence
    from typing import Never

    from worker.config.sections import ApiSettings

READ_BUFFER = 1 << 18
MAX_HEADER = 1 << 15
"""Bytes of one line of a header that are read: of its name, and of its value."""
MAX_HEADERS = 100
"""Lines of a header that are read."""
SLICE = 1 << 14
"""Bytes that are decompressed before other tasks have their turn. They become 16 MiB at most."""
MAX_PIECES = 50_000
"""Chunks in which a body may come. A server that sends each byte in one would keep the worker busy for minutes."""
MAX_ERROR = 1 << 16
"""Bytes of the body of an error that are read."""
HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "gzip, deflate",
    "User-Agent": "ordermesh-sync",
}
"""Headers of each request."""
KEEP_ALIVE_SECONDS = 30.0
MAX_CONNECT = 10.0
MAX_REQUEST = 10
"""Longest time of a request, in timeouts. Without it, a server that sends a byte now and then never ends a request."""

_IS_ADDRESS = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+").fullmatch
"""Matches what has only characters that an address may have (RFC 3986, 2)."""

# The first row that matches applies, so subclasses come before their base classes.
_ERRORS: tuple[tuple[type[Exception], type[httpx.RequestError]], ...] = (
    (aiohttp.ClientHttpProxyError, httpx.ProxyError),
    (aiohttp.ClientProxyConnectionError, httpx.ProxyError),
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout),
    (aiohttp.ServerTimeoutError, httpx.ReadTimeout),
    (aiohttp.ClientConnectorError, httpx.ConnectError),
    (aiohttp.ServerDisconnectedError, httpx.RemoteProtocolError),
    (aiohttp.ClientPayloadError, httpx.RemoteProtocolError),
    (aiohttp.ClientResponseError, httpx.RemoteProtocolError),
    (aiohttp.InvalidURL, httpx.UnsupportedProtocol),
    (aiohttp.NonHttpUrlClientError, httpx.UnsupportedProtocol),
    (aiohttp.ClientConnectionError, httpx.ReadError),
    (aiohttp.ClientError, httpx.NetworkError),
    (TimeoutError, httpx.ReadTimeout),
    (OSError, httpx.ReadError),
)


class Http:
    """Sends requests to one gateway over HTTP/1.1, and returns the responses, whole, as httpx has them.

    It never repeats a request on its own, follows no redirect and keeps no cookie. It does not raise `PoolTimeout`, and
    a cancelled request returns its connection to the pool.

    Args:
        api: The settings of the gateway: address, timeouts and limits. There are two connections more than the
            permitted concurrency, for logins.
        proxy: The proxy to connect through.
        verify: The TLS configuration; None for httpx's default.
    """

    def __init__(
        self,
        api: ApiSettings,
        *transport: Never,
        proxy: httpx.Proxy | None = None,
        verify: ssl.SSLContext | None = None,
    ) -> None:
        if transport:
            raise TypeError(
                "Http opens its own connections and takes no transport. To send in another way, give OrderMeshClient a "
                "make_http that returns an object with the methods send() and aclose() of Http."
            )
        self._api, self._proxy = api, proxy
        self._proxy_headers = _login_of(proxy)
        self._verify = verify or httpx.create_ssl_context()
        self._longest = api.timeout * MAX_REQUEST
        self._session: aiohttp.ClientSession | None = None

    async def send(
        self, method: str, url: str, *, headers: dict[str, str], content: bytes | None = None
    ) -> httpx.Response:
        """Send one request and return the response, with its body read and decompressed.

        The response has no `request`.

        Raises:
            httpx.TransportError: There is no connection, no response in time, or the response is not HTTP.
            httpx.DecodingError: The body is not compressed as its header says.
            TooLarge: The header is too long, or the body is longer than the settings permit.

        """
        try:
            async with asyncio.timeout(self._longest):
                return await self._exchange(method, url, headers, content)
        except TimeoutError:
            raise httpx.ReadTimeout(f"no complete response within {self._longest:g} s") from None

    async def _exchange(
        self, method: str, url: str, headers: dict[str, str], content: bytes | None
    ) -> httpx.Response:
        session = self._session = self._session or self._new_session()
        # yarl would decode some of what is encoded. It quotes what an address cannot have, such as a name in Unicode.
        address = URL(url, encoded=_IS_ADDRESS(url) is not None)
        try:
            async with session.request(
                method,
                address,
                headers=headers,
                data=content,
                allow_redirects=False,
                proxy_headers=self._proxy_headers,
            ) as answer:
                cut = answer.status >= HTTPStatus.BAD_REQUEST
                limit = min(self._api.max_response_bytes, MAX_ERROR) if cut else self._api.max_response_bytes
                body = await _read(answer.content, limit, cut=cut)
        except Exception as error:
            if (converted := _as_httpx(error)) is None:
                raise
            raise converted from error
        size = len(body)
        if codings := codings_of(",".join(answer.headers.getall("Content-Encoding", ()))):
            body = await _decompressed(body, Decoder(codings, limit, cut=cut))
        return _Response(answer, body, size)

    def _new_session(self) -> aiohttp.ClientSession:
        api, proxy = self._api, self._proxy
        connect = min(MAX_CONNECT, api.timeout)
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=api.max_concurrency + 2, keepalive_timeout=KEEP_ALIVE_SECONDS, ssl=self._verify
            ),
            # Waiting for a free connection and opening it have one limit together.
            timeout=aiohttp.ClientTimeout(
                sock_connect=connect, sock_read=api.timeout, connect=connect + api.timeout
            ),
            headers=HEADERS,
            proxy=str(proxy.url) if proxy else None,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=READ_BUFFER,
            max_line_size=MAX_HEADER,
            max_field_size=MAX_HEADER,
            max_headers=MAX_HEADERS,
        )
        # aiohttp repeats a GET when its connection dies. The request budget would not count that, and retries are the
        # responsibility of the client.
        session._retry_connection = False  # noqa: SLF001 - there is no public switch
        return session

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()


class _Response(httpx.Response):
    """A complete response of aiohttp: its body has been read and decompressed, `size` bytes of it on the wire."""

    def __init__(self, answer: aiohttp.ClientResponse, body: bytes, size: int) -> None:
        # The body is set below: httpx would decompress what it gets as content.
        super().__init__(answer.status, stream=_EMPTY)
        self.headers = _Headers(answer.raw_headers)
        self._content, self._num_bytes_downloaded = body, size
        self.is_closed = self.is_stream_consumed = True


class _Headers(httpx.Headers):
    """The headers of a response, for reading: each name is looked up in a dictionary, and not in the list of all."""

    def __init__(self, raw: Sequence[tuple[bytes, bytes]]) -> None:
        super().__init__(raw)
        self._by_name = dict(self.items())

    def __getitem__(self, key: str) -> str:
        return self._by_name[key.lower()]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key.lower() in self._by_name


_EMPTY = httpx.ByteStream(b"")


async def _read(stream: aiohttp.StreamReader, limit: int, *, cut: bool) -> bytes:
    """Return the body of a response as it is on the wire. `cut`: the first `limit` bytes of a longer one.

    Raises:
        TooLarge: It is longer, or in too many pieces.

    """
    content: Any = stream
    parts, size, pieces = list[bytes](), 0, 0
    while not content.at_eof():
        # As `readany`, which does not say in how many pieces the part has come.
        while not (content._buffer or content._eof or content.exception()):  # noqa: SLF001 - pinned
            await content._wait("readany")  # noqa: SLF001 - pinned
        pieces += len(content._buffer)  # noqa: SLF001 - pinned
        part = content.read_nowait()
        if pieces > MAX_PIECES:
            raise TooLarge(f"{MAX_PIECES} chunks")
        parts.append(part)
        size += len(part)
        if size > limit:
            if cut:
                break
            raise BodyTooLarge(limit)
    if error := content.exception():
        raise error
    return b"".join(parts)[:limit]


async def _decompressed(body: bytes, decoder: Decoder) -> bytes:
    """Return the decompressed body. Other tasks have their turn in between."""
    parts = []
    for start in range(0, len(body), SLICE):
        parts.append(decoder.decode(body[start : start + SLICE]))
        await asyncio.sleep(0)
    decoder.flush()
    return b"".join(parts)


def make_http(api: ApiSettings) -> Http:
    """Return the `Http` of a gateway, with the proxy and the certificates of the settings.

    Raises:
        SettingsError: The proxy, or a file of certificates, cannot be used.

    """
    given = api.proxy.get_secret_value() if api.proxy else ""
    proxy = httpx.Proxy(given) if given else environment_proxy(api.base_url)
    return Http(api, proxy=proxy, verify=tls_context(api))


def environment_proxy(url: str) -> httpx.Proxy | None:
    """Return the proxy for a URL by HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY; None without one.

    Raises:
        SettingsError: The proxy is not an HTTP proxy.

    """
    parts = urlsplit(url)
    proxies = getproxies()
    chosen = proxies.get(parts.scheme) or proxies.get("all")
    if not chosen or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    address = chosen if "://" in chosen else f"http://{chosen}"
    scheme = address.partition("://")[0].lower()
    if scheme not in {"http", "https"}:
        raise SettingsError(
            f"The environment sets a {scheme} proxy, but only HTTP proxies are supported. Set "
            f"{parts.scheme.upper()}_PROXY to an HTTP proxy, or add {parts.hostname} to NO_PROXY."
        )
    try:
        proxy = httpx.Proxy(address)
    except (ValueError, httpx.InvalidURL):
        proxy = None
    if proxy is None or not proxy.url.host:  # the address may hold a password, so it is not repeated
        raise SettingsError(
            f"The environment sets a proxy for {parts.scheme} whose address cannot be used. Set "
            f"{parts.scheme.upper()}_PROXY (or ALL_PROXY) to an address such as http://proxy:3128, or add "
            f"{parts.hostname} to NO_PROXY."
        )
    return proxy


def _login_of(proxy: httpx.Proxy | None) -> dict[str, str]:
    """Return the login at a proxy as a header, which aiohttp sends to the proxy as Proxy-Authorization."""
    if proxy is None or proxy.auth is None:
        return {}
    login = base64.b64encode(":".join(proxy.auth).encode()).decode()
    return {"Authorization": f"Basic {login}"}


def _header_limit(error: BaseException | None) -> str:
    """Return which limit of the header a response exceeds, in words; "" for another error."""
    if not isinstance(error, aiohttp.ClientResponseError):
        return ""
    causes = [error.__cause__, getattr(error.__cause__, "__cause__", None)]
    if any(isinstance(cause, LineTooLong) for cause in causes):
        return f"{MAX_HEADER} bytes in a line of its header"
    if any(isinstance(cause, BadHttpMessage) and "Too many headers" in str(cause) for cause in causes):
        return f"{MAX_HEADERS} lines in its header"
    return ""


def _as_httpx(error: Exception) -> Exception | None:
    """Return an error of aiohttp as httpx would raise it, or as `TooLarge`; None for any other."""
    if limit := _header_limit(error):
        return TooLarge(limit)
    for theirs, ours in _ERRORS:
        if isinstance(error, theirs):
            return ours(str(error) or type(error).__name__)
    return None
