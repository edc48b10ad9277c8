"""What a worker knows of the bytes of records: it spares Redis the lookups, and nobody can make it lie."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest

from tests.support.faulty_gateway import Liar, Watch, orders, watching
from worker.capture.erasure import Eraser
from worker.capture.records.decoding import DecodedRecord
from worker.capture.registry import ORDERS
from worker.capture.session import PollSession
from worker.capture.state.cursor import Cursor
from worker.capture.state.known_bytes import AsOf, CursorMark, KnownBytes, KnownBytesPool
from worker.capture.state.known_table import KnownTable, identity_of
from worker.capture.state.lease import acquire
from worker.capture.state.scan_marks import ScanMarks
from worker.capture.writer import RecordWriter
from worker.capture.written import Keep, accept_all
from worker.redis.connections import answer, connect

pytestmark = pytest.mark.anyio

Act = Callable[[], Awaitable[Any]]


@asynccontextmanager
async def calls(w: Watch) -> AsyncIterator[dict[str, int]]:
    """How often each command is carried out in the block, by name."""
    counts: dict[str, int] = {}
    await w.place.redis.config_resetstat()
    yield counts
    told = await w.place.redis.info("commandstats")
    counts |= {name.removeprefix("cmdstat_"): fields["calls"] for name, fields in told.items()}


def per_record(counts: dict[str, int], *names: str) -> list[int]:
    """Commands for each of 300 records; what a poll, a page or a bucket takes does not count."""
    return [(counts.get(name, 0) - 60) // 200 if counts.get(name, 0) > 60 else 0 for name in names]


async def publish(w: Watch, *numbers: int, keep: Callable[[DecodedRecord], Keep] = accept_all) -> None:
    """Publish what is served of these records now, beside the poll, as a resync does."""
    context, raws = w.account.poller.context, [json.dumps(w.liar.records[number]) for number in numbers]
    name = context.keys.lease("by-hand")
    async with acquire(w.place.redis, name, resource="orders", owner="somebody", clock=w.clock) as lease:
        session = PollSession(context, ORDERS, reason="resync", lease="by-hand")
        async with session.open(lease=lease):
            records = session.options.observe([msgspec.Raw(raw.encode()) for raw in raws])
            await RecordWriter(session).write(
                records, where="by hand", checkpoint=lambda _: None, keep=keep, unchanged=True
            )


def meanwhile(patch: pytest.MonkeyPatch, act: Act, *, at: int) -> None:
    """Let `act` happen before the question whether anybody has committed is asked for the time `at`, from 1."""
    read, count = CursorMark.read, 0

    async def late(mark: CursorMark) -> AsOf:
        nonlocal count
        count += 1
        if count == at:
            patch.setattr(CursorMark, "read", read)
            await act()
        return await read(mark)

    patch.setattr(CursorMark, "read", late)


async def test_a_record_costs_as_few_commands_as_can_be(redis_url: str) -> None:
    """First read: HGET, HSET, XADD. Nothing changed: none of a record, nor with what was read before the restart."""
    liar = Liar(records=orders(300))
    async with watching(liar, redis_url, page_size=100) as w:
        async with calls(w) as first:
            assert (await w.poll()).published == 300
        assert per_record(first, "hget", "hset", "xadd", "setbit", "bitfield", "hmget") == [1, 1, 1, 0, 0, 0]
        async with calls(w) as again:
            assert (await w.poll()).unchanged == 300
        assert per_record(again, "hget", "hset", "xadd", "hmget", "bitfield", "hgetall") == [0] * 6
    async with watching(liar, redis_url, page_size=100) as w:
        async with calls(w) as restarted:
            assert (await w.poll()).unchanged == 300
        assert per_record(restarted, "hget", "hset", "xadd", "hmget", "bitfield") == [0] * 5
        assert await answer(w.place.redis.bitcount(w.account.keys.scan_bitmap("orders"))) == 300


@pytest.mark.parametrize("at", [2, 3, 4])
async def test_another_worker_commits_in_the_middle(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """A page that shows what was there before is not taken for unchanged: what is committed is another content."""
    liar = Liar(records=orders(40))
    async with (
        watching(liar, redis_url, page_size=10, max_concurrency=1) as w,
        watching(liar, redis_url) as other,
    ):
        await w.poll()
        assert (await w.poll()).unchanged == 40
        old = [dict(record) for record in liar.records]

        async def commit() -> None:
            for number in (5, 15, 25, 35):
                liar.change(number)
            await publish(other, 5, 15, 25, 35)
            liar.records[:] = [dict(record) for record in old]

        with monkeypatch.context() as patch:
            meanwhile(patch, commit, at=at)
            run = await w.poll()
        # One question is asked as the scan begins; pages before the commit were unchanged when they were compared.
        assert run.stale >= 1
        assert run.unchanged + run.stale == 40
        w.clock.offset += 120
        for _ in range(2):
            await w.poll()
            w.clock.offset += 120
        assert await w.missing() == []


async def test_what_changes_and_changes_back(redis_url: str) -> None:
    """The same bytes as before are a change, if another content was published since."""
    liar = Liar(records=orders(30))
    async with watching(liar, redis_url, page_size=10) as w:
        await w.poll()
        before = dict(liar.records[7])
        for shown in ({**before, "status": "Sent"}, before, {**before, "status": "Sent"}, before):
            liar.records[7] = dict(shown)
            assert (await w.poll()).updated == 1
            assert (await w.poll()).unchanged == 30
        told = [
            json.loads(event.data)["status"] for event in await w.events() if event.subject == before["id"]
        ]
        assert told == ["Open", "Sent", "Open", "Sent", "Open"]


async def test_a_forced_resync_of_another_worker(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It publishes the same bytes as another version: nothing is lost or published twice by the scan under way."""
    liar = Liar(records=orders(30))
    async with (
        watching(liar, redis_url, page_size=10, max_concurrency=1) as w,
        watching(liar, redis_url) as other,
    ):
        await w.poll()
        meanwhile(monkeypatch, lambda: publish(other, 12, keep=lambda _: Keep.FORCE), at=3)
        assert (await w.poll()).unchanged == 30
        assert [event.version for event in await w.events()][-1] == 2
        assert (await w.poll()).unchanged == 30


async def test_redis_loses_its_data_in_the_middle(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing counts as unchanged that is not known to Redis; everything is published again."""
    liar = Liar(records=orders(30))
    async with watching(liar, redis_url, page_size=10, max_concurrency=1) as w:
        await w.poll()
        with monkeypatch.context() as patch:
            meanwhile(patch, w.place.redis.flushall, at=3)
            assert (await w.poll()).unchanged <= 10
        w.clock.offset += 60
        await w.poll()
        assert await w.missing() == []


async def test_states_that_were_lost_are_noticed(redis_url: str) -> None:
    """That the worker still knows them does not hide it."""
    liar = Liar(records=orders(60))
    async with watching(liar, redis_url, page_size=20) as w:
        await w.poll()
        await w.poll()
        keys = [key async for key in w.place.redis.scan_iter(f"{w.account.keys.states('orders')}:*")]
        await w.place.redis.unlink(*keys[:3])
        run = await w.poll()
        assert run.snapshot == 60 - run.unchanged > 0
        assert (await w.poll()).unchanged == 60


async def test_a_backup_with_the_same_sequence(redis_url: str) -> None:
    """A commit without an event changes a state as well: it is told by its name, not by the numbers."""
    liar = Liar(records=orders(20))
    async with watching(liar, redis_url, page_size=10) as w:
        await w.poll()
        saved = {
            key: await w.place.redis.dump(key)
            async for key in w.place.redis.scan_iter(f"{w.account.keys.base}*")
            if b"lease" not in key and b"token" not in key
        }
        before = dict(liar.records[4])
        liar.records[4] = dict(reversed(before.items()))  # the same content in other bytes
        assert (await w.poll()).noise == 1
        for key, packed in saved.items():
            await w.place.redis.restore(key, 0, packed, replace=True)
        run = await w.poll()
        assert (run.noise, run.unchanged) == (1, 19)


async def test_an_erased_record_stays_erased(redis_url: str) -> None:
    """It is served with the bytes that are known, and nothing of it is published."""
    liar = Liar(records=orders(20))
    async with watching(liar, redis_url, page_size=10) as w:
        await w.poll()
        await w.poll()
        eraser = Eraser(w.place.redis, w.account.keys, w.clock, "somebody")
        async with eraser.lease() as lease:
            assert await eraser.mark(lease, ORDERS, {liar.records[3]["id"]: ()}) == 1
        run = await w.poll()
        assert (run.erased, run.unchanged, run.published) == (1, 19, 0)


async def test_places_are_noted_in_ranges(redis_url: str) -> None:
    """Beside those that are noted already, whatever bytes of the bitmap they begin and end in."""
    chance, client = Random(3), connect(redis_url)
    marks, seen = ScanMarks(client, "shown"), set[int]()
    for _ in range(60):
        start = chance.randrange(3000)
        places = [*range(start, start + chance.randrange(60)), *chance.sample(range(5000), 5)]
        await marks.add(places)
        await marks.flush()
        seen |= set(places)
    packed = await answer(client.get("shown"))
    bits = "".join(f"{byte:08b}" for byte in packed)
    assert {place for place, bit in enumerate(bits) if bit == "1"} == seen
    await client.aclose()


async def test_pages_that_are_noted_at_the_same_time(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was seen by the scan before is removed once, and nothing of what one page has noted by another one."""
    monkeypatch.setattr("worker.capture.state.scan_marks.MAX_HELD", 0)
    client, removals, noted = connect(redis_url), 0, anyio.Event()
    await client.setbit("shown", 99, 1)
    unlink = client.unlink

    async def late(*names: str) -> int:
        nonlocal removals
        removals += 1
        if removals > 1:
            await noted.wait()
        return await answer(unlink(*names))

    async def note(places: range) -> None:
        await marks.add(places)
        noted.set()

    monkeypatch.setattr(client, "unlink", late)
    marks = ScanMarks(client, "shown")
    marks.begin()
    async with anyio.create_task_group() as pages:
        pages.start_soon(note, range(10))
        pages.start_soon(note, range(10, 20))
    assert (removals, await marks.count()) == (1, 20)
    await client.aclose()


async def test_a_question_answers_for_pages_that_were_compared_before_it(redis_url: str) -> None:
    """Not for those that were compared while it was under way."""
    asked = list[str]()

    class Mark:
        async def read(self) -> AsOf:
            asked.append("")
            return as_of

    as_of, table = AsOf(b"x", 1), KnownTable()
    state = b"12345678" + bytes(10) + b"\0\0\0\7" + b"\1ab"
    table.add([(b"k" * 12, state)])
    known = KnownBytes(table, as_of)
    mark: Any = Mark()
    assert await known.find([b"not known"[:8]], mark) == [None]
    assert asked == []
    assert await known.find([state[:8]], mark) == [b"\0\0\7" + identity_of(b"k" * 12)]
    assert len(asked) == 1
    as_of = AsOf(b"y", 1)
    assert await known.find([state[:8]], mark) is None
    assert not known.is_valid


async def test_a_commit_of_this_process_between_comparison_and_question(redis_url: str) -> None:
    """The page is compared once more: what the commit has replaced is not known any more."""
    mark = CursorMark(connect(redis_url), "cursor")
    await answer(mark.redis.hset("cursor", mapping={"committed": "x", "sequence": 1}))
    table, key, state = KnownTable(), b"k" * 12, b"12345678" + bytes(10) + b"\0\0\0\7" + b"\1ab"
    table.add([(key, state)])
    known = KnownBytes(table, AsOf(b"x", 1))
    found = list[object]()

    async def compare() -> None:
        found.append(await known.find([state[:8]], mark))

    async with anyio.create_task_group() as tasks, known.lock:
        tasks.start_soon(compare)
        await anyio.lowlevel.checkpoint()
        await answer(mark.redis.hset("cursor", mapping={"committed": "y", "sequence": 2}))
        new = b"87654321" + state[8:]
        known.follow([(key, state, new)], AsOf(b"x", 1), AsOf(b"y", 2), 8)
    assert found == [[None]]
    assert await known.find([new[:8]], mark) == [b"\0\0\7" + identity_of(key)]
    known.follow([], AsOf(b"of another", 3), AsOf(b"z", 4), 8)
    assert await known.find([new[:8]], mark) is None
    await mark.redis.aclose()


def test_what_was_not_used_for_the_longest_time_is_dropped() -> None:
    """Across accounts, when the memory is over; one that takes more than all of it is not held at all."""
    pool = KnownBytesPool(1)
    tables = {name: KnownBytes(KnownTable(), AsOf(b"", 0)) for name in ("a", "b", "c")}
    for number, (name, known) in enumerate(tables.items()):
        for record in range(20_000):
            key = (number * 100_000 + record).to_bytes(12, "big")
            known.table.add([(key, identity_of(key) + key[-3:] + bytes(10) + bytes(4) + b"\1ab")])
        pool.hold(name, known)
        if name == "b":
            pool.hold("a", tables["a"])
    assert [pool.get(name) is not None for name in tables] == [True, False, True]
    assert not tables["b"].is_valid
    assert pool.gains(Cursor(places=50_000, buckets=2048))
    assert not pool.gains(Cursor(places=1000, buckets=1024))
    assert pool.gains(Cursor()), "the first scan of a resource"
    assert not pool.gains(Cursor(places=100, buckets=16))
    assert pool.gains(Cursor(places=300, buckets=16))
    assert pool.has_room(50_000)
    assert not pool.has_room(60_000)
    assert not KnownBytesPool(0).has_room(1)
