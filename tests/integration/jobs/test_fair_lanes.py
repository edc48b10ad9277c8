"""Who gets a place first, what a look at the schedule costs, and when polls are due that were due at the same time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from jobs.arq_worker import make_queue
from jobs.lane_worker import LaneWorker
from jobs.schedule import CLAIMED, Room, Schedule, poll_id
from jobs.worker import make_lane_worker
from tests.support.arq_worker import POLLS, SCANS, planned
from tests.support.waiting import eventually
from tests.support.worker import account_for, know_contract
from worker.app import open_services
from worker.cancellation import end
from worker.capture.lanes import NOISE_SECONDS, Lane, phase_of
from worker.capture.state.changes import tell_change
from worker.capture.state.run import Outcome, Run
from worker.clock import SystemClock
from worker.config.sections import Account
from worker.keys import KeySpace
from worker.redis.connections import answer
from worker.sandbox import FaultRule, SandboxServer
from worker.services import OpenAccounts, Services

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def services_for(accounts: list[Account], url: str) -> AsyncIterator[Services]:
    """The services of accounts whose gateway is known."""
    async with open_services(accounts, url, SystemClock()) as services:
        await know_contract(services)
        yield services


@asynccontextmanager
async def at_work(services: Services, url: str, **places: int) -> AsyncIterator[LaneWorker]:
    """A worker with so many places while the block runs."""
    worker = make_lane_worker(url, services, "test-1")
    worker.places.update({Lane(name): number for name, number in places.items()})
    task = asyncio.ensure_future(worker.async_run())
    try:
        yield worker
        assert not task.done(), "the worker has ended"
    finally:
        await end(task)
        await asyncio.gather(worker.close(), return_exceptions=True)


@asynccontextmanager
async def schedule_of(url: str) -> AsyncIterator[Schedule]:
    """The schedule, as one worker has it."""
    queue = make_queue(url, POLLS)
    try:
        yield Schedule(queue, KeySpace())
    finally:
        await queue.aclose(close_connection_pool=True)


async def calls(client: Redis) -> Counter[str]:
    """The commands of the server so far, by name, without those of this call."""
    stats: Any = await client.info("commandstats")
    found = Counter({name.removeprefix("cmdstat_"): row["calls"] for name, row in stats.items()})
    return found - Counter({name: found[name] for name in ("info", "config|resetstat")})


# --- who gets a place ------------------------------------------------------------------------------


async def claim(schedule: Schedule, free: int = 1, *, at: float = 10_000.0) -> list[str]:
    """Claim so many scans; return their accounts."""
    found = await schedule.claim(at, {Lane.SCANS: Room(free, {})}, expired=False)
    return [each.job.split(b":")[1].decode() for each in found]


async def test_the_account_that_was_added_last_is_read_first(redis_url: str) -> None:
    """A thousand others are before it, and it gets the first place, however often all are planned again."""
    async with schedule_of(redis_url) as schedule:
        await schedule.place(
            [(poll_id(f"a{n:04}", "orders"), {Lane.SCANS: -1000.0 - n}) for n in range(1000)]
        )
        await schedule.place([(poll_id("fresh", "orders"), {Lane.SCANS: -5000.0})])
        await schedule.place([(poll_id(f"a{n:04}", "orders"), {Lane.SCANS: -6000.0}) for n in range(1000)])
        assert await claim(schedule, 3) == ["fresh", "a0999", "a0998"]
        assert schedule.due[Lane.SCANS] == -1997.0


async def test_no_account_waits_for_good(redis_url: str, client: Redis) -> None:
    """Fresh accounts come faster than there are places: what waits the longest has every fourth place all the same."""
    async with schedule_of(redis_url) as schedule:
        await schedule.place(
            [
                (poll_id("oldest", "orders"), {Lane.SCANS: -100.0}),
                (poll_id("begun", "orders"), {Lane.SCANS: 200.0}),
                (poll_id("older", "orders"), {Lane.SCANS: -300.0}),
            ]
        )
        order = list[str]()
        numbers: Iterator[int] = count(1000)
        for _ in range(12):
            await schedule.place(
                [
                    (poll_id(f"fresh{n}", "orders"), {Lane.SCANS: float(-n)})
                    for n in (next(numbers), next(numbers))
                ]
            )
            order += await claim(schedule)
        assert [place for place, name in enumerate(order) if not name.startswith("fresh")] == [3, 7, 11]
        assert [order[place] for place in (3, 7, 11)] == ["oldest", "begun", "older"]
        assert await client.zcard(SCANS) == 27


async def test_a_scan_without_end_gives_up_its_place_for_a_fresh_account(
    redis_url: str, sandbox: SandboxServer, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on afterwards where it was: the first orders of the other one come before its last, and all once."""
    monkeypatch.setattr("jobs.lane_worker.YIELD_SECONDS", 0.0)
    sandbox.faults.replace((FaultRule("delay", operation="orders.search", seconds=0.4),))
    big = account_for(sandbox, "big", page_size=5, max_concurrency=1)
    accounts = [big, account_for(sandbox, "fresh", requests_per_second=9_999)]
    keys = {each.name: each.keys.of(each.name) for each in accounts}
    async with services_for(accounts, redis_url) as services:
        assert isinstance(services.accounts, OpenAccounts)
        services.accounts.configure([big])
        async with at_work(services, redis_url, scans=1):
            await eventually(lambda: client.exists(keys["big"].stream("orders")))
            services.accounts.configure(accounts)
            await eventually(lambda: client.exists(keys["fresh"].stream("orders")))
            assert 0 < await client.xlen(keys["big"].stream("orders")) < 50
            sandbox.faults.replace(())

            async def all_read() -> bool:
                return [await client.xlen(keys[name].stream("orders")) for name in keys] == [50, 50]

            await eventually(all_read)


async def test_a_fresh_account_is_the_only_one_that_is_planned(
    redis_url: str, sandbox: SandboxServer, client: Redis
) -> None:
    """A worker that hears of a change plans that account, and reads the state of no other."""
    accounts = [account_for(sandbox, f"a{number}") for number in range(20)]
    async with services_for(accounts, redis_url) as services, planned(services, redis_url) as schedule:
        assert isinstance(services.accounts, OpenAccounts)
        served, looked = services.accounts, list[int]()

        async def look() -> None:
            looked.append(1)
            served.configure([*accounts, account_for(sandbox, "fresh")])

        services.look_for_accounts = look
        for _ in range(2):
            await schedule.tick.run(lost=False)
        assert (looked, len(await schedule.listed())) == ([], 20)
        await tell_change(services.redis, services.keys.of("fresh"))
        await client.config_resetstat()
        await schedule.tick.run(lost=False)
        assert looked == [1]
        assert (await calls(client))["scard"] == 1  # one for each account that is planned
        assert await client.zscore(SCANS, poll_id("fresh", "orders")) < 0


async def test_a_claim_that_has_expired_comes_before_what_is_due(redis_url: str, client: Redis) -> None:
    """Its job has waited for longer than a claim lasts; more jobs than places are always due under overload."""
    async with schedule_of(redis_url) as schedule:
        await client.zadd(POLLS, {poll_id(f"a{n}", "orders"): 100.0 + n for n in range(300)})
        await client.zadd(POLLS, {poll_id("lost", "orders"): CLAIMED + 900.0})
        (found,) = await schedule.claim(1000.0, {Lane.POLLS: Room(1, {})}, expired=True)
        assert found.job == poll_id("lost", "orders").encode()


async def test_a_first_scan_that_cannot_begin_keeps_no_other_waiting(
    redis_url: str, sandbox: SandboxServer, client: Redis
) -> None:
    """It had its turn, so it is not first again, and not due at once: a thousand of them would take all places."""
    account = account_for(sandbox, "odd")
    async with services_for([account], redis_url) as services, planned(services, redis_url) as schedule:
        run = Run("run", "odd", "orders", "sweep", "poll", 0.0, 0.0)
        run.end(Outcome.FAILED, "data_error", "its cursor cannot be read")
        before = services.clock.now()
        await schedule.planner.poll_ended(Lane.SCANS, account, "orders", run)
        assert await client.zscore(SCANS, poll_id("odd", "orders")) > before


async def test_an_account_is_taken_up_when_its_job_comes_first(
    redis_url: str, sandbox: SandboxServer, client: Redis
) -> None:
    """A worker keeps the job of an account that another worker has planned before it heard of the account."""
    old, fresh = account_for(sandbox, "old"), account_for(sandbox, "fresh")
    async with services_for([old, fresh], redis_url) as services:
        assert isinstance(services.accounts, OpenAccounts)
        served = services.accounts
        served.configure([old])

        async def look() -> None:
            served.configure([old, fresh])

        services.look_for_accounts = look
        async with at_work(services, redis_url) as worker:
            await eventually(lambda: worker.jobs_complete)
            await client.zadd(SCANS, {poll_id("fresh", "orders"): -1.0})
            await eventually(lambda: client.exists(fresh.keys.of("fresh").stream("orders")))
            assert not worker._elsewhere


# --- what a look costs -----------------------------------------------------------------------------


async def test_another_worker_sees_at_once_what_was_put_into_a_lane(redis_url: str, client: Redis) -> None:
    """It looks at the lanes again when another one has put something in, and not after what it has put in itself."""
    async with schedule_of(redis_url) as one, schedule_of(redis_url) as other:
        for each in (one, other):
            await each.claim(1.0, {lane: Room(1, {}) for lane in Lane}, expired=True)
        await one.place([("poll:a:orders", {Lane.POLLS: 100.0})])
        await one.place([("poll:a:orders", {Lane.POLLS: 200.0})])  # it stays where it is
        for each in (one, other):
            await each.is_planned()
        assert one.due[Lane.POLLS] == 100.0
        assert one.due[Lane.SCANS] == float("inf")
        assert set(other.due.values()) == {0.0}
        await other.claim(1.0, {lane: Room(1, {}) for lane in Lane}, expired=True)
        await other.is_planned()
        assert other.due[Lane.POLLS] == 100.0


async def test_many_jobs_are_claimed_with_one_command_for_each_lane(redis_url: str, client: Redis) -> None:
    """One look at a lane and one claim, however many jobs are due. The same look sees claims that have expired."""
    async with schedule_of(redis_url) as schedule:
        jobs = {poll_id(f"a{number}", "orders"): 100.0 + number for number in range(50)}
        await client.zadd(POLLS, jobs)
        await schedule.claim(1.0, {Lane.POLLS: Room(0, {})}, expired=False)  # loads the script
        await client.config_resetstat()
        found = await schedule.claim(1000.0, {Lane.POLLS: Room(32, {})}, expired=True)
        assert len(found) == 32
        assert await calls(client) == Counter(evalsha=1, zrange=1, zadd=1)


# --- polls that are spread -------------------------------------------------------------------------


async def test_polls_of_accounts_that_were_read_at_once_are_spread(
    redis_url: str, sandbox: SandboxServer, client: Redis
) -> None:
    """After a cold start each account has its own time in the interval, none later than an interval after its scan."""
    interval = 86_400.0  # so long that hardly any account is polled a second time meanwhile
    accounts = [
        msgspec.structs.replace(account_for(sandbox, f"a{n}"), intervals={"orders": interval})
        for n in range(48)
    ]
    names = ["due_at", "last_started", "unclean_scans"]

    async def planned_polls() -> list[tuple[float, float]]:
        """When each account that was read is due, and how long after its scan; nothing until all are planned so."""
        found = []
        for each in accounts:
            key = each.keys.of(each.name).cursor("orders")
            due, began, unclean = await answer(client.hmget(key, names))
            score = await client.zscore(POLLS, poll_id(each.name, "orders"))
            if not due or unclean != b"0" or score != pytest.approx(float(due), abs=0.01):
                return []
            found.append((float(due), float(due) - float(began)))
        return found

    async with services_for(accounts, redis_url) as services, at_work(services, redis_url):
        polls = await eventually(planned_polls)
    assert all(0 < wait <= interval for _, wait in polls)
    phases = [phase_of(each.name, "orders") for each in accounts]
    for (due, _), phase in zip(polls, phases, strict=True):
        off = (due - phase * interval + interval / 2) % interval - interval / 2
        # An account that was read less than a second before its time is due an interval after it was read.
        assert abs(off) <= NOISE_SECONDS
    in_a_quarter = [sum((phase - first) % 1 < 0.25 for phase in phases) for first in phases]
    assert max(in_a_quarter) <= 15  # their mean is 12; these names always have the same phases
