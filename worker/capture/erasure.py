"""Erase records: what Redis keeps of them goes, and a mark remains by which nothing of them is published again.

The mark is the state of the record: it has its place and version, and no fingerprint. It is written, together with an
event that tells consumers of the erasure, by the same script as every commit. A poll that has looked the record up
before finds another state when it commits, so it cannot put the record back; no lease of a resource is needed. What was
stored is removed after that, when nothing can be added any more. Each step may be repeated.

The mark lasts as long as OrderMesh serves the record: when its deletion is confirmed, `deleted` is published as usual.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import redis.exceptions

from ordersync_consumer.envelope import TYPE_PREFIX
from worker.cancellation import finish
from worker.capture.records.erasing import erased, unmarked
from worker.capture.records.events import ERASED
from worker.capture.records.fingerprint import pack_id
from worker.capture.resources import Resource
from worker.capture.state import refresh_queue as due
from worker.capture.state.commit import Commit, RefreshResult
from worker.capture.state.layout import check_current
from worker.capture.state.lease import acquire
from worker.capture.state.record_states import unpacked
from worker.capture.state.store import StateStore
from worker.errors import RedisWentBack
from worker.queue.search import EventSearch
from worker.redis import scripts
from worker.redis.connections import answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from redis.asyncio import Redis

    from worker.capture.resources import Captured
    from worker.capture.state.cursor import Cursor
    from worker.capture.state.lease import Lease
    from worker.clock import SharedClock
    from worker.keys import Keys

LEASE = "erase"
"""The lease under which an account's records are erased, whatever the resource."""
REASON = "erase"
MAX_CONFLICTS = 100
"""Commits in a row that may fail because another run was faster."""
_AT_ONCE = 100
_LETTERS_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Remains:
    """What Redis keeps of some records of a resource.

    Attributes:
        unmarked: Ids of those that are not marked as erased.
        marked: Ids of those that are.
        known: Ids of those of which there is a state.
        events: Ids of the entries in the stream, without those that tell of an erasure.
        letters: Ids of the dead letters.

    """

    unmarked: tuple[str, ...] = ()
    marked: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    events: tuple[bytes, ...] = ()
    letters: tuple[bytes, ...] = ()

    @property
    def is_known(self) -> bool:
        """True if Redis knows one of them."""
        return bool(self.known or self.events or self.letters)


class Eraser:
    """Erases records of one account. `owner`: a name that is unique to this object."""

    def __init__(self, client: Redis, keys: Keys, clock: SharedClock, owner: str) -> None:
        self._redis, self._keys, self._clock, self._owner = client, keys, clock, owner
        self._search = EventSearch(client)
        self._erase = scripts.load(client, "worker.capture", "erase")

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Lease]:
        """Hold the lease of erasures while the block runs.

        Raises:
            LeaseHeld: Another command erases records of the account.

        """
        async with acquire(
            self._redis, self._keys.lease(LEASE), resource=LEASE, owner=self._owner, clock=self._clock
        ) as lease:
            yield lease

    async def remains(self, captured: Captured, paths: Mapping[str, tuple[str, ...]]) -> Remains:
        """Return what Redis keeps of these records. Nothing is written."""
        store, cursor = await self._store(captured)
        missing, marked, known = list[str](), list[str](), list[str]()
        for identifier in paths if cursor.buckets else ():
            before = await store.state_of(identifier, cursor.buckets)
            state = unpacked(before)
            is_erased = state is not None and state.is_erased
            (marked if is_erased else missing).append(identifier)
            if before:
                known.append(identifier)
        return Remains(
            tuple(missing),
            tuple(marked),
            tuple(known),
            tuple(await self._events(captured, list(paths))),
            tuple(await self._letters(captured, list(paths))),
        )

    async def was_read(self, captured: Captured) -> bool:
        """Return False if the resource was never read: then it has no states, and nothing of it can be marked."""
        return bool((await self._store(captured))[1].buckets)

    async def nested(self, captured: Captured, identifier: str) -> list[str]:
        """Return the ids of the nested objects of a record that have audit logs of their own."""
        store, cursor = await self._store(captured)
        return await store.nested(identifier, cursor.buckets) if cursor.buckets else []

    async def mark(self, lease: Lease, captured: Captured, paths: Mapping[str, tuple[str, ...]]) -> int:
        """Publish that these records are erased, and let nothing of them be published again. Return how many are new.

        A resource that was never read has no states, and is skipped.
        """
        marked = 0
        for identifier, path in paths.items():
            marked += await self._replace(lease, captured, identifier, path, forget=False)
        return marked

    async def unmark(self, lease: Lease, captured: Captured, paths: Mapping[str, tuple[str, ...]]) -> int:
        """Let these records be published again, from their next read on. Return how many were marked."""
        count = 0
        for identifier, path in paths.items():
            count += await self._replace(lease, captured, identifier, path, forget=True)
        return count

    async def purge(self, captured: Captured, paths: Mapping[str, tuple[str, ...]]) -> tuple[int, int]:
        """Remove what is stored of records that are marked. Return the numbers of events and dead letters."""
        identifiers, name = list(paths), captured.name
        stream = self._keys.stream(name)
        entries, events = await self._events(captured, identifiers), 0
        groups = [group["name"] for group in await self._redis.xinfo_groups(stream)] if entries else []
        replayed = [self._keys.replayed(name, group.decode("utf-8", "replace")) for group in groups]
        for start in range(0, len(entries), _AT_ONCE):
            some = entries[start : start + _AT_ONCE]
            events += await finish(self._erase(keys=[stream, *replayed], args=[len(groups), *groups, *some]))
        letters = await self._letters(captured, identifiers)
        if letters:
            await finish(answer(self._redis.xdel(self._keys.dead(name), *letters)))
        await self._forget(name, paths)
        return events, len(letters)

    async def _store(self, captured: Captured) -> tuple[StateStore, Cursor]:
        await check_current(self._redis, self._keys)
        store = StateStore(self._redis, self._keys, captured, lease=LEASE)
        return store, await store.load_cursor()

    async def _replace(
        self, lease: Lease, captured: Captured, identifier: str, path: tuple[str, ...], *, forget: bool
    ) -> bool:
        """Mark a record as erased, or with `forget` take the mark away. False if there is nothing to do."""
        for _ in range(MAX_CONFLICTS):
            lease.check()
            store, cursor = await self._store(captured)
            if not cursor.buckets:
                return False
            before = await store.state_of(identifier, cursor.buckets)
            erasure = (
                unmarked(identifier, before) if forget else erased(identifier, before, cursor.generation)
            )
            if erasure is None:
                return False
            now = self._clock.now()
            members = [due.log_of(*path)] + (
                [due.record(identifier)] if isinstance(captured, Resource) else []
            )
            commit = Commit(
                fence=lease.fence,
                buckets=cursor.buckets,
                generation=cursor.generation,
                reason=REASON,
                observed_at=now,
                erased=[erasure],
                refresh=RefreshResult(at=str(now), done=members, present=[identifier]),
            )
            try:
                if await store.commit(commit):
                    return True
            except RedisWentBack:
                if (await store.load_cursor()).generation == cursor.generation:
                    raise
        raise redis.exceptions.ResponseError(
            f"the record {identifier} of {captured.name} changes all the time; run the command again"
        )

    async def _events(self, captured: Captured, identifiers: Sequence[str]) -> list[bytes]:
        own = f"{TYPE_PREFIX}{captured.entity}.{ERASED}".encode()
        return [
            entry_id
            async for entry_id, fields in self._search.entries(self._keys.stream(captured.name), identifiers)
            if fields.get(b"type") != own
        ]

    async def _letters(self, captured: Captured, identifiers: Sequence[str]) -> list[bytes]:
        """Return the ids of the dead letters of these records, also of those whose id could not be read."""
        subjects = {identifier.encode() for identifier in identifiers}
        quoted = [b'"' + subject + b'"' for subject in subjects]
        found, after = list[bytes](), "-"
        while True:
            command = ("XRANGE", self._keys.dead(captured.name), after, "+", "COUNT", _LETTERS_AT_ONCE)
            entries: Any = await answer(self._redis.execute_command(*command))  # type: ignore[no-untyped-call] # untyped in redis-py
            for letter_id, fields in entries:
                subject = fields.get(b"event.subject") or fields.get(b"subject", b"")
                data = fields.get(b"data", b"")
                if subject in subjects or (not subject and any(text in data for text in quoted)):
                    found.append(letter_id)
            if len(entries) < _LETTERS_AT_ONCE:
                return found
            after = f"({entries[-1][0].decode()}"

    async def _forget(self, name: str, paths: Mapping[str, tuple[str, ...]]) -> None:
        """Remove the ids from what is to be read, and from what is noted of single records."""
        identifiers = list(paths)
        members = [due.record(identifier) for identifier in identifiers]
        members += [due.log_of(*path) for path in paths.values()]
        keys = self._keys
        packed: Any = [pack_id(identifier) for identifier in identifiers]
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.zrem(keys.refresh_queue(name), *members)
            pipe.hdel(keys.refresh_failures(name), *members)
            pipe.hdel(keys.cut_logs(name), *members)
            pipe.hdel(keys.unconfirmed_deletes(name), *identifiers)
            pipe.hdel(keys.gaps(name), *identifiers)
            pipe.hdel(keys.stale(name), *packed)
            pipe.srem(keys.open(name), *identifiers)
            await finish(pipe.execute())
