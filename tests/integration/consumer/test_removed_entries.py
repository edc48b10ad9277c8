"""Entries that somebody removed before or while a consumer works on them."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from ordersync_consumer import Delivery, Reject, Trimmed
from ordersync_consumer.consumer.connection import DedicatedConnection
from ordersync_consumer.consumer.dead_letter_writer import DeadLetterWriter
from tests.support.consuming import Stage, ids
from tests.support.streams import STREAM
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


class Told:
    """Remembers what was told of trimmed entries."""

    def __init__(self) -> None:
        self.entries: list[str] = []

    async def __call__(self, trimmed: Trimmed) -> None:
        """One was trimmed."""
        assert trimmed.resource == "orders"
        self.entries.append(trimmed.entry_id)


async def test_its_own_is_gone(stage: Stage) -> None:
    """An entry of its own whose data is gone is told of, acknowledged, and never handed out."""
    entries = await stage.add("a", "b", "c")
    await stage.group()
    await stage.read("c1", 3)
    await stage.redis.xdel(STREAM, entries[1])
    told = Told()
    taken = await stage.take(stage.consumer(on_trimmed=told))
    assert ids(taken) == [entries[0], entries[2]]
    assert told.entries == [entries[1]]
    assert await stage.pending() == {}


async def test_what_another_left_is_gone(stage: Stage) -> None:
    """The same for an entry that is claimed, also when a hard trim has removed it."""
    entries = await stage.add("a", "b", "c")
    await stage.group()
    await stage.lie_idle("gone", *await stage.read("gone", 3))
    await stage.redis.xtrim(STREAM, maxlen=1, approximate=False)
    told = Told()
    consumer = stage.consumer(on_trimmed=told)
    assert ids(await stage.take(consumer)) == entries[2:]
    assert told.entries == entries[:2]
    assert consumer.statistics().trimmed == 2
    assert await stage.pending() == {}


async def test_gone_while_it_is_worked_on(stage: Stage) -> None:
    """An event that was taken is dealt with although its entry is removed meanwhile, also if it fails once."""
    (entry,) = await stage.add("a")
    told, seen = Told(), []

    async def handle(delivery: Delivery) -> None:
        seen.append((delivery.attempt, delivery.event.data))
        if delivery.attempt == 1:
            await stage.redis.xdel(STREAM, entry)
            await asyncio.sleep(0.15)  # the claim is renewed meanwhile, and Redis drops what has no data
            raise ValueError("not now")

    async with stage.consumer(on_trimmed=told, claim_after=5) as consumer:
        await consumer.run(handle)
    assert seen == [(1, b'{"id":"a"}'), (2, b'{"id":"a"}')]
    assert told.entries == []
    assert await stage.pending() == {}


async def test_gone_and_cannot_be_dealt_with(stage: Stage) -> None:
    """Its dead letter is written from what the consumer holds."""
    (entry,) = await stage.add("a", data=b'{"id":"only here"}')

    async def handle(delivery: Delivery) -> None:
        if delivery.attempt == 1:
            await stage.redis.xdel(STREAM, entry)
            await asyncio.sleep(0.15)
        raise ValueError("never")

    async with stage.consumer(max_deliveries=2, claim_after=5) as consumer:
        await consumer.run(handle)
    (letter,) = await stage.letters()
    assert (letter.where, letter.data, letter.attempts) == (entry, b'{"id":"only here"}', 2)
    assert letter.event is not None
    assert letter.event.id == "order:a:1:00000000"


async def test_gone_before_its_letter_is_written(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The letter is written from what the consumer holds as well if the entry is removed after the last attempt."""
    monkeypatch.setattr(DeadLetterWriter, "run", lambda _: anyio.sleep_forever())
    (entry,) = await stage.add("a", data=b'{"id":"only here"}')

    async def handle(delivery: Delivery) -> None:
        raise Reject(delivery.event.subject)

    async with stage.consumer(wait=True, claim_after=5) as consumer, anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: consumer.run(handle))
        await eventually(lambda: consumer.statistics().failed == 1)
        await stage.redis.xdel(STREAM, entry)
        await asyncio.sleep(0.15)  # the claim is renewed meanwhile, and Redis drops what has no data
        consumer.stop()
    (letter,) = await stage.letters()
    assert (letter.where, letter.data) == (entry, b'{"id":"only here"}')


async def test_gone_and_cannot_be_given_back(stage: Stage) -> None:
    """A consumer that ends with events whose entries were removed tells of them: nobody will get them."""
    entries = await stage.add("a", "b", "c")
    told = Told()
    async with stage.consumer(wait=True, on_trimmed=told, claim_after=3600) as consumer:
        await anext(consumer)
        await stage.redis.xdel(STREAM, *entries[:2])
    if await stage.pending() == {
        entries[2]: ("ordersync-returned", 0)
    }:  # Redis from 7.0 drops what has no data
        assert told.entries == entries[:2]
    else:
        assert await stage.take(stage.consumer("c2", on_trimmed=told))
        assert sorted(told.entries) == entries[:2]


@pytest.mark.parametrize("owner", ["gone", "c1"])
async def test_cancelled_as_it_learns_of_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, owner: str
) -> None:
    """Redis names a removed entry once: a consumer that is cancelled just then tells of it as it ends."""
    (entry,) = await stage.add("a")
    await stage.group()
    await stage.lie_idle(owner, *await stage.read(owner, 1))
    await stage.redis.xdel(STREAM, entry)
    told, call = Told(), DedicatedConnection.call

    async def answers_late(self: DedicatedConnection, *command: Any, **options: Any) -> Any:
        result = await call(self, *command, **options)
        if (
            entry.encode() in str(result).encode()
            and b"XPENDING" not in command
            and "XPENDING" not in command
        ):
            running.cancel()
            await asyncio.sleep(0.05)
        return result

    monkeypatch.setattr(DedicatedConnection, "call", answers_late)
    running = asyncio.create_task(stage.take(stage.consumer(on_trimmed=told)))
    with pytest.raises(asyncio.CancelledError):
        await running
    assert told.entries == [entry]
    assert await stage.pending() == {}


async def test_cancelled_as_it_tells_of_it(stage: Stage) -> None:
    """What `on_trimmed` was not told to its end when the consumer was cancelled is told as it ends."""
    entries = await stage.add("a", "b")
    await stage.group()
    await stage.read("c1", 2)
    await stage.redis.xdel(STREAM, *entries)
    told = Told()

    async def is_cancelled_once(trimmed: Trimmed) -> None:
        if not running.cancelling():
            running.cancel()
            await asyncio.sleep(60)
        await told(trimmed)

    running = asyncio.create_task(stage.take(stage.consumer(on_trimmed=is_cancelled_once)))
    with pytest.raises(asyncio.CancelledError):
        await running
    assert told.entries == entries


async def test_the_callback_fails(stage: Stage) -> None:
    """An error of `on_trimmed`, even one of its network, ends the consumer: nobody would know of the loss."""
    (entry,) = await stage.add("a")
    await stage.group()
    await stage.read("c1", 1)
    await stage.redis.xdel(STREAM, entry)

    async def fails(_: Trimmed) -> None:
        raise ConnectionError("of the program's own")

    with pytest.raises(RuntimeError, match=f"on_trimmed failed for entry {entry} of orders"):
        await stage.take(stage.consumer(on_trimmed=fails))
