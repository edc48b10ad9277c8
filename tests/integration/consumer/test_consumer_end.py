"""How a consumer ends, and others beside it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from ordersync_consumer import Delivery, Reject
from ordersync_consumer.consumer.dead_letter_writer import DeadLetterWriter
from tests.support.consuming import Stage, ids
from tests.support.streams import KEYS, STREAM
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.anyio


# The end


async def test_stop_gives_back_what_was_not_begun(stage: Stage) -> None:
    """What is being worked on is finished; the rest is another consumer's at once, as if never delivered."""
    entries = await stage.add(*(f"s{number}" for number in range(30)))
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def handle(_: Delivery) -> None:
        begun.set()
        await go_on.wait()

    async with stage.consumer(wait=True) as consumer, anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: consumer.run(handle, parallel=2))
        await begun.wait()
        consumer.stop()
        await eventually(lambda: consumer.statistics().given_back == 28)
        waiting = await stage.pending()
        assert {whose for whose, _ in list(waiting.values())[2:]} == {"ordersync-returned"}
        successor = await stage.take(stage.consumer("c2", claim_after=3600))
        go_on.set()
    assert ids(successor) == entries[2:]
    assert {delivery.attempt for delivery in successor} == {1}
    assert await stage.pending() == {}


async def test_a_letter_before_the_end(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed for good right before a stop has its letter when the consumer has ended."""
    monkeypatch.setattr(DeadLetterWriter, "run", lambda _: anyio.sleep_forever())
    await stage.add("a", "b")

    async def handle(delivery: Delivery) -> None:
        consumer.stop()
        raise Reject(delivery.event.subject)

    consumer = stage.consumer(wait=True)
    async with consumer:
        await consumer.run(handle, parallel=1)
    assert [letter.reason for letter in await stage.letters()] == ["a"]
    assert len(await stage.pending()) == 1


async def test_given_back_for_a_plain_client(stage: Stage) -> None:
    """What was given back can be claimed with XAUTOCLAIM alone, and no consumer was deleted with anything pending."""
    entries = await stage.add("a", "b", "c")
    async with stage.consumer(wait=True) as consumer:
        assert (await anext(consumer)).entry_id == entries[0]
    claimed = await stage.redis.xautoclaim(STREAM, "g", "plain", 600_000)
    assert [entry.decode() for entry, _ in claimed[1]] == entries
    names = {each["name"] for each in await stage.redis.xinfo_consumers(STREAM, "g")}
    assert b"c1" in names
    assert await stage.redis.exists(KEYS.consumer_lock("orders", "g", "c1")) == 0


async def test_left_in_the_middle(stage: Stage) -> None:
    """Breaking out of the loop gives back what was not answered, the attempt at it counted."""
    entries = await stage.add("a", "b", "c")
    async with stage.consumer(wait=True) as consumer:
        async for delivery in consumer:
            if delivery.event.subject == "b":
                break
            await delivery.ack()
    assert await stage.pending() == {
        entries[1]: ("ordersync-returned", 1),
        entries[2]: ("ordersync-returned", 0),
    }
    taken = await stage.take(stage.consumer("c2"))
    assert [(each.event.subject, each.attempt) for each in taken] == [("b", 2), ("c", 1)]


async def test_an_error_of_the_program(stage: Stage) -> None:
    """An error in the body comes out as it is, and what was held is given back."""
    await stage.add("a", "b")

    async def work() -> None:
        async with stage.consumer(wait=True) as consumer:
            await anext(consumer)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await work()
    assert {whose for whose, _ in (await stage.pending()).values()} == {"ordersync-returned"}


async def test_cancelled(stage: Stage) -> None:
    """A cancellation cuts off the handlers; what was done is acknowledged, what was not is given back."""
    entries = await stage.add("a", "b", "c", "d")
    stuck = asyncio.Event()

    async def handle(delivery: Delivery) -> None:
        if delivery.event.subject != "a":
            stuck.set()
            await anyio.sleep_forever()

    with anyio.move_on_after(PATIENCE) as scope:
        async with stage.consumer(wait=True) as consumer, anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: consumer.run(handle, parallel=2))
            await stuck.wait()
            scope.cancel()
    assert await stage.pending() == {
        entries[1]: ("ordersync-returned", 1),
        entries[2]: ("ordersync-returned", 1),
        entries[3]: ("ordersync-returned", 0),
    }


async def test_cancelled_while_it_acknowledges(stage: Stage) -> None:
    """Whoever is cancelled while he waits for an acknowledgement has acknowledged."""
    await stage.add("a")
    async with stage.consumer(wait=True) as consumer:
        delivery = await anext(consumer)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await delivery.ack()
        assert scope.cancelled_caught
    assert await stage.pending() == {}


async def test_cancelled_by_its_task(stage: Stage) -> None:
    """The same when a task is cancelled past every scope, as arq and asyncio do."""
    entries = await stage.add("a", "b")
    got: list[Delivery] = []

    async def consume() -> None:
        async with stage.consumer(wait=True) as consumer:
            async for delivery in consumer:
                got.append(delivery)
                if len(got) == 1:
                    await delivery.ack()

    task = asyncio.create_task(consume())
    await eventually(lambda: len(got) == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await stage.pending() == {entries[1]: ("ordersync-returned", 1)}


async def test_nothing_after_the_end(stage: Stage) -> None:
    """A consumer that has ended says so: an acknowledgement after it would be lost."""
    await stage.add("a")
    async with stage.consumer(wait=True) as consumer:
        delivery = await anext(consumer)
    with pytest.raises(RuntimeError, match="has ended"):
        await delivery.ack()
    with pytest.raises(RuntimeError, match="inside `async with`"):
        await anext(consumer)
    with pytest.raises(RuntimeError, match="used once"):
        async with consumer:
            pass


async def test_statistics(stage: Stage) -> None:
    """It tells what it has done and what it holds."""
    await stage.add("a", "b", "c")
    async with stage.consumer(wait=True) as consumer:
        await (await anext(consumer)).ack()
        await anext(consumer)
        told = consumer.statistics()
        assert (told.taken, told.acknowledged, told.held, told.working, told.waiting) == (3, 1, 2, 1, 1)
    told = consumer.statistics()
    assert (told.given_back, told.held, told.working) == (2, 0, 1)


# Others beside it


async def test_new_events_as_they_come(stage: Stage) -> None:
    """A consumer that waits gets an event when it is written, and ends when it is told to."""
    got: list[str] = []
    async with (
        stage.consumer(wait=True, block=2 * PATIENCE, clock=None) as consumer,
        anyio.create_task_group() as tasks,
    ):

        async def handle(delivery: Delivery) -> None:
            got.append(delivery.event.subject)

        tasks.start_soon(lambda: consumer.run(handle))
        for number in range(5):
            await stage.add(f"s{number}")
            await eventually(lambda: got[-1:] == [f"s{number}"])  # noqa: B023 - called in this round
        consumer.stop()
    assert got == [f"s{number}" for number in range(5)]


async def test_a_long_handler_keeps_its_event(stage: Stage) -> None:
    """What is worked on for longer than `claim_after` is not given to anyone else."""
    await stage.add("a", "b")
    seen: list[str] = []

    async def slow(delivery: Delivery) -> None:
        seen.append(f"slow {delivery.event.subject}")
        await asyncio.sleep(3.5 if delivery.event.subject == "a" else 0)

    async def quick(delivery: Delivery) -> None:
        seen.append(f"quick {delivery.event.subject}")

    # Seconds of the server; a machine that is busy may be late by a second with a renewal.
    options: dict[str, Any] = {"wait": True, "claim_after": 3.0, "clock": None}
    async with stage.consumer("slow", **options) as first:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: first.run(slow, parallel=1))
            await eventually(lambda: first.statistics().held == 2)
            async with stage.consumer("quick", **options) as second:
                tasks.start_soon(lambda: second.run(quick))
                await eventually(lambda: first.statistics().acknowledged == 2)
                second.stop()
                first.stop()
        assert first.statistics().lost == 0
    assert seen == ["slow a", "slow b"]


async def test_what_a_dead_one_leaves_is_taken_over(stage: Stage) -> None:
    """A running consumer finds what another one has left as soon as it has lain idle for `claim_after`."""
    await stage.add("a", "b")
    await stage.group()
    (left,) = await stage.read("dead", 1)
    seen: list[tuple[str, int]] = []

    async def handle(delivery: Delivery) -> None:
        seen.append((delivery.event.subject, delivery.attempt))

    async with stage.consumer(wait=True, claim_after=600) as consumer, anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: consumer.run(handle))
        await eventually(lambda: seen == [("b", 1)])
        await stage.lie_idle("dead", left)
        await eventually(lambda: len(seen) == 2)
        consumer.stop()
    assert seen == [("b", 1), ("a", 2)]


async def test_two_share_the_work(stage: Stage) -> None:
    """Two consumers of a group get every event once together; another group gets all of them."""
    await stage.add(*(f"s{number}" for number in range(200)))
    got: dict[str, list[str]] = {"c1": [], "c2": [], "other": []}

    async def consume(name: str, group: str) -> None:
        async def handle(delivery: Delivery) -> None:
            got[name].append(delivery.event.subject)
            await asyncio.sleep(0.001)

        async with stage.consumer(name, group, batch=10) as consumer:
            await consumer.run(handle)

    async with anyio.create_task_group() as tasks:
        for name, group in (("c1", "g"), ("c2", "g"), ("other", "h")):
            tasks.start_soon(consume, name, group)
    assert sorted(got["c1"] + got["c2"]) == sorted(got["other"]) == sorted(f"s{n}" for n in range(200))
    assert got["c1"]
    assert got["c2"]


async def test_data_may_be_anything(stage: Stage) -> None:
    """Texts of every language pass."""
    data = json.dumps({"id": "ä", "name": "日本 \x00"}).encode()
    await stage.add("ä\n日本", data=data)
    (delivery,) = await stage.take(stage.consumer())
    assert (delivery.event.subject, delivery.event.data) == ("ä\n日本", data)
