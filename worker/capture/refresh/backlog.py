"""The backlog of audit logs: the logs of records of the past, which no change makes due.

It is an iteration over the known records of the parent, in the order of their states, whose position is a field of the
cursor of the log. A log that was read before is passed over. There is no list of what is left to do, so nothing of it
can be lost, and it costs no memory in Redis.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, NamedTuple, cast

from worker.capture.records import audit
from worker.capture.records.fingerprint import bucket_of, pack_id
from worker.capture.state import refresh_queue as due
from worker.capture.state.cursor import BACKLOG_DONE
from worker.capture.state.packing import unpack_within
from worker.capture.state.position import parse_position, text_of
from worker.capture.state.record_states import states_of, unpacked, walk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.capture.resources import AuditLog
    from worker.capture.session import PollSession

AT_ONCE = 20
"""Records whose logs are read together; logs that become due meanwhile wait for them."""


class BacklogBatch(NamedTuple):
    """Members of the refresh queue to read, and the position after them, as the cursor keeps it."""

    members: tuple[str, ...]
    position: str


class AuditBacklog:
    """Finds the logs of known records that were never read. `buckets`: of the states of the parent."""

    def __init__(self, session: PollSession, log: AuditLog, buckets: int) -> None:
        self._session, self._log, self._buckets = session, log, buckets
        self._redis, self._keys = session.context.redis, session.context.keys
        nested = [item.target for item in log.parent.follow_ups if item.is_within]
        self._group = nested.index(log.name) if log.name in nested else None

    async def next(self, position: str) -> BacklogBatch:
        """Return some logs after a position; without any, the backlog is done."""
        records, last = list[str](), parse_position(position)
        states = self._keys.states(self._log.parent.name)
        async with aclosing(walk(self._redis, states, self._buckets, last)) as known:
            async for record in known:
                records.append(record.identifier)
                last = record.place
                if len(records) == AT_ONCE:
                    if members := await self._unread(records):
                        return BacklogBatch(members, text_of(last))
                    records = []
        members = await self._unread(records)
        return BacklogBatch(members, text_of(last) if members else BACKLOG_DONE)

    async def _unread(self, records: Sequence[str]) -> tuple[str, ...]:
        if since := self._session.options.history.since:  # the log of an older record has no entry to publish
            parents = await states_of(
                self._redis, self._keys.states(self._log.parent.name), self._buckets, records
            )
            records = [
                record
                for record, state in zip(records, map(unpacked, parents), strict=True)
                if state is None or state.modified >= since
            ]
        paths = await self._paths(records)
        subjects = [audit.subject_of(path) for path in paths]
        states = await states_of(
            self._redis, self._keys.states(self._log.name), self._session.buckets, subjects
        )
        return tuple(due.log_of(*path) for path, state in zip(paths, states, strict=True) if not state)

    async def _paths(self, records: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the ids that lead to the logs of records: their own, or also those of the objects nested in them."""
        if self._group is None or not records:
            return [(record,) for record in records]
        prefix = self._keys.nested_ids(self._log.parent.name)
        async with self._redis.pipeline(transaction=False) as pipe:
            for record in records:
                key = pack_id(record)
                pipe.hget(f"{prefix}:{bucket_of(key, self._buckets)}", cast("str", key))
            stored = await pipe.execute()
        return [
            (record, nested)
            for record, packed in zip(records, stored, strict=True)
            for group in unpack_within(packed or b"")[self._group : self._group + 1]
            for nested in group
        ]
