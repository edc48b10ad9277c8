"""How events come in: first what is this consumer's own since an earlier life, then what lies idle, then what is new.

While it runs it looks for idle entries once a second, which is also how soon what was replayed or given back is
seen. After an answer that got lost it looks at its own entries again before it reads on, so that nothing that it
was given is forgotten, and no later event of an entity overtakes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.errors import DataError
from worker.queue import envelope
from worker.queue.consumer.acks import PendingDeadLetter, flat
from worker.queue.consumer.connection import is_transient
from worker.queue.consumer.delivery import Delivery

if TYPE_CHECKING:
    from worker.queue.consumer.group_client import Claimed, Entry, StreamCursor
    from worker.queue.consumer.in_flight import InFlight

LOOK_SECONDS = 1.0
"""Between two looks for idle entries."""
_STEPS = 10
"""Calls in which no idle entry is found, until the rest is left for the next look."""
_BLOCKED = 10
"""With those that wait behind others of their entity, this many times `prefetch` may be held."""


class Fetcher:
    """Takes entries from Redis and lines them up."""

    def __init__(self, account: InFlight) -> None:
        self._desk, self._options = account, account.options
        self._claims, self._clock = account.claims, account.clock
        self._batch = min(self._options.batch, self._options.prefetch)
        self._enough = min(self._batch, max(1, self._options.prefetch // 2))
        self._caught_up, self._look_at, self._steps = False, 0.0, 0
        self.stopping = False
        """It was told to stop."""
        self.drained = False
        """Nothing was left to take, and it does not wait."""

    async def run(self) -> None:
        """Take what comes until told to stop, or with nothing left to the end.

        Raises:
            GroupGone: The group was dropped meanwhile.

        """
        failures = 0
        while not self.stopping and not self.drained:
            try:
                await self._turn()
                failures = 0
            except Exception as error:
                if not is_transient(error):
                    raise
                failures += 1
                for source in self._claims.sources:
                    source.restart()
                await self._desk.persist.pause("read", error, failures)
        self._desk.wake.set()

    async def _turn(self) -> None:
        """One call or two; none if there is no room for more."""
        room = self._room_left()
        if room < self._enough:
            self._desk.room.clear()
            await self._desk.room.wait()
            return
        count = min(room, self._batch)
        for source in self._claims.sources:
            if source.own is not None:
                known = self._desk.held[source.resource]
                await self._take(source, await self._claims.own(source, known, count))
                return
        looking = await self._poll(count)
        if looking and not self._caught_up:
            return
        self._caught_up = True
        block = min(self._options.block, max(0.0, self._look_at - self._clock.monotonic()))
        await self._read(count, block if self._options.wait and not looking else 0.0, last=not looking)

    def _room_left(self) -> int:
        """How many more may be taken. What waits behind others of its entity does not count, up to a bound."""
        held, parked, limit = self._desk.size, self._desk.lanes.parked, self._options.prefetch
        return min(limit - (held - parked), _BLOCKED * limit - held)

    async def _poll(self, count: int) -> bool:
        """One look for idle entries, when it is time. Whether there may be more of them right now."""
        now, sources = self._clock.monotonic(), self._claims.sources
        if now >= self._look_at:
            self._look_at, self._steps = now + LOOK_SECONDS, 0
            for source in sources:
                if self._caught_up and source.cursor is None:
                    source.cursor = "0-0"
        if self._caught_up and self._options.wait and self._steps >= _STEPS:
            return False  # very much is pending, and others are at work on it: go on with it next time
        self._steps += 1
        for source in sources:
            if source.cursor is not None:
                taken = await self._claims.idle(source, count)
                await self._take(source, taken)
                if taken.entries:
                    self._steps = 0
                    return True
        return any(source.cursor is not None for source in sources)

    async def _read(self, count: int, block: float, *, last: bool) -> None:
        """Read what is new."""
        item = max(1, count // len(self._claims.sources))
        result = await self._claims.new(item, block)
        for source, entries in result:
            for entry in entries:
                self._accept(source, entry, new=True)
            self._desk.counts.taken += len(entries)
        if result:
            self._desk.wake.set()
        elif last and not self._options.wait:
            self.drained = True

    async def _take(self, source: StreamCursor, taken: Claimed) -> None:
        """Line up what had been taken before, by this consumer or by another one."""
        known = self._desk.held[source.resource]
        for entry in taken.entries:
            if entry.entry_id.decode() in known:
                continue  # held so long that it was claimed back
            self._desk.counts.taken += 1
            self._desk.counts.recovered += 1
            self._accept(source, entry, new=False)
        if taken.entries:
            self._desk.wake.set()
        await self._desk.trimmed(source, taken.gone)

    def _accept(self, source: StreamCursor, entry: Entry, *, new: bool) -> None:
        try:
            event = envelope.parse(entry.entry_id, entry.fields)
        except DataError as error:
            subject = entry.fields.get(b"subject", b"").decode("utf-8", "replace")
            entry_id = entry.entry_id.decode()
            _ = self._desk.burials.add(
                PendingDeadLetter(source, entry_id, subject, entry.count, str(error), "")
            )
            return
        if not new and entry.count >= self._options.max_deliveries:
            reason = f"begun {entry.count} times and never answered: whoever worked on it ended each time"
            burial = PendingDeadLetter(
                source, event.entry_id, event.subject, entry.count, reason, "", flat(event)
            )
            _ = self._desk.burials.add(burial)
            return
        delivery = Delivery(
            self._desk,
            source.resource,
            event,
            attempt=entry.count + 1,
            uncounted=entry.count > 0,
            replayed=entry.replayed,
        )
        self._desk.held[source.resource][event.entry_id] = delivery
        self._desk.lanes.add(delivery, late=not new)
