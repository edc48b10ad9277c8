"""Each script of a commit alone, on every server that is at hand: all of it or nothing, in order, under the fence."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.resources import files
from typing import Any

import msgspec
import pytest
import redis.exceptions

from tests.support.commit_table import BUCKETS, Table
from tests.support.servers import Server
from tests.support.streams import KEYS
from tests.support.waiting import eventually
from worker.capture.records.actions import Action
from worker.capture.records.fields import FieldIndex
from worker.capture.records.raw_records import observe
from worker.capture.registry import ORDERS
from worker.capture.state.commit import RefreshResult
from worker.capture.state.layout import LAYOUT, stored_layout
from worker.capture.state.replicas import run_confirmed
from worker.errors import DataError, LeaseLost, RedisWentBack
from worker.redis.connections import answer

pytestmark = pytest.mark.anyio


async def test_commit_writes_everything(table: Table) -> None:
    """Events, states, dead letters, cursor and run record are written together."""
    changes = await table.changes({"id": "a", "v": 1}, b'{"v":2}', {"id": "b", "v": 1})
    assert await table.commit(changes, run={"run_id": "r1"})
    events = await table.events()
    assert [(each.subject, each.sequence, each.version) for each in events] == [("a", 1, 1), ("b", 2, 1)]
    assert [each.data for each in events] == [b'{"id": "a", "v": 1}', b'{"id": "b", "v": 1}']
    ((_, letter),) = await table.redis.xrange(KEYS.dead("orders"))
    assert (letter[b"reason"], letter[b"data"]) == (b"the record has no id", b'{"v":2}')
    assert letter[b"where"] == b"orders.search page 0"
    ((_, record),) = await table.redis.xrange(KEYS.runs)
    assert record == {b"run_id": b"r1"}
    cursor = await table.store.load_cursor()
    assert (cursor.sequence, cursor.tracked, cursor.scan.page) == (2, 3, 1)
    assert await table.changes({"id": "a", "v": 1}, b'{"v":2}', {"id": "b", "v": 1}) == []


async def test_wrong_fence_writes_nothing(table: Table) -> None:
    """Whoever does not hold the lease commits nothing, be its fence lower, higher, or gone from Redis."""
    changes = await table.changes({"id": "a"})
    before = await table.everything()
    for fence in (table.fence - 1, table.fence + 1, 0):
        with pytest.raises(LeaseLost):
            await table.commit(changes, fence=fence)
    assert await table.everything() == before
    await table.redis.delete(KEYS.lease("orders"))
    with pytest.raises(LeaseLost):
        await table.commit(changes)
    assert await table.events() == []


async def test_conflict_writes_nothing(table: Table) -> None:
    """If one state of many is not the one that was looked up, nothing at all is written."""
    changes = await table.changes(*({"id": f"r{number}"} for number in range(5)))
    assert await table.commit(await table.changes({"id": "r3", "v": "other"}))
    before = await table.everything()
    assert not await table.commit(changes)
    assert await table.everything() == before


async def test_same_commit_again_is_a_conflict(table: Table) -> None:
    """A commit whose answer was lost may be sent again: it does nothing the second time."""
    changes = await table.changes({"id": "a"}, b"17")
    assert await table.commit(changes)
    before = await table.everything()
    assert not await table.commit(changes)
    assert await table.everything() == before


@pytest.mark.parametrize(
    "key",
    [
        KEYS.lease("orders"),
        KEYS.cursor("orders"),
        KEYS.stream("orders"),
        KEYS.dead("orders"),
        KEYS.runs,
        *(f"{KEYS.states('orders')}:{bucket}" for bucket in range(BUCKETS)),
    ],
)
async def test_wrong_type_writes_nothing(table: Table, key: str) -> None:
    """A key of another type ends the commit before it has written anything."""
    changes = await table.changes(*({"id": f"r{number}"} for number in range(64)), b"17")
    await table.redis.delete(key)
    await answer(table.redis.lpush(key, "foreign"))
    before = await table.everything()
    with pytest.raises(redis.exceptions.ResponseError, match="WRONGTYPE"):
        await table.commit(changes, run={"run_id": "r1"})
    assert await table.everything() == before


@pytest.mark.parametrize("name", ["sequence", "tracked"])
async def test_odd_number_writes_nothing(table: Table, name: str) -> None:
    """A sequence or count that is no number ends the commit before it has written anything."""
    changes = await table.changes({"id": "a"})
    await answer(table.redis.hset(KEYS.cursor("orders"), name, "many"))
    before = await table.everything()
    with pytest.raises(redis.exceptions.ResponseError, match="DATA"):
        await table.commit(changes)
    assert await table.everything() == before


async def test_progress_is_refused_as_a_commit_is(table: Table) -> None:
    """Without a record as well: by another fence, by another generation, or if Redis has lost what was given out."""
    await table.commit(await table.changes({"id": "a"}))
    before = await table.everything()
    for fence in (table.fence - 1, table.fence + 1, 0):
        with pytest.raises(LeaseLost):
            await table.commit([], fence=fence, run={"run_id": "r1"})
    with pytest.raises(RedisWentBack):
        await table.commit([], generation=7)
    assert await table.everything() == before
    stream = await table.redis.dump(KEYS.stream("orders"))
    await table.redis.delete(KEYS.stream("orders"))
    with pytest.raises(RedisWentBack):
        await table.commit([])
    await table.redis.restore(KEYS.stream("orders"), 0, stream)
    await answer(table.redis.hset(KEYS.cursor("orders"), "sequence", "0"))
    with pytest.raises(RedisWentBack):
        await table.commit([])


async def test_progress_that_goes_by_a_cursor(table: Table) -> None:
    """Redis refuses it where a state has changed since, and takes it once the cursor is loaded again."""
    await table.commit(await table.changes({"id": "a"}))
    seen = await table.store.load_cursor()
    assert seen.committed
    await table.commit(await table.changes({"id": "b"}), cursor={})
    assert not await table.commit([], cursor={"sweep_page": 9}, run={"run_id": "r1"}, as_of=seen)
    assert await table.redis.xlen(KEYS.runs) == 0
    now = await table.store.load_cursor()
    assert now.scan.page == 1
    assert await table.commit([], cursor={"sweep_page": 9}, run={"run_id": "r1"}, as_of=now)
    assert (await table.store.load_cursor()).scan.page == 9
    assert await table.commit([], as_of=await table.store.load_cursor())  # progress changes no state


def on_the_wire(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], Awaitable[list[bytes]]]]:
    """What sends each commit from now on once more, byte for byte, and returns the answer."""
    sent: list[Callable[[], Awaitable[list[bytes]]]] = []

    async def noted(*arguments: Any) -> Any:
        sent.append(partial(run_confirmed, *arguments))
        return await run_confirmed(*arguments)

    monkeypatch.setattr("worker.capture.state.committer.run_confirmed", noted)
    return sent


async def test_progress_that_is_sent_twice(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written once, also if it has released the lease and another worker has come between."""
    await table.commit(await table.changes({"id": "a"}))
    sent = on_the_wire(monkeypatch)
    assert await table.commit([], run={"run_id": "r1"}, release=True)
    await table.lease("acquire", "other")
    (again,) = sent
    assert await again() == [b"ok", b"1"]
    assert await table.redis.xlen(KEYS.runs) == 1
    assert (await table.lease("renew", "other"))[0] > table.fence
    with pytest.raises(LeaseLost):
        await table.commit([])


READS = RefreshResult(at="1800000000", done=["one"], later={"two": 5.0})
"""What a commit without a record of a change writes by `commit.lua`."""


@pytest.mark.parametrize("last", [{"cursor": {"sweep_page": 7}}, {"refresh": READS}, {"release": True}])
@pytest.mark.parametrize("first", [{"run": {"run_id": "r1"}}, {"refresh": READS}, {"changes": [{"id": "a"}]}])
async def test_a_copy_that_comes_after_a_later_commit(
    table: Table, monkeypatch: pytest.MonkeyPatch, first: dict[str, Any], last: dict[str, Any]
) -> None:
    """A commit that was sent again may arrive once more when the session has gone on: it changes nothing then."""
    sent = on_the_wire(monkeypatch)
    assert await table.commit(await table.changes(*first.pop("changes", [])), **first)
    assert await table.commit(await table.changes({"id": "b"}), cursor={"sweep_page": 2})
    assert await table.commit([], **last)
    before = await table.everything()
    for copy in sent[:2]:
        assert await copy() == [b"fenced", str(table.fence).encode()]
    assert (await sent[2]())[0] == b"ok"
    assert await table.everything() == before
    assert await table.commit([], cursor={"sweep_page": 9})
    assert (await table.store.load_cursor()).scan.page == 9


async def test_commits_of_an_earlier_version(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their ids have no number: they are written in the order in which they come, and once if sent twice at once."""
    sent = on_the_wire(monkeypatch)
    with monkeypatch.context() as patch:
        ids = iter(["7fffffffffffffff", "0123456789abcdef"])
        patch.setattr("worker.capture.state.committer.new_commit_id", lambda _: next(ids))
        for run in ("r1", "r2"):
            assert await table.commit([], run={"run_id": run})
            assert (await sent[-1]())[0] == b"ok"
    assert await table.commit([], run={"run_id": "r3"})
    assert [record[b"run_id"] for _, record in await table.redis.xrange(KEYS.runs)] == [b"r1", b"r2", b"r3"]


async def test_out_of_memory_writes_nothing(table: Table) -> None:
    """When Redis is full the commit is refused as a whole, and goes through when there is room again."""
    changes = await table.changes(*({"id": f"r{number}", "v": "x" * 2000} for number in range(100)))
    before = await table.everything()
    try:
        await table.redis.config_set("maxmemory", 1)
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            await table.commit(changes)
        assert await table.everything() == before
        # Room for a part of it: all or nothing all the same.
        used = (await table.redis.info("memory"))["used_memory"]
        await table.redis.config_set("maxmemory", used + 50_000)
        try:
            done = await table.commit(changes)
        except redis.exceptions.OutOfMemoryError:
            done = False
        assert len(await table.events()) == (100 if done else 0)
    finally:
        await table.redis.config_set("maxmemory", 0)
    assert done or await table.commit(changes)
    assert [each.sequence for each in await table.events()] == list(range(1, 101))


async def test_cursor_moves_last(table: Table, server: Server) -> None:
    """In the order of the append-only file: events, dead letters, states, run record, cursor."""
    await table.commit(await table.changes({"id": "a"}, b"17"), run={"run_id": "the-last-run"})
    (log,) = server.folder.glob("appendonlydir/*.incr.aof")
    cursor = KEYS.cursor("orders").encode()
    # The file is written with a delay where the disk is slow.
    await eventually(lambda: cursor in log.read_bytes().partition(b"the-last-run")[2])
    written = log.read_bytes()
    order = [
        KEYS.stream("orders"),
        KEYS.dead("orders"),
        KEYS.states("orders"),
        KEYS.runs,
        KEYS.cursor("orders"),
    ]
    places = [written.rindex(key.encode()) for key in order]
    assert places == sorted(places)


async def test_sequence_has_no_gaps(table: Table) -> None:
    """Over many commits, with noise, conflicts and refusals between them, the sequence is 1, 2, 3, ..."""
    for turn in range(10):
        records: list[dict[str, Any]] = [{"id": f"r{number}", "v": turn // 2} for number in range(turn)]
        changes = await table.changes(*records)
        with pytest.raises(LeaseLost):
            await table.commit(changes, fence=1)
        assert await table.commit(changes)
        assert not changes or not await table.commit(changes)
        assert await table.commit(await table.changes(*(dict(reversed(each.items())) for each in records)))
    sequences = [each.sequence for each in await table.events()]
    assert sequences == list(range(1, len(sequences) + 1))
    assert len(sequences) > 20


async def test_noise_and_parked_write_no_event(table: Table) -> None:
    """Other bytes are remembered without an event; a letter is written once."""
    await table.commit(await table.changes({"id": "a", "v": 1}))
    noise = await table.changes(b'{"v":1,"id":"a"}')
    assert [each.action for each in noise] == [Action.NOISE]
    assert await table.commit(noise)
    assert await table.changes(b'{"v":1,"id":"a"}') == []
    bad = b'{"id":"a","v":"\xff"}'
    assert await table.commit(await table.changes(bad))
    assert await table.changes(bad) == []
    assert len(await table.events()) == 1
    assert await table.redis.xlen(KEYS.dead("orders")) == 1


async def test_tracked_counts_each_record_once(table: Table) -> None:
    """`tracked` is the number of states, whatever happens to them."""
    for value in (1, 2, 3):
        await table.commit(await table.changes({"id": "a", "v": value}, {"id": f"n{value}"}))
    assert (await table.store.load_cursor()).tracked == 4


async def test_lookup_finds_what_differs(table: Table) -> None:
    """Positions of new and of changed records, with the state of the changed ones; none for equal bytes."""
    await table.commit(await table.changes({"id": "a", "v": 1}, {"id": "b", "v": 1}))
    raws = [
        msgspec.Raw(json.dumps(each).encode()) for each in ({"id": "a", "v": 1}, {"id": "b"}, {"id": "c"})
    ]
    found = await table.store.differing(observe(ORDERS, raws), BUCKETS)
    assert found.keys() == {1, 2}
    assert len(found[1]) > 18
    assert found[2] == b""


async def test_field_places_are_append_only(table: Table) -> None:
    """Many at once give names places: none twice, none moved, and all see the same."""
    names = [f"f{number}" for number in range(40)]
    views = [FieldIndex() for _ in range(12)]
    wishes = [names[at : at + 15] + names[:at:7] for at in range(12)]
    await asyncio.gather(
        *(table.store.extend_fields(view, wish) for view, wish in zip(views, wishes, strict=True))
    )
    final = (await table.store.load_fields())._names
    assert sorted(final) == sorted(set(itertools.chain(*wishes)))
    for view, wish in zip(views, wishes, strict=True):
        assert view._names == final[: len(view._names)]
        assert set(wish) <= set(view._names)
    await table.store.extend_fields(views[0], ["late", "f0"])
    assert (await table.store.load_fields())._names == [*final, "late"]


async def test_odd_field_names(table: Table) -> None:
    """Field names of any kind come back as they were."""
    odd = ["", " ", "a,b", "é", "\x00", "%", "😀"]
    await table.store.extend_fields(table.fields, odd)
    assert (await table.store.load_fields())._names == odd


async def test_layout_of_another_version_is_refused(table: Table) -> None:
    """Nothing is written then; those of earlier versions: see test_layouts.py."""
    assert await stored_layout(table.redis, KEYS) == LAYOUT
    await table.redis.set(KEYS.layout, "99")
    with pytest.raises(DataError, match="layout 99"):
        await stored_layout(table.redis, KEYS)


def test_scripts_stand_in_files_of_their_own() -> None:
    """Every script states its keys and what it returns; files with functions for them say so."""
    heads = [path.read_text(encoding="utf-8") for path in (files("worker.capture") / "lua").iterdir()]
    scripts_alone = [head for head in heads if not head.startswith("-- Functions that other scripts use")]
    assert len(heads) > len(scripts_alone) > 10
    for head in scripts_alone:
        assert "\n-- KEYS: " in head
        assert "\n-- Returns " in head
