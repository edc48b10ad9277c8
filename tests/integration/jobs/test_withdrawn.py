"""A resource that is no longer polled: its jobs do nothing, and every command tells it from one that is paused."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path

import pytest
import structlog

from jobs.schedule import poll_id
from tests.support.arq_worker import SCANS, working
from tests.support.commands import ordersync
from tests.support.waiting import eventually
from tests.support.worker import Bench, BenchMaker
from worker.admin.clock_checks import check_workers
from worker.app import announce
from worker.capture.registry import NOTES
from worker.capture.state.pauses import Pause, Pauses
from worker.clock import SystemClock
from worker.reporting import reporter
from worker.service import heartbeat

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

    That of an account which another worker may serve is handed back some times before.
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
