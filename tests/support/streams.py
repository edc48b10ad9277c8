"""Streams as the commit script writes them, made by hand: the same fields in the same order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from ordersync_consumer.envelope import FIELDS, event_id, event_type, sequence_text, source
from worker.keys import Keys

KEYS = Keys("default")
STREAM = KEYS.stream("orders")


def fields_of(number: int, data: bytes = b'{"id":"a"}', resource: str = "orders") -> dict[str, Any]:
    """The fields of the event with this sequence number."""
    subject = f"{number:024x}"
    values = {
        "specversion": "1.0",
        "id": event_id("order", subject, 1, 0),
        "source": source(KEYS.account, resource),
        "type": event_type("order", "created"),
        "subject": subject,
        "time": "2026-01-01T10:00:00.000Z",
        "datacontenttype": "application/json",
        "dataschema": "urn:ordersync:order:1",
        "sequence": sequence_text(number),
        "version": "1",
        "reason": "poll",
        "changed": "",
        "data": data,
    }
    assert tuple(values)[: len(FIELDS)] == FIELDS or set(FIELDS) >= set(values)
    return values


@dataclass(slots=True)
class Writer:
    """Writes events to one stream; `ids` are those of all that it has written."""

    redis: Redis
    stream: str = STREAM
    ids: list[str] = field(default_factory=list)

    async def add(
        self, count: int, *, data: bytes = b'{"id":"a"}', at: int | None = None, apart: int = 0
    ) -> list[str]:
        """Add events; with `at` the first one at that time (ms since 1970), the others `apart` ms from it."""
        pipe = self.redis.pipeline(transaction=False)
        for number in range(count):
            entry_id = "*" if at is None else f"{at + number * apart}-{0 if apart else number}"
            pipe.xadd(self.stream, fields_of(len(self.ids) + number + 1, data), id=entry_id)  # type: ignore[arg-type] # invariant dict
        added = [entry.decode() for entry in await pipe.execute()]
        self.ids += added
        return added

    async def left(self) -> list[str]:
        """The ids of the entries that are there."""
        return [entry_id.decode() for entry_id, _ in await self.redis.xrange(self.stream)]

    async def read(self, group: str, count: int, consumer: str = "c") -> list[str]:
        """Read as a consumer of the group; nothing is acknowledged."""
        found = await self.redis.xreadgroup(group, consumer, {self.stream: ">"}, count=count)
        return [entry_id.decode() for _, entries in found for entry_id, _ in entries]


_FILL = """
local stream, cursor = KEYS[1], KEYS[2]
local sequence = tonumber(redis.call('HGET', cursor, 'sequence') or 0)
for number = 1, tonumber(ARGV[1]) do
  sequence = sequence + 1
  local subject = string.format('%024x', sequence)
  redis.call('XADD', stream, '*', 'specversion', '1.0', 'id', subject, 'source', 'filler',
    'type', 'io.ordermesh.order.created', 'subject', subject, 'time', '2026-01-01T10:00:00.000Z',
    'datacontenttype', 'application/json', 'dataschema', 'filler', 'sequence', string.format('%016.0f', sequence),
    'version', '1', 'reason', 'poll', 'changed', '', 'data', ARGV[2])
end
redis.call('HSET', cursor, 'sequence', string.format('%.0f', sequence))
return sequence
"""
_FILLED_AT_ONCE = 1000


async def fill(redis: Any, count: int, resource: str = "orders", data: bytes = b'{"id":"filler"}') -> None:
    """Add events of other records to a stream, as commits of a worker would: 1,000,000 take some ten seconds."""
    for first in range(0, count, _FILLED_AT_ONCE):
        number = min(_FILLED_AT_ONCE, count - first)
        await redis.eval(_FILL, 2, KEYS.stream(resource), KEYS.cursor(resource), number, data)
