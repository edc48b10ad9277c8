"""What is known of the bytes of all records of a resource, held by this process for as long as nobody else commits.

A full scan looks at every record, and nearly all of them are as they were. So the fingerprints of their bytes are read
in bulk, once, and compared with the pages here, instead of one lookup in Redis for each record. Reads of newer changes
go by them as well: what they show again of the time before is nearly always known.

They are those of the states after one commit, which the cursor names (`committed`). Each commit of this process is
followed; after one of anybody else they are worth nothing. So a page whose bytes are known counts as unchanged only if
the cursor is asked after the comparison, and still names that commit. (Without, a record that another worker has
committed meanwhile would pass for unchanged.) Bytes that are not known are looked up in Redis as ever.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, cast

import anyio

from worker.capture.state.known_table import MAX_PLACE, KnownTable
from worker.redis.connections import answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from redis.asyncio import Redis

    from worker.capture.state.cursor import Cursor

MEGABYTES = 32
"""Memory for all resources of all accounts, if the settings do not say otherwise: that of 1,700,000 records."""
ONE_PAGE = 128
"""Records that one page may show, and a few more."""
BUCKETS_AT_ONCE = 64
"""Hashes that are read together: some thousand states."""


class AsOf(NamedTuple):
    """Which commit has changed a state last, and the sequence after it.

    The sequence alone would miss commits without an event. The commit alone would miss an older version of the worker,
    which does not name its commits, and a backup that was restored.
    """

    committed: bytes
    sequence: int


Moved: TypeAlias = tuple[bytes, bytes, bytes]
"""A state that a commit has written: the packed id, and the packed state before and after."""


class KnownBytes:
    """The fingerprints of the records of one resource, as of one commit.

    `lock` is held by a commit of this process until it is followed, and by the question whether anybody else has
    committed, so that neither takes the other for a stranger.
    """

    def __init__(self, table: KnownTable, as_of: AsOf) -> None:
        self.table, self.as_of, self.is_valid = table, as_of, True
        self.lock = anyio.Lock(fast_acquire=True)
        self._asked = self._confirmed = 0

    async def find(self, fingerprints: list[bytes], cursor: CursorMark) -> list[bytes | None] | None:
        """Return what `KnownTable.find` returns; None if somebody else has committed.

        The question to Redis is shared: it answers for every page that was compared before it was sent.
        """
        found, as_of, asked = self.table.find(fingerprints), self.as_of, self._asked
        if not any(found):
            return found  # nothing is claimed
        async with self.lock:
            if as_of != self.as_of:
                found = self.table.find(fingerprints)
            elif self._confirmed > asked and self.is_valid:
                return found
            if self.is_valid:
                self._asked += 1
                number = self._asked
                self.is_valid = await cursor.read() == self.as_of
                self._confirmed = number
        return found if self.is_valid else None

    def follow(self, states: Sequence[Moved], before: AsOf, after: AsOf, first_place: int) -> None:
        """Apply a commit of this process: the states that it has written, and the first place that it has given."""
        if before != self.as_of:
            self.is_valid = False
            return
        for _, old, _ in states:
            if len(old) > _PLACED:
                self.table.remove(old)
        self.table.add([(key, state) for key, old, state in states if len(old) > _PLACED])
        self.table.add([(key, state) for key, old, state in states if len(old) <= _PLACED], first_place)
        self.as_of = after


_PLACED = 22
"""A state with more bytes than these has a place; to another one the commit gives the next."""


class CursorMark:
    """Reads from the cursor of a resource which commit was the last one."""

    def __init__(self, redis: Redis, cursor: str) -> None:
        self.redis, self._key = redis, cursor

    async def read(self) -> AsOf:
        """Return it as it is now."""
        committed, sequence = await answer(self.redis.hmget(self._key, ["committed", "sequence"]))
        text = cast("bytes | None", sequence) or b"0"
        return AsOf(committed or b"", int(text) if text.isdigit() else -1)


class KnownBytesPool:
    """What a process knows of the bytes of all resources of all accounts, in so many `megabytes`; 0: nothing.

    Where there is more to know, what was not used for the longest time is dropped.

    `per_bucket`: records in each hash of states from which on there is something to gain: a bulk read, and the count of
    the states with each scan, take a command for each hash, as does the lookup of each page. So where there is one page
    there is nothing to gain, however few the hashes are.
    """

    def __init__(self, megabytes: int = MEGABYTES, *, per_bucket: int = 1) -> None:
        self._most, self._per_bucket = megabytes * 1_000_000, per_bucket
        self._held: OrderedDict[str, KnownBytes] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._total = 0

    def get(self, name: str) -> KnownBytes | None:
        """Return what is known of a resource; None if nothing is."""
        known = self._held.get(name)
        if known is not None and not known.is_valid:
            self.drop(name)
            return None
        return known

    def has_room(self, records: int) -> bool:
        """Whether so many records can be known."""
        return records <= MAX_PLACE and records * 18 < self._most

    def gains(self, cursor: Cursor) -> bool:
        """Whether it takes fewer commands to know the records of a resource than to look them up.

        Of one that was never read there is nothing to read, and what its first scan publishes is followed.
        """
        fewest = self._per_bucket * max(cursor.buckets, ONE_PAGE) if cursor.buckets else 0
        return self.has_room(cursor.places) and cursor.places >= fewest

    def hold(self, name: str, known: KnownBytes) -> None:
        """Keep what is known of a resource, which was used last, or has grown."""
        self._held[name] = known
        self._held.move_to_end(name)
        self._total += known.table.size - self._sizes.get(name, 0)
        self._sizes[name] = known.table.size
        while self._total > self._most:
            self.drop(next(iter(self._held)))

    def drop(self, name: str) -> None:
        """Forget a resource."""
        if known := self._held.pop(name, None):
            known.is_valid = False
            self._total -= self._sizes.pop(name)


class KnownRecords:
    """What a read of one resource knows of its records. `states`: the prefix of the hashes with their states.

    A full scan learns them first. Another read goes by what is held; that states were lost is for full scans to notice.
    """

    def __init__(self, redis: Redis, states: str, cursor: str, pool: KnownBytesPool) -> None:
        self._redis, self._states, self._pool = redis, states, pool
        self._cursor = CursorMark(redis, cursor)

    @property
    def is_held(self) -> bool:
        """Whether anything is known."""
        return self._pool.get(self._states) is not None

    async def learn(self, cursor: Cursor, count_lost: Callable[[Cursor], Awaitable[int]]) -> None:
        """Read all states, unless they are known, or are too few to be worth it.

        `count_lost` says how many are gone from Redis. That has to be noticed, so they must not be known here alone.
        """
        if not self._pool.gains(cursor):
            self._pool.drop(self._states)
            return
        if (known := self._pool.get(self._states)) is not None:
            async with known.lock:
                known.is_valid = await count_lost(cursor) <= 0 and await self._cursor.read() == known.as_of
        if (known := self._pool.get(self._states)) is not None:
            self._pool.hold(self._states, known)
        elif cursor.buckets or not cursor.places:
            await self._read_all(cursor)

    async def _read_all(self, cursor: Cursor) -> None:
        as_of, table = await self._cursor.read(), KnownTable(cursor.places)
        for start in range(0, cursor.buckets if cursor.places else 0, BUCKETS_AT_ONCE):
            async with self._redis.pipeline(transaction=False) as pipe:
                for bucket in range(start, min(start + BUCKETS_AT_ONCE, cursor.buckets)):
                    pipe.hgetall(f"{self._states}:{bucket}")
                for states in await pipe.execute():
                    table.add(list(states.items()))
        if await self._cursor.read() == as_of:
            self._pool.hold(self._states, KnownBytes(table, as_of))

    def expect(self, total: int) -> None:
        """Make room for so many records, if none is known yet: a table that grows step by step costs more time."""
        known = self._pool.get(self._states)
        if known is not None and not known.table.count and self._pool.has_room(total):
            known.table = KnownTable(total)

    async def find(self, fingerprints: list[bytes]) -> list[bytes | None] | None:
        """Return place and identity of the records with these bytes, as `KnownTable.find`; None if nothing is known."""
        known = self._pool.get(self._states)
        return None if known is None else await known.find(fingerprints, self._cursor)
