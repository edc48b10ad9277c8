"""The OrderMesh client: sends operations with a token, within the budget, again where that can help.

Cancellation: a request is never cancelled from outside. Its caller may be; the request then ends by itself,
bounded by its own timeouts, nobody waits for it, and it counts as under way until then. (httpcore leaks a
slot of its pool for a request that is cancelled at the wrong moment, and a connection that is closed half
way helps nobody.)
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import httpx
import msgspec
import redis.exceptions

from worker.backoff import Backoff
from worker.errors import (
    ApiError,
    GatewayUnreachable,
    LoginRejected,
    OrderMeshError,
    OutcomeUnknown,
)
from worker.ordermesh.contract.operations import OPERATIONS, Operation
from worker.ordermesh.http import refusals
from worker.ordermesh.http.reply import Reply, reply_of
from worker.ordermesh.services import TypedServices
from worker.telemetry import tracing
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from worker.clock import Clock
    from worker.config.sections import ApiSettings
    from worker.ordermesh.contract.profile import Case, ContractProfile
    from worker.ordermesh.http.auth import LoginRequest
    from worker.ordermesh.http.budget import Budget, Grant
    from worker.ordermesh.http.tokens import TokenSource
    from worker.ordermesh.http.transport import Http

RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
RETRIED_WRITE_STATUSES = frozenset({429})
"""For a write that must not be done twice: only where the server says that it has not begun."""
UNANSWERED_STATUSES = frozenset({408, 502, 504})
"""A gateway's words for: I do not know what became of it."""
BACKOFF = Backoff(first=0.25, most=20.0)
"""Between two attempts of a request, with full jitter."""
MAX_RETRY_AFTER = 30.0
"""Seconds. When the server asks for a longer pause, the request fails and the poll is put off instead."""


@dataclass(slots=True)
class Usage:
    """What one run has cost so far. Seconds and numbers of requests; `retries` are among `requests`.

    `clock_offset`: how far the server's clock was ahead of ours at the last page, by whole seconds; None if it does
    not say.
    """

    requests: int = 0
    retries: int = 0
    budget_wait: float = 0.0
    bytes: int = 0
    clock_offset: float | None = None


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
    repeatable: bool


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


class OrderMeshClient(TypedServices):
    """Calls operations of the table: by their key, or as typed methods in groups (`client.orders.search()`).

    `make_http` builds what requests are sent with; it is called again when connections have run dry. Set
    `tokens` before the first call: the token source logs in through this client. `profile` is what is believed
    of the gateway now; it is replaced as a whole when more has been found out.
    """

    tokens: TokenSource
    profile: ContractProfile

    def __init__(
        self,
        *,
        api: ApiSettings,
        profile: ContractProfile,
        budget: Budget,
        clock: Clock,
        make_http: Callable[[], Http],
    ) -> None:
        super().__init__(self, clock)
        self._api, self._budget, self._clock = api, budget, clock
        self.profile = profile
        self._make_http = make_http
        self._http = make_http()
        self._counts = _Counts()
        self._log = get_logger()

    def statistics(self) -> ClientStatistics:
        """A snapshot."""
        counts = self._counts
        return ClientStatistics(counts.requests, counts.retries, len(counts.flying), counts.rebuilt)

    def adopt(self, profile: ContractProfile) -> None:
        """Believe `profile` from now on; how a login is spelled stays as it was found."""
        self.profile = replace(profile, login_case=self.profile.login_case)

    async def aclose(self) -> None:
        """Close all connections and give up the share of the budget; what is still under way ends with them."""
        for task in list(self._counts.flying):
            task.cancel()
        await asyncio.gather(*self._counts.flying, *self._counts.closing, return_exceptions=True)
        await self._http.aclose()
        with contextlib.suppress(redis.exceptions.RedisError, OSError):
            await self._budget.leave()

    async def read_page(
        self, key: str, number: int, size: int, usage: Usage, narrowed: Mapping[str, str] | None = None
    ) -> bytes:
        """The body of page `number`, counted from 0, of a list operation, by the profile's page parameters.

        `narrowed`: query parameters that filter or sort the list.
        """
        query = {**(narrowed or {}), **self.profile.page_query(key, number, size)}
        reply = await self.call(key, query=query, usage=usage)
        if reply.date is not None:
            # The header is cut to whole seconds: half a second more is right on average.
            usage.clock_offset = reply.date + 0.5 - self._clock.now()
        return reply.raw

    async def login(self, request: LoginRequest) -> bytes:
        """Send a login, as `log_in` does. The body of a good answer."""
        return (await self.log_in(request)).raw

    async def log_in(self, request: LoginRequest) -> Reply:
        """Send a login, which goes unsigned; a good answer.

        The spelling of a client's login is not documented (docs/reference/api-facts.md, 1.2): where one is refused as
        malformed the other is tried, and kept when it is the right one.

        Raises:
            LoginRejected: The server refuses these credentials.

        """
        case = self.profile.login_case
        try:
            try:
                return await self._log_in(request, case)
            except ApiError as error:
                if error.status not in {400, 422} or request.operation != "clients.token":
                    raise
                other: Case = "camel" if case == "snake" else "snake"
                with contextlib.suppress(ApiError):
                    reply = await self._log_in(request, other)
                    self.profile = replace(self.profile, login_case=other)
                    self._log.info("login_spelling_found", case=other)
                    return reply
                raise
        except ApiError as error:
            if error.status in {400, 401, 403, 404, 422}:
                raise LoginRejected(error.status, error.text) from None
            raise

    async def _log_in(self, request: LoginRequest, case: Case) -> Reply:
        body = (
            request.body if case == "camel" else {_snake(name): text for name, text in request.body.items()}
        )
        sent = self._request(request.operation, None, request.query, body, self.profile)
        return await self._with_retries(sent, Usage(), self._api.attempts, signed=False)

    async def call(
        self,
        key: str,
        *,
        path: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        usage: Usage | None = None,
        profile: ContractProfile | None = None,
        attempts: int | None = None,
    ) -> Reply:
        """Send operation `key`; a good answer. Logins go unsigned, everything else with a token.

        A read, a replacement and a deletion are sent again where that can help. Another write is sent again
        only where it is certain that the server has not begun with it: a parcel must not be sent twice.
        `profile`: where to send it, instead of what is believed now; `attempts`: tries, other than the settings say.

        Raises:
            ApiError: The server refuses the request, or failed on every try.
            GatewayUnreachable: No connection, or no answer in time, on every try.
            OutcomeUnknown: A write was sent, and the answer is lost.
            LoginRejected: The credentials are refused, or a token fresh from the login.
            Unaddressable: A parameter of the path has a value that would lead to another path.
            ValueError: A parameter of the path has no value.

        """
        request = self._request(key, path, query, body, profile or self.profile)
        return await self._with_retries(
            request,
            usage or Usage(),
            attempts or self._api.attempts,
            signed=OPERATIONS[key].service != "user",
        )

    def _request(
        self,
        key: str,
        path: Mapping[str, str] | None,
        query: Mapping[str, str] | None,
        body: Any,
        profile: ContractProfile,
    ) -> _Request:
        operation, route = OPERATIONS[key], profile.route(key)
        url = self._api.base_url + profile.path(key, path)
        if query:
            url += "?" + urlencode(query, errors="surrogatepass")
        content = None if body is None else msgspec.json.encode(body)
        return _Request(key, route.method, url, content, _repeatable(operation, route.method))

    async def _with_retries(self, request: _Request, usage: Usage, attempts: int, *, signed: bool) -> Reply:
        attempt = 1
        while True:
            try:
                return await self._try(request, usage, signed=signed, again=attempt > 1)
            except _Transient as failure:
                if attempt >= attempts:
                    raise failure.error from None
                await self._clock.sleep(self._pause(attempt, failure))
            attempt += 1
            usage.retries += 1
            self._counts.retries += 1

    def _pause(self, attempt: int, failure: _Transient) -> float:
        """Full jitter, and never earlier than the server asked for."""
        wait = (failure.retry_after or 0.0) + self._clock.uniform(0, BACKOFF.ceiling(attempt))
        self._log.debug("request_retried", attempt=attempt, wait_s=round(wait, 3), reason=str(failure))
        return wait

    async def _try(self, request: _Request, usage: Usage, *, signed: bool, again: bool) -> Reply:
        if not signed:
            response = await self._send(request, None, usage)
        else:
            response = await self._send_signed(request, usage)
        if response.is_success:
            return reply_of(request.key, response)
        if again and request.method == "DELETE" and response.status_code == 404:
            return reply_of(request.key, response)  # the try before, whose answer was lost, has done it
        error = refusals.api_error(request.key, response)
        if not request.repeatable and response.status_code in UNANSWERED_STATUSES:
            raise OutcomeUnknown(request.key, str(error))
        if response.status_code in (RETRIED_STATUSES if request.repeatable else RETRIED_WRITE_STATUSES):
            retry_after = refusals.retry_after(response, self._clock.now())
            if retry_after is not None and retry_after > MAX_RETRY_AFTER:
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
        with tracing.span("request", operation=request.key, method=request.method) as seen:
            response = await self._send_once(request, token, usage)
            seen.attributes["status"] = response.status_code
            return response

    async def _send_once(self, request: _Request, token: str | None, usage: Usage) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if request.content is not None:
            headers["Content-Type"] = "application/json"
        grant = await self._budget.acquire()
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
            # A cancellation does not reach the request. Nor would it through `asyncio.shield`, but from Python 3.14 on
            # that logs an error of the request then.
            await asyncio.wait([task])
            response = task.result()
        except httpx.PoolTimeout as error:
            self._rebuild(http)
            raise _Transient(self._unreachable(request.key, error)) from None
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            raise _Transient(self._unreachable(request.key, error)) from None
        except httpx.RequestError as error:
            if not request.repeatable:
                raise OutcomeUnknown(request.key, _words(error)) from None
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
        self._log.warning("connections_rebuilt", reason="no connection became free in time")
        closing = asyncio.ensure_future(_close_after(self._counts.flying.copy(), dry))
        self._counts.closing.add(closing)
        closing.add_done_callback(self._counts.closing.discard)

    def _unreachable(self, key: str, error: Exception) -> GatewayUnreachable:
        return GatewayUnreachable(key, self._api.base_url, _words(error))


def _repeatable(operation: Operation, method: str) -> bool:
    """Whether sending it twice does what sending it once does. A contract file may have set the method."""
    if operation.writes:
        return method in {"PUT", "DELETE"}
    return method in {"GET", operation.method}


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


async def _close_after(under_way: set[asyncio.Task[httpx.Response]], http: Http) -> None:
    if under_way:
        await asyncio.wait(under_way)
    await http.aclose()
