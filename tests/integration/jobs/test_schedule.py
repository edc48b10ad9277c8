"""When jobs run: what is due, in which lane, once, and with few commands."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import anyio
import pytest
import structlog

from jobs.schedule import CLAIMED, Claimed, Room, Schedule
from tests.support.arq_worker import ORDERS_JOB, POLLS, SCANS, Polls, planned, set_cursor, with_polls, working
from tests.support.waiting import PATIENCE, eventually
from tests.support.worker import BenchMaker
from worker.capture.lanes import FIELDS, Lane, lane_of, seconds_until_due, times_of_poll
from worker.capture.state.cursor import Cursor
from worker.capture.state.full_scan import FullScanProgress

pytestmark = pytest.mark.anyio


async def test_planning_reads_nothing_from_the_gateway(bench: BenchMaker, redis_url: str) -> None:
    """It asks the gateway nothing and publishes nothing, and however often it is done, a job is there once."""
    async with bench() as b, planned(b.services, redis_url) as schedule:
        for _ in range(3):
            assert await schedule.due() == [f"scans/{ORDERS_JOB}"]
        assert await b.redis.zrange(SCANS, 0, -1) == [ORDERS_JOB.encode()]
        assert await b.events() == []
        assert b.sandbox.requests.counts() == {}


async def test_a_poll_that_is_not_due_costs_nothing(bench: BenchMaker, redis_url: str) -> None:
    """While nothing is due a worker looks at its lanes now and then: few commands, however much is in them."""
    async with bench() as b:
        polls = Polls()
        with_polls(b, polls)
        await set_cursor(b, due_at=time.time() + 600, failures=1, baseline=1)
        await b.redis.zadd(POLLS, {f"poll:other{number}:orders": time.time() + 1e6 for number in range(5000)})
        async with working(b, redis_url) as worker:
            await eventually(lambda: b.redis.zscore(POLLS, ORDERS_JOB))
            await eventually(lambda: worker.jobs_complete and not worker.tasks)
            await b.redis.config_resetstat()
            began = time.monotonic()
            await asyncio.sleep(2)
            stats = await b.redis.info("commandstats")
            took = time.monotonic() - began
        calls = sum(each["calls"] for each in stats.values())
        assert calls <= took * 20
        assert polls.at == []


def fields_of(**values: bytes) -> list[bytes | None]:
    """The fields of a cursor that say what is due."""
    return [values.get(name) for name in FIELDS]


def test_a_first_scan_and_what_is_left_of_a_full_one_have_a_lane_of_their_own() -> None:
    """A fresh account goes before the others; newer changes are read at their time while a full scan goes on."""
    ready: dict[str, Any] = {"baseline": b"1", "due_at": b"1000", "interval": b"15", "failures": b"0"}

    def times(first: object = (), *, past: bool | None = None, **values: Any) -> dict[Lane, float | None]:
        return times_of_poll(fields_of(**values), first, requested=15.0, now=1000.0, backlog=past)

    never = times()[Lane.SCANS]
    begun = times(last_started=b"990", due_at=b"1000")
    assert never is not None
    assert begun[Lane.SCANS] == 1000.0 > never
    assert begun[Lane.POLLS] is None
    assert times(**ready) == {Lane.POLLS: 1000.0, Lane.SCANS: None}
    assert times(**ready, sweep_started=b"980.5") == {Lane.SCANS: 1000.0, Lane.POLLS: 1015.0}
    first = [[b"id:1", 1003.0]]
    assert times(first, **ready, sweep_started=b"980.5")[Lane.POLLS] == 1003.0
    # Logs of the past are read in their lane from when they were begun, those that are due at their time.
    later = {**ready, "due_at": b"1010"}
    assert times(past=True, **later) == {Lane.POLLS: 1010.0, Lane.AUDIT: 1010.0}
    assert times(past=True, **later, backlog_began=b"900") == {Lane.POLLS: 1010.0, Lane.AUDIT: 1000.0}
    assert times(past=True, **later, backlog=b"done") == {Lane.POLLS: 1010.0, Lane.AUDIT: None}
    assert times(past=False, **later)[Lane.AUDIT] is None
    # What status shows as the class of a resource.
    assert (
        lane_of(Cursor()) == lane_of(Cursor(baseline=True, scan=FullScanProgress(started=1.0))) == Lane.SCANS
    )
    assert lane_of(Cursor(baseline=True, backlog="done")) is Lane.POLLS
    assert lane_of(Cursor(baseline=True, backlog="3:ff")) is Lane.AUDIT


async def test_accounts_have_their_turn_in_a_lane(bench: BenchMaker, redis_url: str) -> None:
    """An account with many jobs that are due does not hold up one with a job: it gets the places that are left."""
    async with bench() as b, planned(b.services, redis_url) as schedule:
        many = {f"poll:big:{number}": 1.0 + number for number in range(20)}
        await b.redis.zadd(SCANS, {**many, "poll:small:orders": 50.0})
        claimed = await schedule.schedule.claim(100.0, {Lane.SCANS: Room(4, Counter())}, expired=False)
        jobs = [each.job for each in claimed]
        assert jobs[:2] == [b"poll:big:0", b"poll:small:orders"]
        assert len(jobs) == 4
        assert schedule.schedule.due[Lane.SCANS] == 4.0  # the next of those that wait
        later = time.time()
        await b.redis.zadd(SCANS, {"poll:small:notes": 60.0})
        claimed = await schedule.schedule.claim(
            100.0, {Lane.SCANS: Room(1, {"big": 3, "small": 1})}, expired=False
        )
        assert [each.job for each in claimed] == [b"poll:small:notes"]
        assert time.time() - later < PATIENCE


async def test_a_lane_without_places_is_left_to_others(bench: BenchMaker, redis_url: str) -> None:
    """A worker claims nothing of it, and the metric of the lane shows how long what is due has waited."""
    async with bench() as b:
        polls = Polls(seconds=0)
        with_polls(b, polls)
        await set_cursor(b, due_at=time.time() + 0.5, interval=15, baseline=1, last_started=time.time())
        async with working(b, redis_url) as worker:
            worker.places[Lane.POLLS] = 0
            place = f"poll:{b.account.account.name}:orders"
            schedule = Schedule(b.redis, b.services.keys)
            await b.redis.zadd(schedule.keys[Lane.POLLS], {place: time.time() - 30})
            for _ in range(5):
                worker._awake.set()
                await anyio.sleep(0.05)
            waiting = await schedule.oldest_due(time.time())
            assert (polls.at, waiting[Lane.SCANS], 29 < waiting[Lane.POLLS] < 60) == ([], 0.0, True)
            fresh = times_of_poll([None] * len(FIELDS), (), requested=15.0, now=time.time() - 7, backlog=None)
            await b.redis.zadd(schedule.keys[Lane.SCANS], {"poll:fresh:orders": fresh[Lane.SCANS]})
            assert 6 < (await schedule.oldest_due(time.time()))[Lane.SCANS] < 60
            await b.redis.zadd(schedule.keys[Lane.POLLS], {place: CLAIMED + time.time() + 5})
            assert (await schedule.oldest_due(time.time()))[Lane.POLLS] == 0.0  # it runs somewhere


async def test_polls_do_not_wait_for_other_classes(bench: BenchMaker, redis_url: str) -> None:
    """All places of scans, audit logs, resyncs and reconciliation are taken by work that does not end."""
    async with bench() as b:
        polls = Polls(seconds=600)
        with_polls(b, polls)
        stuck = {lane: lane not in {Lane.POLLS, Lane.RETENTION} for lane in Lane}
        await set_cursor(b, due_at=time.time() + 2, interval=15, baseline=1, last_started=time.time())
        async with working(b, redis_url) as worker:
            for lane, is_stuck in stuck.items():
                if is_stuck:
                    worker.places[lane] = 1
                    worker._running[f"{lane}/x"] = Claimed(lane, b"poll:other:x", 0.0)
            await eventually(lambda: polls.at)
            assert worker.running[Lane.POLLS] == 1
            for lane in stuck:
                worker._running.pop(f"{lane}/x", None)


@pytest.mark.parametrize(
    ("due_at", "interval", "failures", "expected"),
    [
        (None, None, None, -1000.0),  # never read
        (b"1005", b"15", b"0", 5.0),
        (b"990", b"15", b"0", -10.0),
        (b"x", b"15", b"0", 0.0),
        (b"nan", b"15", b"0", 0.0),
        (b"9999999", b"15", b"0", 0.0),  # the clock was wrong when it was written
        (b"4600", b"3600", b"0", 15.0),  # the interval was made shorter: it counts at once
        (b"1005", b"5", b"0", 5.0),  # made longer: from the next poll on
        (b"1060", b"3600", b"2", 60.0),  # a pause after failures is no interval
        (b"1902", b"15", b"2", 0.0),  # no server gets a pause as long as this
        (b"1017", b"15", b"0", 0.0),  # nor is the interval as long
    ],
)
def test_when_a_poll_is_due(
    due_at: bytes | None, interval: bytes | None, failures: bytes | None, expected: float
) -> None:
    """By the cursor and the interval wanted now (15 s), at second 1000."""
    assert seconds_until_due(due_at, interval, failures, requested=15.0, now=1000.0) == expected


def test_a_poll_that_began_in_the_future_is_due() -> None:
    """The clock was put back since: the time of the next poll is as wrong."""
    for began, expected in ((b"1004", 5.0), (b"1006", 0.0)):
        assert seconds_until_due(b"1005", b"15", b"0", began, requested=15.0, now=1000.0) == expected


async def test_a_cursor_that_is_no_cursor_is_due_and_stops_nobody_else(
    bench: BenchMaker, redis_url: str
) -> None:
    """The poll says what is wrong with it; planning goes on with the other resources."""
    async with bench() as b, planned(b.services, redis_url) as schedule:
        await b.redis.set(b.account.keys.cursor("orders"), "in the way")
        assert await schedule.due() == [f"scans/{ORDERS_JOB}"]


async def test_missed_polls_are_made_up_by_one(bench: BenchMaker, redis_url: str) -> None:
    """An hour of missed polls is one poll, at once: arq makes up nothing, and a hundred help nobody."""
    async with bench() as b:
        polls = Polls(bench=b)
        with_polls(b, polls)
        await set_cursor(b, due_at=time.time() - 3600, interval=1, baseline=1)
        async with working(b, redis_url):
            await eventually(lambda: polls.at)
            await asyncio.sleep(1.5)
        assert len(polls.at) == 1


async def test_a_job_that_is_late_does_not_expire(bench: BenchMaker, redis_url: str) -> None:
    """It was due two days ago, and no worker was there: it runs, and no line says that it expired."""
    async with bench() as b:
        polls = Polls(bench=b)
        with_polls(b, polls)
        await set_cursor(b, due_at=time.time() - 2 * 86_400, interval=1, baseline=1)
        await b.redis.zadd(POLLS, {ORDERS_JOB: time.time() - 2 * 86_400})
        with structlog.testing.capture_logs() as lines:
            async with working(b, redis_url):
                await eventually(lambda: polls.at)
        assert [line for line in lines if line["log_level"] in {"warning", "error"}] == []


async def test_a_poll_starts_at_its_time(bench: BenchMaker, redis_url: str) -> None:
    """The worker wakes up at its due time: it starts then, and no sooner."""
    async with bench() as b:
        polls = Polls()
        with_polls(b, polls)
        due = time.time() + 1.8
        await set_cursor(b, due_at=due, interval=1, baseline=1)
        async with working(b, redis_url):
            await eventually(lambda: polls.at)
        assert polls.at[0] - due > -0.002  # due times have milliseconds


async def test_no_second_job_while_one_runs(bench: BenchMaker, redis_url: str) -> None:
    """A poll that takes longer than its interval is not started again beside itself, in no worker."""
    async with bench() as b:
        polls = Polls(seconds=2.5)
        with_polls(b, polls)
        async with working(b, redis_url), working(b, redis_url, "test-2"):
            await eventually(lambda: len(polls.at) >= 2)
        assert polls.most_under_way == 1


async def test_a_job_has_no_keys_of_its_own(bench: BenchMaker, redis_url: str) -> None:
    """Neither a body nor a result: it is its id, which says what to do and stays in the schedule."""
    async with bench() as b:
        with_polls(b, Polls())
        async with working(b, redis_url) as worker:
            await eventually(lambda: worker.jobs_complete >= 3)
        assert await b.redis.keys("arq:*") == []
        assert await b.redis.zscore(SCANS, ORDERS_JOB) is not None
