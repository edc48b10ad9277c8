"""Events that fail: when they are tried again, when they become dead letters, and what counts as an attempt."""

from __future__ import annotations

import itertools
from functools import partial

import pytest

from ordersync_consumer import Backoff, Consumer, Delivery, Reject
from tests.support.consuming import FastClock, Stage, ids
from tests.support.streams import STREAM
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


def holds(consumer: Consumer, number: int) -> bool:
    """Whether it has taken so many that are not acknowledged."""
    return consumer.statistics().held == number


async def test_put_back_keeps_the_order(stage: Stage) -> None:
    """What was not tried comes again behind what failed of its entity, and does not count as an attempt."""
    await stage.add("a", "a", "b", "a")
    seen = []
    async with stage.consumer() as consumer:
        async for batch in consumer.batches(10):
            seen.append([(each.event.subject, each.event.version, each.attempt) for each in batch])
            if len(seen) == 1:
                await batch.deliveries[0].fail("not now")
                batch.put_back()
            await batch.ack()
    assert seen[0] == [("a", 1, 1), ("a", 2, 1), ("b", 1, 1), ("a", 3, 1)]
    assert seen[1] == [("b", 1, 1)]
    assert [each for some in seen[2:] for each in some] == [("a", 1, 2), ("a", 2, 1), ("a", 3, 1)]


async def test_pauses_grow(stage: Stage) -> None:
    """Each attempt waits longer than the one before, up to a bound, and is counted in Redis."""
    (entry,) = await stage.add("a")
    clock, counted, times = FastClock(1000), [], []

    async def handle(delivery: Delivery) -> None:
        times.append(clock.monotonic())
        counted.append((delivery.attempt, (await stage.pending())[entry][1]))
        raise ValueError("never")

    async with stage.consumer(
        clock=clock, max_deliveries=6, backoff=Backoff(first=2, factor=3, most=40)
    ) as consumer:
        await consumer.run(handle)
        assert consumer.statistics().failed == 6
        assert consumer.statistics().dead == 1
    assert counted == [(number, number) for number in range(1, 7)]
    assert clock.drawn == [2, 6, 18, 40, 40]
    waited = [after - before for before, after in itertools.pairwise(times)]
    assert [seconds >= pause for seconds, pause in zip(waited, clock.drawn, strict=True)] == [True] * 5


async def test_a_dead_letter(stage: Stage) -> None:
    """After the last attempt the event is kept whole, with reason and trace, and the later ones go on."""
    first, _, other = await stage.add("a", "a", "b", data=b'{"id": "a"}')

    def broken() -> None:
        raise ValueError("no such warehouse")

    async def handle(delivery: Delivery) -> None:
        if delivery.event.subject == "a" and delivery.event.version == 1:
            broken()

    async with stage.consumer(max_deliveries=3) as consumer:
        await consumer.run(handle)
    (letter,) = await stage.letters()
    assert (letter.kind, letter.where, letter.subject, letter.group) == ("delivery", first, "a", "g")
    assert (letter.attempts, letter.consumer, letter.reason) == (3, "c1", "ValueError: no such warehouse")
    assert "in broken" in letter.trace
    assert letter.event is not None
    assert (letter.event.id, letter.event.entry_id) == ("order:a:1:00000000", first)
    assert letter.data == letter.event.data == b'{"id": "a"}'
    assert await stage.pending() == {}
    assert other


async def test_rejected_at_once(stage: Stage) -> None:
    """`Reject`, and `fail` without `retry`, make a dead letter of the first attempt."""
    await stage.add("a", "b")

    async def handle(delivery: Delivery) -> None:
        if delivery.event.subject == "a":
            raise Reject("unknown merchant")
        await delivery.fail("unknown currency", retry=False)

    async with stage.consumer() as consumer:
        await consumer.run(handle)
        assert len(await stage.letters()) == 2
    letters = {letter.subject: (letter.reason, letter.attempts) for letter in await stage.letters()}
    assert letters == {"a": ("unknown merchant", 1), "b": ("unknown currency", 1)}


async def test_a_reason_is_bounded(stage: Stage) -> None:
    """However long an error is, the letter is not."""
    await stage.add("a")

    async def handle(_: Delivery) -> None:
        raise ValueError("x" * 100_000)

    async with stage.consumer(max_deliveries=1) as consumer:
        await consumer.run(handle)
    (letter,) = await stage.letters()
    assert len(letter.reason) <= 1_000
    assert len(letter.trace) <= 8_000


async def test_one_that_kills_its_consumers(stage: Stage) -> None:
    """An event that was begun `max_deliveries` times and never answered is buried before it kills again."""
    (entry,) = await stage.add("a")
    await stage.group()
    await stage.read("c1", 1)
    for _ in range(2):
        async with stage.consumer(max_deliveries=3) as consumer:
            assert (await anext(consumer)).entry_id == entry
            await stage.die()
    assert (await stage.pending())[entry] == ("c1", 3)
    assert await stage.take(stage.consumer(max_deliveries=3)) == []
    (letter,) = await stage.letters()
    assert (letter.attempts, letter.subject) == (3, "a")
    assert "ended without an answer" in letter.reason


async def test_to_be_taken_is_not_to_be_tried(stage: Stage) -> None:
    """Consumers that die with events they had not begun do not use up the attempts of these."""
    entries = await stage.add(*(f"s{number}" for number in range(20)))
    await stage.group()
    await stage.read("c1", 20)
    for _ in range(4):
        async with stage.consumer(wait=True) as consumer:
            await eventually(partial(holds, consumer, 20))
            await stage.die()
    taken = await stage.take(stage.consumer(max_deliveries=3))
    assert ids(taken) == entries
    assert {delivery.attempt for delivery in taken} == {2}


async def test_no_event_at_all(stage: Stage) -> None:
    """What somebody else has written to the stream becomes a dead letter, and holds up nothing."""
    await stage.add("a")
    foreign = (await stage.redis.xadd(STREAM, {"hello": "world"})).decode()
    await stage.add("b")
    taken = await stage.take(stage.consumer())
    assert [delivery.event.subject for delivery in taken] == ["a", "b"]
    (letter,) = await stage.letters()
    assert (letter.where, letter.event) == (foreign, None)
    assert "not an event of ordermesh-sync" in letter.reason
    assert await stage.pending() == {}
