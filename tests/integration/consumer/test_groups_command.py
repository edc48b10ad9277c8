"""`ordersync groups`: the list of groups, new ones, and those that are dropped."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.support.commands import ordersync
from tests.support.servers import Server
from tests.support.streams import KEYS, STREAM, Writer
from worker.redis.connections import answer

pytestmark = pytest.mark.anyio


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
