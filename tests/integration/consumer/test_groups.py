"""Groups: how far each has read, worked out from ids; declaring and dropping them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import redis.exceptions
from redis.asyncio import Redis

from ordersync_consumer.groups import Groups, RetentionLimits
from tests.support.commands import ordersync
from tests.support.programs import Program, login_settings
from tests.support.servers import Server
from tests.support.streams import KEYS, STREAM, Writer, fields_of
from tests.support.waiting import eventually
from tests.support.worker import BenchMaker
from worker.redis.connections import answer, connect
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


# --- the command --------------------------------------------------------------------------------------


@pytest.fixture
async def two_groups(client: Redis, writer: Writer) -> Redis:
    """`quick` has read and acknowledged, `slow` has read 20 of 100 and acknowledged 5."""
    for name in ("quick", "slow"):
        await client.xgroup_create(STREAM, name, id="0", mkstream=True)
    await client.xgroup_create(KEYS.stream("notes"), "slow", id="0", mkstream=True)
    await writer.add(100)
    await client.xack(STREAM, "quick", *await writer.read("quick", 100))
    await client.xack(STREAM, "slow", *(await writer.read("slow", 20))[:5])
    return client


async def test_the_list(two_groups: Redis, server: Server, tmp_path: Path) -> None:
    """A table for people, objects for programs."""
    done = ordersync("groups", "--json", cwd=tmp_path, redis__url=server.url, retention__max_entries="10")
    rows = {(row["resource"], row["group"]): row for row in json.loads(done.stdout)}
    assert set(rows) == {("orders", "quick"), ("orders", "slow"), ("notes", "slow")}
    slow = rows["orders", "slow"]
    assert (slow["unread"], slow["pending"], slow["held_back"]) == (80, 15, 85)
    assert slow["consumers"][0]["name"] == "c"
    assert slow["oldest"] == slow["oldest_pending"]
    assert 0 <= slow["oldest_s"] < 60
    assert rows["orders", "quick"]["oldest"] is None
    shown = ordersync("groups", cwd=tmp_path, redis__url=server.url).stdout.splitlines()
    assert shown[0].split()[:5] == ["resource", "group", "unread", "lag", "pending"]
    assert shown[1].split()[:5] == ["orders", "quick", "0", "-", "0"]
    assert shown[2].split()[:3] == ["orders", "slow", "80"]
    assert 0 <= slow["lag_s"] <= slow["oldest_s"]
    assert "no consumer" in shown[3]


async def test_no_groups(client: Redis, server: Server, tmp_path: Path) -> None:
    """It says how to have one."""
    done = ordersync("groups", cwd=tmp_path, redis__url=server.url)
    assert done.returncode == 0
    assert "ORDERSYNC_EVENTS__GROUPS" in done.stdout
    assert ordersync("groups", "--json", cwd=tmp_path, redis__url=server.url).stdout == "[]\n"


async def test_drop_asks_back(two_groups: Redis, server: Server, tmp_path: Path) -> None:
    """Where nobody can be asked nothing happens without --yes; other groups and resources are left alone."""
    settings = {"cwd": tmp_path, "redis__url": server.url}
    refused = ordersync("groups", "drop", "slow", "orders", **settings)  # type: ignore[arg-type] # one mapping
    assert refused.returncode == 2
    assert "80 unread and 15 pending" in refused.stdout
    assert "--yes" in refused.stderr
    assert len(await two_groups.xinfo_groups(STREAM)) == 2
    await answer(two_groups.sadd(KEYS.replayed("orders", "slow"), "1-1"))
    done = ordersync("groups", "drop", "slow", "orders", "--yes", **settings)  # type: ignore[arg-type] # as above
    assert done.returncode == 0, done.stderr
    assert [each["name"] for each in await two_groups.xinfo_groups(STREAM)] == [b"quick"]
    assert len(await two_groups.xinfo_groups(KEYS.stream("notes"))) == 1
    assert not await two_groups.exists(KEYS.replayed("orders", "slow"))
    assert ordersync("groups", "drop", "slow", "--yes", **settings).returncode == 0  # type: ignore[arg-type] # as above
    assert await two_groups.xinfo_groups(KEYS.stream("notes")) == []


HOUR_MS = 3_600_000


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


@pytest.mark.parametrize(
    ("begin", "first"),
    [
        ((), 0),
        (("--from", "0"), 0),
        (("--from", "90min"), 2),
        (("--from", "30d"), 0),
        (("--from", "{ids[2]}"), 2),
        (("--from", "{ms[1]}"), 1),
        (("--from", "$"), 4),
    ],
)
async def test_a_new_group_begins_at_a_time(
    client: Redis, writer: Writer, server: Server, tmp_path: Path, *, begin: tuple[str, ...], first: int
) -> None:
    """Its consumers get the events from there on, in order, and nothing older; the id itself is the first."""
    start = int(time.time() * 1000) - 3 * HOUR_MS
    ids = await writer.add(4, at=start, apart=HOUR_MS - 1)
    words = [word.format(ids=ids, ms=[entry_id.partition("-")[0] for entry_id in ids]) for word in begin]
    done = ordersync("groups", "create", "late", "orders", *words, cwd=tmp_path, redis__url=server.url)
    assert done.returncode == 0, done.stderr
    assert f"{4 - first} of 4 events are unread" in done.stdout
    (new,) = await writer.add(1)
    assert await writer.read("late", 10) == [*ids[first:], new]


async def test_a_group_that_exists_is_not_changed(two_groups: Redis, server: Server, tmp_path: Path) -> None:
    """Nothing is created for the other resources either; the message says how to deliver again."""
    before = await two_groups.xinfo_groups(STREAM)
    done = ordersync("groups", "create", "slow", "shipments", "orders", cwd=tmp_path, redis__url=server.url)
    assert done.returncode == 2
    assert "exists already" in done.stderr
    assert "ordersync replay --group slow" in done.stderr
    assert await two_groups.xinfo_groups(STREAM) == before
    assert not await two_groups.exists(KEYS.stream("shipments"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("g", "order"), "Did you mean orders?"),
        (("g g", "orders"), "is not a group name"),
        (("g", "orders", "--from", "2126-01-01"), "is in the future"),
        (("g", "orders", "--from", "99999999999999999999"), "is not the id of an entry"),
        (("g", "orders", "--from", "yesterday"), "neither a time"),
        (("g",), "Missing argument"),
    ],
)
async def test_what_cannot_be_created(
    client: Redis, server: Server, tmp_path: Path, *, arguments: tuple[str, ...], said: str
) -> None:
    """Exit 2, a sentence, and no stream: a group from the future would miss every event until then."""
    done = ordersync("groups", "create", *arguments, cwd=tmp_path, redis__url=server.url)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert not await client.exists(STREAM)


async def test_the_members_of_a_group(two_groups: Redis, server: Server, tmp_path: Path) -> None:
    """Each consumer with its pending events and its idle time."""
    shown = ordersync("groups", "show", "slow", cwd=tmp_path, redis__url=server.url).stdout
    _, _, members = shown.partition("\n\n")
    assert [line.split()[:3] for line in members.splitlines()] == [
        ["resource", "consumer", "pending"], ["orders", "c", "15"],
    ]  # fmt: skip
    rows = json.loads(
        ordersync("groups", "show", "slow", "--json", cwd=tmp_path, redis__url=server.url).stdout
    )
    assert [(row["resource"], len(row["consumers"])) for row in rows] == [("orders", 1), ("notes", 0)]
    unknown = ordersync("groups", "show", "nobody", cwd=tmp_path, redis__url=server.url)
    assert (unknown.returncode, "Unknown group 'nobody'" in unknown.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "env", "said"),
    [
        (["nobody", "--yes"], {}, "Unknown group 'nobody'"),
        (["slow", "order", "--yes"], {}, "Unknown resource 'order'"),
        (
            ["slow", "--yes"],
            {"events__groups": '{"slow": ["orders"]}'},
            "ORDERSYNC_EVENTS__GROUPS declares slow",
        ),
        (["slow", "--account", "other", "--yes"], {}, "Unknown account 'other'"),
    ],
)
async def test_what_cannot_be_dropped(
    two_groups: Redis, server: Server, tmp_path: Path, *, arguments: list[str], env: dict[str, str], said: str
) -> None:
    """Exit 2, a sentence, and nothing done; a declared group would come back with everything to read."""
    done = ordersync("groups", "drop", *arguments, cwd=tmp_path, redis__url=server.url, **env)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(await two_groups.xinfo_groups(STREAM)) == 2


async def test_status_shows_the_lag(two_groups: Redis, server: Server, tmp_path: Path) -> None:
    """How much the slowest group has to read, each group, and how old the dead letters are."""
    old = int((time.time() - 7300) * 1000)
    await two_groups.xadd(KEYS.dead("orders"), {"kind": "record"}, id=f"{old}-0")
    (row,) = json.loads(
        ordersync("status", "--json", cwd=tmp_path, redis__url=server.url, poll__preset="orders").stdout
    )
    assert (row["unread"], row["dead"], row["backpressure"]["cause"]) == (80, 1, "")
    assert 7290 < row["dead_oldest_s"] < 7400
    assert [(each["group"], each["unread"], each["pending"]) for each in row["groups"]] == [
        ("quick", 0, 0),
        ("slow", 80, 15),
    ]
    shown = ordersync("status", cwd=tmp_path, redis__url=server.url, poll__preset="orders").stdout
    assert "1 (2 h)" in shown
    assert "default/orders: group slow has 80 unread and 15 pending events" in shown


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
