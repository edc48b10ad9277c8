"""What the client tries again, how often and how soon, and what it does not."""

from __future__ import annotations

import email.utils
from datetime import UTC, datetime

import pytest

from tests.support.order_search import SEARCH, SEARCH_PATH, fault
from tests.support.scripted_server import Lab, OwnClock, at_work, http, lab_account, script
from tests.support.worker import account_for
from worker.errors import (
    ApiError,
    Conflict,
    Forbidden,
    GatewayUnreachable,
    NotFound,
    RateLimited,
    ServerError,
)
from worker.ordermesh.client import BACKOFF, MAX_RETRY_AFTER
from worker.ordermesh.http.outcomes import RETRIED_STATUSES
from worker.ordermesh.http.usage import Usage
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio


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
