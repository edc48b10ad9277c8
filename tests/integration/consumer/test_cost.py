"""What an event costs, in counts: calls of Python, turns of the event loop, commands of Redis. No time is measured."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

import ordersync_consumer
from ordersync_consumer import Consumer, Delivery
from ordersync_consumer.clock import SystemClock
from tests.support.consuming import Stage

pytestmark = pytest.mark.anyio

EVENTS = 1_000
KIT = str(Path(ordersync_consumer.__file__).parent)


async def handle(_delivery: Delivery) -> None:
    """Look at it."""


async def run(consumer: Consumer) -> None:
    """Handle each event by itself, as `Consumer.run` does."""
    await consumer.run(handle, parallel=8)


async def batches(consumer: Consumer) -> None:
    """Take a hundred at a time, and acknowledge them together."""
    async for batch in consumer.batches(100):
        await batch.ack()


async def each(consumer: Consumer) -> None:
    """Take one at a time, and wait for Redis to have its acknowledgement."""
    async for delivery in consumer:
        await delivery.ack()


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count the calls of functions of the kit, and of callbacks by the event loop, in this thread."""
    counts: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            code = frame.f_code
            if code.co_filename.startswith(KIT):
                counts["calls"] += 1
            elif code.co_name == "_run_once":
                counts["turns"] += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        yield counts
    finally:
        sys.setprofile(before)


@pytest.mark.parametrize(
    ("way", "calls", "turns", "commands"),
    [
        pytest.param(run, 15.0, 0.4, 25, id="run"),
        pytest.param(batches, 13.2, 0.4, 25, id="batches"),
        pytest.param(each, 60.0, 7.0, 1_015, id="each"),
    ],
)
async def test_what_an_event_costs(
    stage: Stage, way: Callable[[Consumer], Awaitable[None]], calls: float, turns: float, commands: int
) -> None:
    """An event takes few calls and few turns of the loop; a command of Redis is shared by a hundred events."""
    await stage.add(*(f"s{number}" for number in range(EVENTS)))
    async with stage.consumer(group="warm") as consumer:  # imports what it needs: no cost of an event
        await way(consumer)
    await stage.redis.config_resetstat()
    with counted() as counts:
        async with stage.consumer(clock=SystemClock()) as consumer:
            await way(consumer)
    assert consumer.statistics().acknowledged == EVENTS
    made = {name: await stage.calls(name) for name in ("xack", "xreadgroup")}
    assert counts["calls"] / EVENTS <= calls
    assert counts["turns"] / EVENTS <= turns
    assert sum(made.values()) <= commands
