"""The OrderMesh client: sends operations with a token, within the budget, again where that can help.

Cancellation: a request is never cancelled from outside. Its caller may be; the request then ends by itself,
bounded by its own timeouts, nobody waits for it, and it counts as under way until then. (httpcore leaks a
slot of its pool for a request that is cancelled at the wrong moment, and a connection that is closed half
way helps nobody.)
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import httpx
import msgspec
import redis.exceptions
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt

from worker.errors import (
    ApiError,
    GatewayUnreachable,
    LoginRejected,
    OrderMeshError,
)
from worker.logs import get_logger
from worker.ordermesh import refusals
from worker.ordermesh.operations import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from worker.clock import Clock
    from worker.ordermesh.auth import LoginRequest
    from worker.ordermesh.budget import Budget, Grant
    from worker.ordermesh.profile import ContractProfile
    from worker.ordermesh.tokens import TokenSource
    from worker.ordermesh.transport import Http
    from worker.settings import ApiSettings

RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
FIRST_BACKOFF, LONGEST_BACKOFF = 0.25, 20.0
LONGEST_RETRY_AFTER = 30.0
"""Seconds. When the server asks for a longer pause, the request fails and the poll is put off instead."""


@dataclass(slots=True)
class Usage:
    """What one run has cost so far. Seconds and numbers of requests; `retries` are among `requests`."""

    requests: int = 0
    retries: int = 0
    budget_wait: float = 0.0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class ClientStatistics:
    """What the client has done since it was made."""

    requests: int
    retries: int
    under_way: int
    rebuilt: int


@dataclass(frozen=True, slots=True)
class _Request:
    """An operation, ready to be sent."""

    key: str
    method: str
    url: str
    content: bytes | None = field(repr=False)  # a login's holds the secret


class _Transient(Exception):
    """A failure that another try may mend. `retry_after` in seconds, if the server said so."""

    def __init__(self, error: OrderMeshError, retry_after: float | None = None) -> None:
        self.error, self.retry_after = error, retry_after
        super().__init__(str(error))


@dataclass(slots=True)
class _Counts:
    requests: int = 0
    retries: int = 0
    rebuilt: int = 0
    flying: set[asyncio.Task[httpx.Response]] = field(default_factory=set)
    closing: set[asyncio.Task[None]] = field(default_factory=set)


class OrderMeshClient:
    """Calls operations of the table by their key.

    `make_http` builds what requests are sent with; it is called again when connections have run dry. Set
    `tokens` before the first call: the token source logs in through this client.
    """

    tokens: TokenSource

    def __init__(
        self,
        *,
        api: ApiSettings,
        profile: ContractProfile,
        budget: Budget,
        clock: Clock,
        make_http: Callable[[], Http],
    ) -> None:
        self._api, self._profile, self._budget, self._clock = api, profile, budget, clock
        self._make_http = make_http
        self._http = make_http()
        self._counts = _Counts()
        self._log = get_logger()

    def statistics(self) -> ClientStatistics:
        """A snapshot."""
        counts = self._counts
        return ClientStatistics(counts.requests, counts.retries, len(counts.flying), counts.rebuilt)

    async def aclose(self) -> None:
        """Close all connections and give up the share of the budget; what is still under way ends with them."""
        for task in list(self._counts.flying):
            task.cancel()
        await asyncio.gather(*self._counts.flying, *self._counts.closing, return_exceptions=True)
        await self._http.aclose()
        with contextlib.suppress(redis.exceptions.RedisError, OSError):
            await self._budget.leave()

    async def read_page(self, key: str, number: int, size: int, usage: Usage) -> bytes:
        """The body of page `number`, counted from 0, of a list operation."""
        return await self.call(key, query=self._profile.page_query(number, size), usage=usage)

    async def login(self, request: LoginRequest) -> bytes:
        """Send a login. The body of a good answer.

        Raises:
            LoginRejected: The server refuses these credentials.

        """
        try:
            return await self._with_retries(
                request.operation, None, None, request.body, Usage(), signed=False
            )
        except ApiError as error:
            if error.status in {400, 401, 403, 404}:
                raise LoginRejected(error.status, error.text) from None
            raise

    async def call(
        self,
        key: str,
        *,
        path: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        usage: Usage | None = None,
    ) -> bytes:
        """Send operation `key`; the body of a good answer as served.

        Raises:
            ApiError: The server refuses the request, or failed on every try.
            GatewayUnreachable: No connection, or no answer in time, on every try.
            LoginRejected: The credentials are refused, or a token fresh from the login.

        """
        return await self._with_retries(key, path, query, body, usage or Usage(), signed=True)

    async def _with_retries(
        self,
        key: str,
        path: Mapping[str, str] | None,
        query: Mapping[str, str] | None,
        body: Any,
        usage: Usage,
        *,
        signed: bool,
    ) -> bytes:
        operation = OPERATIONS[key]
        url = self._api.base_url + self._profile.path(key, path)
        if query:
            url = f"{url}?{urlencode(query)}"
        request = _Request(key, operation.method, url, None if body is None else msgspec.json.encode(body))
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(_Transient),
                stop=stop_after_attempt(self._api.attempts),
                wait=self._backoff,
                sleep=self._clock.sleep,
                reraise=True,
            ):
                with attempt:
                    if attempt.retry_state.attempt_number > 1:
                        usage.retries += 1
                        self._counts.retries += 1
                    return await self._try(request, usage, signed=signed)
        except _Transient as failure:
            raise failure.error from None
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _backoff(self, state: RetryCallState) -> float:
        """Full jitter, and never earlier than the server asked for."""
        ceiling = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2 ** (state.attempt_number - 1))
        failure = state.outcome.exception() if state.outcome else None
        asked = failure.retry_after if isinstance(failure, _Transient) else None
        wait = (asked or 0.0) + self._clock.uniform(0, ceiling)
        self._log.debug(
            "request_retried", attempt=state.attempt_number, wait_s=round(wait, 3), reason=str(failure)
        )
        return wait

    async def _try(self, request: _Request, usage: Usage, *, signed: bool) -> bytes:
        if not signed:
            response = await self._send(request, None, usage)
        else:
            response = await self._send_signed(request, usage)
        if response.is_success:
            return response.content
        error = refusals.api_error(request.key, response)
        if response.status_code in RETRIED_STATUSES:
            retry_after = refusals.retry_after(response, self._clock.now())
            if retry_after is not None and retry_after > LONGEST_RETRY_AFTER:
                error.retry_after = retry_after
                raise error
            raise _Transient(error, retry_after)
        raise error

    async def _send_signed(self, request: _Request, usage: Usage) -> httpx.Response:
        """Send with a token; on a 401 with another one, and then with one fresh from the login at the latest."""
        began = self._clock.now()
        token = await self.tokens.get()
        response = await self._send(request, token.access, usage)
        for _ in range(2):
            if response.status_code != 401:
                return response
            token = await self.tokens.renew(rejected=token.access)
            response = await self._send(request, token.access, usage)
            if token.issued_at >= began:
                break
            # The other one was older than this request: another worker's, which may be withdrawn as well.
        if response.status_code == 401:
            raise LoginRejected(401, refusals.words(response))
        return response

    async def _send(self, request: _Request, token: str | None, usage: Usage) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if request.content is not None:
            headers["Content-Type"] = "application/json"
        grant = await self._budget.take()
        usage.budget_wait += grant.waited
        usage.requests += 1
        self._counts.requests += 1
        http = self._http
        task = asyncio.ensure_future(
            http.send(request.method, request.url, headers=headers, content=request.content)
        )
        self._counts.flying.add(task)
        task.add_done_callback(lambda task: self._landed(task, grant))
        try:
            response = await asyncio.shield(task)
        except httpx.PoolTimeout as error:
            self._rebuild(http)
            raise _Transient(self._unreachable(request.key, error)) from None
        except httpx.RequestError as error:
            raise _Transient(self._unreachable(request.key, error)) from None
        usage.bytes += response.num_bytes_downloaded
        return response

    def _landed(self, task: asyncio.Task[httpx.Response], grant: Grant) -> None:
        self._budget.give_back(grant)
        self._counts.flying.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not report the failure of an abandoned request

    def _rebuild(self, dry: Http) -> None:
        """Start over with fresh connections; requests under way on the old ones are left to end."""
        if dry is not self._http:
            return  # another request has seen to it
        self._http = self._make_http()
        self._counts.rebuilt += 1
        self._log.warning("connections_rebuilt", reason="no free connection in time")
        closing = asyncio.ensure_future(_close_after(self._counts.flying.copy(), dry))
        self._counts.closing.add(closing)
        closing.add_done_callback(self._counts.closing.discard)

    def _unreachable(self, key: str, error: Exception) -> GatewayUnreachable:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return GatewayUnreachable(key, self._api.base_url, reason)


async def _close_after(under_way: set[asyncio.Task[httpx.Response]], http: Http) -> None:
    if under_way:
        await asyncio.wait(under_way)
    await http.aclose()
