"""Backpressure: polling waits for consumers and for Redis, says so, goes on by itself, and loses nothing by it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
import redis.exceptions

from tests.support.logged import LogReader
from tests.support.pressure import check_published, under
from tests.support.programs import Program, login_settings
from tests.support.servers import Server
from tests.support.streams import STREAM, Writer
from tests.support.waiting import eventually
from tests.support.worker import Bench, BenchMaker, account_for, know_contract
from worker.app import open_services
from worker.capture.health import Health, judge
from worker.capture.lanes import seconds_until_due
from worker.capture.state.run import Outcome
from worker.clock import SystemClock
from worker.queue.backpressure import HighWaterMarks
from worker.redis.connections import answer
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio


async def take(b: Bench, count: int) -> None:
    """Group `slow` reads and acknowledges."""
    await b.redis.xack(STREAM, "slow", *await Writer(b.redis).read("slow", count))


async def test_a_read_pauses_at_the_mark_and_goes_on_there(bench: BenchMaker, told: LogReader) -> None:
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

        async def written() -> bool:
            """True if nothing waits for a slow disk, which takes as much memory again until then."""
            return bool((await b.redis.info("persistence"))["aof_buffer_length"] == 0)

        await eventually(written)
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
        check_published(client, sandbox)


async def test_an_account_has_its_marks(sandbox: SandboxServer, redis_url: str) -> None:
    """The composition root hands them on."""
    account = account_for(sandbox)
    account = msgspec.structs.replace(
        account, backpressure=account.backpressure.model_copy(update={"entries": 7})
    )
    async with open_services([account], redis_url, SystemClock()) as place:
        await know_contract(place)
        pressure = place.accounts["default"].poller.context.backpressure
        assert pressure.marks == HighWaterMarks(entries=7, bytes=1 << 30, memory=0.9, resume=0.9)
