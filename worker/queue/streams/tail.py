"""Reading the events of a resource from its stream, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.queue.envelope import Event, parse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis


async def last(redis: Redis, stream: str, count: int) -> list[Event]:
    """The last `count` events, oldest first."""
    entries = await redis.xrevrange(stream, count=count) if count else []
    return [parse(entry_id, fields) for entry_id, fields in reversed(entries)]


async def follow(
    redis: Redis, stream: str, after: str, *, wait: bool = True, block_ms: int = 5000
) -> AsyncIterator[Event]:
    """Events behind the entry `after`, in order; with `wait` as they come, for ever, else to the end.

    `block_ms` must be below the socket timeout of the client.
    """
    while True:
        answer = await redis.xread({stream: after}, count=100, block=block_ms if wait else None)
        if not answer and not wait:
            return
        for _, entries in answer:
            for entry_id, fields in entries:
                after = entry_id.decode()
                yield parse(entry_id, fields)
