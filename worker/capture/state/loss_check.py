"""Looks whether Redis has lost what was committed to it, and numbers what follows so that no number comes twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ordersync_consumer.servers.cluster import at
from ordersync_consumer.servers.connect import failovers_of
from worker.cancellation import finish
from worker.capture.resources import Resource
from worker.capture.state.buckets import MANY_BUCKETS, MAX_BUCKETS, count_from
from worker.capture.state.cursor import SCAN_OVER
from worker.capture.state.loss import Found, Loss, LossKind, find_loss
from worker.redis import scripts
from worker.redis.connections import answer
from worker.redis.facts import facts_of, run_of
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from redis.asyncio import Redis

    from worker.capture.resources import Captured
    from worker.capture.state.cursor import Cursor, CursorUpdate
    from worker.capture.state.given_out import SourceNumbers
    from worker.capture.state.opening import Opening
    from worker.capture.state.store import StateStore
    from worker.keys import Keys

_AT_ONCE = 1000
"""Keys in one command."""
_CORRECTED = (
    "Everything is read again, and what differs is published again, with sequence and versions above all earlier ones. "
    "What was published in the lost time and undone in OrderMesh before it is read again is not corrected."
)
_ANEW = (
    "Every record is published again, as a snapshot with sequence and versions above all earlier ones. Consumers do "
    "not get deletions that they had not read."
)
_AUDIT_LOST = (
    "Entries of audit logs that consumers had not read are lost. Find out who deletes keys, or whether Redis evicts "
    "them: ordersync doctor."
)
_STATES = (
    "These records are published again, as snapshots with sequence and versions above all earlier ones. That one "
    "of them was deleted is not noticed. Find out who deletes keys, or whether Redis evicts them: ordersync doctor."
)
_EVENTS = {
    LossKind.WENT_BACK: "redis_went_back",
    LossKind.IN_DOUBT: "redis_went_back",
    LossKind.FAILED_OVER: "redis_went_back",
    LossKind.LOST_ITS_DATA: "redis_lost_its_data",
}


class LossCheck:
    """Compares what Redis contains of one source with what this worker knows to be given out."""

    def __init__(
        self, redis: Redis, keys: Keys, source: Captured, numbers: SourceNumbers, store: StateStore
    ) -> None:
        self._redis, self._keys, self._source = at(redis, keys.base), keys, source
        self._numbers, self._store = numbers, store
        self._renumber = scripts.load(redis, "worker.capture", "renumber")

    def is_called_for(self, cursor: Cursor) -> bool:
        """Whether `check` has to be called before anything is committed: more may be given out than is known."""
        numbers = self._numbers
        return numbers.is_doubtful or numbers.is_replaced(failovers_of(self._redis), cursor.generation)

    async def check(self, cursor: Cursor, found: Opening, known: int, now: float) -> Loss | None:
        """Begin a new generation, and log it, if Redis has lost something.

        Call it under the lease of the source: what another session commits meanwhile would look like a loss.

        Everything is read again soon after that: a full scan publishes what differs, or what is gone.

        Args:
            cursor: The cursor as it was loaded.
            found: What the session has found when it was opened.
            known: The highest sequence that was known to be given out before that; what a reconciliation commits
                meanwhile is not in the cursor.
            now: When the read began that notices it, in seconds since 1970.

        Returns:
            What Redis has lost, if the cursor has changed; None if it has lost nothing.

        """
        numbers = self._numbers
        loss = find_loss(
            await self._look(cursor, found),
            known,
            in_doubt=await self._is_in_doubt(),
            failed_over=numbers.saw(failovers_of(self._redis), cursor.generation),
        )
        if loss is None:
            numbers.note(cursor.sequence)
        else:
            await self._go_on(loss, cursor, now)
        numbers.settle()
        return loss

    async def check_states(self, cursor: Cursor, now: float, *, known_until: int) -> Loss | None:
        """Do likewise if states of records are gone. They are counted, so it is called where a record seems to be new.

        `known_until`: every record that was created before then is known (milliseconds since 1970, by the clock of the
        server). One that was not, and is new now, is a snapshot until a full scan has ended.
        """
        lost = await self._store.count_lost(cursor)
        if lost <= 0:
            return None
        loss = Loss(LossKind.LOST_STATES, cursor.sequence, cursor.sequence, states=lost)
        gone: CursorUpdate = {"lost_before": known_until, "lost_states": cursor.lost_states + lost}
        await self._go_on(loss, cursor, now, gone)
        return loss

    async def _look(self, cursor: Cursor, found: Opening) -> Found:
        """Return what Redis contains of the source."""
        last = 0
        if not cursor.sequence and found.has_stream:
            entries = await self._redis.xrevrange(self._keys.stream(self._source.name), count=1)
            last = int(entries[0][1].get(b"sequence", 0)) if entries else 0
        return Found(cursor, found.has_stream, found.has_fields or not self._is_listed, last)

    @property
    def _is_listed(self) -> bool:
        """False for audit logs: they have no full scan that would publish them again, and no fields to compare."""
        return isinstance(self._source, Resource)

    async def _is_in_doubt(self) -> bool:
        """True if Redis may have given out more than is known, and was started again since."""
        return self._numbers.is_doubtful and self._numbers.is_other_server(
            run_of(await facts_of(self._redis))
        )

    async def _go_on(
        self, loss: Loss, cursor: Cursor, now: float, fields: CursorUpdate | None = None
    ) -> None:
        anew = loss.anew and self._is_listed
        if anew:
            await self._forget_records()
        moved: CursorUpdate = {**SCAN_OVER, "swept_at": 0, "due_at": 0, **(fields or {})}
        if loss.kind is LossKind.LOST_CURSOR:
            moved |= await self._count_again()
        if self._is_listed:
            moved |= {"loss": loss.words, "lost": loss.events, "lost_at": now}
        generation, _ = await finish(
            self._renumber(
                keys=[self._keys.cursor(self._source.name)],
                args=[str(cursor.generation), str(loss.expected), "1" if anew else "", *_flat(moved)],
            )
        )
        if generation:  # otherwise another worker has done it
            self._log(loss, int(generation), anew=anew)

    async def _forget_records(self) -> None:
        """Delete the states of all records, and what belongs to them."""
        keys, name = self._keys, self._source.name
        for prefix in keys.bucket_prefixes(name):
            await self._each_bucket(prefix, self._redis.unlink)
        await answer(
            self._redis.unlink(keys.scan_bitmap(name), keys.unconfirmed_deletes(name), keys.open(name))
        )

    async def _count_again(self) -> CursorUpdate:
        """Return what the cursor says of the states, from the states."""
        prefix = self._keys.states(self._source.name)
        buckets = await self._each_bucket(prefix, self._redis.exists)
        if not buckets:
            return {}
        if buckets == MANY_BUCKETS:  # or fewer: the records tell
            buckets = count_from(await self._ids_in_buckets(prefix, buckets))
        counted = await self._store.missing(buckets, 0)
        # That the first full scan had ended is not certain, but likely: it is the shortest part of a life.
        return {"buckets": buckets, "tracked": counted.tracked, "places": counted.places, "baseline": True}

    async def _each_bucket(self, prefix: str, command: Any) -> int:
        """Call a command, which returns how many of its keys exist, with all buckets.

        The number of buckets is a power of two. If there are many, each half of them has records, so they end before a
        half without any.

        Returns:
            The number of buckets, but `MANY_BUCKETS` for fewer as well; 0 if there are none.

        """
        first, end = 0, MANY_BUCKETS
        while first < MAX_BUCKETS:
            existing = 0
            for start in range(first, end, _AT_ONCE):
                numbers = range(start, min(start + _AT_ONCE, end))
                existing += await answer(command(*[f"{prefix}:{number}" for number in numbers]))
            if not existing:
                return first
            first, end = end, 2 * end
        return first

    async def _ids_in_buckets(self, prefix: str, buckets: int) -> dict[int, list[bytes]]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for number in range(buckets):
                pipe.hkeys(f"{prefix}:{number}")
            return dict(enumerate(await pipe.execute()))

    def _log(self, loss: Loss, generation: int, *, anew: bool) -> None:
        log, event = get_logger(account=self._keys.account), _EVENTS.get(loss.kind, "redis_lost_a_key")
        advice = _ANEW if anew else _AUDIT_LOST if loss.anew else _CORRECTED
        if loss.kind is LossKind.LOST_STATES:
            advice = _STATES
        log.error(
            event,
            resource=self._source.name,
            cause=loss.words,
            expected=loss.expected,
            held=loss.held,
            events=loss.events,
            in_doubt=loss.kind in {LossKind.IN_DOUBT, LossKind.FAILED_OVER},
            generation=generation,
            advice=advice,
        )


def _flat(fields: CursorUpdate) -> Iterable[str]:
    for name, value in fields.items():
        yield name
        yield str(int(value) if isinstance(value, bool) else value)
