"""Reading the events of a stream in order, without a group."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ordersync_consumer.envelope import Event, parse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis


async def last(redis: Redis, stream: str, count: int) -> list[Event]:
    """Return the last `count` events, oldest first."""
    entries = await redis.xrevrange(stream, count=count) if count else []
    return [parse(entry_id, fields) for entry_id, fields in reversed(entries)]


async def follow(
    redis: Redis, stream: str, after: str, *, wait: bool = True, block_ms: int = 5000
) -> AsyncIterator[Event]:
    """Yield the events after the entry with the id `after`; with `wait` also new ones as they come, without end.

    `block_ms`: milliseconds for which a call waits for new events; less than the socket timeout of the client.
    """
    while True:
        result = await redis.xread({stream: after}, count=100, block=block_ms if wait else None)
        if not result and not wait:
            return
        for _, entries in result:
            for entry_id, fields in entries:
                after = entry_id.decode()
                yield parse(entry_id, fields)
