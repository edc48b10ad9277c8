"""Life and death of a worker: its claims, its jobs when it ends, its health key, and workers beside it."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.asyncio import Redis

from jobs.schedule import CLAIM_SECONDS, CLAIMED
from jobs.worker import make_lane_worker
from tests.support.arq_worker import ORDERS_JOB, POLLS, SCANS, Polls, end_worker, planned, with_polls, working
from tests.support.programs import Program, login_settings
from tests.support.waiting import eventually
from tests.support.worker import BenchMaker, account_for
from worker.app import open_services
from worker.capture.state.run import Run
from worker.clock import SystemClock
from worker.sandbox import FaultRule, SandboxServer

pytestmark = pytest.mark.anyio


async def test_a_stopping_worker_claims_nothing(bench: BenchMaker, redis_url: str) -> None:
    """What it claimed it would not run."""
    async with bench() as b, planned(b.services, redis_url) as schedule:
        await schedule.due()
        b.services.stopping = lambda: True
        async with working(b, redis_url) as worker:
            await eventually(lambda: b.redis.exists(f"{POLLS}:health:test-1"))
            assert not worker.tasks
        assert await schedule.listed() == [f"scans/{ORDERS_JOB}"]


async def test_a_claim_is_short_and_renewed(bench: BenchMaker, redis_url: str) -> None:
    """A killed worker holds its jobs for seconds, not for the longest time that a job may take."""
    async with bench() as b:
        with_polls(b, Polls(seconds=60))

        async def ends_in() -> float:
            score = float(await b.redis.zscore(SCANS, ORDERS_JOB) or 0)
            return score - CLAIMED - time.time()

        async def is_renewed() -> bool:
            return 6 < await ends_in() <= CLAIM_SECONDS + 0.1

        async with working(b, redis_url):
            await eventually(is_renewed)
            await b.redis.zadd(SCANS, {ORDERS_JOB: CLAIMED + time.time() + 4.5})
            await eventually(is_renewed)


async def test_the_claims_of_a_dead_worker_expire(bench: BenchMaker, redis_url: str) -> None:
    """Those whose time is over, and those that end later than any claim does: the clock was put back since."""
    async with bench() as b:
        polls = Polls(bench=b)
        with_polls(b, polls)
        for times, until in enumerate((time.time() - 0.1, time.time() + 3600)):
            await b.redis.delete(b.account.keys.cursor("orders"))
            await b.redis.zadd(SCANS, {ORDERS_JOB: CLAIMED + until})
            async with working(b, redis_url):
                await eventually(partial(_has_polled, polls, times + 1))


def _has_polled(polls: Polls, times: int) -> bool:
    return len(polls.at) >= times


async def test_a_killed_workers_job_is_taken_over_within_15_seconds(
    redis_url: str, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """SIGKILL in the middle of a first read: what it held runs out, the next worker carries on, nothing comes twice."""
    sandbox.faults.replace((FaultRule("hang", operation="orders.search", page=3),))  # the probe looks at 2
    values = login_settings(sandbox, redis_url, tmp_path, api__page_size="10")
    with redis.Redis.from_url(redis_url) as client:

        def published() -> int:
            return int(client.xlen("ordersync:{default}:stream:orders"))

        with Program(tmp_path, **values) as first:
            await eventually(published)
            first.process.kill()
            await first.ended()
        assert 0 < published() < 50
        claimed_until = client.zscore(SCANS, ORDERS_JOB) - CLAIMED
        assert claimed_until - time.time() < 15
        lease_ends = int(client.hget("ordersync:{default}:lease:orders", "until"))
        assert lease_ends - time.time() * 1000 < 15_000
        sandbox.faults.replace(())
        with Program(tmp_path, **values):
            await eventually(lambda: published() >= 50)
        entries = client.xrange("ordersync:{default}:stream:orders")
        assert len({fields[b"subject"] for _, fields in entries}) == len(entries) == 50


async def test_a_cancelled_job_is_run_again(bench: BenchMaker, redis_url: str) -> None:
    """What a stopping worker cuts short stays in the queue, and is not failed for it."""
    async with bench() as b:
        polls = Polls(seconds=60)
        with_polls(b, polls)
        async with working(b, redis_url):
            await eventually(lambda: polls.at)
        score = await b.redis.zscore(SCANS, ORDERS_JOB)
        assert score is not None
        assert score < time.time()
        async with working(b, redis_url, "test-2") as worker:
            await eventually(lambda: len(polls.at) >= 2)
            assert worker.jobs_failed == 0


async def test_a_closed_worker_leaves_no_job_behind(bench: BenchMaker, redis_url: str) -> None:
    """Nor one that takes longer to end than another: what the jobs use is closed next."""
    ended = asyncio.Event()

    class SlowToEnd(Polls):
        async def poll(self, *options: Any, **named: Any) -> Run:
            try:
                return await super().poll(*options, **named)
            finally:
                await asyncio.sleep(0.2)
                ended.set()

    async with bench() as b:
        polls = SlowToEnd(seconds=600)
        with_polls(b, polls)
        async with working(b, redis_url) as worker:
            await eventually(lambda: polls.at)
            worker.tasks["quick"] = asyncio.ensure_future(asyncio.sleep(600))
        assert ended.is_set()


async def test_each_worker_has_its_health_key(bench: BenchMaker, redis_url: str) -> None:
    """One that ends takes its own away, not that of the others; it lasts for seconds, not for an hour."""
    async with bench() as b:
        with_polls(b, Polls())
        first, second = f"{POLLS}:health:test-1", f"{POLLS}:health:test-2"
        async with working(b, redis_url):
            async with working(b, redis_url, "test-2"):
                await eventually(lambda: b.redis.exists(first, second))
                await eventually(lambda: _both(b.redis, first, second))
                assert await b.redis.ttl(first) <= 11
            assert not await b.redis.exists(second)
            assert await b.redis.exists(first)


async def _both(client: Redis, *keys: str) -> bool:
    return int(await client.exists(*keys)) == len(keys)


async def test_workers_with_other_accounts_leave_each_others_jobs_alone(
    redis_url: str, sandbox: SandboxServer
) -> None:
    """Each hands back what the other serves: neither starves where both share a Redis."""
    places = []
    async with AsyncExitStack() as stack:
        for name in ("prod", "staging"):
            account = account_for(sandbox, name)
            place = await stack.enter_async_context(open_services([account], redis_url, SystemClock()))
            worker = make_lane_worker(redis_url, place, f"test-{name}")
            running = asyncio.ensure_future(worker.async_run())
            stack.push_async_callback(end_worker, worker, running)
            places.append(place)

        async def both_polled_twice() -> bool:
            lengths = [
                await place.redis.xlen(desk.keys.runs) for place in places for desk in place.accounts.values()
            ]
            return bool(min(lengths) >= 2)

        await eventually(both_polled_twice)
