"""Reading the events of a stream in order, without a group."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ordersync_consumer.envelope import Event, parse
from ordersync_consumer.errors import DataError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from redis.asyncio import Redis

    Foreign = Callable[[str, DataError], None]


async def last(
    redis: Redis, stream: str, count: int, *, on_foreign: Foreign | None = None
) -> tuple[list[Event], str]:
    """Return the events among the last `count` entries, oldest first, and the id of the last entry; "0" for none.

    `on_foreign`: called with the id of an entry that is not an event, and why; it is passed over.

    Raises:
        DataError: An entry is not an event, and there is no `on_foreign`.

    """
    entries = await redis.xrevrange(stream, count=count) if count else []
    events = [_parsed(entry_id, fields, on_foreign) for entry_id, fields in reversed(entries)]
    return [event for event in events if event is not None], entries[0][0].decode() if entries else "0"


async def follow(
    redis: Redis,
    stream: str,
    after: str,
    *,
    wait: bool = True,
    block_ms: int = 5000,
    on_foreign: Foreign | None = None,
) -> AsyncIterator[Event]:
    """Yield the events after the entry with the id `after`; with `wait` also new ones as they come, without end.

    `block_ms`: milliseconds for which a call waits for new events; less than the socket timeout of the client.
    `on_foreign`: as in `last`.

    Raises:
        DataError: as `last`.

    """
    while True:
        result = await redis.xread({stream: after}, count=100, block=block_ms if wait else None)
        if not result and not wait:
            return
        for _, entries in result:
            for entry_id, fields in entries:
                after = entry_id.decode()
                event = _parsed(entry_id, fields, on_foreign)
                if event is not None:
                    yield event


def _parsed(entry_id: bytes, fields: Mapping[bytes, bytes], on_foreign: Foreign | None) -> Event | None:
    try:
        return parse(entry_id, fields)
    except DataError as error:
        if on_foreign is None:
            raise
        on_foreign(entry_id.decode(), error)
        return None
