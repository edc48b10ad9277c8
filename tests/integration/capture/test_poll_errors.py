"""Polls that fail: what is said of it, and Redis in another state than this program left it in."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator

import msgspec
import pytest
import structlog

from tests.support.polling import check, fault
from tests.support.servers import Server
from tests.support.worker import Bench, BenchMaker
from worker.clock import SystemClock
from worker.redis.connections import answer
from worker.sandbox import FaultRule

pytestmark = pytest.mark.anyio


# Errors and what is said of them


class StillClock(SystemClock):
    """A clock whose time of day stands still, so that a pause can be read to the second."""

    def __init__(self) -> None:
        self._at = time.time()

    def now(self) -> float:
        """When it was made."""
        return self._at


async def test_refused_login_pauses(bench: BenchMaker) -> None:
    """Credentials that are refused are tried again after a minute, not after seconds."""
    async with bench() as b:
        b.sandbox.faults.replace([FaultRule("status", operation="clients.token", code=401, times=1)])
        clock = b.account.poller.context.clock = StillClock()
        run = await b.poll()
        assert (run.outcome, run.error_code) == ("failed", "login_rejected")
        assert (await b.cursor()).due_at - clock.now() == 60
        assert (await b.poll()).outcome == "complete"


async def test_pause_grows(bench: BenchMaker) -> None:
    """5, 10, 20, 40, 60, 60 seconds between polls that fail; a good one ends it."""
    async with bench(attempts=1) as b:
        fault(b, "garbage", times=None)
        clock = b.account.poller.context.clock = StillClock()
        pauses = []
        for _ in range(6):
            await b.poll()
            pauses.append((await b.cursor()).due_at - clock.now())
        assert pauses == [5, 10, 20, 40, 60, 60]
        b.sandbox.faults.clear()
        await b.poll()
        cursor = await b.cursor()
        assert (cursor.failures, cursor.error) == (0, "")


async def test_pause_that_the_server_asks_for(bench: BenchMaker) -> None:
    """A long Retry-After puts the poll off by just that."""
    async with bench() as b:
        fault(b, "status", code=429, retry_after=300)
        clock = b.account.poller.context.clock = StillClock()
        assert (await b.poll()).error_code == "rate_limited"
        assert (await b.cursor()).due_at - clock.now() == 300


class SetClock(SystemClock):
    """A clock that stands where the test puts it."""

    at = 1000.0

    def monotonic(self) -> float:
        """Where it was put."""
        return self.at


async def test_error_is_told_once_a_minute(bench: BenchMaker) -> None:
    """The same failure is told once a minute with the number of repetitions, and anew after a good poll."""
    async with bench() as b:
        clock = b.account.poller.context.clock = SetClock()
        fault(b, "garbage", times=None)
        with structlog.testing.capture_logs() as lines:
            for _ in range(4):
                await b.poll()
                clock.at += 10
            clock.at += 30
            await b.poll()
            b.sandbox.faults.clear()
            await b.poll()
            fault(b, "garbage", times=None)
            await b.poll()
        told = [line["repeated"] for line in lines if line["event"] == "poll_failed"]
        assert told == [0, 3, 0]


async def test_no_customer_data_is_told(bench: BenchMaker) -> None:
    """What is said of a record that cannot be read does not quote it."""
    async with bench() as b:
        b.sandbox.store.replace("odd", b'{"id":null,"name":"Ada Lovelace"}')
        with structlog.testing.capture_logs() as lines:
            await b.poll()
        assert any(line["event"] == "record_unreadable" for line in lines)
        assert "Lovelace" not in repr(lines)


# Redis in another state than this program left it in


async def test_foreign_cursor(bench: BenchMaker) -> None:
    """A cursor that somebody edited ends the poll with a DataError; put back, it goes on, and nothing is lost."""
    async with bench() as b:
        await b.poll()
        key = b.account.keys.cursor("orders")
        good = await b.redis.dump(key)
        b.sandbox.store.change(5)
        for edit in (("sequence", "x"), ("sweep_page", "1.5"), ("tracked", "many")):
            await answer(b.redis.hset(key, *edit))
            run = await b.poll()
            assert (run.outcome, run.error_code) == ("failed", "data")
            assert "restore the old value" in run.error
        await b.redis.delete(key)
        await b.redis.set(key, "text")
        run = await b.poll()
        assert (run.outcome, run.error_code) == ("failed", "data")
        assert len(await b.events()) == 50
        await b.redis.restore(key, 0, good, replace=True)
        assert (await b.poll()).published == 5
        await check(b)


@pytest.mark.parametrize("name", ["stream", "dead", "seen", "fields", "lease", "runs"])
async def test_foreign_key(bench: BenchMaker, name: str) -> None:
    """A key of another type ends the poll with a DataError and writes nothing; removed, it goes on."""
    async with bench() as b:
        await b.poll()
        keys = b.account.keys
        names = {"runs": keys.runs, "seen": f"{keys.states('orders')}:{await first_bucket(b)}"}
        key = names[name] if name in names else getattr(keys, name)("orders")
        good = await b.redis.dump(key)
        b.sandbox.store.change(50, status="Odd")
        before = msgspec.structs.replace(await b.cursor(), last_started=0.0)
        kept: bytes | None = await b.redis.dump(keys.stream("orders")) if name != "stream" else None
        await b.redis.delete(key)
        await b.redis.set(key, "text")
        run = await b.poll()
        assert (run.outcome, run.error_code) == ("failed", "data")
        assert msgspec.structs.replace(await b.cursor(), last_started=0.0) == before
        assert kept is None or await b.redis.dump(keys.stream("orders")) == kept
        await b.redis.delete(key)
        if good is not None:
            await b.redis.restore(key, 0, good)
        assert (await b.poll()).published == 50
        await check(b)


@pytest.mark.parametrize("name", ["layout", "source"])
async def test_foreign_key_of_the_account(bench: BenchMaker, name: str) -> None:
    """A key of another type is not taken for one that is not there: it is named, and stays as it is."""
    async with bench() as b:
        await b.poll()
        key = getattr(b.account.keys, name)
        good = await b.redis.get(key)
        b.sandbox.store.change(5)
        await b.redis.delete(key)
        await answer(b.redis.hset(key, "text", "1"))
        run = await b.poll()
        assert (run.outcome, run.error_code) == ("failed", "data")
        assert await answer(b.redis.hgetall(key)) == {b"text": b"1"}
        assert not (await answer(b.redis.hget(b.account.keys.lease("orders"), "owner")))
        await b.redis.delete(key)
        await b.redis.set(key, good)
        assert (await b.poll()).published == 5
        await check(b)


async def first_bucket(b: Bench) -> str:
    """The number of a bucket that holds a state."""
    (key, *_) = await b.redis.keys(b.account.keys.states("orders") + ":*")
    return str(key.decode().rpartition(":")[2])


async def test_foreign_state(bench: BenchMaker) -> None:
    """A state that this program did not write counts as none: the record is published rather than lost.

    A worker that knows the bytes of its records does not look; one that has to does.
    """
    async with bench() as b:
        await b.poll()
        key = f"{b.account.keys.states('orders')}:{await first_bucket(b)}"
        for field in await answer(b.redis.hkeys(key)):
            await answer(b.redis.hset(key, field, "rubbish"))
        assert (await b.poll()).published == 0
    async with bench() as b:
        run = await b.poll()
        assert run.outcome == "complete"
        assert run.snapshot >= 1  # it existed before the first scan
        assert (await b.poll()).published == 0


async def test_layout_of_another_version(bench: BenchMaker) -> None:
    """Keys of another version are left alone."""
    async with bench() as b:
        await b.redis.set(b.account.keys.layout, "0")
        run = await b.poll()
        assert (run.outcome, run.error_code, "layout 0" in run.error) == ("failed", "data", True)
        assert await b.events() == []


@pytest.fixture
def slow_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("slow"), None, "--appendfsync", "no")
    server.start()
    yield server
    server.stop(kill=True)


async def test_redis_loses_its_last_writes(bench: BenchMaker, slow_disk: Server) -> None:
    """Read again after a crash of Redis, a version has the same id if it says the same, else another one."""
    log, copy = slow_disk.folder / "appendonlydir", slow_disk.folder / "copy"
    async with bench(url=slow_disk.url) as b:
        await b.poll()
        shutil.copytree(log, copy)
        b.sandbox.store.change(20)
        b.sandbox.store.create(5)
        await b.poll()
        lost = (await b.events())[50:]
    slow_disk.stop(kill=True)
    shutil.rmtree(log)
    copy.rename(log)
    slow_disk.start()
    async with bench(url=slow_disk.url) as b:
        assert len(await b.events()) == 50
        other = [each.subject for each in lost[:7]]
        b.sandbox.store.change(other)
        assert (await b.poll()).published == 25
        again = {each.subject: each for each in (await check(b))[50:]}
    for each in lost:
        twin = again[each.subject]
        assert twin.version == each.version
        assert (twin.id == each.id) == (twin.data == each.data) == (each.subject not in other)


async def test_redis_is_full(bench: BenchMaker, own_server: Server) -> None:
    """While Redis refuses writes nothing is lost; when there is room the next poll publishes it all."""
    async with bench(url=own_server.url) as b:
        await b.poll()
        b.sandbox.store.change(30)
        await b.redis.config_set("maxmemory", 1)
        run = await b.poll()
        assert (run.outcome, run.error_code) == ("failed", "redis_full")
        await b.redis.config_set("maxmemory", 0)
        assert len(await b.events()) == 50
        assert (await b.poll()).published == 30
        await check(b)


async def test_a_defect_of_ours_is_told_and_retried_slowly(
    bench: BenchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that nobody thought of fails the poll, stands in the cursor with a pause, and moves nothing."""
    async with bench() as b:
        with monkeypatch.context() as broken:
            broken.setattr("worker.capture.writer.decide_all", lambda *_, **__: 1 / 0)
            run = await b.poll()
        cursor = await b.cursor()
        assert (run.outcome, run.error_code, cursor.error_code) == ("failed", "internal", "internal")
        assert cursor.due_at > run.started_at + 1
        assert await b.events() == []
        assert (await b.poll()).snapshot == 50
