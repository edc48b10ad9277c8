"""The state of one resource of one account in Redis: record states, field names, cursor, run records.

Records and progress are written by one script, `commit.lua`, which documents its guarantees.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import redis.exceptions

from ordersync_consumer import envelope
from worker.cancellation import finish
from worker.capture.records.diff import PUBLISHED, Action
from worker.capture.records.fields import FieldIndex
from worker.capture.records.fingerprint import RecordState, bucket_of, pack_id, unpack_id
from worker.capture.records.payload import AS_SERVED, PayloadOptions, unpack_last
from worker.capture.registry import RESOURCES
from worker.capture.resources import Resource
from worker.capture.state.commit import new_commit_id
from worker.capture.state.cursor import Cursor
from worker.capture.state.given_out import GivenOut
from worker.capture.state.known_bytes import AsOf, KnownBytesPool
from worker.capture.state.packing import CommitPacker, packb, unpack_within
from worker.capture.state.refresh_queue import follow_ups
from worker.capture.state.replicas import run_confirmed
from worker.capture.state.scan_marks import ScanMarks
from worker.capture.state.stale_records import StaleMark
from worker.config.sections import NO_REPLICAS, Replicas
from worker.errors import LeaseLost, RedisWentBack
from worker.redis import scripts
from worker.redis.connections import answer
from worker.redis.stored import text_of
from worker.telemetry import tracing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from redis.asyncio import Redis

    from worker.capture.records.diff import Change
    from worker.capture.records.raw_records import RawRecord
    from worker.capture.resources import Captured
    from worker.capture.state.commit import Commit, Packed
    from worker.capture.state.given_out import SourceNumbers
    from worker.capture.state.known_bytes import Moved
    from worker.keys import Keys

RUNS_KEPT = 10_000
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
        self._replicas = replicas
        self._redis, self._keys, self._resource, self._payload = redis, keys, resource, payload
        self._lookup = scripts.load(redis, "worker.capture", "lookup")
        self._commit = scripts.load(redis, "worker.capture", "commit", begin=("bits", "chain"))
        self._progress = scripts.load(redis, "worker.capture", "progress", begin=("chain",))
        self._fields = scripts.load(redis, "worker.capture", "fields")
        self._missing = scripts.load(redis, "worker.capture", "missing")
        self._states = scripts.load(redis, "worker.capture", "states")
        self._numbers = numbers or GivenOut().of(keys, resource.name)
        self._known = known or KnownBytesPool(0)
        self.scan_marks = ScanMarks(redis, keys.scan_bitmap(resource.name))
        self._follow_ups = resource.follow_ups if isinstance(resource, Resource) else ()
        self._with_past = tuple(
            replace(item, snapshots=item.snapshots or item.target not in RESOURCES)
            for item in self._follow_ups
        )
        name = resource.name
        self._seen, self._open = keys.states(name), keys.open(name)
        self._commit_keys = [
            keys.lease(lease or name),
            keys.cursor(name),
            keys.stream(name),
            keys.dead(name),
            keys.runs,
            self._seen,
            keys.last_published(name),
            keys.refresh_queue(name),
            keys.unconfirmed_deletes(name),
            keys.scan_bitmap(name),
            keys.nested_ids(name),
            keys.stale(name),
        ]
        self._has_nested = any(item.is_within for item in self._follow_ups)
        self._targets = list(dict.fromkeys(each.target for each in self._follow_ups))
        self._commit_keys += [keys.refresh_queue(target) for target in self._targets]
        self._source = envelope.source(keys.account, name)
        self._schema = envelope.data_schema(resource.entity, resource.schema_version)
        self._packer = CommitPacker(resource.entity, payload, self._follow_ups)

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
        """Return what `commit` will write of the changes; None if it depends on what is stored by then.

        A dead letter says where its record was read, which only the commit itself knows.
        """
        if self._payload.previous or Action.UNREADABLE in {change.action for change in commit.changes}:
            return None
        return self._packer.pack(commit, {})

    async def commit(self, commit: Commit) -> bool:
        """Write events, record states and progress in one script, which a cancellation does not interrupt.

        Returns:
            True if the commit was written. False if nothing was written, because another run has committed one of
            these records since it was looked up.

        Raises:
            LeaseLost: Another worker holds the lease; nothing was written.
            RedisWentBack: Redis holds less than was committed before; nothing was written.

        """
        if commit.is_progress:
            return await self._commit_progress(commit)
        if commit.opened:
            await finish(answer(self._redis.sadd(self._open, *commit.opened)))
        changes, buckets, refresh = commit.changes, commit.buckets, commit.refresh
        lasts = await self._last_of(changes, buckets) if self._payload.previous else {}
        befores = await self._within_of(changes, buckets) if self._has_nested else {}
        packed = commit.packed or self._packer.pack(commit, lasts)
        shared = [envelope.SPEC_VERSION, self._source, envelope.CONTENT_TYPE, self._schema, commit.reason]
        shared.append(self._packer.traceparent())
        more = [
            refresh.at,
            list(refresh.done),
            [item for pair in refresh.later.items() for item in pair],
            [item for pair in refresh.absent.items() for item in pair],
            list(refresh.present),
            self._due(changes, befores, commit=commit),
            "1" if refresh.scan or refresh.shown_in else "",
            refresh.stale_in,
            list(refresh.settled),
            list(refresh.places),
        ]
        cursor = _flat({**commit.cursor, **commit.bookmarks})
        known, this = self._numbers.sequence, new_commit_id(commit.fence)
        numbers = [this, str(known), str(commit.generation)]
        payload = [
            str(commit.fence),
            shared,
            packed.dead,
            cursor,
            _flat(commit.run),
            RUNS_KEPT,
            more,
            numbers,
        ]
        count = len(packed.data)
        with tracing.span("commit", account=self._keys.account, resource=self._resource.name, events=count):
            await self.scan_marks.flush()
            args = [packb(payload), packed.changes, packed.events, *packed.data]
            status, told = await self._followed(commit, this, args, publishes=count)
        return self._judge(commit, status, told, known)

    async def _commit_progress(self, commit: Commit) -> bool:
        """Write progress alone; see `commit`. It is what nearly every poll ends with."""
        known = self._numbers.sequence
        as_of = [commit.as_of.committed, str(commit.as_of.sequence)] if commit.as_of else False
        args = [
            str(commit.fence),
            new_commit_id(commit.fence),
            str(known),
            str(commit.generation),
            _flat({**commit.cursor, **commit.bookmarks}),
            _flat(commit.run),
            RUNS_KEPT,
            "1" if commit.release else "",
            as_of,
            list(commit.opened),
        ]
        lease, cursor, stream, _, runs, *_ = self._commit_keys
        with tracing.span("commit", account=self._keys.account, resource=self._resource.name, events=0):
            if not commit.ends_scan:
                await self.scan_marks.flush()
            keys = [lease, cursor, stream, runs, self._open]
            status, *told = await finish(
                run_confirmed(self._redis, self._progress, keys, [packb(args)], self._replicas)
            )
        return self._judge(commit, status, told[0] if told else b"0", known)

    def _judge(self, commit: Commit, status: bytes, told: bytes, known: int) -> bool:
        """Return whether a commit was written, from what its script has answered; see `commit`."""
        match status:
            case b"fenced":
                raise LeaseLost(self._resource.name, commit.fence)
            case b"went_back":
                raise RedisWentBack(self._resource.name, known, int(told))
            case b"ok":
                self._numbers.note(int(told))
        return status == b"ok"

    async def _followed(
        self, commit: Commit, this: str, args: Sequence[Any], *, publishes: int
    ) -> tuple[bytes, bytes]:
        """Run the script, and apply the commit to what this process knows of the bytes of records."""
        shown_in, known = commit.refresh.shown_in, self._known.get(self._seen)
        if known is None or not (commit.changes or commit.recorded or commit.erased):
            status, told, *_ = await self._send(args, shown_in, publishes=publishes > 0)
            return status, told
        async with known.lock:
            status, told, *more = await self._send(args, shown_in, publishes=publishes > 0)
            if status == b"ok":
                committed, first_place = more
                before = AsOf(committed, int(told) - publishes)
                known.follow(_moved(commit), before, AsOf(this.encode(), int(told)), int(first_place or 0))
        if self._known.get(self._seen) is known:
            self._known.hold(self._seen, known)
        return status, told

    async def _send(self, args: Sequence[Any], shown_in: str, *, publishes: bool) -> list[bytes]:
        """Run the script; return its answer."""
        bitmap = self._keys.scan_bitmap(self._resource.name)
        keys = [shown_in if shown_in and key == bitmap else key for key in self._commit_keys]
        try:
            return cast(
                "list[bytes]",
                await finish(run_confirmed(self._redis, self._commit, keys, args, self._replicas)),
            )
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError):
            if publishes:
                self._numbers.doubt()
            raise

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

    async def _last_of(self, changes: Sequence[Change], buckets: int) -> dict[bytes, bytes]:
        """Return the stored records that these changes replace, as they were published, by key.

        They belong to the states that were looked up before; otherwise the commit detects a conflict.
        """
        updated = [change for change in changes if change.action is Action.UPDATED]
        if not updated:
            return {}
        prefix = self._keys.last_published(self._resource.name)
        async with self._redis.pipeline(transaction=False) as pipe:
            for change in updated:
                key = change.observed.key
                pipe.hget(f"{prefix}:{bucket_of(key, buckets)}", cast("str", key))
            result = await pipe.execute()
        lasts = {}
        for change, packed in zip(updated, result, strict=True):
            version = RecordState.unpack(change.before).version
            last = unpack_last(packed, version, self._payload.tag) if packed else None
            if last is not None:
                lasts[change.observed.key] = last
        return lasts

    async def _within_of(self, changes: Sequence[Change], buckets: int) -> dict[bytes, list[list[str]]]:
        """Return the nested ids of these records as they were published last, by key. See `_last_of` for conflicts."""
        keys = [change.observed.key for change in changes if change.action in PUBLISHED]
        prefix = self._keys.nested_ids(self._resource.name)
        async with self._redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hget(f"{prefix}:{bucket_of(key, buckets)}", cast("str", key))
            result = await pipe.execute()
        return {key: unpack_within(packed) for key, packed in zip(keys, result, strict=True) if packed}

    def _due(
        self, changes: Sequence[Change], befores: Mapping[bytes, list[list[str]]], *, commit: Commit
    ) -> list[list[object]]:
        """Return the members to add to each refresh queue, which is named by its index in the keys of the commit."""
        if not self._follow_ups:
            return []
        members: dict[str, dict[str, None]] = {target: {} for target in self._targets}
        first_scan_at = 0 if commit.after_loss else commit.first_scan_at
        requested = self._with_past if commit.after_loss else self._follow_ups
        for change in changes:
            snapshot = change.action is Action.SNAPSHOT and not 0 < first_scan_at <= change.modified
            if change.action in PUBLISHED and not (snapshot and first_scan_at):
                result = follow_ups(
                    requested,
                    change.observed.identifier,
                    change.linked,
                    snapshot=snapshot,
                    before=befores.get(change.observed.key, ()),
                )
                for target, member in result:
                    members[target][member] = None
        first_index = len(self._commit_keys) - len(self._targets) + 1  # Lua counts from 1
        return [[first_index + offset, list(members[target])] for offset, target in enumerate(self._targets)]


def _moved(commit: Commit) -> Iterator[Moved]:
    """Return the states that a commit writes, in the order of the script."""
    for change in commit.changes:
        yield change.observed.key, change.before, change.after
    for log in commit.recorded:
        yield log.key, log.before, log.after
    for erased in commit.erased:
        yield erased.key, erased.before, erased.after


def _flat(fields: Mapping[str, object]) -> list[str]:
    flat: list[str] = []
    for name, value in fields.items():
        flat += (name, str(int(value) if isinstance(value, bool) else value))
    return flat


def _names(raw: Sequence[bytes]) -> list[str]:
    return [name.decode("utf-8", "surrogatepass") for name in raw]
