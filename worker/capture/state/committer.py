"""Sends the commits of one resource: by one script, `commit.lua`, which documents its guarantees.

What changes no record and no refresh queue is sent by a shorter one, `progress.lua`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import msgspec
import redis.exceptions

from ordersync_consumer import envelope
from worker.cancellation import finish
from worker.capture.records.actions import PUBLISHED, Action
from worker.capture.records.fingerprint import RecordState, bucket_of
from worker.capture.records.payload import unpack_last
from worker.capture.registry import RESOURCES
from worker.capture.resources import Resource
from worker.capture.state.commit_id import new_commit_id
from worker.capture.state.known_bytes import AsOf
from worker.capture.state.packing import CommitPacker, packb, unpack_within
from worker.capture.state.refresh_queue import follow_ups
from worker.capture.state.replicas import run_confirmed
from worker.errors import LeaseLost, RedisWentBack
from worker.redis import scripts
from worker.redis.connections import answer
from worker.telemetry import tracing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from redis.asyncio import Redis

    from worker.capture.records.diff import Change
    from worker.capture.records.payload import PayloadOptions
    from worker.capture.resources import Captured
    from worker.capture.state.commit import Commit, Packed
    from worker.capture.state.given_out import SourceNumbers
    from worker.capture.state.known_bytes import KnownBytesPool, Moved
    from worker.capture.state.scan_marks import ScanMarks
    from worker.config.sections import Replicas
    from worker.keys import Keys

RUNS_KEPT = 10_000
"""About so many run records stay in the stream of an account: Redis removes the oldest in whole nodes."""


class Committer:
    """Writes what was read of one resource, or audit log, of one account. `StateStore` describes the arguments.

    Args:
        scan_marks: The places that the full scan has seen, which are noted before a commit moves past them.

    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        resource: Captured,
        payload: PayloadOptions,
        *,
        lease: str,
        numbers: SourceNumbers,
        known: KnownBytesPool,
        replicas: Replicas,
        scan_marks: ScanMarks,
    ) -> None:
        self._redis, self._keys, self._resource, self._payload = redis, keys, resource, payload
        self._numbers, self._known, self._replicas, self._scan_marks = numbers, known, replicas, scan_marks
        self._commit = scripts.load(redis, "worker.capture", "commit", begin=("bits", "chain"))
        self._progress = scripts.load(redis, "worker.capture", "progress", begin=("chain",))
        self._follow_ups = resource.follow_ups if isinstance(resource, Resource) else ()
        self._with_past = tuple(
            msgspec.structs.replace(item, snapshots=item.snapshots or item.target not in RESOURCES)
            for item in self._follow_ups
        )
        self._has_nested = any(item.is_within for item in self._follow_ups)
        self._targets = list(dict.fromkeys(each.target for each in self._follow_ups))
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
            *map(keys.refresh_queue, self._targets),
        ]
        self._source = envelope.source(keys.account, name)
        self._schema = envelope.data_schema(resource.entity, resource.schema_version)
        self._packer = CommitPacker(resource.entity, payload, self._follow_ups)

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
            await self._scan_marks.flush()
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
                await self._scan_marks.flush()
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


def _moved(commit: Commit) -> list[Moved]:
    """Return the states that a commit writes, in the order of the script."""
    states = [(change.observed.key, change.before, change.after) for change in commit.changes]
    states += [(log.key, log.before, log.after) for log in commit.recorded]
    states += [(erased.key, erased.before, erased.after) for erased in commit.erased]
    return states


def _flat(fields: Mapping[str, object]) -> list[str]:
    flat: list[str] = []
    for name, value in fields.items():
        flat += (name, str(int(value) if isinstance(value, bool) else value))
    return flat
