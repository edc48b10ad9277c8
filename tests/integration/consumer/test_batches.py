"""Batches: how many events, of which entities, and what becomes of those that fail."""

from __future__ import annotations

import pytest

from tests.support.consuming import Stage, ids

pytestmark = pytest.mark.anyio


async def test_batches(stage: Stage) -> None:
    """A batch holds what is there, in order, and is acknowledged in one call."""
    entries = await stage.add(*(f"s{number}" for number in range(25)))
    sizes, taken = [], []
    async with stage.consumer() as consumer:
        before = await stage.calls("xack")
        async for batch in consumer.batches(10):
            sizes.append(len(batch))
            taken += ids(list(batch))
            await batch.ack()
        assert await stage.calls("xack") - before == 3
    assert (sizes, taken) == ([10, 10, 5], entries)
    assert await stage.pending() == {}


async def test_a_batch_in_part(stage: Stage) -> None:
    """One of a batch fails: the others are acknowledged with the rest, and it alone comes again."""
    await stage.add("a", "b", "c")
    seen = []
    async with stage.consumer() as consumer:
        async for batch in consumer.batches(10):
            seen.append([(each.event.subject, each.attempt) for each in batch])
            if len(seen) == 1:
                await batch.deliveries[1].fail("not now")
            await batch.ack()
    assert seen == [[("a", 1), ("b", 1), ("c", 1)], [("b", 2)]]
    assert await stage.pending() == {}


async def test_exclusive_batches(stage: Stage) -> None:
    """No batch has two events of an entity, and the next one of an entity comes after the answer to the first."""
    await stage.add("a", "a", "b", "a")
    seen = []
    async with stage.consumer() as consumer:
        async for batch in consumer.batches(10, exclusive=True):
            seen.append([(each.event.subject, each.event.version) for each in batch])
            await batch.ack()
    assert seen == [[("a", 1), ("b", 1)], [("a", 2)], [("a", 3)]]


async def test_batches_of_one(stage: Stage) -> None:
    """An event for which `alone` is true has a batch of its own, and the others come in order."""
    await stage.add(*"abcd")
    seen = []
    async with stage.consumer() as consumer:
        async for batch in consumer.batches(10, alone=lambda each: each.event.subject in "bd"):
            seen.append("".join(each.event.subject for each in batch))
            await batch.ack()
    assert seen == ["a", "b", "c", "d"]
    assert await stage.pending() == {}


async def test_the_next_batch(stage: Stage) -> None:
    """Each batch may have a size of its own; there is none at the end."""
    await stage.add(*"abcd")
    sizes = []
    async with stage.consumer() as consumer:
        for limit in (1, 2, 3):
            batch = await consumer.next_batch(limit)
            assert batch is not None
            sizes.append(len(batch))
            await batch.ack()
        assert await consumer.next_batch(1) is None
    assert sizes == [1, 2, 1]
