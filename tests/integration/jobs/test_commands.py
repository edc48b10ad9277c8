"""What jobs ask of the schedule: as few commands as can be, and nothing is planned later for that."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from redis.exceptions import ResponseError

from jobs.schedule import Claimed, Room, Schedule, poll_id
from tests.support.arq_worker import ORDERS_JOB, POLLS, SCANS, Polls, planned, with_polls, working
from tests.support.monitored import watched
from tests.support.waiting import eventually
from tests.support.worker import BenchMaker
from worker.capture.lanes import FIELDS, Lane
from worker.capture.registry import AUDIT_LOGS, CAPTURED, ORDERS
from worker.capture.resources import Captured
from worker.capture.state.refresh_queue import RefreshQueue, record
from worker.capture.state.run import Run
from worker.sandbox import SandboxServer, ServedContract

pytestmark = pytest.mark.anyio


async def test_a_poll_takes_few_commands_of_the_schedule(bench: BenchMaker, redis_url: str) -> None:
    """A claim and the next due time; a look at cursor and refresh queue only after a poll that has committed twice."""
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
        assert {name: calls.get(name, 0) for name in ("hmget", "zadd", "zrange", "evalsha", "zscore")} == {
            "hmget": 10, "zadd": 10, "zrange": 10, "evalsha": 10, "zscore": 10,
        }  # fmt: skip
        run = await b.poll()
        async with watched(b.redis) as commands:
            await schedule.planner.poll_ended(Lane.POLLS, account, "orders", run)
        assert (commands.sent, commands.inside) == ({"EVALSHA": 1}, {"ZSCORE": 1, "ZADD": 1})


async def test_jobs_that_end_one_after_another_are_settled_with_one_command(
    bench: BenchMaker, redis_url: str
) -> None:
    """Their places are free meanwhile, and each learns whether somebody wanted to bring it forward."""
    async with bench() as b, planned(b.services, redis_url) as schedule:
        jobs, now, woken = (
            [poll_id("default", name) for name in ("orders", "shipments", "notes")],
            time.time(),
            [],
        )
        schedule.schedule.on_end = lambda: woken.append(schedule.schedule.ended[Lane.POLLS])
        await schedule.schedule.place([(job, {Lane.POLLS: now}) for job in jobs])
        await schedule.schedule.claim(now, {Lane.POLLS: Room(3, {})}, expired=False)
        await schedule.schedule.place([(jobs[1], {Lane.POLLS: now})])
        await schedule.schedule.settle(
            Lane.AUDIT, "poll:none:orders", {Lane.AUDIT: None}
        )  # the script is known now
        async with watched(b.redis) as commands:
            asked = await asyncio.gather(
                *(
                    schedule.schedule.settle(
                        Lane.POLLS, job, {Lane.POLLS: now + 60 + at, Lane.SCANS: now + 90}, patient=True
                    )
                    for at, job in enumerate(jobs)
                )
            )
        assert commands.sent == {"EVALSHA": 1}
        assert (asked, woken) == ([False, True, False], [1, 2, 3])
        assert not schedule.schedule.ended.total()
        times = [await b.redis.zscore(POLLS, job) for job in jobs]
        assert times == pytest.approx([now + 60, now + 61, now + 62], abs=0.001)
        assert await b.redis.zscore(SCANS, jobs[2]) == pytest.approx(now + 90, abs=0.001)
        assert schedule.schedule.due[Lane.SCANS] <= now + 90.001


async def test_a_failed_command_fails_every_job_that_it_was_to_settle(
    bench: BenchMaker, redis_url: str
) -> None:
    """So each is tried again, or ends the worker, and none is forgotten; one that is due soon does not wait."""
    async with bench() as b, planned(b.services, redis_url) as schedule:
        await b.redis.set(POLLS, "of another program")
        settled = [
            schedule.schedule.settle(Lane.POLLS, job, {Lane.POLLS: time.time() + 60}, patient=patient)
            for job, patient in (("poll:a:orders", True), ("poll:b:orders", True), ("poll:c:orders", False))
        ]
        errors = await asyncio.gather(*settled, return_exceptions=True)
        assert [type(error) for error in errors] == [ResponseError] * 3
        assert not schedule.schedule.ended.total()


async def test_a_defect_of_ours_leaves_no_job_waiting(
    bench: BenchMaker, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that nobody thought of reaches all of them: one that waited for good would keep its claim for good."""
    async with bench() as b, planned(b.services, redis_url) as schedule:

        async def breaks(**_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(schedule.schedule, "_settle", breaks)
        settled = [
            schedule.schedule.settle(Lane.POLLS, poll_id("default", str(at)), {}, patient=True)
            for at in range(3)
        ]
        async with asyncio.timeout(30):
            errors = await asyncio.gather(*settled, return_exceptions=True)
        assert [type(error) for error in errors] == [ZeroDivisionError] * 3


async def test_jobs_that_are_due_one_after_another_take_one_claim(
    bench: BenchMaker, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the next quarter of a second are claimed with the first one, and none runs before its time."""
    names, claims, claim = list(CAPTURED)[:9], list[list[bytes]](), Schedule.claim

    async def counted(schedule: Schedule, *args: Any, **options: Any) -> list[Claimed]:
        found = await claim(schedule, *args, **options)
        claims.append([each.job for each in found if each.job.startswith(b"poll:")])
        return found

    async with bench(intervals=dict.fromkeys(names, 600.0)) as b, planned(b.services, redis_url) as schedule:
        began = dict[str, float]()

        class Recorded(Polls):
            async def poll(self, source: Captured, **_: Any) -> Run:
                began.setdefault(source.name, b.services.clock.now())
                return await super().poll()

        with_polls(b, Recorded())
        first = time.time() + 3
        for name in names:
            later = {"due_at": first + 500, "failures": 1, "baseline": 1}
            await b.redis.hset(b.account.keys.cursor(name), mapping=later)
        due = {name: first + 0.01 * at for at, name in enumerate(names)}
        await schedule.schedule.place(
            [(poll_id("default", name), {Lane.POLLS: at}) for name, at in due.items()]
        )
        monkeypatch.setattr(Schedule, "claim", counted)
        async with working(b, redis_url):
            await eventually(lambda: len(began) == len(names))
        assert all(began[name] >= due[name] for name in names)
        assert len([each for each in claims if each]) <= 2


async def test_what_a_quiet_poll_has_left_is_what_the_cursor_says(bench: BenchMaker, redis_url: str) -> None:
    """So its next due time is the same with it and with the cursor; after a change the cursor is asked."""
    with SandboxServer(orders=3, contract=ServedContract(since_honoured=True)) as sandbox:
        async with bench(sandbox, probe=True, intervals={"orders": 60.0, "order_audit": 60.0}) as b:
            for source in (ORDERS, AUDIT_LOGS["order_audit"]):
                await b.poll(source)
                await b.poll(source)
                run, cursor = await b.poll(source), b.account.keys.cursor(source.name)
                assert run.left is not None
                assert list(run.left) == await b.redis.hmget(cursor, list(FIELDS))
            sandbox.store.touch(1)
            assert (await b.poll(ORDERS)).left is None
            assert await b.redis.zcard(b.account.keys.refresh_queue("order_audit"))
            assert (await b.poll(AUDIT_LOGS["order_audit"])).left is None


async def test_a_read_by_id_that_is_added_during_a_poll_is_planned(bench: BenchMaker, redis_url: str) -> None:
    """The poll has found its refresh queue empty, and whoever brings it forward meanwhile finds it claimed."""
    async with bench(intervals={"orders": 600.0}) as b, planned(b.services, redis_url) as schedule:
        account = b.account.account
        await schedule.planner.poll_ended(Lane.POLLS, account, "orders", await b.poll())
        await schedule.schedule.place([(ORDERS_JOB, {Lane.POLLS: 1.0})])
        await schedule.schedule.claim(time.time(), {Lane.POLLS: Room(1, {})}, expired=True)
        run = await b.poll()
        assert run.left is not None
        assert float(run.left[0] or 0) > time.time() + 10
        await RefreshQueue(b.redis, b.account.keys, "orders").add([record("a" * 24)])
        await schedule.schedule.place([(ORDERS_JOB, {Lane.POLLS: time.time()})])
        await schedule.planner.poll_ended(Lane.POLLS, account, "orders", run)
        assert float(await b.redis.zscore(POLLS, ORDERS_JOB) or "inf") <= time.time() + 1
