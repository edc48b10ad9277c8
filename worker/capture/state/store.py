"""The state of one resource of one account in Redis: record states, field names, cursor. `Committer` changes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from worker.cancellation import finish
from worker.capture.records.fields import FieldIndex
from worker.capture.records.fingerprint import bucket_of, pack_id, unpack_id
from worker.capture.records.payload import AS_SERVED, PayloadOptions
from worker.capture.state.committer import Committer
from worker.capture.state.cursor import Cursor
from worker.capture.state.given_out import GivenOut
from worker.capture.state.known_bytes import KnownBytesPool
from worker.capture.state.packing import packb, unpack_within
from worker.capture.state.scan_marks import ScanMarks
from worker.capture.state.stale_records import StaleMark
from worker.config.sections import NO_REPLICAS, Replicas
from worker.redis import scripts
from worker.redis.connections import answer
from worker.redis.stored import text_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from worker.capture.records.raw_records import RawRecord
    from worker.capture.resources import Captured
    from worker.capture.state.commit import Commit, Packed
    from worker.capture.state.given_out import SourceNumbers
    from worker.keys import Keys

COUNTED_AT_ONCE = 4096
"""Buckets whose states one call counts."""
BUCKETS_AT_ONCE = 64
"""Buckets that one call searches for unseen records: a call must not block Redis for long."""


@dataclass(frozen=True, slots=True)
class UnseenRecords:
    """Known records that a full scan did not return: the ids of some, or all, and how many they are.

    Likewise the numbers of known records and of assigned places.
    """

    identifiers: Sequence[str]
    count: int
    tracked: int
    places: int


class StateStore:
    """The keys of one resource, or audit log, of one account.

    Two runs may commit at the same time: the commit detects a state that has changed since it was looked up.

    Args:
        redis: The client.
        keys: The keys of the account.
        resource: The resource or audit log.
        payload: How its records are written into events.
        lease: The name of the lease that commits check; "" for the lease of the resource.
        numbers: What is known to be given out of the resource; without it nothing is.
        known: What this process knows of the bytes of records, which follows the commits.
        replicas: How many replicas have to have a commit.

    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        resource: Captured,
        payload: PayloadOptions = AS_SERVED,
        *,
        lease: str = "",
        numbers: SourceNumbers | None = None,
        known: KnownBytesPool | None = None,
        replicas: Replicas = NO_REPLICAS,
    ) -> None:
        self._redis, self._keys, self._resource, self._payload = redis, keys, resource, payload
        self._lookup = scripts.load(redis, "worker.capture", "lookup")
        self._fields = scripts.load(redis, "worker.capture", "fields")
        self._missing = scripts.load(redis, "worker.capture", "missing")
        self._states = scripts.load(redis, "worker.capture", "states")
        self._seen = keys.states(resource.name)
        self.scan_marks = ScanMarks(redis, keys.scan_bitmap(resource.name))
        self._committer = Committer(
            redis,
            keys,
            resource,
            payload,
            lease=lease,
            numbers=numbers or GivenOut().of(keys, resource.name),
            known=known or KnownBytesPool(0),
            replicas=replicas,
            scan_marks=self.scan_marks,
        )

    async def load_cursor(self) -> Cursor:
        """Return the cursor; a default one for a resource that was never read.

        Raises:
            DataError: A value is not one that this program writes.

        """
        key = self._keys.cursor(self._resource.name)
        return Cursor.parse(await answer(self._redis.hgetall(key)), key)

    async def load_fields(self) -> FieldIndex:
        """Return the field names that have a position."""
        key = self._keys.fields(self._resource.name)
        return FieldIndex(_names(await answer(self._redis.lrange(key, 0, -1))))

    async def extend_fields(self, fields: FieldIndex, names: Sequence[str]) -> None:
        """Append unknown `names` to the field names. Idempotent, and safe to do concurrently."""
        new = fields.unknown(names)
        if new:
            key = self._keys.fields(self._resource.name)
            fields.update(_names(await finish(self._fields(keys=[key], args=new))))

    async def differing(
        self, observed: Sequence[RawRecord], buckets: int, *, mark: bool = False, every: bool = False
    ) -> dict[int, bytes]:
        """Return the indices of the records whose fingerprints differ from the stored ones, with their packed states.

        Args:
            observed: The records.
            buckets: Number of hashes that store the states.
            mark: Mark those whose fingerprints are equal as seen by the full scan; the commit marks the others.
            every: Return the indices of all records, including unchanged ones.

        """
        if not observed:
            return {}
        requested: list[int | bytes] = []
        for record in observed:
            requested += (bucket_of(record.key, buckets), record.key, b"" if every else record.raw)
        result, places = await finish(
            self._lookup(keys=[self._seen], args=[packb(requested), "1" if mark else ""])
        )
        await self.scan_marks.add(places)
        return dict(zip(result[::2], result[1::2], strict=True))

    async def mark_of(self, name: str) -> str:
        """Return a field of the cursor's hash that is not the poll's, such as the bookmark of a resync; or ""."""
        cursor = self._keys.cursor(self._resource.name)
        result: bytes | None = await answer(cast("Any", self._redis.hget(cursor, name)))
        return text_of(result)

    async def marks(self, start: str) -> list[str]:
        """Return the names of the fields of the cursor's hash that begin with `start`."""
        names = await answer(self._redis.hkeys(self._keys.cursor(self._resource.name)))
        return [item for name in names if (item := text_of(name)).startswith(start)]

    async def drop_mark(self, name: str) -> None:
        """Remove a field of the cursor's hash."""
        await finish(answer(self._redis.hdel(self._keys.cursor(self._resource.name), name)))

    async def begin_sweep(self) -> None:
        """Clear the bitmap of seen records when a full scan begins, before anything is noted in it."""
        self.scan_marks.begin()

    async def shown(self) -> int:
        """Return how many records the full scan has seen."""
        return await self.scan_marks.count()

    async def missing(self, buckets: int, limit: int, *, shown_in: str = "") -> UnseenRecords:
        """Return the known records that the full scan has not seen, with at most `limit` of their ids.

        `shown_in`: the bitmap of a resync, to return those that it has not seen.
        """
        await self.scan_marks.flush()
        bitmap, result = shown_in or self._keys.scan_bitmap(self._resource.name), list[str]()
        count = tracked = places = 0
        for bucket in range(0, buckets, BUCKETS_AT_ONCE):
            end = min(bucket + BUCKETS_AT_ONCE, buckets)
            here, highest, unseen, *packed = await self._missing(
                keys=[self._seen, bitmap], args=[bucket, end, limit - len(result)]
            )
            result += [identifier for item in packed if (identifier := unpack_id(item)) is not None]
            count, tracked, places = count + unseen, tracked + here, max(places, highest)
        return UnseenRecords(result, count, tracked, places)

    async def count_lost(self, cursor: Cursor) -> int:
        """Return how many states are gone, beside those that are known to be: each has a place of its own, for good."""
        places = await answer(cast("Any", self._redis.hget(self._keys.cursor(self._resource.name), "places")))
        count = 0
        for bucket in range(0, cursor.buckets, COUNTED_AT_ONCE):
            end = min(bucket + COUNTED_AT_ONCE, cursor.buckets)
            count += int(await self._states(keys=[self._seen], args=[bucket, end]))
        return int(places or 0) - cursor.lost_states - count

    async def deletes_accepted(self) -> bool:
        """True if a user has accepted that the next full scan may delete any number of records."""
        return bool(await answer(self._redis.hexists(self._keys.accepted, self._resource.name)))

    async def forget_acceptance(self) -> None:
        """Remove the acceptance, which is valid for one full scan."""
        await finish(answer(self._redis.hdel(self._keys.accepted, self._resource.name)))

    async def state_of(self, identifier: str, buckets: int) -> bytes:
        """Return the packed state of a record; b"" for an unknown record."""
        key = pack_id(identifier)
        bucket = f"{self._seen}:{bucket_of(key, buckets)}"
        stored: bytes | None = await answer(cast("Any", self._redis.hget(bucket, cast("str", key))))
        return stored or b""

    async def nested(self, identifier: str, buckets: int) -> list[str]:
        """Return the ids of the nested objects of a record that have audit logs, as it was published last."""
        key = pack_id(identifier)
        bucket = f"{self._keys.nested_ids(self._resource.name)}:{bucket_of(key, buckets)}"
        packed: bytes | None = await answer(cast("Any", self._redis.hget(bucket, cast("str", key))))
        return [item for group in unpack_within(packed) for item in group] if packed else []

    async def absent(self, identifiers: Sequence[str]) -> dict[str, int]:
        """Return the records among these that a full scan did not return, with the number of "not found" answers."""
        if not identifiers:
            return {}
        result: Sequence[bytes | None] = await answer(
            self._redis.hmget(self._keys.unconfirmed_deletes(self._resource.name), list(identifiers))
        )
        pairs = zip(identifiers, result, strict=True)
        return {identifier: int(count) for identifier, count in pairs if count is not None}

    async def stale_marks(self, keys: Sequence[bytes]) -> dict[bytes, StaleMark]:
        """Return the records among these packed ids that are stale, with what was shown of them."""
        if not keys:
            return {}
        name = self._keys.stale(self._resource.name)
        result = await answer(self._redis.hmget(name, cast("list[str]", list(keys))))
        marks = {key: StaleMark.parse(text) for key, text in zip(keys, result, strict=True) if text}
        return {key: mark for key, mark in marks.items() if mark is not None}

    async def stale_but_in(self, scan: float) -> list[bytes]:
        """Return the packed ids of the stale records that the full scan which began at `scan` has not shown as such."""
        marks = await answer(self._redis.hgetall(self._keys.stale(self._resource.name)))
        parsed = {key: StaleMark.parse(text) for key, text in marks.items()}
        return [key for key, mark in parsed.items() if mark is None or mark.scan != scan]

    async def all_absent(self) -> dict[str, int]:
        """Return every record with an unconfirmed delete, with the number of "not found" answers."""
        result = await answer(self._redis.hgetall(self._keys.unconfirmed_deletes(self._resource.name)))
        return {
            identifier.decode("utf-8", "surrogatepass"): int(count) for identifier, count in result.items()
        }

    async def waiting(self, members: Sequence[str]) -> set[str]:
        """Return the members among these that are in the refresh queue, due now or later."""
        key = self._keys.refresh_queue(self._resource.name)
        scores = await answer(self._redis.zmscore(key, list(members))) if members else []
        return {member for member, score in zip(members, scores, strict=True) if score is not None}

    def pack(self, commit: Commit) -> Packed | None:
        """Return what `commit` will write of the changes; see `Committer.pack`."""
        return self._committer.pack(commit)

    async def commit(self, commit: Commit) -> bool:
        """Write events, record states and progress; see `Committer.commit`."""
        return await self._committer.commit(commit)

    async def settle(self, buckets: int) -> None:
        """Delete the records stored for old values, unless old values are enabled with the same privacy policy.

        Called once in the life of a process, under the lease.
        """
        tag = self._payload.tag.hex().encode() if self._payload.previous else b""
        key = self._keys.last_published(self._resource.name)
        if (await self._redis.get(key) or b"") == tag:
            return
        for start in range(0, buckets, 1000):
            end = min(start + 1000, buckets)
            await self._redis.unlink(*[f"{key}:{bucket}" for bucket in range(start, end)])
        await (self._redis.set(key, tag) if tag else self._redis.delete(key))


def _names(raw: Sequence[bytes]) -> list[str]:
    return [name.decode("utf-8", "surrogatepass") for name in raw]
