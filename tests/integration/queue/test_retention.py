"""Retention: what the limits do not keep goes, and what a group still needs stays, whatever the limits say."""

from __future__ import annotations

import io
import random
import time

import anyio
import pytest
import redis.exceptions
from redis.asyncio import Redis

from jobs.planner import FIRST_RETENTION_SECONDS
from jobs.retain import retain
from jobs.schedule import retain_id
from ordersync_consumer.groups import Groups, RetentionLimits
from tests.support.arq_worker import LANES, planned
from tests.support.retaining import DAY, retention, trim
from tests.support.servers import Server
from tests.support.streams import KEYS, STREAM, Writer, fields_of
from tests.support.worker import BenchMaker
from worker.capture.lanes import Lane
from worker.redis import scripts
from worker.telemetry import log as logs

pytestmark = pytest.mark.anyio


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
    script = scripts.load(client, "worker.queue", "trim", begin=["ordersync_consumer:needs"])
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
    """What is left is for the next pass."""
    await writer.add(1000)
    keeper = retention(client, RetentionLimits(max_entries=1), step=10)
    assert not await keeper.run(seconds=0.0)
    assert await keeper.run()
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


# --- the job ------------------------------------------------------------------------------------------


async def test_a_pass_is_planned_when_it_is_due(bench: BenchMaker, redis_url: str) -> None:
    """Not at the very start of a worker, then at its pace, less often where nothing is published; soon when asked."""
    async with bench() as b, planned(b.services, redis_url) as schedule:
        account, job = b.account.account, retain_id("default")
        key, every = LANES[Lane.RETENTION], account.retention.every

        async def wait() -> float:
            return float(await b.redis.zscore(key, job) or 0) - b.services.clock.now()

        assert f"retention/{job}" not in await schedule.due()
        assert 0 < await wait() <= FIRST_RETENTION_SECONDS
        for times in (1, 2, 4, 8, 10, 10):
            await schedule.planner.retain_ended(account, done=True)
            assert await wait() == pytest.approx(times * every, abs=2)
        await schedule.planner.request_retention(account, 3)
        assert await wait() == pytest.approx(3, abs=2)
        await schedule.planner.retain_ended(account, done=False)
        assert await wait() <= 0


async def test_a_pass_without_redis_is_told(bench: BenchMaker, own_server: Server, redis_url: str) -> None:
    """The job ends in order, and the next pass tries again: the schedule is on another server."""
    async with bench(url=own_server.url) as b, planned(b.services, redis_url) as schedule:
        stream = io.StringIO()
        logs.configure("json", "debug", stream)
        own_server.stop(kill=True)
        await retain({"services": b.services, "planner": schedule.planner}, "default")
        assert '"event": "retention_put_off"' in stream.getvalue()
        assert schedule.schedule.due[Lane.RETENTION] == 0.0
        with redis.Redis.from_url(redis_url) as client:
            assert client.zscore(LANES[Lane.RETENTION], retain_id("default")) > time.time()
