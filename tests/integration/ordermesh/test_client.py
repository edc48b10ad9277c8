"""The client against a gateway that fails: what is tried again, what is said, and what never happens."""

from __future__ import annotations

import asyncio
import email.utils
import gc
import gzip
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import httpx
import pytest
from pydantic import SecretStr

from tests.support.scripted_server import Lab, OwnClock, at_work, http, lab, lab_account, script
from tests.support.waiting import PATIENCE, eventually
from tests.support.worker import account_for
from worker.errors import (
    ApiError,
    Conflict,
    Forbidden,
    GatewayUnreachable,
    LoginRejected,
    NotFound,
    PropertyError,
    RateLimited,
    ResponseTooLarge,
    ServerError,
    TokenRejected,
    UnreadableAnswer,
)
from worker.ordermesh.client import BACKOFF, MAX_RETRY_AFTER, RETRIED_STATUSES, OrderMeshClient
from worker.ordermesh.contract.profile import ContractProfile
from worker.ordermesh.http import refusals
from worker.ordermesh.http.pages import split
from worker.ordermesh.http.transport import Http
from worker.ordermesh.http.usage import Usage
from worker.sandbox import FaultRule, SandboxServer, ServedContract

pytestmark = pytest.mark.anyio

SEARCH = "orders.search"
SEARCH_PATH = "/order/v1/orders"
TOKEN = http(b'{"accessToken":"lab-token","expiresIn":3600}')


def fault(sandbox: SandboxServer, **rule: Any) -> None:
    sandbox.faults.add(FaultRule(**{"operation": SEARCH, "action": "status", **rule}))


@pytest.fixture
async def served() -> AsyncIterator[Lab]:
    """A scripted gateway at which one can log in."""
    async with lab() as running:
        running.answers["/user/v1/clients/token"] = TOKEN
        yield running


# Tokens


async def test_refused_token_is_renewed_once(redis_url: str, sandbox: SandboxServer) -> None:
    """When even a fresh token is refused: one forced renewal, no retries, and the server's words.

    The credentials are not blamed: the login has just succeeded.
    """
    fault(sandbox, code=401, body='{"message":"not for you"}')
    async with at_work(account_for(sandbox, attempts=5), redis_url) as desk:
        with pytest.raises(TokenRejected, match="not for you") as caught:
            await desk.client.read_page(SEARCH, 0, 10, Usage())
    assert str(caught.value).startswith("orders.search: ")
    assert "The credentials are right." in str(caught.value)
    assert (sandbox.requests.count(SEARCH), sandbox.auth.issued) == (2, 2)


async def test_token_that_ends_early(redis_url: str, sandbox: SandboxServer) -> None:
    """A token that the server ends before its time costs one 401 and one login; the caller sees nothing."""
    async with at_work(account_for(sandbox), redis_url) as desk:
        usage = Usage()
        first = await desk.client.read_page(SEARCH, 0, 10, usage)
        sandbox.auth.expire_tokens()
        assert await desk.client.read_page(SEARCH, 0, 10, usage) == first
    assert (sandbox.requests.count(SEARCH, 401), sandbox.auth.issued) == (1, 2)
    assert (usage.requests, usage.retries) == (3, 0)


async def test_all_tokens_withdrawn(redis_url: str, sandbox: SandboxServer) -> None:
    """A token that another worker stored earlier may be withdrawn as well: that is no reason to give up."""
    account = account_for(sandbox)
    async with at_work(account, redis_url) as one, at_work(account, redis_url) as other:
        old = (await one.client.tokens.get()).access
        await other.client.tokens.renew(rejected=old)
        sandbox.auth.revoke()
        await one.client.read_page(SEARCH, 0, 10, Usage())
    assert (sandbox.requests.count(SEARCH, 401), sandbox.auth.issued) == (2, 3)


async def test_wrong_credentials(redis_url: str, sandbox: SandboxServer) -> None:
    """Refused credentials are not tried again, and the error holds the server's words but not the secret."""
    account = account_for(sandbox)
    account = replace(
        account, api=account.api.model_copy(update={"client_secret": SecretStr("wrong-secret")})
    )
    async with at_work(account, redis_url) as desk:
        with pytest.raises(LoginRejected, match="The client id or the client secret is wrong") as caught:
            await desk.client.read_page(SEARCH, 0, 10, Usage())
    assert "wrong-secret" not in str(caught.value)
    assert sandbox.requests.count("clients.token") == 1
    assert sandbox.requests.count(SEARCH) == 0


async def test_login_is_retried(redis_url: str, sandbox: SandboxServer) -> None:
    """A user service that is out for a moment is asked again; its tries are not multiplied by the caller's."""
    fault(sandbox, operation="clients.token", code=503, times=2)
    async with at_work(account_for(sandbox, attempts=3), redis_url) as desk:
        await desk.client.read_page(SEARCH, 0, 10, Usage())
        assert sandbox.requests.count("clients.token") == 3
        sandbox.faults.clear()
        fault(sandbox, operation="clients.token", code=503)
        sandbox.auth.expire_tokens()
        with pytest.raises(ServerError):
            await desk.client.read_page(SEARCH, 0, 10, Usage())
    assert sandbox.requests.count("clients.token") == 6


async def test_login_that_answers_nonsense(redis_url: str, sandbox: SandboxServer) -> None:
    """A login answered with a web page is an unreadable answer."""
    fault(sandbox, operation="clients.token", action="garbage")
    async with at_work(account_for(sandbox), redis_url) as desk:
        with pytest.raises(UnreadableAnswer, match=r"clients\.token"):
            await desk.client.read_page(SEARCH, 0, 10, Usage())


# Retries


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
async def test_full_jitter(redis_url: str, sandbox: SandboxServer, chance: float) -> None:
    """Waits are drawn between nothing and a ceiling that doubles up to a longest one."""
    clock, usage = OwnClock(chance), Usage()
    fault(sandbox, code=503, times=9)
    async with at_work(account_for(sandbox, attempts=10), redis_url, clock) as desk:
        await desk.client.tokens.get()
        clock.drawn.clear()
        await desk.client.read_page(SEARCH, 0, 10, usage)
    ceilings = [min(BACKOFF.most, BACKOFF.first * 2**n) for n in range(9)]
    assert ceilings[-1] == BACKOFF.most
    assert clock.drawn == [(0, ceiling) for ceiling in ceilings]
    assert clock.slept == [ceiling * chance for ceiling in ceilings]
    assert (usage.requests, usage.retries) == (10, 9)
    assert desk.client.statistics().retries == 9


async def test_statuses_that_are_retried(redis_url: str, sandbox: SandboxServer) -> None:
    """What may pass by itself is tried again, as often as set and no more."""
    assert frozenset({408, 425, 429, 500, 502, 503, 504}) == RETRIED_STATUSES
    async with at_work(account_for(sandbox, attempts=2), redis_url) as desk:
        for status in RETRIED_STATUSES:
            fault(sandbox, code=status, times=1)
            sandbox.requests.clear()
            await desk.client.read_page(SEARCH, 0, 10, Usage())
            assert sandbox.requests.count(SEARCH) == 2
            fault(sandbox, code=status)
            with pytest.raises(ApiError) as caught:
                await desk.client.read_page(SEARCH, 0, 10, Usage())
            assert caught.value.status == status
            assert sandbox.requests.count(SEARCH) == 4
            sandbox.faults.clear()


async def test_statuses_that_are_not_retried(redis_url: str, sandbox: SandboxServer) -> None:
    """A refusal that would come again is not asked for again; each has its class."""
    expected = {403: Forbidden, 404: NotFound, 410: NotFound, 409: Conflict, 501: ServerError}
    async with at_work(account_for(sandbox), redis_url) as desk:
        for status in (302, 400, 403, 404, 405, 409, 410, 422, 501):
            fault(sandbox, code=status)
            sandbox.requests.clear()
            with pytest.raises(ApiError) as caught:
                await desk.client.read_page(SEARCH, 0, 10, Usage())
            assert type(caught.value) is expected.get(status, ApiError)
            assert sandbox.requests.count(SEARCH) == 1
            sandbox.faults.clear()


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_in_seconds(redis_url: str, sandbox: SandboxServer, status: int) -> None:
    """The server's pause is kept, and jitter comes on top of it so that not all workers come at once."""
    clock = OwnClock(chance=0.5)
    fault(sandbox, code=status, retry_after=7, times=1)
    async with at_work(account_for(sandbox), redis_url, clock) as desk:
        await desk.client.read_page(SEARCH, 0, 10, Usage())
    assert clock.slept == [7 + BACKOFF.first / 2]


@pytest.mark.parametrize("zone", ["GMT", "-0000"])
async def test_retry_after_as_a_date(redis_url: str, sandbox: SandboxServer, zone: str) -> None:
    """A date is a pause until then; one that is over is no pause."""
    clock = OwnClock(chance=0.0)
    for seconds in (10, -3_600):
        date = email.utils.format_datetime(datetime.fromtimestamp(clock.now() + seconds, UTC), usegmt=True)
        fault(sandbox, code=429, retry_after=date.replace("GMT", zone), times=1)
    async with at_work(account_for(sandbox), redis_url, clock) as desk:
        await desk.client.read_page(SEARCH, 0, 10, Usage())
    first, second = clock.slept
    assert 0 < first <= 10
    assert second == 0


async def test_retry_after_that_cannot_be_read(redis_url: str, sandbox: SandboxServer) -> None:
    """A pause that cannot be read is as good as none."""
    clock = OwnClock(chance=1.0)
    values = ["", "soon", "-1", "1e3", "\u00b2", "Wed, 99 Oct 2015 07:28:00 GMT"]
    async with at_work(account_for(sandbox), redis_url, clock) as desk:
        for value in values:
            fault(sandbox, code=503, retry_after=value, times=1)
            await desk.client.read_page(SEARCH, 0, 10, Usage())
    assert sandbox.requests.count(SEARCH, 503) == len(values)
    assert clock.slept == [BACKOFF.first] * len(values)


@pytest.mark.parametrize(("asked", "told"), [(MAX_RETRY_AFTER + 1, 31), ("9" * 400, 86_400)])
async def test_retry_after_that_is_too_long(
    redis_url: str, sandbox: SandboxServer, asked: str | float, told: float
) -> None:
    """A pause too long to wait for within a request is an error that holds it, a day at most."""
    clock = OwnClock()
    fault(sandbox, code=429, retry_after=int(asked) if isinstance(asked, float) else asked)
    async with at_work(account_for(sandbox), redis_url, clock) as desk:
        with pytest.raises(RateLimited) as caught:
            await desk.client.read_page(SEARCH, 0, 10, Usage())
    assert caught.value.retry_after == told
    assert clock.slept == []
    assert sandbox.requests.count(SEARCH) == 1


@pytest.mark.parametrize(
    ("hint", "status"), [("X-RateLimit-Remaining: 0", "200 OK"), ("X-Unknown: 0", "429 Too Many Requests")]
)
async def test_the_reset_of_the_rate_limit_is_waited_for(
    redis_url: str, served: Lab, hint: str, status: str
) -> None:
    """Whether the last permitted request was answered or one more refused: the next waits until the reset."""
    limited = http(b'{"orders":[]}', hint, "X-RateLimit-Reset: 2", status=status)
    served.handlers["/order/v1/orders"] = script([limited, http(b'{"orders":[]}')])
    clock = OwnClock(chance=0.0)
    async with at_work(lab_account(served), redis_url, clock) as desk:
        for _ in range(1 if status.startswith("429") else 2):
            await desk.client.read_page(SEARCH, 0, 10, Usage())
    assert sum(clock.slept) > 1.0


# What gateways send instead of a page


@pytest.mark.parametrize("status", ["204 No Content", "200 OK"])
async def test_an_empty_body_is_an_empty_page(redis_url: str, served: Lab, status: str) -> None:
    """With the status 204 at once; with another one, which may be a fault, when the gateway says so twice."""
    full = http(b'{"orders":[{"id":"1"}]}')
    async with at_work(lab_account(served), redis_url) as desk:
        served.answers["/order/v1/orders"] = http(b"", status=status)
        assert await desk.client.read_page(SEARCH, 3, 10, Usage()) == b""
        assert sum(b" /order/v1/orders?" in head for head in served.seen) == (
            1 if status.startswith("204") else 2
        )
        served.handlers["/order/v1/orders"] = script([http(b"", status="200 OK"), full])
        assert b'"id":"1"' in await desk.client.read_page(SEARCH, 3, 10, Usage())


async def test_a_byte_order_mark(redis_url: str, served: Lab) -> None:
    """In the login, in a list and in an error, JSON with a byte order mark is read."""
    mark = b"\xef\xbb\xbf"
    served.answers["/user/v1/clients/token"] = http(mark + b'{"accessToken":"made-up","expiresIn":"24h"}')
    served.answers["/order/v1/orders"] = http(mark + b'{"orders":[]}')
    async with at_work(lab_account(served), redis_url) as desk:
        assert await desk.client.read_page(SEARCH, 0, 10, Usage()) == b'{"orders":[]}'
        served.answers["/order/v1/orders"] = http(mark + b'{"message":"not now"}', status="400 Bad")
        with pytest.raises(ApiError, match="not now"):
            await desk.client.read_page(SEARCH, 0, 10, Usage())


async def test_x_gzip(redis_url: str, served: Lab) -> None:
    """An old name of gzip; a coding that the worker has not asked for and does not know is named."""
    packed = gzip.compress(b'{"orders":[]}', mtime=0)
    async with at_work(lab_account(served), redis_url) as desk:
        served.answers["/order/v1/orders"] = http(packed, "Content-Encoding: x-gzip")
        assert await desk.client.read_page(SEARCH, 0, 10, Usage()) == b'{"orders":[]}'
        served.answers["/order/v1/orders"] = http(packed, "Content-Encoding: br")
        with pytest.raises(UnreadableAnswer, match="content encoding br"):
            await desk.client.read_page(SEARCH, 0, 10, Usage())


async def test_a_page_that_is_too_long(redis_url: str, served: Lab) -> None:
    """The error names the operation, the page, the limit and the settings; the request is not repeated."""
    served.answers["/order/v1/orders"] = http(b'{"orders":[' + b"1," * 50_000 + b"1]}")
    async with at_work(lab_account(served, max_response_bytes=65_536), redis_url) as desk:
        usage = Usage()
        with pytest.raises(ResponseTooLarge, match=r"orders\.search page 3: .*65536 bytes") as caught:
            await desk.client.read_page(SEARCH, 3, 10, usage)
    assert "ORDERSYNC_API__MAX_RESPONSE_BYTES" in str(caught.value)
    assert usage.requests == 1


HEADERS = {
    "100 lines in its header": [f"X-{number}: a" for number in range(200)],
    "32768 bytes in a line of its header": ["X-Long: " + "a" * 40_000],
}


@pytest.mark.parametrize("limit", HEADERS)
async def test_a_header_that_is_too_long(redis_url: str, served: Lab, limit: str) -> None:
    """Lines without number, and lines without end: the error names the operation and the limit."""
    served.closing["/order/v1/orders"] = http(b'{"orders":[]}', *HEADERS[limit])
    async with at_work(lab_account(served), redis_url) as desk:
        usage = Usage()
        with pytest.raises(
            ResponseTooLarge, match=f"orders.search page 3: the response has more than {limit}"
        ):
            await desk.client.read_page(SEARCH, 3, 10, usage)
    assert usage.requests == 1


async def test_a_redirect_is_not_followed(redis_url: str, served: Lab) -> None:
    """A token goes nowhere else: the answer is an error with its status."""
    served.answers["/order/v1/orders"] = http(b"", "Location: /elsewhere", status="302 Found")
    async with at_work(lab_account(served), redis_url) as desk:
        with pytest.raises(ApiError, match=r"orders\.search: status 302"):
            await desk.client.read_page(SEARCH, 0, 10, Usage())
    assert not any(b"/elsewhere" in head for head in served.seen)


# What errors say


async def test_property_errors(redis_url: str, sandbox: SandboxServer) -> None:
    """The vendor's error body becomes property errors; the value that was sent is not repeated."""
    body = {
        "errors": [
            {"errorMessage": "must be a date", "propertyName": "from", "attemptedValue": "joe@example.com"}
        ]
    }
    fault(sandbox, code=400, body=json.dumps(body))
    async with at_work(account_for(sandbox), redis_url) as desk:
        with pytest.raises(ApiError, match="from: must be a date") as caught:
            await desk.client.read_page(SEARCH, 0, 10, Usage())
    assert caught.value.properties == (PropertyError("must be a date", "from"),)
    assert "joe" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('{"message":"m"}', "status 400: m"),
        ('{"title":"Bad","detail":"d"}', "status 400: d"),
        ('{"error":"invalid_client","error_description":"unknown"}', "status 400: unknown"),
        ('{"error":{"code":"x","message":"inner"}}', "status 400: inner"),
        ('{"title":"t","errors":{"from":["a","b"]}}', "status 400: from: a; from: b"),
        ('{"errors":["one","two"]}', "status 400: one; two"),
        ('{"errors":null,"message":"m"}', "status 400: m"),
        ('{"message":{"a":1},"errors":[1]}', "status 400: empty response"),
        ('{"email":"joe@example.com"}', "status 400: empty response"),
        ('["joe@example.com"]', "status 400: empty response"),
        ('"words"', "status 400: words"),
        ("plain\n\x1b[31m words", "status 400: plain [31m words"),
        ("", "status 400: empty response"),
        ('{"a":' * 50_000, "status 400: "),
        ('{"message":"' + "x" * 100_000 + '"}', "status 400: xxx"),
        (json.dumps({"errors": [{"errorMessage": "x" * 500}] * 5_000}), "status 400: xxx"),
    ],
)
def test_the_servers_words(body: str, told: str) -> None:
    """Whatever the body is like, the error holds the server's message, short, and nothing that is none."""
    error = refusals.api_error(SEARCH, httpx.Response(400, content=body.encode()))
    assert told in str(error)
    assert "joe" not in str(error)
    assert len(str(error)) < 3_000


@pytest.mark.parametrize("name", ["X-Request-Id", "X-Azure-Ref"])
async def test_request_id(redis_url: str, served: Lab, name: str) -> None:
    """The id that the vendor's support asks for stands in the error; a web page is not repeated."""
    served.default = http(
        b"<html>joe@example.com</html>", f"{name}: r-1", "Content-Type: text/html", status="403 No"
    )
    async with at_work(lab_account(served), redis_url) as desk:
        with pytest.raises(Forbidden, match=r"an HTML page \(request id r-1\)") as caught:
            await desk.client.read_page(SEARCH, 0, 10, Usage())
    assert caught.value.request_id == "r-1"


# Faults of the connection


async def test_gateway_away_and_back(redis_url: str, sandbox: SandboxServer) -> None:
    """No connection: all tries, then an error that names the address; when it is back, work goes on."""
    usage = Usage()
    async with at_work(account_for(sandbox, attempts=3), redis_url) as desk:
        await desk.client.read_page(SEARCH, 0, 10, usage)
        sandbox.stop()
        with pytest.raises(GatewayUnreachable, match=r"ORDERSYNC_API__BASE_URL") as caught:
            await desk.client.read_page(SEARCH, 0, 10, usage)
        assert sandbox.url in str(caught.value)
        sandbox.start()
        await desk.client.read_page(SEARCH, 0, 10, usage)
    assert (usage.requests, usage.retries) == (5, 2)


async def test_dropped_connections(redis_url: str, sandbox: SandboxServer) -> None:
    """Dropped answers are asked for again, by the client alone: the server saw what the usage says."""
    usage = Usage()
    fault(sandbox, action="drop", times=2)
    async with at_work(account_for(sandbox), redis_url) as desk:
        await desk.client.read_page(SEARCH, 0, 10, usage)
    assert sandbox.requests.count(SEARCH) == usage.requests == 3
    assert usage.retries == 2


async def test_gateway_that_hangs(redis_url: str, sandbox: SandboxServer) -> None:
    """No answer in time is unreachable, after all tries."""
    fault(sandbox, action="hang")
    async with at_work(account_for(sandbox, timeout=1, attempts=2), redis_url) as desk:
        with pytest.raises(GatewayUnreachable, match="ReadTimeout"):
            await desk.client.read_page(SEARCH, 0, 10, Usage())


@pytest.mark.parametrize("action", ["garbage", "truncate", "not_a_list"])
async def test_answers_that_are_no_page(redis_url: str, sandbox: SandboxServer, action: str) -> None:
    """A good status with a body that is no page is handed on as served, and is an error when it is read."""
    fault(sandbox, action=action)
    async with at_work(account_for(sandbox), redis_url) as desk:
        body = await desk.client.read_page(SEARCH, 0, 10, Usage())
    with pytest.raises(UnreadableAnswer):
        split(SEARCH, body, ("orders",), page=0)
    assert sandbox.requests.count(SEARCH) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        http(b"\x1f\x8b not gzip", "Content-Encoding: gzip"),
    ],
    ids=["cut short", "not HTTP", "broken gzip"],
)
async def test_broken_answers(redis_url: str, served: Lab, answer: bytes) -> None:
    """An answer cut short or garbled on its way is asked for again, and never taken for a page."""
    served.closing[SEARCH_PATH] = answer
    async with at_work(lab_account(served), redis_url) as desk:
        with pytest.raises(GatewayUnreachable):
            await desk.client.read_page(SEARCH, 0, 10, Usage())
    assert len([head for head in served.seen if SEARCH_PATH.encode() in head]) == 3


async def test_compressed_answers(redis_url: str) -> None:
    """Compressed pages are read as served before compression, and the usage tells what went over the wire."""
    usage = Usage()
    with SandboxServer(orders=20, contract=ServedContract(gzip=True)) as sandbox:
        async with at_work(account_for(sandbox), redis_url) as desk:
            body = await desk.client.read_page(SEARCH, 0, 20, usage)
        records = [bytes(record) for record in split(SEARCH, body, ("orders",), page=0).records]
        assert records == list(sandbox.store.truth().values())
    assert 0 < usage.bytes < len(body) / 2


# Cancellation


async def test_cancelled_callers(redis_url: str) -> None:
    """Three hundred callers cancelled at any moment: their requests run to an end, and the next one works."""
    with SandboxServer(orders=20, contract=ServedContract(latency=0.002)) as sandbox:
        async with at_work(account_for(sandbox, max_concurrency=4), redis_url) as desk:
            await desk.client.tokens.get()
            for number in range(50):
                calls = [asyncio.create_task(desk.client.read_page(SEARCH, 0, 20, Usage())) for _ in range(6)]
                await asyncio.wait(calls, timeout=number * 0.0001)
                for call in calls:
                    call.cancel()
                await asyncio.gather(*calls, return_exceptions=True)
            await asyncio.gather(*(desk.client.read_page(SEARCH, 0, 20, Usage()) for _ in range(8)))
            await eventually(lambda: desk.client.statistics().in_flight == 0)
            sent = desk.client.statistics().requests
        assert sandbox.requests.count(SEARCH, 200) + sandbox.requests.count("clients.token") == sent
        assert sandbox.requests.count(SEARCH) > 8


async def test_abandoned_requests_count_as_under_way(redis_url: str, served: Lab) -> None:
    """A request that nobody waits for still holds its place: the gateway never has more than permitted."""
    served.handlers[SEARCH_PATH] = served.held
    async with at_work(lab_account(served, max_concurrency=2), redis_url) as desk:
        await desk.client.tokens.get()
        for _ in range(5):
            calls = [asyncio.create_task(desk.client.read_page(SEARCH, 0, 1, Usage())) for _ in range(2)]
            await asyncio.wait(calls, timeout=0.02)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        assert desk.client.statistics().in_flight == 2
        assert served.most_open <= 3  # the login's connection is kept
        served.release.set()
        await desk.client.read_page(SEARCH, 0, 1, Usage())
        assert desk.client.statistics().in_flight == 0


async def test_closing_ends_abandoned_requests(redis_url: str, served: Lab) -> None:
    """Closing the client does not wait for a gateway that never answers."""
    served.handlers[SEARCH_PATH] = served.held
    async with at_work(lab_account(served, timeout=600), redis_url) as desk:
        call = asyncio.create_task(desk.client.read_page(SEARCH, 0, 1, Usage()))
        await eventually(lambda: desk.client.statistics().in_flight == 1)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        async with asyncio.timeout(PATIENCE):
            await desk.client.aclose()
        assert desk.client.statistics().in_flight == 0


class Failing:
    """Connections that fail when the test says so."""

    def __init__(self) -> None:
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def send(self, *_: object, **__: object) -> httpx.Response:
        """The connection is reset."""
        self.asked.set()
        await self.go.wait()
        raise httpx.ReadError("reset")


async def test_an_abandoned_request_that_fails_is_not_reported(
    redis_url: str, sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caller has gone, so its error is neither logged by asyncio nor raised anywhere."""
    reports = list[dict[str, Any]]()
    monkeypatch.setattr(asyncio.get_running_loop(), "call_exception_handler", reports.append)
    async with at_work(account_for(sandbox), redis_url) as desk:
        await desk.client.tokens.get()
        failing = Failing()
        monkeypatch.setattr(desk.client, "_http", failing)
        call = asyncio.create_task(desk.client.read_page(SEARCH, 0, 1, Usage()))
        await failing.asked.wait()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert desk.client.statistics().in_flight == 1
        failing.go.set()
        await eventually(lambda: desk.client.statistics().in_flight == 0)
        gc.collect()
        monkeypatch.undo()
    assert reports == []


class Dry:
    """Connections that have run dry for four requests at once: httpx's pool says so, ours never should."""

    def __init__(self) -> None:
        self.closed, self.waiting = False, asyncio.Barrier(4)

    async def send(self, *_: object, **__: object) -> httpx.Response:
        """No connection in time."""
        await self.waiting.wait()
        raise httpx.PoolTimeout("dry")

    async def aclose(self) -> None:
        """Note it."""
        self.closed = True


class Fresh(Dry):
    """Connections that work."""

    async def send(self, *_: object, **__: object) -> httpx.Response:
        """An answer."""
        return httpx.Response(200, content=b"[]", request=httpx.Request("GET", "http://x"))


async def test_connections_that_ran_dry_are_replaced(redis_url: str, sandbox: SandboxServer) -> None:
    """When no connection comes free, all are replaced: once, however many requests find out together."""
    made = [Dry(), Fresh(), Fresh()]
    rest = iter(made)
    account = account_for(sandbox)
    async with at_work(account, redis_url) as desk:
        client = OrderMeshClient(
            api=account.api,
            profile=ContractProfile(),
            budget=desk.client._budget,
            clock=OwnClock(),
            make_http=cast("Callable[[], Http]", lambda: next(rest)),
        )
        client.tokens = desk.client.tokens
        bodies = await asyncio.gather(*(client.read_page(SEARCH, 0, 1, Usage()) for _ in range(4)))
        assert bodies == [b"[]"] * 4
        assert client.statistics().rebuilt == 1
        await eventually(lambda: made[0].closed)
        await client.aclose()
        assert [each.closed for each in made] == [True, True, False]
