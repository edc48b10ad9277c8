"""A stage for consumers: streams with events of chosen entities. Its fixtures: integration/queue/conftest.py."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from redis.asyncio import Redis

from ordersync_consumer import Consumer, Delivery
from ordersync_consumer.dead import DeadLetter, DeadLetters
from ordersync_consumer.envelope import event_id
from tests.support.streams import KEYS, fields_of


class FastClock:
    """Time that passes a hundred times as fast; random numbers are the highest. `drawn`: those that were asked for."""

    def __init__(self, speed: float = 100.0) -> None:
        self._speed = speed
        self.drawn: list[float] = []

    def now(self) -> float:
        """Seconds since 1970: those of the machine."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic() * self._speed

    async def sleep(self, seconds: float) -> None:
        """Wait, a hundredth as long."""
        await asyncio.sleep(seconds / self._speed)

    def uniform(self, low: float, high: float) -> float:  # noqa: ARG002 - the names are the protocol's
        """The highest number."""
        self.drawn.append(high)
        return high


class Stage:
    """Streams, and consumers that read them."""

    def __init__(self, client: Redis) -> None:
        self.redis = client
        self._versions: dict[tuple[str, str], int] = {}
        self._written = 0

    async def add(self, *subjects: str, resource: str = "orders", data: bytes = b'{"id":"a"}') -> list[str]:
        """An event of each of these entities, in this order; versions count on. The ids of the entries."""
        pipe = self.redis.pipeline(transaction=False)
        for subject in subjects:
            version = self._versions[resource, subject] = self._versions.get((resource, subject), 0) + 1
            self._written += 1
            fields = fields_of(self._written, data, resource) | {
                "id": event_id("order", subject, version, 0),
                "subject": subject,
                "version": str(version),
            }
            pipe.xadd(KEYS.stream(resource), fields)  # type: ignore[arg-type] # invariant dict
        return [entry.decode() for entry in await pipe.execute()]

    def consumer(self, name: str = "c1", group: str = "g", **options: Any) -> Consumer:
        """A consumer of the orders that ends with nothing left, and does not wait long for anything."""
        defaults: dict[str, Any] = {
            "resources": ["orders"],
            "wait": False,
            "block": 0.05,
            "clock": FastClock(),
        }
        return Consumer(self.redis, group=group, name=name, **defaults | options)

    async def take(self, consumer: Consumer) -> list[Delivery]:
        """Every delivery until there is none; each is acknowledged."""
        taken = []
        async with consumer:
            async for delivery in consumer:
                taken.append(delivery)
                await delivery.ack()
        return taken

    async def group(self, group: str = "g", resource: str = "orders") -> None:
        """Make a group that has read nothing."""
        await self.redis.xgroup_create(KEYS.stream(resource), group, id="0", mkstream=True)

    async def read(self, consumer: str, count: int, group: str = "g", resource: str = "orders") -> list[str]:
        """Read with a plain client that then does nothing more."""
        found = await self.redis.xreadgroup(group, consumer, {KEYS.stream(resource): ">"}, count=count)
        return [entry_id.decode() for _, entries in found for entry_id, _ in entries]

    async def lie_idle(
        self, consumer: str, *ids: str, group: str = "g", milliseconds: int = 3_600_000
    ) -> None:
        """Let nobody have touched these entries for so long."""
        stream = KEYS.stream("orders")
        await self.redis.xclaim(stream, group, consumer, 0, list(ids), idle=milliseconds, justid=True)

    async def die(self, consumer: str = "c1") -> None:
        """Let a consumer that runs leave as if it were killed: it may not give anything back any more."""
        await self.redis.set(KEYS.consumer_lock("orders", "g", consumer), "another process")

    async def pending(self, group: str = "g", resource: str = "orders") -> dict[str, tuple[str, int]]:
        """What is pending: id, whose it is, how often it was delivered."""
        found = await self.redis.xpending_range(KEYS.stream(resource), group, "-", "+", 10_000)
        return {
            each["message_id"].decode(): (each["consumer"].decode(), each["times_delivered"])
            for each in found
        }

    async def letters(self, resource: str = "orders") -> list[DeadLetter]:
        """The dead letters, oldest first."""
        return [letter async for letter in DeadLetters(self.redis, KEYS).each(resource)]

    async def calls(self, command: str) -> int:
        """How often a command was called on this server, by anyone."""
        facts = await self.redis.info("commandstats")
        return int(facts.get(f"cmdstat_{command}", {"calls": 0})["calls"])


def ids(deliveries: list[Delivery]) -> list[str]:
    """The ids of their entries."""
    return [delivery.entry_id for delivery in deliveries]
