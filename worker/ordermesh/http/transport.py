"""HTTP: httpx's requests, answers and errors over aiohttp's connections.

Chosen by measurement (`python -m tests.bench.transports`): with pages of 250 KB httpx as it comes reaches a
quarter of what raw sockets do and gets slower with more requests in flight; this reaches two thirds. Its
client adds more to a request than its transport does, so requests go to the transport directly: there are
no cookies, redirects or merged URLs here to need one.

`httpx-aiohttp` 0.2 calls every lost connection a `ConnectTimeout`, lets malformed answers out as errors of
aiohttp, hands bodies over in pieces, and looks at no proxy settings. Each is answered below.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport
from httpx_aiohttp.transport import AiohttpResponseStream

from worker.errors import SettingsError

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Iterator

    from worker.config.sections import ApiSettings

READ_BUFFER = 1 << 18
MAX_HEADER = 1 << 16
KEEP_ALIVE_SECONDS = 30.0
MAX_CONNECT = 10.0
MAX_REQUEST = 10
"""Times the timeout: a server that hands out a byte now and then would hold a request for ever."""

# The first row that fits wins: from the particular to the general.
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
    """HTTP/1.1 by aiohttp, with httpx's words for what goes wrong.

    `max_connections` bounds open connections; waiting for one counts as connecting. Nothing is sent twice
    behind the caller's back. `PoolTimeout` does not occur, and a request that is cancelled from outside
    gives its connection back.
    """

    def __init__(
        self,
        *,
        max_connections: int,
        proxy: httpx.Proxy | None = None,
        verify: ssl.SSLContext | None = None,
    ) -> None:
        context = verify or httpx.create_ssl_context()

        def session() -> aiohttp.ClientSession:
            made = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=max_connections, keepalive_timeout=KEEP_ALIVE_SECONDS, ssl=context
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=READ_BUFFER,
                max_line_size=MAX_HEADER,
                max_field_size=MAX_HEADER,
            )
            # aiohttp sends a GET once more when its connection dies. The request budget would not see it,
            # and retries are the client's business.
            made._retry_connection = False  # noqa: SLF001 - there is no public switch
            return made

        super().__init__(verify=context, proxy=_with_login_as_header(proxy), client=session)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; an answer whose body is read as one piece.

        Raises:
            httpx.TransportError: No connection, no answer in time, or one that is no HTTP.

        """
        with _httpx_errors(request):
            response = await super().handle_async_request(request)
        if isinstance(response.stream, AiohttpResponseStream):
            response.stream = _WholeBody(response.stream._aiohttp_response, request)  # noqa: SLF001 - pinned
        return response


class _WholeBody(AiohttpResponseStream):
    """A body as one piece: joined once, and handed through httpx as it is."""

    def __init__(self, answer: aiohttp.ClientResponse, request: httpx.Request) -> None:
        super().__init__(answer)
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _httpx_errors(self._request):
            body = await self._aiohttp_response.content.read()
        if body:
            yield body


class Http:
    """Sends requests through a transport, with the timeouts and headers of one gateway."""

    def __init__(self, api: ApiSettings, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport
        connect = min(MAX_CONNECT, api.timeout)
        # The pool's timeout bounds the wait for a connection and the making of one together.
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
        """One request; the answer with its body read and decompressed.

        Raises:
            httpx.TransportError: No connection, no answer in time, or one that is no HTTP.
            httpx.DecodingError: The body is not compressed as it claims.

        """
        own = self._headers.copy()
        own.update(headers)
        request = httpx.Request(method, url, headers=own, content=content, extensions=self._extensions)
        try:
            async with asyncio.timeout(self._longest):
                return await self._whole(request)
        except TimeoutError:
            raise httpx.ReadTimeout(
                f"no complete response within {self._longest:g} s", request=request
            ) from None

    async def _whole(self, request: httpx.Request) -> httpx.Response:
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
    """What the worker sends its requests with: two connections above the permitted concurrency, for logins."""
    proxy = environment_proxy(api.base_url)
    return Http(api, Transport(max_connections=api.max_concurrency + 2, proxy=proxy))


def environment_proxy(url: str) -> httpx.Proxy | None:
    """The proxy that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY ask for, looked up once for a gateway.

    Raises:
        SettingsError: It is no HTTP proxy.

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
    """The base class would make a `BasicAuth` of it, which aiohttp is about to drop."""
    if proxy is None or proxy.auth is None:
        return proxy
    login = base64.b64encode(":".join(proxy.auth).encode()).decode()
    return httpx.Proxy(proxy.url, headers={"Authorization": f"Basic {login}"})


@contextlib.contextmanager
def _httpx_errors(request: httpx.Request) -> Iterator[None]:
    """Errors of aiohttp, named as httpx names them; a cancellation passes."""
    try:
        yield
    except Exception as error:
        # What the base class has renamed already carries aiohttp's error as its cause.
        origin = error.__cause__ if isinstance(error, httpx.RequestError) else error
        for theirs, ours in _ERRORS:
            if isinstance(origin, theirs):
                raise ours(str(origin) or type(origin).__name__, request=request) from origin
        raise
