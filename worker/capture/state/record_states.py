"""Iterate over all known records of a resource, in an order that allows an iteration to be resumed.

The order is by bucket, then by packed id. A record that is added during the iteration may be returned or not.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from worker.capture.records.fingerprint import RecordState, bucket_of, pack_id, unpack_id
from worker.redis.connections import answer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from redis.asyncio import Redis

BUCKETS_AT_ONCE = 16
"""Buckets that are fetched together: some hundreds of records."""


class ScanPosition(NamedTuple):
    """The position of an iteration: in this bucket, after the record with this packed id in hex digits."""

    bucket: int = 0
    after: str = ""


class StoredRecord(NamedTuple):
    """A record that an iteration returned: its id, the position after it, and whether a person has erased it."""

    identifier: str
    place: ScanPosition
    is_erased: bool = False


async def walk(redis: Redis, seen: str, buckets: int, start: ScanPosition) -> AsyncGenerator[StoredRecord]:
    """Yield the records whose states are in the hashes `seen`, after a position, except those published as deleted."""
    for first in range(start.bucket, buckets, BUCKETS_AT_ONCE):
        numbers = range(first, min(first + BUCKETS_AT_ONCE, buckets))
        async with redis.pipeline(transaction=False) as pipe:
            for number in numbers:
                pipe.hgetall(f"{seen}:{number}")
            result: Sequence[dict[bytes, bytes]] = await pipe.execute()
        for number, states in zip(numbers, result, strict=True):
            after = bytes.fromhex(start.after) if number == start.bucket else b""
            for key in sorted(states):
                identifier = unpack_id(key)
                if key <= after or identifier is None:
                    continue
                state = unpacked(states[key])
                if state is None or not state.is_gone:
                    is_erased = state is not None and state.is_erased
                    yield StoredRecord(identifier, ScanPosition(number, key.hex()), is_erased)


async def some_of(redis: Redis, seen: str, buckets: int, start: int, limit: int) -> list[str]:
    """Return the ids of up to `limit` records, beginning with the bucket `start`; all of them if there are no more."""
    found = list[str]()
    for first in (ScanPosition(start), ScanPosition()):
        async with aclosing(walk(redis, seen, buckets, first)) as records:
            async for record in records:
                if record.identifier not in found and not record.is_erased:
                    found.append(record.identifier)
                if len(found) == limit:
                    return found
    return found


async def states_of(redis: Redis, seen: str, buckets: int, identifiers: Sequence[str]) -> list[bytes]:
    """Return the current packed states of records, in their order; b"" for an unknown record."""
    if not identifiers:
        return []
    keys = [pack_id(identifier) for identifier in identifiers]
    async with redis.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.hget(f"{seen}:{bucket_of(key, buckets)}", cast("Any", key))
        return [state or b"" for state in await pipe.execute()]


async def buckets_of(redis: Redis, cursor: str) -> int:
    """Return the number of hashes, from the cursor of a resource; 0 if it was never read."""
    result = await answer(redis.hget(cursor, "buckets"))
    return int(result) if result and result.isdigit() else 0


def unpacked(state: bytes) -> RecordState | None:
    """Return an unpacked state; None if there is none, or this program did not write it."""
    try:
        return RecordState.unpack(state) if state else None
    except ValueError:
        return None
