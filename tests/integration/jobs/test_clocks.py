"""Clocks that were wrong when something was written, that differ between hosts, and that are put back or on."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
import structlog

from jobs.schedule import CLAIM_SECONDS, CLAIMED, Room
from tests.support.arq_worker import LANES, ORDERS_JOB, POLLS, planned, working
from tests.support.paths import ROOT
from tests.support.programs import Program, login_settings
from tests.support.waiting import eventually
from tests.support.worker import BenchMaker
from worker.capture.lanes import Lane
from worker.capture.resync.requests import ResyncRequest
from worker.sandbox import SandboxServer
from worker.service import heartbeat

pytestmark = pytest.mark.anyio

CURSOR = "ordersync:{default}:cursor:orders"
STREAM = "ordersync:{default}:stream:orders"
HOUR = 3600.0


class Host:
    """A host whose clock is ahead by so many seconds, and can be set; it runs the daemon."""

    def __init__(self, folder: Path, ahead: float, **settings: str) -> None:
        self._folder, self._file, self._settings = folder, folder / f"ahead-{id(self)}", settings
        self.set(ahead)

    def set(self, ahead: float) -> None:
        """Set its clock."""
        new = self._file.with_suffix(".new")
        new.write_text(str(ahead))
        new.replace(self._file)

    def daemon(self) -> Program:
        """The daemon on this host."""
        command = (sys.executable, "-m", "tests.support.shifted_clock", str(self._file), "run")
        return Program(self._folder, *command, **self._settings)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs find the modules of the tests."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


async def test_times_of_a_clock_that_was_ahead_do_not_stop_polling(
    redis_url: str, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """A life whose clock was 50 minutes ahead: the next one reads at once, and does not call the data fresh."""
    values = login_settings(sandbox, redis_url, tmp_path)
    with Program(tmp_path, **values) as first:
        await first.logged("poll_done")
    with redis.Redis.from_url(redis_url) as client:
        ahead = time.time() + 3000
        names = ("last_success", "last_started", "fresh_as_of")
        client.hset(CURSOR, mapping={"due_at": ahead + 1, **dict.fromkeys(names, ahead)})
        sandbox.store.change(3)
        with Program(tmp_path, **values):
            await eventually(lambda: int(client.xlen(STREAM)) >= 53)
            await eventually(lambda: float(client.hget(CURSOR, "fresh_as_of")) <= time.time())


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("ahead", [300.0, -300.0])
async def test_hosts_whose_clocks_differ_take_turns(
    redis_url: str, sandbox: SandboxServer, tmp_path: Path, ahead: float
) -> None:
    """A host that is off by five minutes is killed in the middle of its work; the other one goes on at once."""
    values = login_settings(sandbox, redis_url, tmp_path)
    with redis.Redis.from_url(redis_url) as client:
        with Host(tmp_path, ahead, **values).daemon() as first:
            await eventually(lambda: int(client.xlen(STREAM)) >= 50)
            assert float(client.hget(CURSOR, "last_started")) == pytest.approx(time.time(), abs=100)
            first.process.kill()
        sandbox.store.change(3)
        with Host(tmp_path, 0, **values).daemon():
            await eventually(lambda: int(client.xlen(STREAM)) >= 53)
        entries = client.xrange(STREAM)
        assert len({fields[b"id"] for _, fields in entries}) == len(entries) == 53


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("moved", [-HOUR, HOUR])
async def test_a_daemon_whose_clock_is_set_goes_on(
    redis_url: str, sandbox: SandboxServer, tmp_path: Path, moved: float
) -> None:
    """Put back or on by an hour while it runs: changes are published as before, and nothing runs in a loop.

    The log and the heartbeat say by how much the clock is off.
    """
    host = Host(tmp_path, 0, **login_settings(sandbox, redis_url, tmp_path))
    with redis.Redis.from_url(redis_url) as client, host.daemon() as daemon:
        await eventually(lambda: int(client.xlen(STREAM)) >= 50)
        host.set(moved)
        for turn in range(2):
            published = 53 + 3 * turn
            sandbox.store.change(3)
            await eventually(partial(_has_grown, client, published))
        polls = len(daemon.logs("poll_done"))
        began = time.monotonic()
        await daemon.logged("poll_done", times=polls + 3)
        assert time.monotonic() - began > 1  # with an interval of a second
        line = await daemon.logged("host_clock_off")
        assert abs(line["host_offset_s"] - moved) < 10
        beat = heartbeat.newest(tmp_path)
        assert beat is not None
        assert abs(beat.clock_offset - moved) < 10


def _has_grown(client: Any, entries: int) -> bool:
    return bool(client.xlen(STREAM) >= entries)


async def test_what_was_planned_by_a_clock_that_was_put_back_is_due(
    bench: BenchMaker, redis_url: str
) -> None:
    """A job, and a read by id, that wait for an hour more than they were to: a tick brings both forward."""
    async with bench() as b, planned(b.services, redis_url) as schedule:
        await b.poll()
        await schedule.tick.run(lost=False)
        now = time.time()
        fields = dict.fromkeys(("due_at", "last_started"), now + HOUR)
        await b.redis.hset(b.account.keys.cursor("orders"), mapping=fields)
        await b.redis.zadd(POLLS, {ORDERS_JOB: now + HOUR})
        await b.redis.zadd(b.account.keys.refresh_queue("orders"), {"id:x": now + HOUR + 100})
        await schedule.tick.run(lost=False)
        assert f"polls/{ORDERS_JOB}" not in await schedule.listed()
        await b.redis.hset(b.services.keys.clock, "seen", now + HOUR)
        await schedule.tick.run(lost=False)
        assert f"polls/{ORDERS_JOB}" in await schedule.listed()
        score = await b.redis.zscore(b.account.keys.refresh_queue("orders"), "id:x")
        assert score == pytest.approx(now + 100, abs=20)


async def test_a_job_that_waits_keeps_its_place(bench: BenchMaker, redis_url: str) -> None:
    """Planned again it is not put behind those that came after it, and a job that is claimed stays claimed."""
    async with bench() as b, planned(b.services, redis_url) as schedule:
        for at, name in enumerate(("first", "second", "first")):
            await schedule.schedule.place([(name, {Lane.POLLS: 100.0 + at})])
        assert await b.redis.zrange(POLLS, 0, -1) == [b"first", b"second"]
        room = {Lane.POLLS: Room(1, {})}
        (claimed,) = await schedule.schedule.claim(200.0, room, expired=True)
        assert (claimed.job, claimed.due_at) == (b"first", 100.0)
        assert schedule.schedule.due[Lane.POLLS] == 101.0  # there is more, and no room
        await schedule.schedule.place([("first", {Lane.POLLS: 1.0}), ("second", {Lane.POLLS: None})])
        assert await schedule.schedule.claim(201.0, room, expired=True) == []
        assert schedule.schedule.due[Lane.POLLS] == float("inf")
        (again,) = await schedule.schedule.claim(200.0 + CLAIM_SECONDS + 1, room, expired=True)
        assert again.job == b"first"


async def test_a_renewal_leaves_a_job_alone_that_has_ended(bench: BenchMaker, redis_url: str) -> None:
    """It was sent while the job ended: else that would be due only when the claim has expired."""
    async with bench() as b, planned(b.services, redis_url) as schedule:
        for name in ("ended", "gone", "runs"):
            await schedule.schedule.place([(name, {Lane.POLLS: 100.0})])
        jobs = await schedule.schedule.claim(200.0, {Lane.POLLS: Room(3, {})}, expired=True)
        await schedule.schedule.settle(Lane.POLLS, "ended", {Lane.POLLS: 205.0})
        await schedule.schedule.settle(Lane.POLLS, "gone", {})
        await schedule.schedule.renew(202.0, jobs)
        scores = await b.redis.zrange(POLLS, 0, -1, withscores=True)
        assert scores == [(b"ended", 205.0), (b"runs", CLAIMED + 202.0 + CLAIM_SECONDS)]


async def test_a_job_that_runs_is_known_to_be_asked_for(bench: BenchMaker, redis_url: str) -> None:
    """Also after its claim was renewed; a claim that expires does so at its time, and the next one is a new one."""
    async with bench() as b, planned(b.services, redis_url) as schedule:
        one, room = schedule.schedule, {Lane.POLLS: Room(2, {})}
        for name in ("asked", "quiet"):
            await one.place([(name, {Lane.POLLS: 100.0})])
        jobs = await one.claim(200.0, room, expired=True)
        await one.place([("asked", {Lane.POLLS: 150.0}), ("quiet", {Lane.POLLS: None})])
        await one.renew(202.0, jobs)
        await one.place([("asked", {Lane.POLLS: 150.0})])
        assert await one.claim(202.0 + CLAIM_SECONDS - 0.01, room, expired=True) == []
        assert await one.settle(Lane.POLLS, "asked", {Lane.POLLS: 260.0})
        assert not await one.settle(Lane.POLLS, "quiet", {Lane.POLLS: 260.0})
        assert await b.redis.zrange(POLLS, 0, -1, withscores=True) == [(b"asked", 260.0), (b"quiet", 260.0)]
        await one.claim(300.0, room, expired=True)
        await one.place([("asked", {Lane.POLLS: 150.0})])
        assert len(await one.claim(300.0 + CLAIM_SECONDS + 0.01, room, expired=True)) == 2
        assert not await one.settle(Lane.POLLS, "asked", {Lane.POLLS: 400.0})


async def test_a_schedule_that_is_lost_is_planned_anew(bench: BenchMaker, redis_url: str) -> None:
    """Redis came back without it: the next tick has every job of every account in it again."""
    async with bench() as b, working(b, redis_url):
        await eventually(lambda: b.redis.zcard(LANES[Lane.RETENTION]))
        await b.redis.delete(*LANES.values())
        await eventually(lambda: b.redis.zcard(LANES[Lane.RETENTION]))
        await eventually(lambda: b.redis.zscore(POLLS, ORDERS_JOB))


async def test_a_job_that_ends_does_not_hide_that_the_schedule_is_lost(
    bench: BenchMaker, redis_url: str
) -> None:
    """Redis lost it while a retention pass ran, whose end puts that job back: the polls are planned all the same."""
    async with bench() as b, planned(b.services, redis_url) as schedule:
        await schedule.tick.run(lost=False)
        await b.redis.delete(b.services.keys.planned, *LANES.values())
        await schedule.planner.retain_ended(b.account.account, done=True)
        assert f"scans/{ORDERS_JOB}" not in await schedule.listed()
        await schedule.tick.run(lost=False)
        assert f"scans/{ORDERS_JOB}" in await schedule.listed()


async def test_the_proof_begins_after_the_scan_that_ends_the_first_ones(
    bench: BenchMaker, redis_url: str
) -> None:
    """Also if that scan was one of the polls, as when the first one could not know that it was complete."""
    async with bench() as b, planned(b.services, redis_url) as schedule:
        run = await b.poll()
        await schedule.planner.poll_ended(Lane.POLLS, b.account.account, "orders", run)
        assert "reconcile/reconcile:default" in await schedule.listed()


async def test_a_change_that_nobody_was_told_of_is_found(
    bench: BenchMaker, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slow pass over all accounts finds a pause and a resync, if only later."""
    monkeypatch.setattr("jobs.tick.REPAIR_SECONDS", 2.0)
    async with bench() as b, planned(b.services, redis_url) as schedule:
        await schedule.tick.run(lost=False)
        await b.account.resyncer.resyncs.create(ResyncRequest(resource="orders", all=True), time.time(), "r1")
        await b.redis.delete(b.services.keys.changes)
        await schedule.tick.run(lost=False)
        assert "resyncs/resync:default:orders:r1" not in await schedule.listed()
        await schedule.tick.run(lost=False)
        assert "resyncs/resync:default:orders:r1" in await schedule.listed()


async def test_a_tick_that_fails_is_said_and_goes_on(bench: BenchMaker, redis_url: str) -> None:
    """A key of a wrong type is no reason to end the worker: the tick says so, and the next one tries again."""
    async with bench() as b:
        resyncs = b.account.keys.open_resyncs
        await b.redis.set(resyncs, "in the way")
        with structlog.testing.capture_logs() as lines:
            async with working(b, redis_url):
                await eventually(lambda: any(line["event"] == "tick_failed" for line in lines))
                await b.redis.delete(resyncs)
                await eventually(lambda: b.redis.xlen(b.account.keys.runs))
