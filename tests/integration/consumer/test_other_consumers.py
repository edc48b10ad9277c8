"""Consumers beside one another: events that another one has taken over, and names that are taken twice."""

from __future__ import annotations

import asyncio

import anyio
import anyio.lowlevel
import pytest

from tests.support.consuming import Stage
from tests.support.streams import STREAM
from tests.support.waiting import eventually
from worker.errors import ConsumerReplaced

pytestmark = pytest.mark.anyio


async def test_taken_over_while_it_waits(stage: Stage) -> None:
    """What another consumer has claimed is not handed out, and not taken back."""
    entries = await stage.add("a", "b", "c")
    async with stage.consumer(wait=True, claim_after=10) as consumer:
        first = await anext(consumer)
        await stage.redis.xclaim(STREAM, "g", "thief", 0, [*entries[1:]])
        await eventually(lambda: consumer.statistics().lost == 2)
        await first.ack()
        assert consumer.statistics().waiting == 0
    assert {whose for whose, _ in (await stage.pending()).values()} == {"thief"}


async def test_taken_over_while_it_is_worked_on(stage: Stage) -> None:
    """If it then fails, whoever has it now tries again, not this one; if it is done, it is done."""
    entries = await stage.add("a", "b")
    async with stage.consumer(wait=True, claim_after=10) as consumer:
        first, second = await anext(consumer), await anext(consumer)
        await stage.redis.xclaim(STREAM, "g", "thief", 0, [*entries])
        await eventually(lambda: consumer.statistics().lost == 2)
        await first.fail("not now")
        await second.ack()
        assert consumer.statistics().waiting == consumer.statistics().working == 0
    assert await stage.pending() == {entries[0]: ("thief", 2)}
    assert await stage.letters() == []


async def test_acknowledged_by_another(stage: Stage) -> None:
    """An event that somebody else has acknowledged before its next attempt is not tried again."""
    (entry,) = await stage.add("a")
    seen = []
    async with stage.consumer() as consumer:
        async for delivery in consumer:
            seen.append(delivery.attempt)
            await delivery.fail("not now")
            await stage.redis.xack(STREAM, "g", entry)
    assert seen == [1]


async def test_the_same_name_twice(stage: Stage) -> None:
    """The process that has a name first stops when a second one takes it, and says what to do."""
    entries = await stage.add("a")

    async def first() -> None:
        async with stage.consumer(wait=True) as consumer:
            await anext(consumer)
            started.set()
            await anyio.sleep_forever()

    started = asyncio.Event()
    task = asyncio.create_task(first())
    await started.wait()
    async with stage.consumer(wait=True) as second:
        delivery = await anext(second)
        with pytest.raises(ConsumerReplaced, match=r"'c1'.*its own name"):
            await task
        assert (delivery.entry_id, delivery.attempt) == (entries[0], 2)
        await delivery.ack()
    assert await stage.pending() == {}


async def test_the_same_name_for_other_resources(stage: Stage) -> None:
    """Two processes of one name may consume different resources."""
    await stage.add("a")
    await stage.add("x", resource="shipments")
    async with stage.consumer(wait=True) as one, stage.consumer(resources=["shipments"], wait=True) as two:
        await asyncio.sleep(0.25)  # some renewals, at a hundred times the speed
        await (await anext(one)).ack()
        await (await anext(two)).ack()
    assert await stage.pending() == await stage.pending(resource="shipments") == {}
