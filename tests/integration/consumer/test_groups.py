"""Groups: how far each has read, worked out from ids; declaring and dropping them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import redis.exceptions
from redis.asyncio import Redis

from ordersync_consumer.groups import Groups, RetentionLimits
from tests.support.commands import ordersync
from tests.support.programs import Program, login_settings
from tests.support.streams import KEYS, STREAM, Writer, fields_of
from tests.support.waiting import eventually
from tests.support.worker import BenchMaker
from worker.redis.connections import connect
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio


@pytest.fixture
def groups(client: Redis) -> Groups:
    return Groups(client, KEYS)


async def unread(groups: Groups) -> dict[str, int]:
    return {group.name: group.unread for group in (await groups.status("orders")).groups}


# --- how far each has read ----------------------------------------------------------------------------


async def test_no_stream_and_no_entries(groups: Groups, client: Redis) -> None:
    """Nothing to count is no error."""
    survey = await groups.status("orders", RetentionLimits(1, 1, 1))
    assert (survey.entries, survey.bytes, survey.groups, survey.slowest) == (0, 0, (), None)
    await groups.declare({"a": ["orders"]})
    (group,) = (await groups.status("orders", RetentionLimits(1, 1, 1))).groups
    assert (group.unread, group.pending, group.held, group.oldest_unread) == (0, 0, 0, "")
    assert group.needed == "0-1"


async def test_unread_is_counted_where_lag_is_not_known(
    groups: Groups, client: Redis, writer: Writer
) -> None:
    """The trap: `lag` is a heuristic, and none for a group that was made in the middle. Ours comes from the events."""
    ids = await writer.add(500)
    await client.xgroup_create(STREAM, "middle", id=ids[199])
    await client.xgroup_create(STREAM, "all", id="0")
    await client.xgroup_create(STREAM, "none", id="$")
    assert await unread(groups) == {"middle": 300, "all": 500, "none": 0}
    found = {each["name"]: each["lag"] for each in await client.xinfo_groups(STREAM)}
    assert found[b"middle"] is None
    await client.xtrim(STREAM, minid=ids[100], approximate=False)
    await writer.add(5)
    assert await unread(groups) == {"middle": 305, "all": 405, "none": 5}
    await client.xgroup_setid(STREAM, "all", ids[449])
    assert (await unread(groups))["all"] == 55


async def test_unread_where_the_count_makes_no_sense(groups: Groups, client: Redis, writer: Writer) -> None:
    """Entries that are not ours, or a count that has begun anew: rather too much than nothing."""
    ids = await writer.add(100)
    await client.xgroup_create(STREAM, "a", id=ids[9])
    await client.xadd(STREAM, fields_of(1))  # type: ignore[arg-type] # invariant dict
    assert await unread(groups) == {"a": 100}
    await client.xadd(STREAM, {"what": "ever"})
    assert await unread(groups) == {"a": 101}
    assert (await groups.status("orders")).entries == 102


async def test_a_deleted_entry_hides_nothing(groups: Groups, client: Redis, writer: Writer) -> None:
    """Somebody removes entries by hand: what is pending still counts, and what is unread is not undercounted."""
    ids = await writer.add(10)
    await client.xgroup_create(STREAM, "a", id="0")
    await writer.read("a", 5)
    await client.xdel(STREAM, ids[2], ids[7])
    (group,) = (await groups.status("orders")).groups
    assert group.pending == 5
    assert 4 <= group.unread <= 5
    assert group.oldest_pending == ids[0]


async def test_what_a_group_holds_back(groups: Groups, client: Redis, writer: Writer) -> None:
    """By each limit; the lowest of unread and pending counts."""
    now = int(time.time() * 1000)
    ids = await writer.add(100, at=now - 100 * 3_600_000, apart=3_600_000)
    await client.xgroup_create(STREAM, "a", id="0")
    await client.xack(STREAM, "a", *[each for each in await writer.read("a", 60) if each != ids[30]])
    for limits, held in [
        (RetentionLimits(), 0),
        (RetentionLimits(max_entries=20), 50),
        (RetentionLimits(max_entries=80), 0),
        (RetentionLimits(max_age=10.5 * 3600), 60),
        (RetentionLimits(max_age=10.5 * 3600, max_entries=5), 65),
        (RetentionLimits(max_bytes=1), 70),
    ]:
        (group,) = (await groups.status("orders", limits)).groups
        assert (group.needed, group.held) == (ids[30], held), limits


async def test_it_costs_little_however_long_the_stream_is(
    groups: Groups, client: Redis, writer: Writer
) -> None:
    """Some lookups: a poll asks before it begins, and in between."""
    for _ in range(20):
        await writer.add(1000)
    for name in ("a", "b", "c"):
        await client.xgroup_create(STREAM, name, id="0")
        await writer.read(name, 7)
    await groups.status("orders", RetentionLimits(1, 1, 1))  # it loads the script
    async with client.monitor() as monitor:
        await groups.status("orders", RetentionLimits(1, 1, 1))
        await client.echo("end")
        looked = []
        while (command := str((await monitor.next_command())["command"])) != "ECHO end":
            looked.append(command.split())
    lookups = [words for words in looked if words[0] in ("XRANGE", "XREVRANGE")]
    assert 10 < len(looked) < 50
    assert len(lookups) > 5
    for words in lookups:
        assert words[-2] == "COUNT", words
        assert int(words[-1]) <= 8


async def test_memory_is_what_redis_compares(groups: Groups, client: Redis) -> None:
    """With its limit; full is when writes are refused."""
    assert not (await groups.status("orders")).full
    await client.config_set("maxmemory", 1)
    survey = await groups.status("orders")
    assert survey.full
    assert (survey.maxmemory, survey.used_memory > 100_000) == (1, True)


async def test_consumers_that_stand_for_nobody_do_not_count(
    groups: Groups, client: Redis, writer: Writer
) -> None:
    """What waits to be claimed is pending, but nobody reads."""
    ids = await writer.add(3)
    await client.xgroup_create(STREAM, "a", id="0")
    await client.xclaim(STREAM, "a", "ordersync-replay", 0, [*ids], force=True, justid=True)
    await writer.read("a", 1, "me")
    assert [each.name for each in await groups.consumers("orders", "a")] == ["me"]
    assert (await groups.status("orders")).groups[0].pending == 3


# --- declaring and dropping ---------------------------------------------------------------------------


async def test_declaring_twice_changes_nothing(groups: Groups, client: Redis, writer: Writer) -> None:
    """The first one makes the stream as well, and a group that begins with its oldest entry."""
    declared = {"warehouse": ["orders", "shipments"], "mail": ["orders"]}
    assert sorted(await groups.missing(declared)) == sorted(await groups.declare(declared))
    await writer.add(10)
    assert len(await writer.read("warehouse", 4)) == 4
    assert await groups.declare(declared) == []
    assert await groups.missing(declared) == []
    assert await unread(groups) == {"warehouse": 6, "mail": 10}
    assert await client.xlen(KEYS.stream("shipments")) == 0


async def test_declaring_beside_somebody_else(
    groups: Groups, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers start at the same time: the second one finds it done."""
    await groups.declare({"a": ["orders"]})

    async def nobody_there_yet(_: Any) -> list[tuple[str, str]]:
        return [("a", "orders")]

    monkeypatch.setattr(groups, "missing", nobody_there_yet)
    assert await groups.declare({"a": ["orders"]}) == []


async def test_what_is_missing_is_known_when_redis_is_full(groups: Groups, client: Redis) -> None:
    """It can be looked up, if not made."""
    await groups.declare({"a": ["orders"]})
    await client.config_set("maxmemory", 1)
    assert await groups.declare({"a": ["orders"]}) == []
    assert await groups.missing({"a": ["orders", "notes"]}) == [("a", "notes")]
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        await groups.declare({"a": ["notes"]})


async def test_dropping(groups: Groups, writer: Writer) -> None:
    """There was one, there is none, there was no stream."""
    await groups.declare({"a": ["orders"]})
    assert await groups.drop("orders", "a")
    assert not await groups.drop("orders", "a")
    assert not await groups.drop("notes", "a")


async def test_a_status_of_groups_reads_no_entry_where_there_is_no_group(
    groups: Groups, client: Redis, writer: Writer
) -> None:
    """Entries are sampled for those who want to know how long they are, and the memory is looked up for them."""
    await writer.add(100)
    await groups.status("orders")  # loads the script
    await client.config_resetstat()
    status = await groups.status("orders", of_groups=True)
    assert (status.entries, status.entry_bytes, status.groups) == (100, 0.0, ())
    ran = (await client.info("commandstats")).keys()
    sent = {"cmdstat_config|resetstat", "cmdstat_fcall", "cmdstat_evalsha"}
    assert ran - sent == {"cmdstat_xlen", "cmdstat_xinfo|groups"}
    await groups.declare({"a": ["orders"]})
    await client.config_resetstat()
    found = await groups.status("orders", of_groups=True)
    stats = await client.info("commandstats")
    assert stats["cmdstat_xrange"]["calls"] == 3  # what the group needs
    assert found.groups == (await groups.status("orders")).groups
    limits = RetentionLimits(max_bytes=1000)
    assert (await groups.status("orders", limits, of_groups=True)).groups[0].held > 0


# --- the daemon ---------------------------------------------------------------------------------------


async def test_declared_groups_are_there_before_the_first_event(
    sandbox: SandboxServer, redis_url: str, tmp_path: Path
) -> None:
    """And again after Redis has lost everything; meanwhile retention leaves them their events."""
    settings = login_settings(
        sandbox, redis_url, tmp_path / "data", retention__max_entries="1", retention__every="1"
    )
    settings["events__groups"] = '{"warehouse": ["orders", "shipments"]}'
    client = connect(redis_url)
    try:
        with Program(tmp_path, **settings) as program:
            await program.logged("group_created", times=2)
            await eventually(lambda: has(client, 50))
            assert await unread(Groups(client, KEYS)) == {"warehouse": 50}
            await program.logged("retention_held_back")
            assert await client.xlen(STREAM) == 50
            await client.xack(STREAM, "warehouse", *await Writer(client).read("warehouse", 50))
            await program.logged("stream_trimmed")
            assert await client.xlen(STREAM) == 1
            await client.flushall()
            await program.logged("group_created", times=4)
            await eventually(lambda: has(client, 50))
            assert await unread(Groups(client, KEYS)) == {"warehouse": 50}
    finally:
        await client.aclose()


async def has(client: Redis, events: int) -> bool:
    return bool(await client.xlen(STREAM) == events)


async def test_once_trims_too(
    bench: BenchMaker, sandbox: SandboxServer, redis_url: str, tmp_path: Path
) -> None:
    """Who only ever runs it once in a while has limits as well."""
    settings = login_settings(sandbox, redis_url, tmp_path / "data", retention__max_entries="7")
    assert ordersync("run", "--once", cwd=tmp_path, **settings).returncode == 0
    assert ordersync("run", "--once", cwd=tmp_path, **settings).returncode == 0
    client = connect(redis_url)
    try:
        assert await client.xlen(STREAM) == 7
    finally:
        await client.aclose()
