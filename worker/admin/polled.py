"""Which of the resources that a command names the live workers do not poll."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.service.presence import Presence

if TYPE_CHECKING:
    from collections.abc import Iterable

    from redis.asyncio import Redis

    from worker.keys import Keys


async def withdrawn(redis: Redis, keys: Keys, resources: Iterable[str]) -> list[str]:
    """Return those of `resources` that no live worker of the account polls; an empty list if no worker is alive."""
    workers = await Presence(redis, keys).alive()
    polled = set[str]().union(*(beat.polled for beat in workers))
    return [name for name in resources if workers and name not in polled]
