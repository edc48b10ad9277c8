"""What is no longer polled: its jobs do nothing, and every command tells a resource from one that is paused."""

from __future__ import annotations

import asyncio
import json
import time
from functools import partial
from pathlib import Path

import msgspec
import pytest
import structlog

from jobs.schedule import Claimed, poll_id, reconcile_id, resync_id, retain_id
from tests.support.arq_worker import SCANS, planned, working
from tests.support.commands import ordersync
from tests.support.waiting import eventually
from tests.support.worker import Bench, BenchMaker, account_for
from worker.admin.clock_checks import check_workers
from worker.app import announce, open_services
from worker.capture.lanes import Lane
from worker.capture.registry import NOTES
from worker.capture.state.pauses import Pause, Pauses
from worker.clock import SystemClock
from worker.reporting import reporter, worker_id
from worker.sandbox import SandboxServer
from worker.service import heartbeat
from worker.service.presence import Presence
from worker.services import OpenAccounts

pytestmark = pytest.mark.anyio

BOTH = {"orders": 1.0, "notes": 1.0}


class StillClock(SystemClock):
    """A clock that stands still; that of Redis, for a moment."""

    def __init__(self) -> None:
        self._at = time.time()

    def now(self) -> float:
        """Return when it was made."""
        return self._at


async def polled_both(b: Bench) -> None:
    """Read orders and notes, as a worker did before the settings were changed."""
    b.adjust(intervals=BOTH)
    await b.poll()
    await b.poll(NOTES)
    b.adjust(intervals=b.account.account.intervals)


async def test_a_job_of_a_withdrawn_resource_does_nothing(
    bench: BenchMaker, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is dropped, which is said once, and nothing is read. So is a job of an account that nobody serves any more.

    Another worker may poll it, so it is handed back some times before.
    """
    monkeypatch.setattr("jobs.lane_worker.ELSEWHERE_SECONDS", 0.0)
    async with bench(probe=True) as b:
        jobs = [poll_id("default", "notes"), poll_id("elsewhere", "orders"), "resync:elsewhere:orders:x"]
        with structlog.testing.capture_logs() as lines:
            async with working(b, redis_url):
                for _ in range(2):
                    await b.redis.zadd(SCANS, dict.fromkeys(jobs, 1.0))
                    await eventually(partial(_are_gone, b, jobs))
        dropped = [line for line in lines if line["event"] == "poll_dropped"]
        assert sorted((line["account"], line["resource"]) for line in dropped) == [
            ("default", "notes"),
            ("elsewhere", "orders"),
        ]
        assert await b.events("notes") == []
        assert not await b.redis.exists(b.account.keys.cursor("notes"))


async def _are_gone(b: Bench, jobs: list[str]) -> bool:
    return bool(await b.redis.zmscore(SCANS, jobs) == [None] * len(jobs))


async def test_what_another_worker_polls_is_handed_back(
    bench: BenchMaker, sandbox: SandboxServer, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often, as while a new version of the settings is deployed; once that worker has left, it is dropped."""
    monkeypatch.setattr("jobs.lane_worker.ELSEWHERE_SECONDS", 0.0)
    monkeypatch.setattr("jobs.lane_worker.ORPHANED_TRIES", 3)
    others = [
        msgspec.structs.replace(account_for(sandbox), intervals=BOTH),
        account_for(sandbox, "elsewhere"),
    ]
    jobs = [poll_id("default", "notes"), poll_id("elsewhere", "orders"), retain_id("elsewhere")]
    async with bench(probe=True) as b, open_services(others, redis_url, SystemClock()) as other:
        report = reporter(other)
        await report()
        async with working(b, redis_url) as worker:
            await eventually(lambda: worker.jobs_complete)
            before = worker._schedule._turns[Lane.SCANS]
            await b.redis.zadd(SCANS, dict.fromkeys(jobs, 1.0))

            async def are_looked_at() -> bool:
                await report()
                return worker._schedule._turns[Lane.SCANS] - before > 10 * len(jobs)

            await eventually(are_looked_at)
            assert None not in await b.redis.zmscore(SCANS, jobs)
            assert not b.services.withdrawn
            for name in other.configured:
                await Presence(b.redis, other.keys.of(name)).leave(worker_id())
            await eventually(partial(_are_gone, b, jobs))


async def test_an_account_that_is_removed_when_its_job_begins(bench: BenchMaker, redis_url: str) -> None:
    """A job is claimed some time ahead: then it is handed back, and nothing is said of a defect."""
    async with bench(probe=True) as b:
        assert isinstance(b.services.accounts, OpenAccounts)
        jobs = [
            (Lane.POLLS, poll_id("default", "orders")),
            (Lane.RESYNCS, resync_id("default", "orders", "x")),
            (Lane.RECONCILE, reconcile_id("default")),
            (Lane.RETENTION, retain_id("default")),
        ]
        async with working(b, redis_url) as worker:
            await eventually(lambda: worker.jobs_complete and not worker._running)
            b.services.accounts.configure([])
            with structlog.testing.capture_logs() as lines:
                for lane, job in jobs:
                    name, claimed = f"{lane}/{job}", Claimed(lane, job.encode(), 0.0)
                    worker._running[name], (kind, *arguments) = claimed, job.split(":", 3)
                    await worker._run(name, claimed, kind, arguments)
            assert [line["event"] for line in lines] == []
            assert set(worker._elsewhere) >= {job.encode() for _, job in jobs}


async def test_accounts_that_are_removed_while_all_are_planned(
    bench: BenchMaker, sandbox: SandboxServer, redis_url: str
) -> None:
    """It takes a while to plan many accounts. The others are planned all the same."""
    async with bench(probe=True) as b, planned(b.services, redis_url) as schedule:
        assert isinstance(b.services.accounts, OpenAccounts)
        accounts = [account_for(sandbox, name) for name in ("default", "second", "third")]
        b.services.accounts.configure(accounts)
        planning = asyncio.ensure_future(schedule.planner.plan(b.services.configured))
        await asyncio.sleep(0)  # it waits for Redis
        b.services.accounts.configure(accounts[:2])
        await planning
        assert {"scans/poll:default:orders", "scans/poll:second:orders"} <= set(await schedule.listed())


async def test_status_and_health_name_it(bench: BenchMaker, redis_url: str, tmp_path: Path) -> None:
    """Withdrawn, not failing, although nothing reads it any more; a paused one is paused."""
    async with bench(probe=True) as b:
        await announce(b.services)
        await polled_both(b)
        await Pauses(b.redis, b.account.keys).begin([Pause("orders", "moving", "ops", 0.0)])
        beats = await reporter(b.services)()
        assert {beat.resource: beat.health for beat in beats} == {"orders": "paused", "notes": "withdrawn"}
        done = ordersync("status", "--json", cwd=tmp_path, redis__url=redis_url)
        rows = {row["resource"]: row for row in json.loads(done.stdout)}
        assert {name: row["health"] for name, row in rows.items()} == {
            "orders": "paused",
            "notes": "withdrawn",
        }
        assert "ORDERSYNC_POLL__INTERVALS" in rows["notes"]["cause"]
        assert rows["notes"]["workers"][0]["resources"] == ["orders"]
        beat = heartbeat.Beat("w", 1, b.services.clock.now(), 0.0, beats)
        heartbeat.write(tmp_path, beat)
        health = ordersync("health", cwd=tmp_path, data_dir=str(tmp_path))
        assert health.returncode == 0
        assert "default/notes: the settings of the workers do not poll it any more" in health.stdout


async def test_commands_that_name_it_say_so(bench: BenchMaker, redis_url: str, tmp_path: Path) -> None:
    """A pause and a resync do as they are told, and say what they do not do; a misspelt name is refused."""
    async with bench(probe=True) as b:
        await announce(b.services)
        await reporter(b.services)()
        paused = ordersync("pause", "notes", "orders", "--reason", "x", cwd=tmp_path, redis__url=redis_url)
        assert paused.returncode == 0
        assert (
            paused.stderr == "default/notes is not polled by any live worker, so there is no read to pause\n"
        )
        asked = ordersync("resync", "notes", "--all", cwd=tmp_path, redis__url=redis_url)
        assert asked.returncode == 0
        assert asked.stderr.startswith(
            "default/notes is not polled by any live worker: the resync reads it once"
        )
        shown = ordersync("status", "--json", cwd=tmp_path, redis__url=redis_url)
        (notes,) = [row for row in json.loads(shown.stdout) if row["resource"] == "notes"]
        assert (notes["health"], notes["resyncs"][0]["state"]) == ("paused", "waiting")
        assert ordersync("resume", "notes", cwd=tmp_path, redis__url=redis_url).returncode == 0
        shown = ordersync("status", "--json", cwd=tmp_path, redis__url=redis_url)
        (notes,) = [row for row in json.loads(shown.stdout) if row["resource"] == "notes"]
        assert notes["cause"].startswith("no worker polls it; add it to ORDERSYNC_POLL__INTERVALS")
        for command in (("pause", "note", "--reason", "x"), ("resync", "note", "--all")):
            wrong = ordersync(*command, cwd=tmp_path, redis__url=redis_url)
            assert wrong.returncode == 2
            assert "'note'" in wrong.stderr


async def test_hosts_whose_clocks_differ_are_named(
    bench: BenchMaker, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status says which host, by how much, and that nothing is missed by it."""
    async with bench() as b:
        await announce(b.services)
        await b.poll()
        report, real = reporter(b.services), time.time
        b.services.clock = StillClock()
        with monkeypatch.context() as ahead:
            ahead.setattr(time, "time", lambda: real() + 300)
            await report()
        shown = ordersync("status", cwd=tmp_path, redis__url=redis_url).stdout
        assert "is 300 s ahead of that of Redis; nothing is missed" in shown
        (finding,) = [each async for each in check_workers(b.redis, b.account.keys)]
        assert (finding.level.value, "is 300 s ahead of that of Redis" in finding.text) == ("warning", True)
        await report()
        assert [each async for each in check_workers(b.redis, b.account.keys)] == []


async def test_a_time_in_the_future_is_not_fresh(bench: BenchMaker, redis_url: str, tmp_path: Path) -> None:
    """The issue's input: neither healthy, nor fresh for a negative number of seconds."""
    async with bench() as b:
        await announce(b.services)
        await b.poll()
        ahead = b.services.clock.now() + 3000
        names = ("last_success", "last_started", "fresh_as_of")
        fields = {"due_at": ahead + 1, **dict.fromkeys(names, ahead)}
        await b.redis.hset(b.account.keys.cursor("orders"), mapping=fields)
        (beat,) = await reporter(b.services)()
        assert (beat.health, "put back" in beat.cause) == ("degraded", True)
        (row,) = json.loads(ordersync("status", "--json", cwd=tmp_path, redis__url=redis_url).stdout)
        assert (row["health"], row["fresh_s"]) == ("degraded", None)
        await b.poll()
        (beat,) = await reporter(b.services)()
        assert beat.health == "ok"
        assert (await b.cursor()).fresh_as_of <= b.services.clock.now()


def test_a_heartbeat_of_the_future_is_none() -> None:
    """The host's clock was put back, and the worker may have died since."""
    beat = beat_at(1000.0)
    assert heartbeat.diagnose(beat, 1001.0) == []
    assert "put back" in heartbeat.diagnose(beat, 900.0)[0]


def beat_at(at: float) -> heartbeat.Beat:
    return heartbeat.Beat("w-1", 1, at, 0.0)
