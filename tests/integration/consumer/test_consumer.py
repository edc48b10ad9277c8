"""What a consumer takes, in which order, and how much at once."""

from __future__ import annotations

import asyncio

import pytest

from ordersync_consumer import Backoff, Delivery
from tests.support.consuming import Stage, ids
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.anyio


async def test_own_then_idle_then_new(stage: Stage) -> None:
    """At its start a consumer takes up its own, then what others left, then what is new, each in order."""
    entries = await stage.add("a", "b", "c", "d", "e", "f")
    await stage.group()
    left, own = await stage.read("gone", 2), await stage.read("c1", 2)
    await stage.lie_idle("gone", *left)
    taken = await stage.take(stage.consumer())
    assert ids(taken) == [*own, *left, *entries[4:]]
    assert [delivery.attempt for delivery in taken] == [2, 2, 2, 2, 1, 1]
    assert not any(delivery.replayed for delivery in taken)
    assert await stage.pending() == {}


async def test_what_others_are_at_is_left_to_them(stage: Stage) -> None:
    """Entries that another consumer has touched within `claim_after` stay with it."""
    await stage.add("a", "b", "c")
    await stage.group()
    theirs = await stage.read("busy", 2)
    await stage.lie_idle("busy", *theirs, milliseconds=20_000)
    taken = await stage.take(stage.consumer(claim_after=30))
    assert [delivery.event.subject for delivery in taken] == ["c"]
    assert set(await stage.pending()) == set(theirs)


async def test_more_of_its_own_than_it_may_hold(stage: Stage) -> None:
    """What it had not finished is taken up in portions, without one missing or twice, and in order."""
    entries = await stage.add(*(f"s{number}" for number in range(50)))
    await stage.group()
    await stage.read("c1", 30)
    taken = await stage.take(stage.consumer(batch=4, prefetch=7))
    assert ids(taken) == entries


async def test_several_resources(stage: Stage) -> None:
    """One consumer reads several streams, and answers each event in its own."""
    await stage.add("a", "b")
    await stage.add("x", "y", "z", resource="shipments")
    taken = await stage.take(stage.consumer(resources=["orders", "shipments"]))
    by_resource = {
        resource: [each.event.subject for each in taken if each.resource == resource]
        for resource in ("orders", "shipments")
    }
    assert by_resource == {"orders": ["a", "b"], "shipments": ["x", "y", "z"]}
    assert await stage.pending() == await stage.pending(resource="shipments") == {}


async def test_a_group_is_made_where_it_is_told(stage: Stage) -> None:
    """A new group begins with the oldest event, or with "$" behind the newest; one that is there stays as it is."""
    await stage.add("a", "b")
    assert len(await stage.take(stage.consumer(group="all"))) == 2
    assert await stage.take(stage.consumer(group="new", begin="$")) == []
    await stage.add("c")
    for group in ("all", "new"):
        (taken,) = await stage.take(stage.consumer(group=group, begin="$"))
        assert taken.event.subject == "c"


async def test_the_event_is_as_it_was_written(stage: Stage) -> None:
    """The record comes byte for byte, with all attributes."""
    await stage.add("a", data=b'{"id": "a",  "total":1.50}')
    (delivery,) = await stage.take(stage.consumer())
    event = delivery.event
    assert (event.subject, event.action, event.version, event.data) == (
        *("a", "created", 1),
        b'{"id": "a",  "total":1.50}',
    )
    assert event.entry_id == delivery.entry_id


async def test_calls_do_not_grow_with_the_events(stage: Stage) -> None:
    """500 events take a handful of reads and acknowledgements, and no other call."""
    await stage.add(*(f"s{number}" for number in range(500)))
    watched = ("xreadgroup", "xack", "xclaim", "xpending")

    async def handle(_: Delivery) -> None:
        """One that never waits, so that it does not depend on the machine how many are acknowledged together."""

    async with stage.consumer(batch=100, clock=None) as consumer:
        before = {name: await stage.calls(name) for name in watched}
        await consumer.run(handle, parallel=8)
        made = {name: await stage.calls(name) - before[name] for name in watched}
        assert consumer.statistics().taken == 500
    assert made["xreadgroup"] <= 8
    assert made["xack"] <= 40
    assert made["xclaim"] == 0
    assert made["xpending"] <= 1  # the look at what was its own, when it starts
    assert await stage.pending() == {}


async def test_entities_in_parallel(stage: Stage) -> None:
    """`run` works on as many entities at once as it is told."""
    await stage.add("a", "b", "c", "d", "a", "b", "c", "d")
    barrier = asyncio.Barrier(4)

    async def handle(_: Delivery) -> None:
        async with asyncio.timeout(PATIENCE):
            await barrier.wait()

    async with stage.consumer() as consumer:
        await consumer.run(handle, parallel=4)
    assert await stage.pending() == {}


async def test_an_entity_in_order(stage: Stage) -> None:
    """Never two events of one entity at once, and always in order, also while one of them is tried again."""
    await stage.add(*(["a"] * 6 + ["b"] * 6 + ["a", "b"] * 6))
    at_work: list[str] = []
    most_at_once: list[int] = []
    done: dict[str, list[int]] = {"a": [], "b": []}
    failures = {("a", 2): 2, ("a", 7): 1, ("b", 1): 3}

    async def handle(delivery: Delivery) -> None:
        subject, version = delivery.event.subject, delivery.event.version
        at_work.append(subject)
        most_at_once.append(at_work.count(subject))
        await asyncio.sleep(0.001)
        at_work.remove(subject)
        if delivery.attempt <= failures.get((subject, version), 0):
            raise ValueError("not now")
        done[subject].append(version)

    async with stage.consumer(backoff=Backoff(first=1)) as consumer:
        await consumer.run(handle, parallel=8)
    assert set(most_at_once) == {1}
    assert done == {"a": list(range(1, 13)), "b": list(range(1, 13))}
    assert await stage.pending() == {}


async def test_the_others_go_on(stage: Stage) -> None:
    """While an event waits to be tried again, other entities are dealt with, however many wait behind it."""
    await stage.add(*(["a"] * 40), *(f"s{number}" for number in range(40)))
    order: list[str] = []

    async def handle(delivery: Delivery) -> None:
        if delivery.event.subject == "a" and delivery.attempt == 1 and delivery.event.version == 1:
            raise ValueError("not now")
        order.append(delivery.event.subject)

    async with stage.consumer(batch=5, prefetch=10, backoff=Backoff(first=50)) as consumer:
        await consumer.run(handle, parallel=2)
    assert set(order[:40]) == {f"s{number}" for number in range(40)}
    assert order[40:] == ["a"] * 40


async def test_it_holds_no_more_than_it_may(stage: Stage) -> None:
    """Taken and not acknowledged are never more than `prefetch`."""
    await stage.add(*(f"s{number}" for number in range(60)))
    most = 0
    async with stage.consumer(batch=8, prefetch=12) as consumer:

        async def handle(_: Delivery) -> None:
            nonlocal most
            most = max(most, len(await stage.pending()))

        await consumer.run(handle, parallel=3)
    assert 3 <= most <= 12


async def test_a_handler_may_answer_itself(stage: Stage) -> None:
    """Where the handler acknowledges, fails or puts back, that is the answer; a second one does nothing."""
    await stage.add("a", "b", "c")
    seen: list[tuple[str, int]] = []

    async def handle(delivery: Delivery) -> None:
        seen.append((delivery.event.subject, delivery.attempt))
        if delivery.event.subject == "a":
            await delivery.ack()
            raise ValueError("after the answer")
        if delivery.event.subject == "b" and delivery.attempt == 1:
            await delivery.fail("not now")
        if delivery.event.subject == "c" and seen.count(("c", 1)) == 1:
            delivery.put_back()
            await delivery.ack()

    async with stage.consumer() as consumer:
        await consumer.run(handle, parallel=1)
    assert sorted(seen) == [("a", 1), ("b", 1), ("b", 2), ("c", 1), ("c", 1)]
    assert await stage.pending() == {}
    assert await stage.letters() == []


async def calls(stage: Stage, name: str) -> int:
    """How often Redis has executed a command since its statistics were reset."""
    counts = await stage.redis.info("commandstats")
    return int(counts.get(f"cmdstat_{name}", {"calls": 0})["calls"])


async def test_many_events_are_acknowledged_together(stage: Stage) -> None:
    """Handlers that do not wait share one acknowledgement for half of `prefetch`, and one call reads as many."""
    await stage.add(*(f"s{number}" for number in range(1000)))
    await stage.redis.config_resetstat()

    async def handle(_delivery: Delivery) -> None:
        """Look at it."""

    async with stage.consumer(clock=None) as consumer:
        await consumer.run(handle, parallel=1)  # other tasks run between some events
    assert consumer.statistics().acknowledged == 1000
    assert await calls(stage, "xack") <= 12
    assert await calls(stage, "xreadgroup") <= 13


async def test_one_event_is_acknowledged_at_once(stage: Stage) -> None:
    """Nothing waits for more that may never come: the acknowledgement is there while the consumer waits."""
    await stage.add("a")

    async def handle(_delivery: Delivery) -> None:
        """Look at it."""

    async with stage.consumer(wait=True) as consumer, asyncio.TaskGroup() as tasks:
        tasks.create_task(consumer.run(handle))
        await eventually(lambda: consumer.statistics().acknowledged == 1)
        assert await stage.pending() == {}
        consumer.stop()
