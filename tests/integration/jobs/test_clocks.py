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
from arq.constants import in_progress_key_prefix

from jobs.poll import job_id
from jobs.queue import IN_PROGRESS_SECONDS, enqueue
from tests.support.arq_worker import QUEUE, queue_of, working
from tests.support.paths import ROOT
from tests.support.programs import Program, login_settings
from tests.support.waiting import eventually
from tests.support.worker import BenchMaker
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio

CURSOR = "ordersync:{default}:cursor:orders"
STREAM = "ordersync:{default}:stream:orders"
JOB = job_id(QUEUE, "default", "orders")
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
    """Put back or on by an hour while it runs: changes are published as before, and nothing runs in a loop."""
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


def _has_grown(client: Any, entries: int) -> bool:
    return bool(client.xlen(STREAM) >= entries)


@pytest.mark.parametrize("ahead", [HOUR, 20.0])
async def test_a_job_that_was_put_off_is_brought_forward(
    bench: BenchMaker, redis_url: str, ahead: float
) -> None:
    """A worker whose clock was ahead has put it off, and died; its mark was to end by that clock as well."""
    async with bench() as b, queue_of(b, redis_url) as queue:
        now = b.services.clock.now()
        assert await enqueue(queue, QUEUE, JOB, "poll", "default", "orders", now=now)
        await b.redis.zadd(QUEUE, {JOB: (now + ahead) * 1000})
        await b.redis.psetex(in_progress_key_prefix + JOB, int((ahead + 8) * 1000), b"1")
        async with working(b, redis_url):
            await eventually(lambda: b.redis.xlen(b.account.keys.runs))
        assert len(await b.events()) == 50


async def test_a_job_that_waits_keeps_its_place(bench: BenchMaker, redis_url: str) -> None:
    """Enqueued again it is not moved behind those that came after it, and a mark in force is left alone."""
    async with bench() as b, queue_of(b, redis_url) as queue:
        for at, name in enumerate(("first", "second", "first")):
            await enqueue(queue, QUEUE, name, "poll", "default", "orders", now=1e9 + at)
        assert await b.redis.zrange(QUEUE, 0, -1) == [b"first", b"second"]
        mark = f"{in_progress_key_prefix}first"
        await b.redis.psetex(mark, int(IN_PROGRESS_SECONDS * 1000), b"1")
        await enqueue(queue, QUEUE, "first", "poll", "default", "orders", now=1e9)
        assert await b.redis.pttl(mark) > IN_PROGRESS_SECONDS * 1000 - 2000


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
