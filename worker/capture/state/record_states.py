"""Iterate over all known records of a resource, in an order that allows an iteration to be resumed.

The order is by bucket, then by packed id. A record that is added during the iteration may be returned or not.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, NamedTuple

from worker.cancellation import finish
from worker.capture.records.fingerprint import RecordState, bucket_of, pack_id, unpack_id
from worker.capture.state.packing import packb
from worker.capture.state.position import ScanPosition
from worker.redis import scripts
from worker.redis.connections import answer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from redis.asyncio import Redis

BUCKETS_AT_ONCE = 16
"""Buckets that are fetched together: some hundreds of records."""


class StoredRecord(NamedTuple):
    """A record that an iteration returned: its id, the position after it, and whether a person has erased it."""

    identifier: str
    place: ScanPosition
    is_erased: bool = False


async def walk(redis: Redis, seen: str, buckets: int, start: ScanPosition) -> AsyncGenerator[StoredRecord]:
    """Yield the records whose states are in the hashes `seen`, after a position, except those published as deleted."""
    script = scripts.load(redis, "worker.capture", "contents")
    for first in range(start.bucket, buckets, BUCKETS_AT_ONCE):
        numbers = range(first, min(first + BUCKETS_AT_ONCE, buckets))
        result: Sequence[Sequence[bytes]] = await finish(script(keys=[seen], args=[first, numbers.stop]))
        for number, flat in zip(numbers, result, strict=True):
            states = dict(zip(flat[::2], flat[1::2], strict=True))
            after = bytes.fromhex(start.after) if number == start.bucket else b""
            for key in sorted(states):
                identifier = unpack_id(key)
                if key <= after or identifier is None:
                    continue
                state = unpacked(states[key])
                if state is None or not state.is_gone:
                    is_erased = state is not None and state.is_erased
                    yield StoredRecord(identifier, ScanPosition(number, key.hex()), is_erased)


async def some_of(
    redis: Redis, seen: str, buckets: int, limit: int, uniform: Callable[[float, float], float]
) -> list[str]:
    """Return the ids of up to `limit` records, drawn by `uniform` from the buckets of a call, or more.

    Each of these is as likely: the first ones by id are often the oldest, and deleted together.
    """
    found, start = dict[str, None](), int(uniform(0, buckets)) // BUCKETS_AT_ONCE * BUCKETS_AT_ONCE
    for first in (ScanPosition(start), ScanPosition()):
        end = first.bucket + BUCKETS_AT_ONCE
        async with aclosing(walk(redis, seen, buckets, first)) as records:
            async for record in records:
                if record.place.bucket >= end and len(found) >= limit:
                    break
                if not record.is_erased:
                    found[record.identifier] = None
        if len(found) >= limit:
            break
    left = list(found)
    return [left.pop(min(int(uniform(0, len(left))), len(left) - 1)) for _ in range(min(limit, len(left)))]


async def states_of(redis: Redis, seen: str, buckets: int, identifiers: Sequence[str]) -> list[bytes]:
    """Return the current packed states of records, in their order; b"" for an unknown record."""
    if not identifiers:
        return []
    requested = list[int | bytes]()
    for key in map(pack_id, identifiers):
        requested += (bucket_of(key, buckets), key, b"")  # no state has such bytes, so all are returned
    script = scripts.load(redis, "worker.capture", "lookup")
    found, _ = await finish(script(keys=[seen], args=[packb(requested), ""]))
    states = dict(zip(found[::2], found[1::2], strict=True))
    return [states.get(at, b"") for at in range(len(identifiers))]


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
