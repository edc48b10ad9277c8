"""HTTP: httpx's requests, responses and errors over aiohttp's connections.

Chosen by measurement (`python -m tests.bench.transports`): with pages of 250 KB, plain httpx reaches a quarter of the
throughput of raw sockets and gets slower with more requests in flight; this module reaches two thirds. httpx's client
adds more to the time of a request than its transport does, so requests go to the transport directly. The worker needs
none of the client's features: cookies, redirects, merged URLs.

`httpx-aiohttp` 0.2 reports every lost connection as a `ConnectTimeout`, raises aiohttp's own errors for malformed
responses, yields bodies in pieces, and ignores proxy settings. This module corrects all four.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport
from httpx_aiohttp.transport import AiohttpResponseStream

from worker.errors import SettingsError
from worker.ordermesh.http.body import codings_of
from worker.ordermesh.http.decoding import BodyTooLarge, Decoder
from worker.ordermesh.http.tls import tls_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Iterator

    from worker.config.sections import ApiSettings

READ_BUFFER = 1 << 18
MAX_HEADER = 1 << 16
MAX_ERROR = 1 << 16
"""Bytes of the body of an error that are read."""
KEEP_ALIVE_SECONDS = 30.0
MAX_CONNECT = 10.0
MAX_REQUEST = 10
"""Longest time of a request, in timeouts. Without it, a server that sends a byte now and then never ends a request."""

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


class Transport(AiohttpTransport):
    """HTTP/1.1 through aiohttp, with the errors of httpx.

    It never repeats a request on its own. It does not raise `PoolTimeout`, and a cancelled request returns its
    connection to the pool.

    Args:
        max_connections: Largest number of open connections. Waiting for a free one counts as connecting.
        max_bytes: Most bytes of a body, on the wire and decompressed. That of an error is cut, at 64 KiB.
        proxy: The proxy to connect through.
        verify: The TLS configuration; None for httpx's default.
    """

    def __init__(
        self,
        *,
        max_connections: int,
        max_bytes: int = 1 << 25,
        proxy: httpx.Proxy | None = None,
        verify: ssl.SSLContext | None = None,
    ) -> None:
        context = verify or httpx.create_ssl_context()
        self._max_bytes = max_bytes

        def session() -> aiohttp.ClientSession:
            result = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=max_connections, keepalive_timeout=KEEP_ALIVE_SECONDS, ssl=context
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=READ_BUFFER,
                max_line_size=MAX_HEADER,
                max_field_size=MAX_HEADER,
            )
            # aiohttp repeats a GET when its connection dies. The request budget would not count that, and retries
            # are the responsibility of the client.
            result._retry_connection = False  # noqa: SLF001 - there is no public switch
            return result

        super().__init__(verify=context, proxy=_with_login_as_header(proxy), client=session)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request and return the response; its body is read as one piece.

        Reading the body raises `BodyTooLarge` at the limit.

        Raises:
            httpx.TransportError: There is no connection, no response in time, or the response is not HTTP.

        """
        with _httpx_errors(request):
            response = await super().handle_async_request(request)
        if isinstance(response.stream, AiohttpResponseStream):
            cut = response.is_error
            limit = min(self._max_bytes, MAX_ERROR) if cut else self._max_bytes
            answer = response.stream._aiohttp_response  # noqa: SLF001 - pinned
            response.stream = _WholeBody(answer, request, limit, cut=cut)
            cast("Any", response)._decoder = Decoder(codings_of(response), limit, cut=cut)  # noqa: SLF001 - pinned
        return response


class _WholeBody(AiohttpResponseStream):
    """A body that httpx gets as one piece, so that it is joined only once."""

    def __init__(
        self, response: aiohttp.ClientResponse, request: httpx.Request, limit: int, *, cut: bool
    ) -> None:
        super().__init__(response)
        self._request, self._limit, self._cut = request, limit, cut

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _httpx_errors(self._request):
            body = await self._read()
        if body:
            yield body

    async def _read(self) -> bytes:
        content, parts, size = self._aiohttp_response.content, [], 0
        while part := await content.readany():
            parts.append(part)
            size += len(part)
            if size > self._limit:
                if self._cut:
                    break
                raise BodyTooLarge(self._limit)
        return b"".join(parts)[: self._limit]


class Http:
    """Sends requests through a transport, with the timeouts and headers of one gateway."""

    def __init__(self, api: ApiSettings, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport
        connect = min(MAX_CONNECT, api.timeout)
        # The pool timeout limits waiting for a connection and opening it, together.
        timeout = httpx.Timeout(api.timeout, connect=connect, pool=connect + api.timeout)
        self._extensions = {"timeout": timeout.as_dict()}
        self._longest = api.timeout * MAX_REQUEST
        self._headers = httpx.Headers(
            {
                "Host": httpx.URL(api.base_url).netloc.decode(),
                "Accept": "application/json",
                "Accept-Encoding": "gzip, deflate",
                "User-Agent": "ordermesh-sync",
            }
        )

    async def send(
        self, method: str, url: str, *, headers: dict[str, str], content: bytes | None = None
    ) -> httpx.Response:
        """Send one request and return the response, with its body read and decompressed.

        Raises:
            httpx.TransportError: There is no connection, no response in time, or the response is not HTTP.
            httpx.DecodingError: The body is not compressed as its header says.
            BodyTooLarge: The body is longer than the settings permit.

        """
        merged = self._headers.copy()
        merged.update(headers)
        request = httpx.Request(method, url, headers=merged, content=content, extensions=self._extensions)
        try:
            async with asyncio.timeout(self._longest):
                return await self._send_and_read(request)
        except TimeoutError:
            raise httpx.ReadTimeout(
                f"no complete response within {self._longest:g} s", request=request
            ) from None

    async def _send_and_read(self, request: httpx.Request) -> httpx.Response:
        response = await self._transport.handle_async_request(request)
        response.request = request
        try:
            await response.aread()
        finally:
            await response.aclose()
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()


def make_http(api: ApiSettings) -> Http:
    """Return the worker's `Http`. It has two connections more than the permitted concurrency, for logins.

    Raises:
        SettingsError: The proxy, or a file of certificates, cannot be used.

    """
    proxy = environment_proxy(api.base_url)
    transport = Transport(
        max_connections=api.max_concurrency + 2,
        max_bytes=api.max_response_bytes,
        proxy=proxy,
        verify=tls_context(api),
    )
    return Http(api, transport)


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
    scheme = urlsplit(address).scheme
    if scheme not in {"http", "https"}:
        raise SettingsError(
            f"The environment sets a {scheme} proxy, but only HTTP proxies are supported. Set "
            f"{parts.scheme.upper()}_PROXY to an HTTP proxy, or add {parts.hostname} to NO_PROXY."
        )
    return httpx.Proxy(address)


def _with_login_as_header(proxy: httpx.Proxy | None) -> httpx.Proxy | None:
    """Return the proxy with its login as a header. The base class would use `BasicAuth`, which aiohttp deprecates."""
    if proxy is None or proxy.auth is None:
        return proxy
    login = base64.b64encode(":".join(proxy.auth).encode()).decode()
    return httpx.Proxy(proxy.url, headers={"Authorization": f"Basic {login}"})


@contextlib.contextmanager
def _httpx_errors(request: httpx.Request) -> Iterator[None]:
    """Raise the errors of aiohttp as those of httpx. A cancellation passes unchanged."""
    try:
        yield
    except Exception as error:
        # An error that the base class has already converted has aiohttp's error as its cause.
        origin = error.__cause__ if isinstance(error, httpx.RequestError) else error
        for theirs, ours in _ERRORS:
            if isinstance(origin, theirs):
                raise ours(str(origin) or type(origin).__name__, request=request) from origin
        raise
