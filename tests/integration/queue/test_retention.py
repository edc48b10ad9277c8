"""Retention: what the limits do not keep goes, and what a group still needs stays, whatever the limits say."""

from __future__ import annotations

import io
import json
import random
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest
import redis.exceptions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from jobs.retain import job_id, retain
from jobs.tick import tick
from jobs.worker import make_queue
from tests.support.servers import Server
from tests.support.streams import KEYS, STREAM, Writer, fields_of
from tests.support.worker import BenchMaker
from worker.clock import SystemClock
from worker.queue.retention import Retention
from ordersync_consumer.groups import Groups, RetentionLimits, StreamStatus
from worker.redis import scripts
from worker.redis.connections import connect
from worker.telemetry import log as logs

pytestmark = pytest.mark.anyio

DAY = 86_400.0
MINUTE_MS = 60_000


def retention(client: Redis, kept: RetentionLimits | None = None, **options: Any) -> Retention:
    """Retention of the orders alone."""
    defaults: dict[str, Any] = {
        "limits": {"orders": kept or RetentionLimits()},
        "declared": {},
        "idle_after": 7 * DAY,
        "every": 60.0,
    }
    return Retention(redis_client=client, keys=KEYS, clock=SystemClock(), **defaults | options)


async def trim(client: Redis, *, step: int = 5000, **limits: Any) -> int:
    """Trim the orders to the end; how many entries went."""
    removed, done = await retention(client, step=step).trim("orders", RetentionLimits(**limits))
    assert done
    return removed


async def used_memory(client: Redis) -> int:
    """Without what belongs to clients, and when what was dropped before is free: both come and go."""
    while True:
        facts = await client.info("memory")
        if not facts["lazyfree_pending_objects"]:
            return int(facts["used_memory_dataset"])
        await anyio.sleep(0.01)


# --- the limits ---------------------------------------------------------------------------------------


async def test_without_groups_the_limits_alone_count(client: Redis, writer: Writer) -> None:
    """To the entry, not to whole nodes of the stream; one limit of several is enough for an entry to go."""
    ids = await writer.add(1000)
    assert await trim(client, max_entries=333) == 667
    assert await writer.left() == ids[667:]
    assert await trim(client, max_entries=400) == 0
    assert await trim(client, max_entries=50, max_age=DAY) == 283
    assert await writer.left() == ids[950:]


async def test_age_is_that_of_the_entry(client: Redis, writer: Writer) -> None:
    """By the time in its id and the clock of the server; of entries of the same millisecond all go or none."""
    now = int(time.time() * 1000)
    old = await writer.add(120, at=now - 2 * 86_400_000)
    young = await writer.add(120, at=now - 43_200_000)
    assert await trim(client, max_age=3 * DAY) == 0
    assert await trim(client, max_age=DAY) == len(old)
    assert await writer.left() == young
    assert await trim(client, max_age=1) == len(young)
    assert await writer.left() == []
    assert await trim(client, max_age=1) == 0


@pytest.mark.parametrize("size", [100, 700, 2500, 10_000])
async def test_bytes_are_those_of_the_memory(client: Redis, writer: Writer, size: int) -> None:
    """The measure, names and values of some entries times their number, is within a quarter of the memory used."""
    before = await used_memory(client)
    rng = random.Random(1)
    for _ in range(20):
        await writer.add(100, data=rng.randbytes(size // 2).hex().encode())
    used = await used_memory(client) - before
    survey = await Groups(client, KEYS).status("orders")
    assert survey.bytes == pytest.approx(used, rel=0.25)
    removed = await trim(client, max_bytes=survey.bytes // 2)
    assert removed == pytest.approx(1000, rel=0.01)
    assert (await Groups(client, KEYS).status("orders")).bytes <= survey.bytes // 2


async def test_bytes_of_entries_of_different_length(client: Redis, writer: Writer) -> None:
    """The average is drawn from the whole stream: large records at one end do not stand for all of them."""
    now = int(time.time() * 1000)
    await writer.add(1000, at=now - 2_000_000, apart=1000, data=b"x" * 5000)
    await writer.add(1000, at=now - 900_000, apart=500, data=b"x" * 500)
    survey = await Groups(client, KEYS).status("orders")
    assert survey.entry_bytes == pytest.approx(3050, rel=0.35)


async def test_memory_is_free_again(client: Redis, writer: Writer) -> None:
    """Acknowledging frees nothing, trimming does: what all groups have taken is given back by it alone."""
    await client.xgroup_create(STREAM, "a", id="0", mkstream=True)
    empty = await used_memory(client)
    for _ in range(40):
        await writer.add(50, data=b"x" * 2500)
    full = await used_memory(client)
    for _ in range(40):
        await client.xack(STREAM, "a", *await writer.read("a", 50))
    assert await used_memory(client) > full - 1_000_000
    await trim(client, max_entries=1)
    assert await used_memory(client) < empty + 1_000_000 < full - 2_000_000


async def test_nothing_there_is_nothing_to_do(client: Redis) -> None:
    """No stream, and an empty one with a group that waits."""
    assert await trim(client, max_entries=1) == 0
    assert await client.exists(STREAM) == 0
    await client.xgroup_create(STREAM, "a", id="0", mkstream=True)
    assert await trim(client, max_entries=1, max_age=1, max_bytes=1) == 0
    assert len(await client.xinfo_groups(STREAM)) == 1


# --- what groups need ---------------------------------------------------------------------------------


async def test_what_is_not_read_stays(client: Redis, writer: Writer) -> None:
    """The trap: MAXLEN and XTRIM remove what nobody has read, without a sign. Here the slowest group decides."""
    ids = await writer.add(500)
    for name in ("quick", "slow"):
        await client.xgroup_create(STREAM, name, id="0")
    await client.xack(STREAM, "quick", *await writer.read("quick", 500))
    await client.xack(STREAM, "slow", *await writer.read("slow", 123))
    assert await trim(client, max_entries=10) == 123
    await anyio.sleep(0.01)
    assert await trim(client, max_age=0.001, max_bytes=1) == 0
    assert await writer.left() == ids[123:]
    assert await writer.read("slow", 1000) == ids[123:]


async def test_a_group_that_has_not_read_holds_everything(client: Redis, writer: Writer) -> None:
    """Declared is enough: it counts before its first consumer is there."""
    ids = await writer.add(300)
    assert await retention(client, RetentionLimits(max_entries=1), declared={"later": ["orders"]}).run()
    assert await writer.left() == ids
    await client.xack(STREAM, "later", *await writer.read("later", 300))
    assert await retention(client, RetentionLimits(max_entries=1), declared={"later": ["orders"]}).run()
    assert await writer.left() == ids[-1:]


async def test_what_is_pending_stays(client: Redis, writer: Writer) -> None:
    """Delivered is not done: one event that nobody has acknowledged holds all behind it, in every group."""
    ids = await writer.add(200)
    await client.xgroup_create(STREAM, "a", id="0")
    await client.xack(STREAM, "a", *[each for each in await writer.read("a", 200) if each != ids[150]])
    assert await trim(client, max_entries=1, max_age=1, max_bytes=1) == 150
    assert (await writer.left())[0] == ids[150]
    assert await client.xclaim(STREAM, "a", "other", 0, [ids[150]])
    await client.xack(STREAM, "a", ids[150])
    await trim(client, max_entries=1)
    assert await writer.left() == ids[-1:]


async def test_what_is_replayed_stays(client: Redis, writer: Writer) -> None:
    """Entries that were put back into the pending list are needed again."""
    ids = await writer.add(200)
    await client.xgroup_create(STREAM, "a", id="0")
    await client.xack(STREAM, "a", *await writer.read("a", 200))
    await client.xclaim(STREAM, "a", "ordersync-replay", 0, [ids[77]], idle=10_000, force=True, justid=True)
    assert await trim(client, max_entries=1) == 77
    assert (await writer.left())[0] == ids[77]


async def test_ids_of_the_same_millisecond(client: Redis, writer: Writer) -> None:
    """The second number of an id counts as a number: 10 is behind 9."""
    ids = await writer.add(250, at=1_700_000_000_000)
    await client.xgroup_create(STREAM, "a", id="0")
    await client.xack(STREAM, "a", *await writer.read("a", 109))
    assert await trim(client, max_entries=1) == 109
    assert await writer.left() == ids[109:]


@pytest.mark.parametrize("last", ["5-18446744073709551615", "5-18446744073709551614", "5-9007199254740993"])
async def test_ids_larger_than_the_numbers_of_lua(client: Redis, last: str) -> None:
    """An id may hold 64 bits: rounded it would be another one. In doubt an entry stays."""
    for entry_id in ("5-9007199254740992", last, "6-0", "7-0"):
        await client.xadd(STREAM, fields_of(1), id=entry_id)  # type: ignore[arg-type] # invariant dict
    await client.xgroup_create(STREAM, "a", id=last)
    removed = await trim(client, max_entries=1)
    assert 1 <= removed <= 2
    assert await client.xlen(STREAM) == 4 - removed
    assert len((await client.xreadgroup("a", "c", {STREAM: ">"}))[0][1]) == 2


@pytest.mark.parametrize("limits", [(60_000, 0, 0), (0, 1, 0), (0, 0, 500)])
async def test_one_call_is_short(client: Redis, writer: Writer, limits: tuple[int, int, int]) -> None:
    """However much there is to remove, and by whichever limit: Redis does nothing else while a script runs."""
    await writer.add(3000, data=b"x" * 100, at=1_700_000_000_000, apart=1)
    script = scripts.load(client, "worker.queue", "trim", begin=["needs"])
    counts = []
    while True:
        removed, more = await script(keys=[STREAM], args=[*limits, 500])
        counts.append(removed)
        if not more:
            break
    assert 2998 <= sum(counts) <= 3000
    assert max(counts) <= 500
    assert len(counts) <= 12


async def test_a_pass_ends_in_time(client: Redis, writer: Writer) -> None:
    """What is left is for the next pass, which is due at once."""
    await writer.add(1000)
    keeper = retention(client, RetentionLimits(max_entries=1), step=10)
    assert not keeper.due()
    assert not await keeper.run(seconds=0.0)
    assert keeper.due()
    assert await keeper.run()
    assert not keeper.due()
    assert await client.xlen(STREAM) == 1


async def test_it_trims_when_redis_is_full(client: Redis, writer: Writer) -> None:
    """That is when it is needed most: no step of it takes memory."""
    await writer.add(500)
    await client.xgroup_create(STREAM, "a", id="0")
    await client.xack(STREAM, "a", *await writer.read("a", 400))
    keeper = retention(client, RetentionLimits(max_entries=1), declared={"a": ["orders"]})
    await client.config_set("maxmemory", 1)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        await client.set("x", "y")
    assert await keeper.run()
    assert await client.xlen(STREAM) == 100


async def test_a_declared_group_that_cannot_be_made_holds_everything(client: Redis, writer: Writer) -> None:
    """There is no room for the group, so it cannot say what it needs: nothing goes until it can."""
    await writer.add(500)
    keeper = retention(client, RetentionLimits(max_entries=1), declared={"new": ["orders"]})
    await client.config_set("maxmemory", 1)
    await keeper.run()
    assert await client.xlen(STREAM) == 500
    await client.config_set("maxmemory", 0)
    await keeper.run()
    assert await client.xlen(STREAM) == 500
    assert (await client.xinfo_groups(STREAM))[0]["name"] == b"new"


async def test_one_stream_that_is_none_stops_no_other(client: Redis, writer: Writer) -> None:
    """A key of another type is told of; the other resources are trimmed."""
    await client.set(KEYS.stream("notes"), "in the way")
    await writer.add(100)
    limits = {"notes": RetentionLimits(max_entries=1), "orders": RetentionLimits(max_entries=1)}
    assert await retention(client, limits=limits).run()
    assert await client.xlen(STREAM) == 1


# --- what is told -------------------------------------------------------------------------------------


@pytest.fixture
def told() -> Callable[[str], list[dict[str, Any]]]:
    """The lines of the log with this event."""
    stream = io.StringIO()
    logs.configure("json", "debug", stream)

    def look(event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in stream.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]

    return look


async def test_what_went_is_told(
    client: Redis, writer: Writer, told: Callable[[str], list[dict[str, Any]]]
) -> None:
    """One line for a stream, if anything went: how many entries, from which one on, and which one is the oldest now."""
    ids = await writer.add(400)
    keeper = retention(client, RetentionLimits(max_entries=50))
    await keeper.run()
    await keeper.run()
    (line,) = told("stream_trimmed")
    assert (line["resource"], line["entries"], line["left"]) == ("orders", 350, 50)
    assert (line["first"], line["kept_from"]) == (ids[0], ids[350])


async def test_dead_letters_are_told(client: Redis, told: Callable[[str], list[dict[str, Any]]]) -> None:
    """As long as there are any: how many, and how old the oldest is. Not each time anew; again when new ones come."""
    keeper, dead = retention(client), KEYS.dead("orders")
    await keeper.run()
    assert told("dead_letters") == []
    hour_ago = int((time.time() - 3600) * 1000)
    await client.xadd(dead, {"kind": "record"}, id=f"{hour_ago}-0")
    await client.xadd(dead, {"kind": "record"})
    await keeper.run()
    await keeper.run()
    (line,) = told("dead_letters")
    assert (line["level"], line["resource"], line["letters"]) == ("warning", "orders", 2)
    assert 3590 < line["oldest_s"] < 3700
    assert "ordersync dead list orders" in line["advice"]
    await client.delete(dead)
    await keeper.run()
    await client.xadd(dead, {"kind": "record"})
    await keeper.run()
    assert [each["letters"] for each in told("dead_letters")] == [2, 1]


def _right_behind(entry_id: str) -> str:
    ms, _, number = entry_id.partition("-")
    return f"{ms}-{int(number) + 1}"


async def test_who_holds_back_is_told(
    client: Redis, writer: Writer, told: Callable[[str], list[dict[str, Any]]]
) -> None:
    """For each group: how many entries are there for it that the limits would not keep. Not each time anew."""
    for name in ("done", "reads", "stuck"):
        await client.xgroup_create(STREAM, name, id="0", mkstream=True)
    ids = await writer.add(400)
    await client.xack(STREAM, "done", *await writer.read("done", 400))
    await client.xack(STREAM, "reads", *await writer.read("reads", 300))
    await client.xack(STREAM, "stuck", *(await writer.read("stuck", 399))[100:])
    keeper = retention(client, RetentionLimits(max_entries=50))
    await keeper.run()
    await keeper.run()
    lines = told("retention_held_back")
    assert {line["group"]: (line["entries"], line["first"]) for line in lines} == {
        "reads": (50, f"{ids[299][: -len(ids[299].partition('-')[2])]}{int(ids[299].partition('-')[2]) + 1}"),
        "stuck": (350, ids[0]),
    }
    assert [(line["unread"], line["pending"]) for line in lines] == [(100, 0), (1, 100)]
    assert "ordersync groups drop stuck orders" in lines[1]["advice"]


async def test_who_does_not_read_is_told(
    client: Redis, writer: Writer, told: Callable[[str], list[dict[str, Any]]]
) -> None:
    """A group with something to read that nobody reads. It is never dropped for it."""
    now = int(time.time() * 1000)
    ids = await writer.add(10, at=now - 8 * 86_400_000, apart=1000)
    for name in ("never", "reads", "done", "replayed"):
        await client.xgroup_create(STREAM, name, id="0")
    await writer.read("reads", 1)
    await client.xack(STREAM, "done", *await writer.read("done", 10))
    await client.xclaim(STREAM, "replayed", "ordersync-replay", 0, [*ids[:1]], force=True, justid=True)
    await retention(client).run()
    lines = told("group_idle")
    assert {line["group"] for line in lines} == {"never", "replayed"}
    assert all(8 * DAY - 60 < line["idle_s"] < 8 * DAY + 60 for line in lines)
    assert len(await client.xinfo_groups(STREAM)) == 4
    await anyio.sleep(0.02)
    await retention(client, idle_after=0.01).run()
    assert {line["group"] for line in told("group_idle")} == {"never", "replayed", "reads"}


# --- the job ------------------------------------------------------------------------------------------


async def test_the_tick_enqueues_a_pass_when_it_is_due(bench: BenchMaker, redis_url: str) -> None:
    """Not at the very start of a worker, then at its pace, and soon where polling waits for room; never twice."""
    async with bench() as b:
        queue, job = make_queue(redis_url, b.services.queue), job_id(b.services.queue, "default").encode()
        try:
            await b.redis.hset(
                b.account.keys.cursor("orders"), mapping={"due_at": time.time() + 60, "failures": 1}
            )
            await tick({"services": b.services, "redis": queue})
            assert await queue.zrange(b.services.queue, 0, -1) == []
            b.account.retention._due_at = 0.0
            for _ in range(3):
                await tick({"services": b.services, "redis": queue})
                b.account.retention._due_at = 0.0
            assert await queue.zrange(b.services.queue, 0, -1) == [job]
        finally:
            await queue.aclose(close_connection_pool=True)
        assert b.account.retention.due()
        assert not b.account.retention.due()
        began = b.services.clock.monotonic()
        b.account.retention.request_pass()
        assert 0 < b.account.retention._due_at - began <= 3 + b.services.clock.monotonic() - began


async def test_a_pass_without_redis_is_told(bench: BenchMaker, own_server: Server) -> None:
    """The job ends in order: the next pass tries again. Nor does it mind an account of another worker."""
    async with bench(url=own_server.url) as b:
        stream = io.StringIO()
        logs.configure("json", "debug", stream)
        await retain({"services": b.services}, "somebody else")
        own_server.stop(kill=True)
        await retain({"services": b.services}, "default")
        assert '"event": "retention_put_off"' in stream.getvalue()


# --- against a model ----------------------------------------------------------------------------------

GROUPS = st.sampled_from(["a", "b", "c"])
STEPS = st.one_of(
    st.tuples(st.just("add"), st.integers(1, 150), st.integers(0, 3000)),
    st.tuples(st.just("group"), GROUPS, st.floats(0, 1)),
    st.tuples(st.just("drop"), GROUPS, st.none()),
    st.tuples(st.just("read"), GROUPS, st.integers(1, 200)),
    st.tuples(st.just("ack"), GROUPS, st.floats(0, 1)),
    st.tuples(st.just("replay"), GROUPS, st.floats(0, 1)),
    st.tuples(st.just("trim"), st.tuples(st.integers(0, 300), st.integers(0, 300), st.integers(0, 200_000)),
              st.sampled_from([1, 7, 100, 5000])),
)  # fmt: skip


class Model:
    """What is in the stream, and what each group still needs."""

    def __init__(self, client: Redis) -> None:
        self.writer, self.redis = Writer(client), client
        self.start = int(time.time() * 1000) - 2 * 86_400_000
        self.kept: list[str] = []
        self.delivered: dict[str, int] = {}
        """For each group: how many of all entries ever written have been delivered to it."""
        self.pending: dict[str, set[str]] = {}

    async def step(self, what: str, first: Any, second: Any, rng: random.Random) -> None:
        """Do it to both."""
        ids = self.writer.ids
        if what == "add":
            at = self.start + len(ids) * MINUTE_MS
            self.kept += await self.writer.add(first, data=b"x" * second, at=at, apart=MINUTE_MS)
        elif what == "group" and first not in self.delivered and self.kept:
            behind = int(second * len(ids))
            start = ids[behind - 1] if behind else "0"
            await self.redis.xgroup_create(STREAM, first, id=start)
            self.delivered[first], self.pending[first] = behind, set()
        elif what == "trim":
            await self.trim(*first, step=second)
        elif first in self.delivered:
            await self.step_of_group(what, first, second, rng)

    async def step_of_group(self, what: str, group: str, amount: Any, rng: random.Random) -> None:
        """What is done with a group that exists."""
        ids = self.writer.ids
        if what == "drop":
            assert await Groups(self.redis, KEYS).drop("orders", group)
            del self.delivered[group], self.pending[group]
        elif what == "read":
            read = await self.writer.read(group, amount, rng.choice("xyz"))
            # The rule itself: nothing is missing between what was delivered before and now.
            assert read == [each for each in ids[self.delivered[group] :] if each in set(self.kept)][:amount]
            if read:
                begun = ids.index(read[0])
                assert begun == max(self.delivered[group], ids.index(self.kept[0]))
                self.delivered[group] = begun + len(read)
            self.pending[group] |= set(read)
        elif what == "ack":
            some = rng.sample(sorted(self.pending[group]), int(amount * len(self.pending[group])))
            if some:
                assert await self.redis.xack(STREAM, group, *some) == len(some)
            self.pending[group] -= set(some)
        elif what == "replay":
            done = [each for each in self.kept if ids.index(each) < self.delivered[group]]
            some = rng.sample(done, int(amount * len(done)))
            if some:
                await self.redis.xclaim(
                    STREAM, group, "ordersync-replay", 0, [*some], force=True, justid=True
                )
            self.pending[group] |= set(some)

    def needed(self, group: str) -> list[str]:
        """What the group still needs of what is there."""
        ids = self.writer.ids
        return [
            each
            for each in self.kept
            if each in self.pending[group] or ids.index(each) >= self.delivered[group]
        ]

    async def trim(self, entries: int, young: int, size: int, *, step: int) -> None:
        """Trim; `young`: how many of all entries ever written the limit on age keeps."""
        ids = self.writer.ids
        cutoff = self.start + max(0, len(ids) - young) * MINUTE_MS - MINUTE_MS // 2
        age = (time.time() * 1000 - cutoff) / 1000 if young else 0.0
        limits = RetentionLimits(max_age=age, max_entries=entries, max_bytes=size)
        needed = {group: self.needed(group) for group in self.delivered}
        firsts = [self.kept.index(each[0]) for each in needed.values() if each]
        over = max(
            len(self.kept) - entries if entries else 0,
            sum(1 for each in self.kept if int(each.partition("-")[0]) < cutoff) if young else 0,
        )
        await trim(self.redis, step=step, max_age=age, max_entries=entries, max_bytes=size)
        left, before = await self.writer.left(), self.kept
        self.kept = left
        assert left == before[len(before) - len(left) :], "something else than the oldest has gone"
        for group, each in needed.items():
            assert set(each) <= set(left), f"{group} has lost what it needs"
        removed, safe = len(before) - len(left), min(firsts, default=len(before))
        assert removed >= min(over, safe), "it kept what it need not"
        if not size:
            assert removed == min(max(over, 0), safe)
        survey = await Groups(self.redis, KEYS).status("orders", limits)
        if size and removed < safe:
            assert survey.bytes <= size or removed == len(before)
        firsts_of = {name: before.index(each[0]) if each else len(before) for name, each in needed.items()}
        self.check(survey, None if size else {name: max(0, over - at) for name, at in firsts_of.items()})

    def check(self, survey: StreamStatus, held: dict[str, int] | None) -> None:
        """The survey counts what is so, from a handful of lookups."""
        ids = self.writer.ids
        assert survey.entries == len(self.kept)
        assert {group.name for group in survey.groups} == set(self.delivered)
        for group in survey.groups:
            unread = [each for each in self.kept if ids.index(each) >= self.delivered[group.name]]
            assert group.unread == len(unread)
            assert group.oldest_unread == (unread[0] if unread else "")
            assert group.pending == len(self.pending[group.name])
            assert group.oldest_pending == min(self.pending[group.name], default="", key=_order)
            assert held is None or group.held == held[group.name]


def _order(entry_id: str) -> tuple[int, ...]:
    return tuple(int(part) for part in entry_id.split("-"))


async def live(url: str, steps: list[tuple[str, Any, Any]], seed: int) -> None:
    """Do the steps, and trim hard at the end."""
    client = connect(url)
    try:
        await client.flushall()
        model, rng = Model(client), random.Random(seed)
        for what, first, second in [("add", 50, 100), *steps]:
            await model.step(what, first, second, rng)
        await model.trim(1, 0, 0, step=100)
    finally:
        await client.aclose()


@settings(
    max_examples=100,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(STEPS, min_size=3, max_size=25), seed=st.integers(0, 1000))
def test_no_entry_that_a_group_needs_is_ever_gone(
    steps: list[tuple[str, Any, Any]], seed: int, server: Server
) -> None:
    """Whatever groups, deliveries, acknowledgements, replays and limits; and what nobody needs does go."""
    anyio.run(live, server.url, steps, seed)
