"""What retention logs."""

from __future__ import annotations

import time

import anyio
import pytest
from redis.asyncio import Redis

from ordersync_consumer.groups import RetentionLimits
from tests.support.logged import LogReader
from tests.support.monitored import watched
from tests.support.retaining import DAY, retention
from tests.support.streams import KEYS, STREAM, Writer
from tests.support.waiting import eventually
from worker.clock import SystemClock
from worker.queue.expiry import LetterExpiry
from worker.redis.functions import FunctionLoader

pytestmark = pytest.mark.anyio


async def test_what_went_is_told(client: Redis, writer: Writer, told: LogReader) -> None:
    """One line for a stream, if anything went: how many entries, from which one on, and which one is the oldest now."""
    ids = await writer.add(400)
    keeper = retention(client, RetentionLimits(max_entries=50))
    await keeper.run()
    await keeper.run()
    (line,) = told("stream_trimmed")
    assert (line["resource"], line["entries"], line["left"]) == ("orders", 350, 50)
    assert (line["first"], line["kept_from"]) == (ids[0], ids[350])


async def test_dead_letters_are_told(client: Redis, told: LogReader) -> None:
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


async def test_dead_letters_expire(client: Redis, told: LogReader) -> None:
    """Those older than the limit go, which is logged and counted; younger ones, and all without a limit, stay."""
    dead, letters = KEYS.dead("orders"), LetterExpiry(client, KEYS)
    for age in (3.0, 2.5, 0.5, 0.0):
        await client.xadd(dead, {"kind": "record"}, id=f"{int((time.time() - age * DAY) * 1000)}-0")
    await retention(client, max_letter_age=0.0).run()
    assert await client.xlen(dead) == 4
    assert await letters.expired() == {}
    keeper = retention(client, max_letter_age=DAY)
    await keeper.run()
    await keeper.run()
    assert await client.xlen(dead) == 2
    (line,) = told("dead_letters_expired")
    assert (line["level"], line["resource"], line["letters"], line["limit_s"]) == (
        "warning",
        "orders",
        2,
        86_400,
    )
    assert "ORDERSYNC_RETENTION__DEAD_LETTERS" in line["advice"]
    expired = (await letters.expired())["orders"]
    assert (expired.letters, time.time() - 60 < expired.at <= time.time() + 60) == (2, True)


def _right_behind(entry_id: str) -> str:
    ms, _, number = entry_id.partition("-")
    return f"{ms}-{int(number) + 1}"


async def test_who_holds_back_is_told(client: Redis, writer: Writer, told: LogReader) -> None:
    """For each group: how many entries are there for it that the limits would not keep. Not each time anew."""
    stuck = "stuck; reboot"  # a consumer names its group
    for name in ("done", "reads", stuck):
        await client.xgroup_create(STREAM, name, id="0", mkstream=True)
    ids = await writer.add(400)
    await client.xack(STREAM, "done", *await writer.read("done", 400))
    await client.xack(STREAM, "reads", *await writer.read("reads", 300))
    await client.xack(STREAM, stuck, *(await writer.read(stuck, 399))[100:])
    keeper = retention(client, RetentionLimits(max_entries=50))
    await keeper.run()
    await keeper.run()
    lines = told("retention_held_back")
    assert {line["group"]: (line["entries"], line["first"]) for line in lines} == {
        "reads": (50, f"{ids[299][: -len(ids[299].partition('-')[2])]}{int(ids[299].partition('-')[2]) + 1}"),
        stuck: (350, ids[0]),
    }
    assert [(line["unread"], line["pending"]) for line in lines] == [(100, 0), (1, 100)]
    assert "`ordersync groups drop 'stuck; reboot' orders`" in lines[1]["advice"]


async def test_who_does_not_read_is_told(client: Redis, writer: Writer, told: LogReader) -> None:
    """A group with something to read that nobody reads. It is never dropped for it."""
    now = int(time.time() * 1000)
    ids = await writer.add(10, at=now - 8 * 86_400_000, apart=1000)
    for name in ("never", "reads", "done", "replayed"):
        await client.xgroup_create(STREAM, name, id="0")
    await writer.read("reads", 1)
    await client.xack(STREAM, "done", *await writer.read("done", 10))
    await client.xclaim(STREAM, "replayed", "ordersync-replay", 0, [*ids[:1]], force=True, justid=True)
    await retention(client).run()
    lines = told("group_late")
    assert {line["group"] for line in lines} == {"never", "replayed"}
    assert all(8 * DAY - 60 < line["idle_s"] < 8 * DAY + 60 for line in lines)
    assert len(await client.xinfo_groups(STREAM)) == 4
    await anyio.sleep(0.02)
    await retention(client, late_after=0.01).run()
    assert {line["group"] for line in told("group_late")} == {"never", "replayed", "reads"}


# --- what has not changed -----------------------------------------------------------------------------


async def test_streams_that_are_as_they_were_are_not_read_again(client: Redis, writer: Writer) -> None:
    """A pass asks with one call for all of them; one that has changed is trimmed and surveyed."""
    names = ["orders", "shipments", "notes"]
    keeper = retention(client, limits={name: RetentionLimits(max_entries=50, max_age=DAY) for name in names})
    await client.xgroup_create(STREAM, "reads", id="0", mkstream=True)
    await writer.add(60)
    await client.xack(STREAM, "reads", *await writer.read("reads", 100))
    for _ in range(2):
        await keeper.run()
    async with watched(client) as commands:
        await keeper.run()
    assert commands.sent == {"EVALSHA": 1}
    assert commands.inside == {"EXISTS": 1, "XINFO": 2}
    assert await client.xlen(STREAM) == 50
    await writer.add(100)
    await keeper.run()
    assert await client.xlen(STREAM) == 100  # which the group has not read
    await client.xack(STREAM, "reads", *await writer.read("reads", 100))
    await keeper.run()
    assert await client.xlen(STREAM) == 50


async def test_a_stream_without_groups_that_is_as_it_was(client: Redis, writer: Writer) -> None:
    """Likewise; a group that begins with its first entry is seen."""
    keeper = retention(client, RetentionLimits(max_entries=50), late_after=0.01)
    await writer.add(40)
    await keeper.run()
    async with watched(client) as commands:
        await keeper.run()
    assert commands.inside == {"EXISTS": 1, "XINFO": 1}
    await client.xgroup_create(STREAM, "reads", id="0")
    async with watched(client) as commands:
        await keeper.run()
    assert commands.inside["XINFO"] > 2


async def test_what_has_become_too_old_goes_though_nothing_was_added(client: Redis, writer: Writer) -> None:
    """Age goes on: a stream that was looked at is trimmed when its first entry is due."""
    await writer.add(3, at=int((time.time() - DAY + 1) * 1000), apart=10)
    young = await writer.add(3)
    keeper = retention(client, RetentionLimits(max_age=DAY))

    async def trimmed() -> bool:
        await keeper.run()
        return len(await writer.left()) <= 3

    await eventually(trimmed)
    assert await writer.left() == young


async def test_a_late_group_is_told_of_again_after_it_has_read(
    client: Redis, writer: Writer, told: LogReader
) -> None:
    """A pass that finds a stream as it was has not forgotten that its group reads again."""
    long_ago = int((time.time() - 8 * DAY) * 1000)
    await client.xgroup_create(STREAM, "reads", id="0", mkstream=True)
    keeper = retention(client)
    for number in range(2):
        await writer.add(1, at=long_ago + number)
        for _ in range(2):
            await keeper.run()
        assert len(told("group_late")) == number + 1
        await client.xack(STREAM, "reads", *await writer.read("reads", 1))
        await client.xgroup_delconsumer(
            STREAM, "reads", "c"
        )  # of which only the age of the entry speaks then
        for _ in range(2):
            await keeper.run()


async def test_functions_are_loaded_once_for_all_accounts(client: Redis) -> None:
    """And again after a minute: the server may have been replaced."""
    loader = FunctionLoader(client, SystemClock())
    await retention(client, functions=loader).run()
    async with watched(client) as commands:
        await retention(client, functions=loader).run()
    assert commands.sent == {"EVALSHA": 1}
    async with watched(client) as commands:
        await retention(client).run()
    assert commands.sent["FUNCTION"] > 1
