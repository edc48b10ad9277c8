"""The traps of arq, each with the test that fails without its answer. See jobs/ and worker/connections.py."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis
import structlog
from arq.constants import job_key_prefix
from redis.asyncio import Redis

from jobs.arq_worker import SupervisedWorker
from jobs.schedule import CLAIM_SECONDS, CLAIMED, Claimed, Room, Schedule
from jobs.worker import make_lane_worker, make_resync_worker
from tests.support.arq_worker import ORDERS_JOB, POLLS, SCANS, planned, working
from tests.support.programs import Program, login_settings
from tests.support.servers import Server
from tests.support.waiting import PATIENCE, eventually
from tests.support.worker import Bench, BenchMaker, account_for
from worker.app import open_services
from worker.cancellation import end
from worker.capture.lanes import FIELDS, Lane, lane_of, seconds_until_due, times_of_poll
from worker.capture.state.cursor import Cursor, FullScanProgress
from worker.capture.state.run import Run
from worker.clock import SystemClock
from worker.errors import RedisUnavailable, SettingsError
from worker.keys import KeySpace
from worker.redis.connections import answer, connect, pool, wait_until_up
from worker.sandbox import FaultRule, SandboxServer

pytestmark = pytest.mark.anyio


async def set_cursor(bench: Bench, **fields: float) -> None:
    await bench.redis.hset(bench.account.keys.cursor("orders"), mapping=fields)


class Polls:
    """Stands in for the poller where a test asks when it is called, not what it does."""

    def __init__(self, seconds: float = 0.0, bench: Bench | None = None) -> None:
        self.at: list[float] = []
        self.under_way = self.most_under_way = 0
        self._seconds, self._bench = seconds, bench

    async def poll(self, *_: Any, **__: Any) -> Run:
        """Takes its time and does nothing, but that it is not due for a while where it knows the cursor."""
        self.at.append(time.time())
        if self._bench:
            # a pause, longer than the interval
            await set_cursor(self._bench, due_at=time.time() + 600, failures=1, baseline=1)
        self.under_way += 1
        self.most_under_way = max(self.under_way, self.most_under_way)
        try:
            await asyncio.sleep(self._seconds)
        finally:
            self.under_way -= 1
        return Run("run", "default", "orders", "sweep", "poll", 0.0, 0.0)


def with_polls(bench: Bench, polls: Polls) -> None:
    bench.services.accounts = {"default": replace(bench.account, poller=polls)}  # type: ignore[arg-type] # duck-typed


# --- the schedule -----------------------------------------------------------------------------------


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
            await asyncio.sleep(2)
            stats = await b.redis.info("commandstats")
        calls = sum(each["calls"] for each in stats.values())
        assert calls <= 2 * 20
        assert polls.at == []


async def test_a_stopping_worker_claims_nothing(bench: BenchMaker, redis_url: str) -> None:
    """What it claimed it would not run."""
    async with bench() as b, planned(b.services, redis_url) as schedule:
        await schedule.due()
        b.services.stopping = lambda: True
        async with working(b, redis_url) as worker:
            await eventually(lambda: b.redis.exists(f"{POLLS}:health:test-1"))
            assert not worker.tasks
        assert await schedule.listed() == [f"scans/{ORDERS_JOB}"]


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


# --- what a job leaves behind ---------------------------------------------------------------------


async def test_a_job_has_no_keys_of_its_own(bench: BenchMaker, redis_url: str) -> None:
    """Neither a body nor a result: it is its id, which says what to do and stays in the schedule."""
    async with bench() as b:
        with_polls(b, Polls())
        async with working(b, redis_url) as worker:
            await eventually(lambda: worker.jobs_complete >= 3)
        assert await b.redis.keys("arq:*") == []
        assert await b.redis.zscore(SCANS, ORDERS_JOB) is not None


async def test_a_poll_takes_few_commands_of_the_schedule(bench: BenchMaker, redis_url: str) -> None:
    """A claim, the look at the cursor and at its refresh queue, and the next due time."""
    async with bench() as b, planned(b.services, redis_url) as schedule:
        await b.poll()
        await schedule.due()
        account = b.account.account
        run = Run("run", "default", "orders", "sweep", "poll", 0.0, 0.0)
        await schedule.planner.poll_ended(Lane.POLLS, account, "orders", run)
        await b.redis.config_resetstat()
        for _ in range(10):
            await schedule.planner.poll_ended(Lane.POLLS, account, "orders", run)
        stats = await b.redis.info("commandstats")
        calls = {name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items()}
        assert {name: calls.get(name, 0) for name in ("hmget", "zadd", "zrange", "evalsha")} == {
            "hmget": 10, "zadd": 10, "zrange": 10, "evalsha": 0,
        }  # fmt: skip


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return (Path.touch, (self._file,))


@contextlib.asynccontextmanager
async def taking_requests(b: Bench, url: str) -> AsyncIterator[SupervisedWorker]:
    """The worker that takes requests of resyncs, at work while the block runs."""
    worker = make_resync_worker(url, b.services, "test-1")
    running = asyncio.ensure_future(worker.async_run())
    try:
        yield worker
        assert not running.done()
    finally:
        await end_worker(worker, running)


async def test_a_pickled_body_is_refused_and_harmless(
    bench: BenchMaker, redis_url: str, tmp_path: Path
) -> None:
    """Who can write to Redis cannot run code here, and the worker goes on."""
    requests = KeySpace().resync_queue
    async with bench() as b:
        await b.redis.set(f"{job_key_prefix}bomb", pickle.dumps(Bomb(tmp_path / "ran")))
        await b.redis.zadd(requests, {"bomb": 1})
        async with taking_requests(b, redis_url) as worker:
            await eventually(lambda: worker.jobs_failed)
        assert not (tmp_path / "ran").exists()
        assert await b.redis.zscore(requests, "bomb") is None


async def test_bodies_of_another_shape_do_not_end_the_worker(bench: BenchMaker, redis_url: str) -> None:
    """Some would raise outside of arq's try, end its loop, and be met again after each restart."""
    bodies = (
        b'{"t":"x","f":"resync","a":[],"k":{},"et":1}',
        b'{"t":null,"f":5,"a":[],"k":{},"et":1}',
        b'{"t":null,"f":"resync","a":[],"k":[],"et":null}',
        b'{"t":null,"f":"resync","a":5,"k":{},"et":1}',
        b'{"t":null,"f":"nosuch","a":[],"k":{},"et":1}',
        b'{"t":null,"f":"resync","a":[],"k":{},"et":1}',
        b"[]",
        b"",
    )
    requests = KeySpace().resync_queue
    async with bench() as b:
        for number, body in enumerate(bodies):
            await b.redis.set(f"{job_key_prefix}odd-{number}", body)
            await b.redis.zadd(requests, {f"odd-{number}": 1})
        async with taking_requests(b, redis_url) as worker:
            await eventually(lambda: worker.jobs_failed == len(bodies))
        assert not [name for name in await b.redis.zrange(requests, 0, -1) if name.startswith(b"odd-")]


# --- life and death of a worker -------------------------------------------------------------------


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


async def test_no_hook_is_set(bench: BenchMaker, redis_url: str) -> None:
    """A hook that raises ends arq's worker: there is none."""
    async with bench() as b, working(b, redis_url) as worker:
        hooks = (
            worker.on_startup,
            worker.on_shutdown,
            worker.on_job_start,
            worker.on_job_end,
            worker.after_job_end,
        )
        assert hooks == (None,) * 5
        assert worker.allow_abort_jobs is False


# --- our own pool ----------------------------------------------------------------------------------


@pytest.fixture
def black_hole() -> AsyncIterator[str] | Any:
    """A server that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


async def test_a_black_hole_does_not_hang_a_call(black_hole: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One timeout, not 64: redis-py retries a command, its connection and its handshake inside one another."""
    monkeypatch.setattr("ordersync_consumer.servers.connection.SOCKET_TIMEOUT", 0.5)
    monkeypatch.setattr("ordersync_consumer.servers.connection.RETRY_SECONDS", 0.25)
    client = connect(black_hole)
    try:
        began = time.monotonic()
        with pytest.raises(redis.TimeoutError):
            await client.ping()
        assert time.monotonic() - began < 20  # 64 of them are 32 s
    finally:
        await client.aclose()


async def test_a_black_hole_ends_the_worker_loop(
    bench: BenchMaker, black_hole: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool of arq has no timeout and waits for good; ours fails, and the daemon builds the worker anew."""
    monkeypatch.setattr("ordersync_consumer.servers.connection.SOCKET_TIMEOUT", 0.5)
    monkeypatch.setattr("ordersync_consumer.servers.connection.RETRY_SECONDS", 0.25)
    async with bench() as b:
        worker = make_lane_worker(black_hole, b.services, "test-1")
        with pytest.raises(redis.RedisError):
            await asyncio.wait_for(worker.async_run(), PATIENCE)
        with contextlib.suppress(redis.RedisError):
            await asyncio.wait_for(worker.close(), PATIENCE)


async def test_a_restart_is_bridged_by_retries(own_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection is tried again for a moment: a call that meets a restart succeeds."""
    monkeypatch.setattr("redis.backoff.random.random", lambda: 1.0)  # else the waits may be none
    client = connect(own_server.url)
    try:
        await client.ping()
        own_server.stop(kill=True)
        call = asyncio.ensure_future(answer(client.ping()))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(own_server.start)
        assert await call
    finally:
        await client.aclose()


async def test_waiting_for_redis_gives_up_with_the_setting(tmp_path: Path) -> None:
    """With patience it ends as exit 3 and names what to check; the password is not in it."""
    url = "redis://:hunter2-hunter2@127.0.0.1:1/0"
    client = connect(url)
    try:
        with pytest.raises(
            RedisUnavailable, match=r"redis://:\*\*\*@127.0.0.1:1/0 cannot be reached.*X__URL"
        ):
            await wait_until_up(client, url, SystemClock(), patience=0, setting="X__URL")
    finally:
        await client.aclose()


async def test_redis_that_refuses_the_client_is_not_waited_for(own_server: Server) -> None:
    """A wrong password or database does not become right by waiting."""
    client = connect(own_server.url)
    await client.config_set("requirepass", "right")
    await client.aclose()
    for url in (own_server.url, own_server.url.replace("//", "//:wrong@")):
        refused = connect(url)
        with pytest.raises(RedisUnavailable, match="refuses this client"):
            await wait_until_up(refused, url, SystemClock())
        await refused.aclose()


def test_an_unknown_option_of_the_address_is_a_wrong_setting() -> None:
    """Found at the start, not at the first call."""
    for option in ("colour=red", "socket_timeout=soon"):
        with pytest.raises(SettingsError, match=r"redis://:\*\*\*@host/0.* cannot be used"):
            pool(f"redis://:hunter2@host/0?{option}")


async def test_the_worker_goes_on_by_itself_after_a_restart_of_redis(
    own_server: Server, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """The worker of arq ends when Redis restarts; the daemon's polls go on, and every event stands once."""
    with Program(tmp_path, **login_settings(sandbox, own_server.url, tmp_path)) as daemon:
        await daemon.logged("poll_done")
        own_server.stop(kill=True)
        await asyncio.sleep(1)
        sandbox.store.change(5)
        own_server.start()
        with redis.Redis.from_url(own_server.url) as client:
            await eventually(lambda: int(client.xlen("ordersync:{default}:stream:orders")) >= 55)
        assert daemon.process.poll() is None


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


async def end_worker(worker: Any, running: asyncio.Future[None]) -> None:
    """As the daemon ends it."""
    await end(running)
    with contextlib.suppress(asyncio.CancelledError):
        await worker.close()
