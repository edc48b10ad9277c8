"""The OrderMesh client: sends operations with a token, within the budget, and retries them where that can help.

Cancelling a caller does not cancel its request: see `http/sender.py`.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import msgspec
import redis.exceptions

from worker.backoff import Backoff
from worker.errors import ApiError, LoginRejected, ResponseTooLarge, TokenRejected
from worker.ordermesh.contract.operations import OPERATIONS
from worker.ordermesh.http import rate_limits, refusals
from worker.ordermesh.http import waits as waiting
from worker.ordermesh.http.budget import LIMIT_REACHED, MAX_EXHAUSTED
from worker.ordermesh.http.continuation import next_of, request_after
from worker.ordermesh.http.outcomes import RETRIED_STATUSES, reply_to
from worker.ordermesh.http.pages import split
from worker.ordermesh.http.requests import Request, continued, request_of, snake
from worker.ordermesh.http.sender import ClientStatistics, Sender, Transient
from worker.ordermesh.http.usage import Usage
from worker.ordermesh.http.waits import Wait, Waits
from worker.ordermesh.services import TypedServices
from worker.telemetry import tracing
from worker.telemetry.log import Repeats, get_logger, redaction

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import httpx
    from pydantic import SecretStr

    from worker.clock import Clock
    from worker.config.sections import ApiSettings
    from worker.ordermesh.contract.profile import Case, ContractProfile
    from worker.ordermesh.http.auth import LoginRequest
    from worker.ordermesh.http.budget import Budget
    from worker.ordermesh.http.pages import Page
    from worker.ordermesh.http.reply import Reply
    from worker.ordermesh.http.shared import Connections
    from worker.ordermesh.http.tokens import TokenSource

NO_CONTENT = 204
"""The status with which a server says that the response has no body on purpose."""
BACKOFF = Backoff(first=0.25, most=20.0)
"""Pause between two attempts of a request, with full jitter."""
MAX_RETRY_AFTER = 30.0
"""Seconds. If the server asks for a longer pause, the request fails and the poll is postponed instead."""
MIN_LOGGED_WAIT = 2.0
"""Seconds. A shorter pause that OrderMesh asks for is not worth a warning."""


class OrderMeshClient(TypedServices):
    """Calls operations of the table: by their key, or as typed methods in groups (`client.orders.search()`).

    Args:
        api: The settings of the API.
        profile: The contract of the gateway.
        budget: The request budget of the account.
        clock: The clock.
        make_http: Returns a pool of connections. It is called again if no connection becomes free.
    """

    tokens: TokenSource
    """Set it before the first call; the token source logs in through this client."""
    profile: ContractProfile
    """The contract of the gateway as it is known now. It is replaced as a whole when the probe has found out more."""

    def __init__(
        self,
        *,
        api: ApiSettings,
        profile: ContractProfile,
        budget: Budget,
        clock: Clock,
        make_http: Callable[[], Connections],
    ) -> None:
        super().__init__(self, clock)
        self._api, self.budget, self._clock = api, budget, clock
        self.profile = profile
        self.use_headers(api.headers)
        self._sender = Sender(budget, make_http)
        self._logins, self._repeats = Waits(), Repeats()
        self.answered_at = clock.monotonic()
        """When OrderMesh has last answered a request, by the monotonic clock; the start if it never has."""
        self.patience = MAX_RETRY_AFTER
        """Seconds. If OrderMesh asks for a longer pause before the next attempt, the request fails instead."""
        self._log = get_logger()

    def statistics(self) -> ClientStatistics:
        """Return the current figures."""
        counts = self._sender.counts
        return ClientStatistics(counts.requests, counts.retries, len(counts.in_flight), counts.rebuilt)

    def use_headers(self, headers: Mapping[str, SecretStr]) -> None:
        """Send these headers with every request from now on. Their values are secrets."""
        self._headers = {name: value.get_secret_value() for name, value in headers.items()}
        redaction.add(*self._headers.values())

    def adopt(self, profile: ContractProfile) -> None:
        """Use `profile` from now on, except for its `login_case`: the current one is kept."""
        self.profile = msgspec.structs.replace(profile, login_case=self.profile.login_case)

    async def aclose(self) -> None:
        """Cancel the requests in flight, close all connections and give up the share of the budget."""
        await self._sender.aclose()
        with contextlib.suppress(redis.exceptions.RedisError, OSError):
            await self.budget.leave()

    async def read_page(
        self, key: str, number: int, size: int, usage: Usage, narrowed: Mapping[str, str] | None = None
    ) -> bytes:
        """Return the body of one page of a list operation; empty where the gateway answers without one.

        Args:
            key: The key of the operation.
            number: The page number, from 0; the profile maps it to the page parameters of the gateway.
            size: The page size.
            usage: The figures to update.
            narrowed: Query parameters that filter or sort the list.

        """
        query = {**(narrowed or {}), **self.profile.page_query(key, number, size)}
        return (await self._read_list(key, query, usage, page=number)).raw

    async def read_continued(
        self,
        key: str,
        size: int,
        usage: Usage,
        narrowed: Mapping[str, str] | None = None,
        *,
        after: str = "",
        page: int = 0,
    ) -> tuple[bytes, str]:
        """Return the body of a page of a list whose pages have no numbers, and the continuation to the next one.

        Args:
            key: The key of the operation.
            size: The page size.
            usage: The figures to update.
            narrowed: Query parameters that filter or sort the list.
            after: The continuation to this page, "" for the first one.
            page: The number of the page, from 0, for the error.

        Raises:
            UnreadableAnswer: The continuation leads to another host, or cannot be sent.

        """
        query = {**(narrowed or {}), **self.profile.page_query(key, 0, size)}
        reply = await self._read_list(key, query, usage, after=after, page=page)
        return reply.raw, next_of(reply, self.profile.list_of(key).next_in or "")

    def split(self, key: str, body: bytes, page: int | None = 0) -> Page:
        """Return the records of a page of a list operation, as it was read.

        Args:
            key: The key of the operation.
            body: The body of the response.
            page: The requested page number, for the error.

        Raises:
            UnreadableAnswer: There is no list.
            ResponseTooLarge: It has more records than the settings permit, or more values than a page may have.

        """
        return split(key, body, self.profile.wrappers(key), page=page, most=self._api.max_page_records)

    async def _read_list(
        self, key: str, query: Mapping[str, str], usage: Usage, *, page: int, after: str = ""
    ) -> Reply:
        try:
            reply = await self.call(key, query=query, usage=usage, after=after, page=page)
        except ResponseTooLarge as error:
            raise ResponseTooLarge(key, error.limit, page=page) from None
        if not reply.raw.strip() and reply.status != NO_CONTENT:
            # A page without records, or a fault on the way: it is believed when the gateway says so twice.
            reply = await self.call(key, query=query, usage=usage, after=after, page=page)
        if reply.date is not None:
            # The header has whole seconds, rounded down: adding half a second is correct on average.
            usage.clock_offset = reply.date + 0.5 - self._clock.now()
        return reply

    async def login(self, request: LoginRequest) -> bytes:
        """Send a login, as `log_in` does, and return the body of the response."""
        return (await self.log_in(request)).raw

    async def log_in(self, request: LoginRequest) -> Reply:
        """Send a login, without a token, and return the response.

        The spelling of the fields of a client's login is not documented (docs/reference/api-facts.md, 1.2). If the
        server rejects one as malformed, the client tries the other and keeps it if it works.

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
                    self.profile = msgspec.structs.replace(self.profile, login_case=other)
                    self._log.info("login_spelling_found", case=other)
                    return reply
                raise
        except ApiError as error:
            if error.status in {400, 401, 403, 404, 422}:
                raise LoginRejected(error.status, error.text) from None
            raise

    async def _log_in(self, request: LoginRequest, case: Case) -> Reply:
        body = request.body if case == "camel" else {snake(name): text for name, text in request.body.items()}
        prepared = request_of(
            self.profile, self._api.base_url, request.operation, query=request.query, body=body
        )
        return await self._with_retries(prepared, Usage(), self._api.attempts, signed=False)

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
        after: str = "",
        page: int | None = None,
    ) -> Reply:
        """Send an operation and return its response. Every operation but a login is sent with a token.

        Reads, replacements and deletions are retried where that can help. Other writes are retried only if the server
        has certainly not begun to process them: a parcel must not be sent twice.

        Args:
            key: The key of the operation.
            path: The parameters of the path.
            query: The query parameters.
            body: The body, as fields.
            usage: The figures to update.
            profile: The contract to use instead of the current one.
            attempts: How often to try, instead of what the settings say.
            after: The continuation to the page of a list that is requested; "" for the first page.
            page: The number of that page, for the error.

        Raises:
            ApiError: The server refuses the request, or failed at every attempt.
            GatewayUnreachable: There was no connection, or no response in time, at every attempt.
            OutcomeUnknown: A write was sent, and its response was lost.
            LoginRejected: The server refuses the credentials.
            TokenRejected: The server refuses a token that it has just issued.
            Unaddressable: A parameter of the path has a value that would result in another path.
            ValueError: A parameter of the path has no value.

        """
        profile = profile or self.profile
        request = request_of(profile, self._api.base_url, key, path=path, query=query, body=body)
        if after:
            base, target = self._api.base_url, profile.path(key, path)
            move = request_after(key, profile.list_of(key), after, base_url=base, path=target, page=page)
            request = continued(request, move, base + target, query)
        return await self._with_retries(
            request,
            usage or Usage(),
            attempts or self._api.attempts,
            signed=OPERATIONS[key].service != "user",
        )

    def wait_of(self, waits: Waits) -> Wait | None:
        """Return what the requests noted in `waits` wait for, or the login that they need, or the whole account."""
        return waits.first or self._logins.first or self.budget.pause

    async def _with_retries(self, request: Request, usage: Usage, attempts: int, *, signed: bool) -> Reply:
        try:
            return await self._try(request, usage, signed=signed, again=False)
        except Transient as failure:
            first = failure
        return await self._try_again(request, usage, attempts, first, signed=signed)

    async def _try_again(
        self, request: Request, usage: Usage, attempts: int, failure: Transient, *, signed: bool
    ) -> Reply:
        """Repeat a request after its first failure, as long as there are attempts left."""
        attempt, since, me = 1, self._clock.now(), object()
        waits = (waiting.current() or Waits()) if signed else self._logins
        try:
            while attempt < attempts and (failure.retry_after or 0.0) <= self.patience:
                pause = self._pause(attempt, failure)
                waits.note(me, Wait(str(failure), since, self._clock.now() + pause, failure.error.code))
                with tracing.span("retry", reason=failure.error.code):
                    await self._clock.sleep(pause)
                attempt += 1
                usage.retries += 1
                self._sender.counts.retries += 1
                try:
                    return await self._try(request, usage, signed=signed, again=True)
                except Transient as again:
                    failure = again
            raise failure.error from None
        finally:
            waits.forget(me)

    def _pause(self, attempt: int, failure: Transient) -> float:
        """Return the seconds until the next attempt: random, and at least what the server asks for."""
        wait = (failure.retry_after or 0.0) + self._clock.uniform(0, BACKOFF.ceiling(attempt))
        self._log.debug("request_retried", attempt=attempt, wait_s=round(wait, 3), reason=str(failure))
        if failure.retry_after:
            self._log_wait(str(failure), wait)
        return wait

    def _log_wait(self, cause: str, seconds: float) -> None:
        """Log, once a minute, that OrderMesh makes the account wait."""
        if seconds >= MIN_LOGGED_WAIT and self._repeats.allow("wait", self._clock.monotonic()):
            self._log.warning(
                "gateway_wait",
                cause=cause,
                wait_s=round(seconds, 1),
                repeated=self._repeats.held_back("wait"),
                advice="Nothing is lost, and the worker goes on automatically. If this line comes often, lower "
                "ORDERSYNC_API__REQUESTS_PER_SECOND.",
            )

    async def _try(self, request: Request, usage: Usage, *, signed: bool, again: bool) -> Reply:
        if not signed:
            response = await self._send(request, None, usage)
        else:
            response = await self._send_signed(request, usage)
        if response.status_code not in RETRIED_STATUSES:
            self.answered_at = self._clock.monotonic()
        return reply_to(request, response, again=again, now=self._clock.now())

    async def _send_signed(self, request: Request, usage: Usage) -> httpx.Response:
        """Send with a token. After a 401, try another token, and then one that is new from a login.

        After a 403 to an old token that nothing succeeds with, try one that is new from a login, too.
        """
        began = self._clock.now()
        token = await self.tokens.get()
        response = await self._send(request, token.access, usage)
        for _ in range(2):
            if response.status_code == 401:
                another = await self.tokens.renew(rejected=token.access)
            elif response.status_code == 403:
                another = await self.tokens.renew_denied(token)
            else:
                another = None
            if another is None:
                break
            token = another
            response = await self._send(request, token.access, usage)
            if token.issued_at >= began:
                break
            # This token is older than the request: another worker obtained it, and it may be revoked too.
        if response.status_code == 401:
            self.tokens.refused()
            raise TokenRejected(request.key, refusals.words(response))
        if response.status_code != 403:
            self.tokens.accepted()
        return response

    async def _send(self, request: Request, token: str | None, usage: Usage) -> httpx.Response:
        with tracing.span("request", operation=request.key, method=request.method) as span:
            headers = {**self._headers, **request.headers}
            if token:
                headers["Authorization"] = f"Bearer {token}"
            if request.content is not None:
                headers["Content-Type"] = "application/json"
            response = await self._sender.send(request, headers, usage, self._api.base_url)
            if (pause := rate_limits.exhausted_for(response, self._clock.now())) is not None:
                await self.budget.exhaust(pause)
                self._log_wait(LIMIT_REACHED, min(pause, MAX_EXHAUSTED))
            span.attributes["status"] = response.status_code
            return response
