"""Backpressure: polling waits for consumers and for Redis, says so, goes on by itself, and loses nothing by it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import redis
import redis.exceptions

from jobs.worker import make_worker
from tests.support.arq_worker import POLLS, working
from tests.support.commands import ordersync
from tests.support.programs import Program, login_settings
from tests.support.servers import Server
from tests.support.streams import STREAM, Writer
from tests.support.tools import server_program
from tests.support.waiting import eventually
from tests.support.worker import Bench, BenchMaker, account_for, know_contract
from worker.app import open_services
from worker.cancellation import end
from worker.capture.health import Health, judge
from worker.capture.lanes import seconds_until_due
from worker.capture.poll import Poller
from worker.capture.state.commit import Commit
from worker.capture.state.run import Outcome, Run
from worker.clock import SystemClock
from worker.keys import Keys
from worker.queue.backpressure import Backpressure, HighWaterMarks
from worker.redis.connections import answer
from worker.reporting import reporter
from worker.sandbox import SandboxServer
from worker.service import heartbeat
from worker.telemetry import log as logs

pytestmark = pytest.mark.anyio

Told = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def told() -> Told:
    """The lines of the log with this event."""
    stream = io.StringIO()
    logs.configure("json", "debug", stream)

    def look(event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in stream.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]

    return look


def under(b: Bench, **marks: Any) -> Poller:
    """The poller of the bench, under these marks."""
    b.account.poller.context.backpressure = Backpressure(
        b.account.groups, HighWaterMarks(**marks), b.services.clock
    )
    return b.account.poller


async def take(b: Bench, count: int) -> None:
    """Group `slow` reads and acknowledges."""
    await b.redis.xack(STREAM, "slow", *await Writer(b.redis).read("slow", count))


async def test_a_read_pauses_at_the_mark_and_goes_on_there(bench: BenchMaker, told: Told) -> None:
    """At the page that reaches it, not some pages later; below the lower mark it carries on with the next page."""
    async with bench(page_size=5) as b:
        await b.account.groups.declare({"slow": ["orders"]})
        under(b, entries=20, resume=0.5)
        run = await b.poll()
        assert (run.outcome, run.error_code, run.pages) == (Outcome.PAUSED, "backpressure", 4)
        assert await b.redis.xlen(STREAM) == 20
        cursor = await b.cursor()
        assert cursor.scan.page == 4
        assert "group slow has 20 unread entries" in cursor.paused
        verdict = judge(cursor, b.services.clock.now())
        assert verdict.health is Health.DEGRADED
        assert "ordersync groups drop slow orders" in verdict.cause

        requests = b.sandbox.requests.counts()
        await take(b, 10)  # 10 are left, which is not below half the mark
        assert ((await b.poll()).outcome, (await b.poll()).outcome) == (Outcome.PAUSED, Outcome.PAUSED)
        assert b.sandbox.requests.counts() == requests
        await take(b, 1)
        run = await b.poll()
        assert (run.outcome, run.pages) == (Outcome.PAUSED, 3)  # 9 + 3 x 5 are more than 20
        await take(b, 100)
        run = await b.poll()
        assert (run.outcome, run.records) == (Outcome.COMPLETE, 15)
        cursor = await b.cursor()
        assert (cursor.paused, cursor.baseline, len(await b.events())) == ("", True, 50)
        assert Counter(event.subject for event in await b.events()).most_common(1)[0][1] == 1
        assert (await b.poll()).outcome is Outcome.COMPLETE

    assert [line["unread"] for line in told("backpressure_on")] == [20, 24]
    assert [line["group"] for line in told("backpressure_off")] == ["slow", "slow"]
    assert all(line["cause"] and "maxmemory" in line for line in told("backpressure_on"))


async def test_without_groups_there_is_no_pressure(bench: BenchMaker) -> None:
    """However long the stream is: nobody waits for it, and retention keeps it short."""
    async with bench(page_size=5) as b:
        under(b, entries=1, bytes=1, resume=1.0)
        assert (await b.poll()).outcome is Outcome.COMPLETE


async def test_a_group_that_is_dropped_presses_no_more(bench: BenchMaker) -> None:
    """By hand, which is the only way in which anything is given up."""
    async with bench(page_size=5) as b:
        await b.account.groups.declare({"slow": ["orders"], "quick": ["orders"]})
        under(b, bytes=20_000, resume=0.9)
        run = await b.poll()
        assert run.outcome is Outcome.PAUSED
        assert 0 < await b.redis.xlen(STREAM) < 50
        await b.account.groups.drop("orders", "slow")
        assert (await b.poll()).outcome is Outcome.PAUSED
        await b.account.groups.drop("orders", "quick")
        assert (await b.poll()).outcome is Outcome.COMPLETE


async def test_a_window_that_pauses_begins_again(bench: BenchMaker) -> None:
    """Its mark stays where it was, so it reads what it has not published; it need not become a sweep."""
    async with bench(page_size=5) as b:
        await b.poll()
        sweep = await b.cursor()
        assert sweep.mark > 0
        await b.account.groups.declare({"slow": ["orders"]})
        await take(b, 100)
        under(b, entries=10, resume=0.9)
        changed = b.sandbox.store.change(17, status="Fulfilled")
        published = 0
        while (run := await b.poll()).outcome is Outcome.PAUSED:
            published += run.published
            await take(b, 100)
            assert (await b.cursor()).mark == sweep.mark
        published += run.published
        assert published == len(changed) == 17
        assert run.outcome is Outcome.COMPLETE
        assert Counter(event.id for event in await b.events()).most_common(1)[0][1] == 1


async def test_memory_presses_every_resource(bench: BenchMaker, own_server: Server) -> None:
    """Above the share of maxmemory polling pauses before Redis is full, and goes on when there is more of it."""
    async with bench(url=own_server.url) as b:
        under(b, memory=0.9, resume=0.9)
        for number in range(400):
            await b.redis.set(f"other:{number}", "x" * 100_000)
        used = (await b.redis.info("memory"))["used_memory"]
        await b.redis.config_set("maxmemory", int(used * 1.05))
        run = await b.poll()
        assert run.outcome is Outcome.PAUSED
        assert "of its maxmemory" in run.error
        assert b.sandbox.requests.counts() == {}
        await b.redis.config_set("maxmemory", int(used * 1.15))
        assert (await b.poll()).outcome is Outcome.PAUSED  # 87 %: not below the lower mark of 81 %
        await b.redis.config_set("maxmemory", used * 3)
        assert (await b.poll()).outcome is Outcome.COMPLETE


async def test_a_fast_read_does_not_run_past_the_share_of_memory(
    bench: BenchMaker, own_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much it writes between two looks: an entry takes more memory than its names and values have bytes."""
    monkeypatch.setattr("worker.queue.backpressure.CHECK_SECONDS", float("inf"))
    with SandboxServer(orders=600) as fast:
        async with bench(fast, own_server.url, page_size=10) as b:
            under(b)
            assert (await b.poll(slice_seconds=0)).outcome is Outcome.PARTIAL  # what an entry holds is known
            await b.redis.config_set("maxmemory", (await b.redis.info("memory"))["used_memory"] + 1_200_000)
            most = (await b.redis.info("memory"))["maxmemory"]
            under(b, memory=1 - 200_000 / most)
            run = await b.poll()
            assert (run.outcome, run.error_code) == (Outcome.PAUSED, "backpressure")
            assert "of its maxmemory" in run.error
            assert 100 < len(await b.events()) < 600


async def test_a_paused_resource_is_looked_at_soon(bench: BenchMaker) -> None:
    """Every few seconds, however long its interval is, and the tick knows it."""
    async with bench() as b:
        b.adjust(intervals={"orders": 3600.0})
        await b.account.groups.declare({"slow": ["orders"]})
        await Writer(b.redis).add(10)
        under(b, entries=5)
        began = b.services.clock.now()
        run = await b.poll()
        assert run.outcome is Outcome.PAUSED
        raw = await answer(b.redis.hmget(b.account.keys.cursor("orders"), ["due_at", "interval", "failures"]))
        wait = seconds_until_due(raw[0], raw[1], raw[2], requested=3600.0, now=began)
        assert 5 <= wait <= 5 + b.services.clock.now() - began


async def test_looking_is_rare(bench: BenchMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read of many pages that stays far below every mark looks when some time has gone by, not at each page."""
    async with bench(page_size=1) as b:
        await b.account.groups.declare({"slow": ["orders"]})
        under(b, entries=1000, resume=0.9)
        looks = []
        survey = b.account.groups.status

        async def counted(resource: str) -> Any:
            looks.append(resource)
            return await survey(resource)

        monkeypatch.setattr(b.account.groups, "status", counted)
        monkeypatch.setattr("worker.queue.backpressure.CHECK_SECONDS", float("inf"))
        assert (await b.poll()).pages >= 50
        assert len(looks) == 1
        monkeypatch.setattr("worker.queue.backpressure.CHECK_SECONDS", 0.0)
        run = await b.poll(complete=True)
        assert len(looks) > run.pages >= 50


# --- a full Redis -------------------------------------------------------------------------------------


async def test_full_is_an_outcome(bench: BenchMaker, own_server: Server, told: Told) -> None:
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


async def test_a_tick_finds_no_room(bench: BenchMaker, own_server: Server, told: Told) -> None:
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


async def test_a_job_ends_when_redis_is_full(bench: BenchMaker, small_server: Server, told: Told) -> None:
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


def check(client: Any, sandbox: SandboxServer) -> None:
    """Every order once, in order, as it is."""
    entries = client.xrange(STREAM)
    assert [int(fields[b"sequence"]) for _, fields in entries] == list(range(1, len(entries) + 1))
    told = {fields[b"subject"].decode(): fields[b"data"] for _, fields in entries}
    assert len(told) == len(entries)
    assert told == sandbox.store.truth()


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
        check(client, many)
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
        check(client, many)
        assert not program.logs("redis_full")
        assert not program.logs("poll_failed")
        program.process.terminate()
        assert await program.ended() == 0


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
            check(client, sandbox)
            await eventually(lambda: client.xinfo_groups(STREAM))
            assert len(program.logs("worker_started")) == 1


async def test_marks_come_from_the_settings(sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> None:
    """A daemon pauses for a declared group that nobody reads, and goes on when it is read."""
    settings = login_settings(
        sandbox, redis_url, tmp_path / "data", events__groups='{"slow": ["orders"]}', backpressure__entries="20",
        api__page_size="5",
    )  # fmt: skip
    with Program(tmp_path, **settings) as program, redis.Redis.from_url(redis_url) as client:
        await program.logged("backpressure_on")
        assert client.xlen(STREAM) == 20

        def consume() -> bool:
            for _, entries in client.xreadgroup("slow", "c", {STREAM: ">"}, count=100):
                client.xack(STREAM, "slow", *[entry_id for entry_id, _ in entries])
            return bool(client.xlen(STREAM) == 50)

        await eventually(consume)
        await program.logged("backpressure_off")
        check(client, sandbox)


async def test_an_account_has_its_marks(sandbox: SandboxServer, redis_url: str) -> None:
    """The composition root hands them on."""
    account = account_for(sandbox)
    account = replace(account, backpressure=account.backpressure.model_copy(update={"entries": 7}))
    async with open_services([account], redis_url, SystemClock()) as place:
        await know_contract(place)
        pressure = place.accounts["default"].poller.context.backpressure
        assert pressure.marks == HighWaterMarks(entries=7, bytes=1 << 30, memory=0.9, resume=0.9)
