"""A full Redis: polls, jobs and daemons say so, lose nothing by it, and carry on when there is room."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import redis
import redis.exceptions

from jobs.worker import make_worker
from tests.support.arq_worker import POLLS, working
from tests.support.commands import ordersync
from tests.support.logged import LogReader
from tests.support.pressure import check_published, under
from tests.support.programs import Program, login_settings
from tests.support.servers import Server
from tests.support.streams import STREAM
from tests.support.tools import server_program
from tests.support.waiting import eventually
from tests.support.worker import BenchMaker
from worker.cancellation import end
from worker.capture.health import Health, judge
from worker.capture.poll import Poller
from worker.capture.state.commit import Commit
from worker.capture.state.run import Outcome, Run
from worker.keys import Keys
from worker.reporting import reporter
from worker.sandbox import SandboxServer
from worker.service import heartbeat

pytestmark = pytest.mark.anyio


async def test_full_is_an_outcome(bench: BenchMaker, own_server: Server, told: LogReader) -> None:
    """A commit that is refused: the cursor stays, what is noted says what to do, and the next poll carries on."""
    async with bench(url=own_server.url, page_size=10) as b:
        under(b)
        calls = []
        commit = b.store.__class__.commit

        async def full_at_the_third(store: Any, what: Commit) -> bool:
            calls.append(len(what.changes))
            if len([each for each in calls if each]) == 3 and what.changes:
                await b.redis.config_set("maxmemory", 1)
                try:
                    return bool(await commit(store, what))
                finally:
                    await b.redis.config_set("maxmemory", 0)
            return bool(await commit(store, what))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("worker.capture.state.store.StateStore.commit", full_at_the_third)
            run = await b.poll()
        assert (run.outcome, run.error_code, run.pages) == (Outcome.FAILED, "redis_full", 2)
        cursor = await b.cursor()
        assert (cursor.error_code, cursor.failures, cursor.scan.page) == ("redis_full", 1, 2)
        assert "CONFIG SET maxmemory" in cursor.error
        assert 5 <= cursor.due_at - cursor.last_started <= 5 + b.services.clock.now() - cursor.last_started
        assert judge(cursor, b.services.clock.now() + 100).health is Health.DEGRADED
        assert len(await b.events()) == 20
        run = await b.poll()
        assert (run.outcome, run.pages) == (Outcome.COMPLETE, 4)
        assert (await b.cursor()).failures == 0
        assert sorted(event.sequence for event in await b.events()) == list(range(1, 51))
    assert [line["error_code"] for line in told("poll_failed")] == ["redis_full"]


async def test_the_report_of_a_full_redis(bench: BenchMaker, own_server: Server) -> None:
    """Degraded, with the cause, also where not even the cursor could be written: a restart would not help."""
    async with bench(url=own_server.url) as b:
        report = reporter(b.services)
        assert [beat.health for beat in await report()] == ["starting"]
        await b.redis.config_set("maxmemory", 1)
        (beat,) = await report()
        assert beat.health == "degraded"
        assert "Redis is full" in beat.cause


@pytest.fixture(params=["embedded", "redis-server"])
def small_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server of 8 MB."""
    binary = server_program(request.param)
    server = Server(tmp_path, binary, "--maxmemory", "8mb", "--maxmemory-policy", "noeviction")
    server.start()
    yield server
    server.stop(kill=True)


async def test_a_tick_finds_no_room(bench: BenchMaker, own_server: Server, told: LogReader) -> None:
    """It is told by the worker, not by a trace for each tick; the next one does the same."""
    async with bench(url=own_server.url) as b:
        polls = FillsRedis(b.redis)
        b.services.accounts = {"default": replace(b.account, poller=cast("Poller", polls))}
        await b.redis.config_set("maxmemory", 1)
        async with working(b, own_server.url):
            await eventually(lambda: told("redis_full"))
            assert (polls.calls, await b.redis.zcard(POLLS)) == (0, 0)
            await b.redis.config_set("maxmemory", 0)
            await eventually(lambda: polls.calls)


class FillsRedis:
    """Stands in for the poller: while it works Redis gets full."""

    def __init__(self, client: Any) -> None:
        self.calls, self._client = 0, client

    async def poll(self, *_: Any, **__: Any) -> Run:
        """The first one leaves a full Redis behind."""
        self.calls += 1
        if self.calls == 1:
            await self._client.config_set("maxmemory", 1)
        return Run("run", "default", "orders", "sweep", "poll", 0.0, 0.0)


async def test_a_job_ends_when_redis_is_full(
    bench: BenchMaker, small_server: Server, told: LogReader
) -> None:
    """Its end cannot be noted: Redis 7.0 refuses transactions as a whole. The worker lives on, the job is not stuck."""
    async with bench(url=small_server.url) as b:
        polls = FillsRedis(b.redis)
        b.services.accounts = {"default": replace(b.account, poller=cast("Poller", polls))}
        worker = make_worker(small_server.url, b.services, "test-1")
        task = asyncio.ensure_future(worker.async_run())
        try:
            await eventually(lambda: told("redis_full"))
            assert polls.calls == 1
            await b.redis.config_set("maxmemory", 0)
            await eventually(lambda: polls.calls >= 2)
            await eventually(lambda: told("redis_has_room"))
            assert not task.done()
        finally:
            await end(task)
            with contextlib.suppress(asyncio.CancelledError):
                await worker.close()


@pytest.fixture
def many() -> Iterator[SandboxServer]:
    """More orders than 8 MB hold."""
    with SandboxServer(orders=3500) as server:
        yield server


def beat_of(program: Program) -> heartbeat.Beat | None:
    return heartbeat.newest(Path(program._settings["data_dir"]))


def says_it_is_degraded(program: Program) -> bool:
    """Whether the heartbeat says so of the orders, and tells the cause."""
    beat = beat_of(program)
    return bool(
        beat and not beat.problem and [each.health for each in beat.resources] == ["degraded"]
        and "Redis is full" in beat.resources[0].cause
    )  # fmt: skip


async def test_a_daemon_outlives_a_full_redis(
    small_server: Server, many: SandboxServer, tmp_path: Path
) -> None:
    """It fills in the middle of the first read. The worker stays, tells it, and carries on when there is room.

    No mark holds it back here, so that Redis is really full: first there is no room for a page, then none for
    anything, such as a job of arq's. Nothing is missing in the end, and nothing twice.
    """
    settings = login_settings(many, small_server.url, tmp_path / "data", backpressure__memory="0")
    with Program(tmp_path, **settings) as program, redis.Redis.from_url(small_server.url) as client:
        failed = await program.logged("poll_failed")
        assert failed["error_code"] == "redis_full"
        assert 0 < client.xlen(STREAM) < 3500
        await eventually(lambda: says_it_is_degraded(program))
        client.config_set("maxmemory", "1mb")
        await program.logged("redis_full")
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            client.set("x", "y")

        full_since = time.time()
        await eventually(lambda: (beat := beat_of(program)) and beat.at > full_since + 5)
        assert says_it_is_degraded(program)
        healthy = ordersync("health", cwd=tmp_path, data_dir=str(tmp_path / "data"))
        assert healthy.returncode == 0
        assert healthy.stdout.startswith("healthy\ndefault/orders: Redis is full")
        status = ordersync("status", cwd=tmp_path, redis__url=small_server.url).stdout
        assert "degraded: Redis is full" in status

        client.config_set("maxmemory", "200mb")
        await eventually(lambda: len(program.logs("redis_has_room")) == len(program.logs("redis_full")))
        await eventually(lambda: client.xlen(STREAM) == 3500)
        await eventually(lambda: int(client.hget(Keys("default").cursor("orders"), "baseline") or 0))
        check_published(client, many)
        many.store.change(1, status="Fulfilled")
        await eventually(lambda: client.xlen(STREAM) == 3501)
        await eventually(lambda: not says_it_is_degraded(program))
        program.process.terminate()
        assert await program.ended() == 0
        told = Counter(line["event"] for line in program.logs())
        assert told["worker_started"] == 1
        assert not {"queue_lost", "worker_failed", "poll_crashed"} & set(told)
        # Once each time: there may have been room for a while, between no room for a page and none for anything; how
        # often is a matter of how fast the machine is.
        assert told["redis_full"] == told["redis_has_room"] >= 1
        minutes = (time.time() - full_since) // 60
        assert told["poll_failed"] <= 2 + minutes  # the same failure is told once a minute
        assert not [line for line in program.logs() if "exception" in line or line["level"] == "critical"]


async def test_a_daemon_pauses_before_redis_is_full(
    small_server: Server, many: SandboxServer, tmp_path: Path
) -> None:
    """With the marks as they are by default nothing is refused; retention makes room, or more memory does."""
    settings = login_settings(many, small_server.url, tmp_path / "data", api__page_size="50")
    with redis.Redis.from_url(small_server.url) as client:
        # A tenth of it must hold the page under way: as it comes, in the buffers of its connection, as it is kept.
        client.config_set("maxmemory", "12mb")
    with Program(tmp_path, **settings) as program, redis.Redis.from_url(small_server.url) as client:
        line = await program.logged("backpressure_on")
        assert line["maxmemory"] == 12 << 20
        assert "of its maxmemory" in line["cause"]
        client.set("x", "y" * 10_000)
        status = json.loads(ordersync("status", "--json", cwd=tmp_path, redis__url=small_server.url).stdout)
        (row,) = status
        assert (row["health"], row["paused"]) == ("degraded", None)  # nobody has paused it
        assert "of its maxmemory" in row["backpressure"]["cause"]
        assert ordersync("health", cwd=tmp_path, data_dir=str(tmp_path / "data")).returncode == 0
        client.config_set("maxmemory", "200mb")
        await eventually(lambda: client.xlen(STREAM) == 3500)
        await program.logged("backpressure_off")
        check_published(client, many)
        assert not program.logs("redis_full")
        assert not program.logs("poll_failed")
        program.process.terminate()
        assert await program.ended() == 0


@pytest.mark.slow
async def test_retention_makes_room_in_a_full_redis(
    small_server: Server, many: SandboxServer, tmp_path: Path
) -> None:
    """No job can be queued then; the worker trims all the same, what every group has taken, and carries on."""
    settings = login_settings(
        many, small_server.url, tmp_path / "data", backpressure__memory="0", retention__max_entries="100",
        retention__every="86400", events__groups='{"warehouse": ["orders"]}',
    )  # fmt: skip
    taken: list[bytes] = []
    with Program(tmp_path, **settings) as program, redis.Redis.from_url(small_server.url) as client:

        def consume(enough: int) -> bool:
            for _, entries in client.xreadgroup("warehouse", "c", {STREAM: ">"}, count=100):
                taken.extend(fields[b"subject"] for _, fields in entries)
                client.xack(STREAM, "warehouse", *[entry_id for entry_id, _ in entries])
            return len(taken) >= enough

        await program.logged("poll_failed")
        await program.logged("retention_held_back")
        client.config_set("maxmemory", client.info("memory")["used_memory"] - 1_000_000)
        await program.logged("redis_full")
        assert not program.logs("stream_trimmed")
        before = client.xlen(STREAM)
        await eventually(lambda: consume(before))
        await program.logged("stream_trimmed")
        await program.logged("redis_has_room")
        await eventually(lambda: consume(3500))
        assert len(program.logs("worker_started")) == 1
        program.process.terminate()
        assert await program.ended() == 0
    assert Counter(each.decode() for each in taken) == Counter(many.store.truth().keys())


async def test_a_daemon_starts_with_a_full_redis(
    sandbox: SandboxServer, own_server: Server, tmp_path: Path
) -> None:
    """It does not end, which would be a restart loop of its supervisor; `run --once` says it and ends with 3."""
    settings = login_settings(sandbox, own_server.url, tmp_path / "data", events__groups='{"a": ["orders"]}')
    with redis.Redis.from_url(own_server.url) as client:
        client.config_set("maxmemory", 1)
        done = ordersync("run", "--once", cwd=tmp_path, **settings)
        assert done.returncode == 3
        assert "maxmemory" in done.stderr
        with Program(tmp_path, **settings) as program:
            await program.logged("worker_started")
            await program.logged("redis_full", times=2)
            client.config_set("maxmemory", 0)
            await eventually(lambda: client.xlen(STREAM) == 50)
            check_published(client, sandbox)
            await eventually(lambda: client.xinfo_groups(STREAM))
            assert len(program.logs("worker_started")) == 1
