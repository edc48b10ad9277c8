"""The records that were open in the last read of open records. Those no longer returned are read by id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.cancellation import finish
from worker.capture.state.refresh_queue import RefreshQueue, record
from worker.redis.connections import answer
from worker.redis.stored import text_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from redis.asyncio import Redis

    from worker.capture.records.diff import Change
    from worker.capture.records.scope import RecordScope
    from worker.capture.state.cursor import Cursor
    from worker.keys import Keys

MIN_SUSPECT = 20
"""With fewer open records than this, it is plausible that most of them were closed at once."""


class OpenRecords:
    """The open records of one resource of one account."""

    def __init__(self, redis: Redis, keys: Keys, resource: str) -> None:
        self._redis, self._key = redis, keys.open(resource)
        self._due = RefreshQueue(redis, keys, resource)
        self._added: set[str] = set()
        self.has_queued = False
        """Whether `replace` has queued a read."""

    async def add(self, shown: Iterable[str]) -> None:
        """Add the ids of records that were returned as open. Ids that this object added before are skipped."""
        if new := self.new(shown):
            await finish(answer(self._redis.sadd(self._key, *new)))
            self.note_added(new)

    def new(self, shown: Iterable[str]) -> set[str]:
        """Return the ids among these that this object has not added."""
        return set(shown) - self._added

    def note_added(self, new: Iterable[str]) -> None:
        """Note that a commit has added these ids."""
        self._added.update(new)

    async def record(self, changes: Iterable[Change], scope: RecordScope, cursor: Cursor) -> None:
        """Add the open records among changes that reads by id will publish, if the list is read by status.

        They may have a final status when the list is read next.
        """
        if not cursor.statuses:
            return
        read = scope.open_statuses(cursor.statuses.split("\n"))
        records = [change.observed for change in changes if change.observed.identifier]
        statuses = scope.statuses_of(record.record for record in records)
        await self.add(
            [record.identifier for record, status in zip(records, statuses, strict=True) if status in read]
        )

    async def replace(self, shown: Collection[str], *, believe: bool) -> str:
        """Store the ids that a read of the open records returned, and queue a read of those no longer returned.

        The reads are queued before the ids are stored: if the worker ends in between, the next one repeats both. If
        more than half of the open records are missing at once, nothing is written unless `believe` is set.

        Returns:
            Why nothing was written; "" if the ids were stored.

        """
        before = {text_of(member) for member in await answer(self._redis.smembers(self._key))}
        closed = before.difference(shown)
        if len(before) >= MIN_SUSPECT and len(closed) * 2 > len(before) and not believe:
            return f"{len(closed)} of {len(before)} open records are no longer returned"
        await self._due.add(record(item) for item in closed)
        self.has_queued |= bool(closed)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(self._key)
            if shown:
                pipe.sadd(self._key, *shown)
            await finish(pipe.execute())
        self._added = set(shown)
        return ""
