"""Counts what consumers miss and what they get twice while servers of Redis come and go."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping

from redis.asyncio import Redis

from ordersync_consumer import Consumer, Event
from ordersync_consumer.cancellation import end


class Tally:
    """What a consumer that takes each event id once was told of each record."""

    def __init__(self) -> None:
        self.last: dict[str, bytes] = {}
        self.redelivered = 0
        self._ids: set[str] = set()
        self._told: Counter[tuple[str, bytes]] = Counter()

    def take(self, event: Event) -> None:
        """Take an event that was delivered."""
        if event.id in self._ids:
            self.redelivered += 1
            return
        self._ids.add(event.id)
        self._told[event.subject, event.data] += 1
        self.last[event.subject] = event.data

    @property
    def taken(self) -> int:
        """How many events were taken."""
        return len(self._ids)

    @property
    def twice(self) -> list[str]:
        """The records of which the same content was told twice, under two ids."""
        return [subject for (subject, _), count in self._told.items() if count > 1]

    def missing(self, truth: Mapping[str, bytes]) -> list[str]:
        """The records of which the last that was told is not the truth."""
        return [name for name, raw in truth.items() if self.last.get(name) != raw]


@contextlib.asynccontextmanager
async def tallied(client: Redis, account: str = "default") -> AsyncIterator[Tally]:
    """Consume the orders of an account while the block runs."""
    tally = Tally()

    async def work() -> None:
        async with Consumer(
            client, group="tally", resources="orders", account=account, name="t-1", block=0.2, claim_after=1.0
        ) as consumer:
            async for delivery in consumer:
                tally.take(delivery.event)
                await delivery.ack()

    task = asyncio.ensure_future(work())
    try:
        yield tally
        assert not task.done(), task.exception()
    finally:
        await end(task)
