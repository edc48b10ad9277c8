"""Replay: past events again, to one group, with the same ids, and nobody else notices."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from ordersync_consumer import Delivery
from ordersync_consumer.groups import Groups
from ordersync_consumer.replay import CHUNK, ReplayRange, ReplayResult, replay
from tests.support.consuming import Stage, ids
from tests.support.streams import KEYS, STREAM
from tests.support.waiting import eventually
from worker.errors import NotReplayable, SettingsError
from worker.redis import scripts
from worker.redis.connections import answer

pytestmark = pytest.mark.anyio


async def again(stage: Stage, group: str = "g", **bounds: Any) -> ReplayResult:
    """Replay to a group."""
    return await replay(stage.redis, KEYS, "orders", group, ReplayRange(**bounds))


async def dealt_with(stage: Stage, *subjects: str) -> list[str]:
    """Events that two groups have dealt with."""
    entries = await stage.add(*subjects)
    for group in ("g", "other"):
        assert len(await stage.take(stage.consumer(group=group))) == len(subjects)
    return entries


async def test_everything_again(stage: Stage) -> None:
    """Every event comes again with its id, in order, marked, its attempts counted anew; to this group alone."""
    entries = await dealt_with(stage, "a", "b", "a")
    before = await stage.redis.xinfo_groups(STREAM)
    assert await again(stage) == ReplayResult("orders", "g", looked_at=3, replayed=3, pending=0)
    taken = await stage.take(stage.consumer(claim_after=3600))
    assert ids(taken) == entries
    assert [(each.event.id, each.attempt, each.replayed) for each in taken] == [
        ("order:a:1:00000000", 1, True),
        ("order:b:1:00000000", 1, True),
        ("order:a:2:00000000", 1, True),
    ]
    assert await stage.redis.xinfo_groups(STREAM) == [
        group | {"consumers": group["consumers"] + (group["name"] == b"g")} for group in before
    ]
    assert await stage.take(stage.consumer(group="other")) == []
    assert await stage.redis.xlen(STREAM) == 3


async def test_the_mark_goes_with_the_acknowledgement(stage: Stage) -> None:
    """An event counts as replayed until it is dealt with, also after a crash, and no longer."""
    (entry,) = await dealt_with(stage, "a")
    await again(stage)
    async with stage.consumer() as consumer:
        assert (await anext(consumer)).replayed
        await stage.die()
    async with stage.consumer() as consumer:
        delivery = await anext(consumer)
        assert (delivery.replayed, delivery.attempt) == (True, 2)
        await delivery.ack()
    assert await stage.redis.exists(KEYS.replayed("orders", "g")) == 0
    await stage.redis.xclaim(STREAM, "g", "plain", 0, [entry], force=True, idle=10**9)
    (delivery,) = await stage.take(stage.consumer())
    assert not delivery.replayed


async def test_by_time_by_id_by_entity(stage: Stage) -> None:
    """The bounds choose: published from a time on and before another one, between two ids, of one entity."""
    entries = []
    for second in range(1000, 1006):
        subject = "even" if second % 2 == 0 else "odd"
        (entry,) = await stage.add(subject)
        fields = (await stage.redis.xrange(STREAM, entry, entry))[0][1]
        await stage.redis.xdel(STREAM, entry)
        entries.append((second, fields))
    await stage.redis.delete(STREAM)
    for second, fields in entries:
        await stage.redis.xadd(STREAM, fields, id=f"{second}000-0")
    await stage.take(stage.consumer())

    async def chosen(**bounds: Any) -> list[int]:
        found = await again(stage, **bounds)
        taken = await stage.take(stage.consumer())
        assert found.replayed == len(taken)
        return [each.position[0] // 1000 for each in taken]

    assert await chosen(since=1003) == [1003, 1004, 1005]
    assert await chosen(since=1002.5, until=1004) == [1003]
    assert await chosen(until=1002) == [1000, 1001]
    assert await chosen(from_id="1001000-0", to_id="1003000-0") == [1001, 1002, 1003]
    assert await chosen(from_id="1004000") == [1004, 1005]
    assert await chosen(subject="odd") == [1001, 1003, 1005]
    assert await chosen(subject="odd", since=1002) == [1003, 1005]
    assert await chosen(subject="nobody") == []
    assert await chosen(since=2000) == []


async def test_what_is_pending_is_left_alone(stage: Stage) -> None:
    """An event that the group has not dealt with stays where it is, its attempts and its consumer as they are."""
    entries = await stage.add("a", "b", "c")
    await stage.group()
    await stage.read("busy", 2)
    await stage.redis.xack(STREAM, "g", entries[0])
    found = await again(stage)
    assert (found.looked_at, found.replayed, found.pending) == (2, 1, 1)
    assert await stage.pending() == {entries[0]: ("ordersync-replay", 0), entries[1]: ("busy", 1)}


async def test_what_was_not_read_comes_anyway(stage: Stage) -> None:
    """Events that the group has not read are not replayed as well: each comes once."""
    entries = await stage.add("a", "b", "c")
    await stage.group()
    await stage.redis.xack(STREAM, "g", *await stage.read("c1", 1))
    found = await again(stage, from_id=entries[1])
    assert (found.looked_at, found.replayed) == (0, 0)
    assert (await again(stage, since=0)).replayed == 1
    taken = await stage.take(stage.consumer())
    assert [(each.event.subject, each.replayed) for each in taken] == [
        ("a", True),
        ("b", False),
        ("c", False),
    ]


async def test_twice_is_once(stage: Stage) -> None:
    """A replay that is repeated before anyone has read changes nothing."""
    entries = await dealt_with(stage, "a", "b")
    await again(stage)
    assert (await again(stage)).pending == 2
    assert ids(await stage.take(stage.consumer())) == entries


async def test_more_than_a_step(stage: Stage) -> None:
    """Any number of events, in steps; each once and in order."""
    subjects = [f"s{number % 7}" for number in range(CHUNK * 2 + 3)]
    entries = await dealt_with(stage, *subjects)
    assert (await again(stage)).replayed == len(entries)
    assert ids(await stage.take(stage.consumer())) == entries
    assert (await again(stage, subject="s1")).replayed == subjects.count("s1")


async def test_one_who_reads_meanwhile(stage: Stage) -> None:
    """What is dealt with while the replay goes on is not replayed again: it ends, and each comes once."""
    count = CHUNK * 3
    await dealt_with(stage, *(["a"] * count))
    seen: list[str] = []

    async def handle(delivery: Delivery) -> None:
        seen.append(delivery.entry_id)

    async with stage.consumer(wait=True) as consumer, anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: consumer.run(handle))
        found = await again(stage)
        await eventually(lambda: len(seen) >= found.replayed)
        await asyncio.sleep(0.1)
        consumer.stop()
    assert found.replayed == len(seen) == len(set(seen)) == count


async def test_it_ends(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that are written and dealt with between its steps are not replayed, however many come."""
    await dealt_with(stage, "a", "b", "c")
    steps = 0

    async def between(step: Any) -> Any:
        nonlocal steps
        found = await step
        steps += 1
        assert steps < 20
        await stage.add("new", "new")
        await stage.redis.xack(STREAM, "g", *await stage.read("plain", 2))
        return found

    monkeypatch.setattr("ordersync_consumer.replay.CHUNK", 1)
    monkeypatch.setattr("ordersync_consumer.replay.finish", between)
    assert (await again(stage)).replayed <= 5  # those there were when its first step looked


async def test_a_consumer_that_runs_gets_it_at_once(stage: Stage) -> None:
    """Nobody has to be started anew, and no idle time has to pass; at the speed of the machine within 2 seconds."""
    await dealt_with(stage, "a", "b")
    seen: list[tuple[str, bool]] = []

    async def handle(delivery: Delivery) -> None:
        seen.append((delivery.event.subject, delivery.replayed))

    options: dict[str, Any] = {"wait": True, "block": 1, "clock": None, "claim_after": 3600}
    async with stage.consumer(**options) as consumer, anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: consumer.run(handle))
        await asyncio.sleep(0.1)
        await again(stage)
        await eventually(lambda: len(seen) == 2)
        consumer.stop()
    assert seen == [("a", True), ("b", True)]


async def test_a_plain_client_gets_it(stage: Stage) -> None:
    """Any client that claims idle entries gets replayed events; the mark that it leaves goes with the next replay."""
    entries = await dealt_with(stage, "a", "b")
    await again(stage)
    claimed = await stage.redis.xautoclaim(STREAM, "g", "plain", min_idle_time=86_400_000)
    assert [entry.decode() for entry, _ in claimed[1]] == entries
    await stage.redis.xack(STREAM, "g", *entries)
    assert await answer(stage.redis.scard(KEYS.replayed("orders", "g"))) == 2
    await again(stage, from_id=entries[1])
    assert await answer(stage.redis.smembers(KEYS.replayed("orders", "g"))) == {entries[1].encode()}


async def test_a_dropped_group_takes_its_marks_along(stage: Stage) -> None:
    """A group that is made anew under the name of one that was dropped has nothing marked."""
    await dealt_with(stage, "a")
    await again(stage)
    assert await Groups(stage.redis, KEYS).drop("orders", "g")
    assert await stage.redis.exists(KEYS.replayed("orders", "g")) == 0
    (delivery,) = await stage.take(stage.consumer())
    assert not delivery.replayed


async def test_retention_keeps_it(stage: Stage) -> None:
    """What was replayed is pending, so the trim that respects groups leaves it."""
    entries = await dealt_with(stage, "a", "b", "c")
    await again(stage, from_id=entries[1])
    trim = scripts.load(stage.redis, "worker.queue", "trim", begin=["ordersync_consumer:needs"])
    while (await trim(keys=[STREAM], args=[0, 1, 0, 1000]))[1]:
        pass
    assert [entry.decode() for entry, _ in await stage.redis.xrange(STREAM)] == entries[1:]
    assert ids(await stage.take(stage.consumer())) == entries[1:]


async def test_to_count_only(stage: Stage) -> None:
    """A dry run says what would be replayed, and changes nothing."""
    await dealt_with(stage, "a", "b", "a")
    found = await replay(stage.redis, KEYS, "orders", "g", ReplayRange(subject="a"), dry_run=True)
    assert (found.looked_at, found.replayed) == (3, 2)
    assert await stage.pending() == {}
    assert await stage.redis.exists(KEYS.replayed("orders", "g")) == 0


async def test_no_such_group(stage: Stage) -> None:
    """A group that does not read the resource is an error that says what to do."""
    await stage.add("a")
    with pytest.raises(NotReplayable, match=r"group typo does not read orders.*ordersync groups"):
        await again(stage, "typo")
    with pytest.raises(NotReplayable):
        await replay(stage.redis, KEYS, "nothing", "g", ReplayRange())


@pytest.mark.parametrize("bounds", [{"from_id": "yesterday"}, {"to_id": "1-"}, {"from_id": "-"}])
def test_what_is_no_id(bounds: dict[str, Any]) -> None:
    """An id that is none is refused."""
    with pytest.raises(SettingsError, match="is not the id of an entry"):
        ReplayRange(**bounds)
