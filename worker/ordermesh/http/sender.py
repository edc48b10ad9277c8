"""Sends requests over a pool of connections, within the request budget of an account.

Cancelling a caller does not cancel its request. The request continues until it ends or reaches its own timeouts, and
counts as in flight until then: the gateway works on it in any case, and a connection that is closed in the middle of a
response cannot be used again.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
import httpx

from worker.cancellation import end
from worker.errors import GatewayUnreachable, OrderMeshError, OutcomeUnknown, ResponseTooLarge
from worker.ordermesh.http.decoding import TooLarge
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.ordermesh.http.budget import Budget, Grant
    from worker.ordermesh.http.requests import Request
    from worker.ordermesh.http.shared import Connections
    from worker.ordermesh.http.usage import Usage


@dataclass(frozen=True, slots=True)
class ClientStatistics:
    """The requests of a client since it was created."""

    requests: int
    retries: int
    in_flight: int
    rebuilt: int
    """How often the client has replaced its connections."""


class Transient(Exception):
    """A failure after which a retry may succeed. `retry_after`: the server's Retry-After in seconds, if it sent one."""

    def __init__(self, error: OrderMeshError, retry_after: float | None = None) -> None:
        self.error, self.retry_after = error, retry_after
        super().__init__(str(error))


@dataclass(slots=True)
class Counts:
    """What a sender has done, and what it is doing."""

    requests: int = 0
    retries: int = 0
    rebuilt: int = 0
    in_flight: set[asyncio.Task[httpx.Response]] = field(default_factory=set)
    closing: set[asyncio.Task[None]] = field(default_factory=set)


class Sender:
    """Sends requests, and replaces its connections if none becomes free.

    Args:
        budget: The request budget of the account.
        make_http: Returns a pool of connections. It is called again if no connection becomes free.
    """

    def __init__(self, budget: Budget, make_http: Callable[[], Connections]) -> None:
        self._budget, self.make_http = budget, make_http
        self.http = make_http()
        self.counts = Counts()
        self._log = get_logger()

    async def aclose(self) -> None:
        """Cancel the requests in flight, and close all connections."""
        await asyncio.gather(*map(end, list(self.counts.in_flight)))
        await asyncio.gather(*self.counts.closing, return_exceptions=True)
        await self.http.aclose()

    async def send(
        self, request: Request, headers: dict[str, str], usage: Usage, base_url: str
    ) -> httpx.Response:
        """Send a request within the budget, and return the response, whatever its status.

        Args:
            request: The request.
            headers: All headers to send.
            usage: The figures to update.
            base_url: The address of the gateway, for the error.

        Raises:
            Transient: There was no connection, or no response in time.
            OutcomeUnknown: A write was sent, and its response was lost.
            ResponseTooLarge: The response has more than is read.

        """
        grant = await self._budget.acquire(usage.waited)
        usage.requests += 1
        self.counts.requests += 1
        http = self.http
        task = asyncio.ensure_future(
            http.send(request.method, request.url, headers=headers, content=request.content)
        )
        self.counts.in_flight.add(task)
        # A caller that is cancelled cancels this future, and not the request. Neither does `asyncio.shield` cancel it,
        # but from Python 3.14 on that logs the error of an abandoned request.
        ended = task.get_loop().create_future()
        task.add_done_callback(lambda task: self._request_ended(task, grant, ended))
        try:
            await ended
            response = task.result()
        except TooLarge as error:
            limit = f"{error.limit}. {error.advice}" if error.advice else error.limit
            if not request.repeatable:
                raise OutcomeUnknown(request.key, f"the response has more than {limit}") from None
            raise ResponseTooLarge(request.key, limit) from None
        except httpx.PoolTimeout as error:
            self._rebuild(http)
            raise Transient(_unreachable(request.key, base_url, error)) from None
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            raise Transient(_unreachable(request.key, base_url, error)) from None
        except httpx.RequestError as error:
            if not request.repeatable:
                raise OutcomeUnknown(request.key, _describe(error)) from None
            raise Transient(_unreachable(request.key, base_url, error)) from None
        usage.bytes += response.num_bytes_downloaded
        return response

    def _request_ended(
        self, task: asyncio.Task[httpx.Response], grant: Grant, ended: asyncio.Future[None]
    ) -> None:
        self._budget.release(grant)
        self.counts.in_flight.discard(task)
        if not ended.done():
            ended.set_result(None)
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not report the failure of an abandoned request

    def _rebuild(self, exhausted: Connections) -> None:
        """Replace the pool of connections. Requests in flight on the old one continue."""
        if exhausted is not self.http:
            return  # another request has replaced it
        self.http = self.make_http()
        self.counts.rebuilt += 1
        self._log.warning("connections_rebuilt", reason="no connection became free in time")
        closing = asyncio.ensure_future(_close_after(self.counts.in_flight.copy(), exhausted))
        self.counts.closing.add(closing)
        closing.add_done_callback(self.counts.closing.discard)


def _unreachable(key: str, base_url: str, error: Exception) -> GatewayUnreachable:
    return GatewayUnreachable(key, base_url, _describe(error))


def _describe(error: Exception) -> str:
    """Return why a request has no answer, in words, not in those of a library where the cause is clear."""
    origin = error.__cause__
    match origin:
        case aiohttp.ClientConnectorDNSError():
            return f"the name {origin.host} cannot be resolved"
        case aiohttp.ClientConnectorCertificateError():
            return f"its certificate is not trusted: {origin.certificate_error}"
        case aiohttp.ClientHttpProxyError():
            return f"the proxy answers {origin.status}"
        case aiohttp.ClientConnectorError() if origin.os_error.errno:
            is_proxy = isinstance(origin, aiohttp.ClientProxyConnectionError)
            to = f" to the proxy {origin.host}:{origin.port}" if is_proxy else ""
            return f"no connection{to}: {os.strerror(abs(origin.os_error.errno))}"
    if isinstance(error, httpx.ConnectTimeout):
        return "no connection in time"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


async def _close_after(in_flight: set[asyncio.Task[httpx.Response]], http: Connections) -> None:
    """Close a pool of connections after its requests have ended."""
    if in_flight:
        await asyncio.wait(in_flight)
    await http.aclose()
