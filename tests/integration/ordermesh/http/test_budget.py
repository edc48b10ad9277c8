"""The request budget: what all workers of an account together may ask of the gateway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest
from redis.asyncio import Redis

from tests.support.scripted_server import OwnClock
from tests.support.waiting import PATIENCE, eventually
from worker.clock import Clock, SystemClock
from worker.keys import Keys
from worker.ordermesh.http.budget import LIMIT_REACHED, Budget, use_of
from worker.ordermesh.http.waits import Wait, WaitTime
from worker.redis import scripts
from worker.redis.connections import connect

pytestmark = pytest.mark.anyio

KEYS = Keys("default")
Maker = Callable[..., Budget]


@pytest.fixture
async def budget(redis_url: str) -> AsyncIterator[Maker]:
    """Makes budgets of one account, each with a Redis client of its own, as so many workers would have."""
    async with AsyncExitStack() as stack:

        def make(
            worker: str = "w1", *, rate: float = 100.0, concurrency: int = 4, clock: Clock | None = None
        ) -> Budget:
            client = connect(redis_url)
            stack.push_async_callback(client.aclose)
            return Budget(
                redis=client,
                keys=KEYS,
                requests_per_second=rate,
                max_concurrency=concurrency,
                worker_id=worker,
                clock=clock or SystemClock(),
            )

        yield make


async def use(budget: Budget, times: int = 1) -> None:
    """So many requests that take no time."""
    for _ in range(times):
        budget.release(await budget.acquire())


async def redis_time(db: Redis) -> float:
    seconds, micros = await db.time()
    return float(seconds) + float(micros) / 1e6


class GrantLog:
    """Counts what the script grants, by the clock of Redis."""

    def __init__(self, db: Redis) -> None:
        self._script = scripts.load(db, "worker.ordermesh", "budget", begin=("permits",))
        self.grants: list[tuple[float, int]] = []
        self._db = db

    async def ask(self, rate: float, capacity: int, wanted: int, worker: str = "w") -> list[int]:
        """Ask once."""
        answer: list[int] = await self._script(keys=[KEYS.budget], args=[rate, capacity, wanted, worker])
        self.grants.append((await redis_time(self._db), answer[0]))
        return answer


# The script


async def test_burst_is_bounded(db: Redis) -> None:
    """At the start the capacity is granted, not more, however much is asked for."""
    log = GrantLog(db)
    answers = [await log.ask(0.001, 4, 3) for _ in range(3)]
    assert [granted for granted, _, _ in answers] == [3, 1, 0]


async def test_the_wait_is_until_the_next_one(db: Redis) -> None:
    """Who gets nothing is told how long it takes until there is one, at any rate."""
    log = GrantLog(db)
    await log.ask(0.5, 1, 1)
    _, wait, _ = await log.ask(0.5, 1, 1)
    assert 1_900 < wait <= 2_000


async def test_the_rate_over_a_span(db: Redis) -> None:
    """Over any span no more is granted than the capacity and what the rate allows for its length."""
    log, rate, capacity = GrantLog(db), 2_000.0, 10
    began = await redis_time(db)
    await asyncio.gather(*(log.ask(rate, capacity, 3) for _ in range(400)))
    granted = sum(number for _, number in log.grants)
    span = max(at for at, _ in log.grants) - began
    assert capacity <= granted <= capacity + span * rate + 1


async def test_a_long_pause_gives_no_more_than_a_burst(db: Redis) -> None:
    """After a pause the bucket is full and not fuller."""
    log = GrantLog(db)
    await log.ask(10, 4, 4)
    await db.hset(KEYS.budget, "at", "0")  # type: ignore[misc] # redis-py types it for both clients
    answers = [await log.ask(0.001, 4, 3) for _ in range(3)]
    assert [granted for granted, _, _ in answers] == [3, 1, 0]


async def test_a_clock_that_went_back(db: Redis) -> None:
    """When Redis's clock goes back (a failover), nothing is granted for it and nothing taken away."""
    log = GrantLog(db)
    await log.ask(1, 4, 1)
    ahead = await redis_time(db) * 1000 + 3_600_000
    await db.hset(KEYS.budget, "at", f"{ahead:.3f}")  # type: ignore[misc] # as above
    answers = [await log.ask(1, 4, 4) for _ in range(2)]
    assert [granted for granted, _, _ in answers] == [3, 0]
    assert answers[1][1] <= 1_000


async def test_keys_expire(db: Redis) -> None:
    """An account that is given up leaves nothing behind; the key has an end from the first call on."""
    await GrantLog(db).ask(10, 4, 1)
    assert 0 < await db.pttl(KEYS.budget) <= 120_000


async def test_a_request_costs_three_commands(db: Redis) -> None:
    """Beside the call of the script: the time, one read and one write; in a new minute one more."""
    log = GrantLog(db)
    await log.ask(1000, 40, 1)
    await db.config_resetstat()
    for _ in range(20):
        await log.ask(1000, 40, 1)
    stats = await db.info("commandstats")
    calls = {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}
    assert {name: calls.get(name, 0) for name in ("evalsha", "hmget", "zadd", "zcard")} == {
        "evalsha": 20, "hmget": 20, "zadd": 0, "zcard": 0,
    }  # fmt: skip
    assert calls["hset"] == 20
    assert calls.get("pexpire", 0) <= 1


@pytest.mark.parametrize("rate", [0.01, 1e-9])
async def test_a_slow_budget_is_kept_until_it_is_full(db: Redis, rate: float) -> None:
    """At less than a request in a minute the bucket outlives the wait: gone early, it would be full again."""
    log = GrantLog(db)
    await log.ask(rate, 4, 1)
    assert await db.pttl(KEYS.budget) > min(390_000, 29 * 86_400_000)


@pytest.mark.parametrize("capacity", [1, 4])
async def test_what_is_given_back_is_granted_again(db: Redis, capacity: int) -> None:
    """Once: the bucket never has more than its capacity, and a request that was not sent is not counted."""
    log = GrantLog(db)
    assert (await log.ask(0.001, capacity, capacity))[0] == capacity
    assert (await log.ask(0.001, capacity, 1))[0] == 0
    await log.ask(0.001, capacity, -1)
    assert (await use_of(db, KEYS, await redis_time(db))).requests == capacity - 1
    assert [(await log.ask(0.001, capacity, 1))[0] for _ in range(2)] == [1, 0]
    for _ in range(3 * capacity):  # more often than it was granted
        await log.ask(0.001, capacity, -1)
    assert (await log.ask(0.001, capacity, 100))[0] == capacity


async def test_only_a_permit_that_was_not_used_is_given_back(budget: Maker, db: Redis) -> None:
    """Whoever has sent the request instead: what was sent is never granted again."""
    worker = budget(rate=0.001, concurrency=1)
    script = GrantLog(db)
    (granted, _, sharing) = await script.ask(0.001, 1, 1, "w1")
    worker.note(granted, sharing)
    assert worker.request is None  # the next read need not take another one
    await use(worker)
    await worker.give_back()
    assert (await script.ask(0.001, 1, 1, "w1"))[0] == 0
    assert worker.statistics().granted == 1


# Workers


async def test_workers_share_the_rate(budget: Maker, db: Redis) -> None:
    """Three workers at once get together what one would get: capacity and rate, by Redis's clock."""
    rate, total = 200.0, 60
    workers = [budget(f"w{number}", rate=rate, concurrency=6) for number in range(3)]
    began = await redis_time(db)
    await asyncio.gather(*(use(worker, total // 3) for worker in workers))
    span = await redis_time(db) - began
    capacity = max(6, int(rate * 0.08))
    assert sum(worker.statistics().granted for worker in workers) == total
    # What is granted for a block and not used is lost, so it may take longer, never shorter.
    assert total <= capacity + span * rate + 1


async def test_waits_add_up_to_real_time(budget: Maker) -> None:
    """The seconds waited are those that went by, not those times the number of callers that waited."""
    worker, waited = budget(rate=10, concurrency=4), WaitTime()
    await use(worker, 4)
    before = worker.statistics().waited_seconds
    began = time.monotonic()
    await asyncio.gather(*(worker.acquire(waited) for _ in range(4)))
    took = time.monotonic() - began
    assert 0.04 < waited.seconds <= took + 0.005
    assert worker.statistics().waited_seconds - before == pytest.approx(waited.seconds, abs=0.05)


@pytest.mark.parametrize("of", ["slot", "lock"])
async def test_all_of_the_wait_counts(budget: Maker, of: str) -> None:
    """The wait for a free slot, and for another caller that asks Redis, counts like that for a permit."""
    clock = OwnClock()
    worker, waited = budget(rate=100_000, concurrency=1 if of == "slot" else 4, clock=clock), WaitTime()
    grant = await worker.acquire()
    clock.offset += 1  # what is left of the block is stale by now
    if of == "lock":
        await worker._request_lock.acquire()
    waiting = asyncio.create_task(worker.acquire(waited))
    await asyncio.sleep(0)
    clock.offset += 17
    if of == "lock":
        worker._request_lock.release()
    else:
        worker.release(grant)
    await asyncio.wait_for(waiting, PATIENCE)
    assert 17 <= waited.seconds < 18
    assert 17 <= worker.statistics().waited_seconds < 18


async def test_the_wait_is_slept_by_the_clock(budget: Maker) -> None:
    """Waiting goes through the injected clock, for as long as Redis says."""

    class Clock(OwnClock):
        async def sleep(self, seconds: float) -> None:
            self.slept.append(seconds)
            await SystemClock().sleep(seconds)

    clock = Clock()
    worker = budget(rate=20, concurrency=1, clock=clock)
    await use(worker, 3)
    assert 0 < sum(clock.slept) <= worker.statistics().waited_seconds + 0.002
    assert all(0 < slept <= 0.051 for slept in clock.slept)


async def test_a_pause_of_the_gateway_is_known_while_it_lasts(budget: Maker) -> None:
    """A budget that the gateway has exhausted says so, until when, and no more once a request may be sent."""

    class Clock(OwnClock):
        async def sleep(self, seconds: float) -> None:
            seen.append((worker.pause, self.now() + seconds))
            await super().sleep(seconds)

    seen: list[tuple[Wait | None, float]] = []
    worker = budget(rate=100, concurrency=1, clock=Clock())
    await worker.exhaust(20)
    task = asyncio.create_task(worker.acquire())
    await eventually(lambda: seen)
    pause, until = seen[0]
    assert pause is not None
    assert pause.cause == LIMIT_REACHED
    assert pause.next_try == pytest.approx(until, abs=1)
    task.cancel()
    await asyncio.wait([task])
    assert worker.pause is None


async def test_concurrency_is_bounded(budget: Maker) -> None:
    """No more requests are under way than permitted; the next one starts when one has ended."""
    worker = budget(rate=100_000, concurrency=3)
    grants = [await worker.acquire() for _ in range(3)]
    fourth = asyncio.create_task(worker.acquire())
    await asyncio.wait([fourth], timeout=0.05)
    assert not fourth.done()
    worker.release(grants[0])
    await asyncio.wait_for(fourth, PATIENCE)


async def test_concurrency_is_divided_and_given_back(budget: Maker, db: Redis) -> None:
    """Workers that ask at the same time have an equal share each; it comes back when the other is quiet."""
    clock = OwnClock()
    one, other = budget("w1", rate=100_000, clock=clock), budget("w2", rate=100_000, clock=clock)
    await use(one)
    assert one.statistics().concurrency == 4
    await use(other)
    clock.offset += 1  # what is left of a block is stale by now, so Redis is asked again
    await use(one)
    assert [each.statistics().concurrency for each in (one, other)] == [2, 2]
    assert one.statistics().sharing_workers == 2
    stale = int(await redis_time(db) * 1000) - 5_001
    await db.hset(KEYS.budget, "sharing", f"w2={stale}")  # type: ignore[misc] # as above
    clock.offset += 1
    await use(one)
    assert one.statistics().concurrency == 4


async def test_a_worker_that_ends_leaves_its_share(budget: Maker) -> None:
    """A worker that is started right after another has ended, as in a deploy, has the whole concurrency."""
    one, other = budget("w1", rate=100_000), budget("w2", rate=100_000)
    await use(one)
    await one.leave()
    await use(other)
    assert other.statistics().concurrency == 4


async def test_every_worker_has_a_share(budget: Maker) -> None:
    """With more workers than requests permitted, each still gets one: nobody starves."""
    workers = [budget(f"w{number}", rate=100_000, concurrency=2) for number in range(5)]
    for worker in workers:
        await use(worker)
    assert workers[-1].statistics().concurrency == 1
    await asyncio.wait_for(asyncio.gather(*(use(worker, 3) for worker in workers)), PATIENCE)


async def test_high_rates_take_blocks(budget: Maker, db: Redis) -> None:
    """At a high rate Redis is asked for many requests at a time, at a low one for each."""
    for rate, most in ((50_000.0, 3), (10.0, 4)):
        worker = budget(rate=rate)
        await use(worker)
        await db.config_resetstat()
        await use(worker, 1_000 if rate > 100 else 3)
        calls = (await db.info("commandstats")).get("cmdstat_evalsha", {"calls": 0})["calls"]
        assert calls <= most
        assert rate > 100 or calls == 3


async def test_stale_permits_are_not_used(budget: Maker, db: Redis) -> None:
    """What is left of a block is not saved up: later it would be a burst that the others do not know of."""
    clock = OwnClock()
    worker = budget(rate=50_000, clock=clock)
    await use(worker)
    assert worker._permits > 100
    clock.offset += 1
    await db.config_resetstat()
    await use(worker)
    assert (await db.info("commandstats"))["cmdstat_evalsha"]["calls"] == 1


async def test_cancelled_waiters_give_their_place_back(budget: Maker) -> None:
    """Callers cancelled while they wait, for a place or for the rate, leave nothing taken behind."""
    worker = budget(rate=200, concurrency=2)
    for number in range(60):
        waiting = [asyncio.create_task(worker.acquire()) for _ in range(6)]
        await asyncio.wait(waiting, timeout=number * 0.0001)
        for task in waiting:
            task.cancel()
        for result in await asyncio.gather(*waiting, return_exceptions=True):
            if not isinstance(result, BaseException):
                worker.release(result)
    assert worker._slots.borrowed_tokens == 0
    await asyncio.wait_for(use(worker, 4), PATIENCE)


async def test_one_asks_for_all(budget: Maker, db: Redis) -> None:
    """Callers that wait at the same time do not all ask Redis: one does, and the others take what it got."""
    worker = budget(rate=50_000, concurrency=64)
    await use(worker)
    worker._permits = 0
    await db.config_resetstat()
    grants = await asyncio.gather(*(worker.acquire() for _ in range(64)))
    assert len(grants) == 64
    assert (await db.info("commandstats"))["cmdstat_evalsha"]["calls"] == 1
