"""The deliveries of one consumer, from the moment at which Redis delivers them to their acknowledgement.

An entry comes in with `accept` or `accept_claimed`, is handed out by `next` or `next_batch`, and is answered with
`ack`, `fail` or `requeue`. When the consumer stops, what is not handed out is given back to the group.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from ordersync_consumer import envelope
from ordersync_consumer.consumer.acks import AckBatcher
from ordersync_consumer.consumer.dead_letter_writer import DeadLetterWriter, PendingDeadLetter
from ordersync_consumer.consumer.delivery import Delivery, DeliveryState, explain
from ordersync_consumer.consumer.due_timer import DueTimer
from ordersync_consumer.consumer.keyed_queue import KeyedQueue
from ordersync_consumer.consumer.pending_entries import PendingEntries
from ordersync_consumer.consumer.phase import Phase
from ordersync_consumer.consumer.statistics import Counts, Statistics
from ordersync_consumer.errors import DataError, OrdersyncError
from ordersync_consumer.redaction import words_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Sequence
    from typing import Any

    from redis.asyncio import Redis

    from ordersync_consumer.clock import Clock
    from ordersync_consumer.consumer.group_client import Entry, GroupClient, StreamCursor
    from ordersync_consumer.consumer.log import ConsumerLog
    from ordersync_consumer.consumer.options import ConsumerOptions
    from ordersync_consumer.consumer.retry import RetryForever

CLOSE_SECONDS = 10.0
"""How long a consumer that closes tries to send its acknowledgements and to give back the rest."""
_MAX_BLOCKED = 10
"""Up to this many times `prefetch` may be in flight if the rest waits for earlier deliveries of its entity."""


# In Python 3.11 a look-up in an enumeration takes longer than a call: none of them for each event.
_OPEN, _ANSWERED = DeliveryState.OPEN, DeliveryState.ANSWERED
_CREATED, _EXHAUSTED, _STOPPING, _ENDED = Phase.CREATED, Phase.EXHAUSTED, Phase.STOPPING, Phase.ENDED


class InFlight:
    """What one consumer has fetched and not acknowledged.

    Args:
        client: The caller's client.
        group: The consumer's commands.
        options: The options of the consumer.
        retry: Repeats a call while Redis is away or full.
        log: Writes the log lines.
        clock: Time and random numbers.

    """

    def __init__(
        self,
        client: Redis,
        group: GroupClient,
        options: ConsumerOptions,
        *,
        retry: RetryForever,
        log: ConsumerLog,
        clock: Clock,
    ) -> None:
        self._options, self._log, self._clock = options, log, clock
        self._queue, self._counts, self._phase = KeyedQueue(clock.monotonic), Counts(), Phase.CREATED
        self._pending = PendingEntries(
            group, options, retry=retry, log=log, clock=clock, counts=self._counts, on_lost=self._on_lost
        )
        self._cursors = {cursor.resource: cursor for cursor in group.cursors}
        self._acks = AckBatcher(
            client,
            self._cursors,
            options.group,
            enough=max(1, options.prefetch // 2),
            retry=retry,
            on_acknowledged=self._on_acknowledged,
        )
        self._dead_letters = DeadLetterWriter(
            client, options, retry=retry, clock=clock, on_written=self._on_dead_letter
        )
        self.request_acks = self._acks.request
        self._work, self._capacity = asyncio.Event(), asyncio.Event()
        self._due = DueTimer(self._queue, clock, on_due=self._changed)

    @property
    def background(self) -> Sequence[Callable[[], Coroutine[Any, Any, None]]]:
        """What must run, until cancelled, as long as the consumer does."""
        return self._acks.run, self._dead_letters.run, self._pending.renew, self._due.run

    def statistics(self) -> Statistics:
        """Return the counters and the numbers of deliveries in flight."""
        held, queue = len(self._pending), self._queue
        return Statistics(**asdict(self._counts), held=held, working=queue.out, waiting=queue.waiting)

    # From Redis

    @property
    def capacity(self) -> int:
        """How many more entries may be fetched: `prefetch`, less what is in flight.

        Deliveries that wait for an earlier one of their entity do not count, up to ten times `prefetch`.
        """
        size, prefetch = len(self._pending), self._options.prefetch
        return min(prefetch - (size - self._queue.blocked), _MAX_BLOCKED * prefetch - size)

    async def wait_for_capacity(self) -> None:
        """Wait until `capacity` or the phase may have changed."""
        self._capacity.clear()
        await self._capacity.wait()

    def entry_ids(self, resource: str) -> Collection[str]:
        """Return the ids of the entries of a resource that are in flight."""
        return self._pending.ids(resource)

    def accept(self, cursor: StreamCursor, entries: Sequence[Entry]) -> None:
        """Queue entries that Redis has delivered for the first time."""
        for entry in entries:
            self._accept(cursor, entry)
        self._counts.taken += len(entries)
        self._work.set()

    async def accept_claimed(self, cursor: StreamCursor, entries: Sequence[Entry]) -> None:
        """Queue entries that were delivered before, to this consumer or to another one, and tell of removed ones.

        Raises:
            RuntimeError: `on_trimmed` failed.

        """
        for entry in entries:
            if entry.entry_id.decode() in self._pending.ids(cursor.resource):
                continue  # this consumer has claimed an idle entry of its own
            self._counts.taken += 1
            self._counts.recovered += 1
            self._accept(cursor, entry, late=True)
        if entries:
            self._work.set()
        await self._pending.report_trimmed(cursor)

    def _accept(self, cursor: StreamCursor, entry: Entry, *, late: bool = False) -> None:
        try:
            event = envelope.parse_flat(entry.entry_id, entry.flat)
        except DataError as error:
            _ = self._dead_letters.add(PendingDeadLetter.of_entry(entry, cursor, words_of(error)))
            return
        if entry.count >= self._options.max_deliveries:
            reason = f"delivered {entry.count} times, and each time the consumer ended without an answer"
            _ = self._dead_letters.add(PendingDeadLetter.of_event(event, cursor, entry.count, reason))
            return
        resource = cursor.resource
        delivery = Delivery(  # by position, since it is done for each event
            self, resource, event, event.entry_id, (resource, event.subject), entry.count + 1, entry.replayed
        )
        self._pending.add(delivery)
        self._queue.add(delivery, late=late)

    # To the workers

    def hand_out_exclusively(self) -> None:
        """From now on, have at most one delivery of an entity handed out at a time."""
        self._queue.exclusive = True

    async def next(self) -> Delivery | None:
        """Wait for the next delivery and hand it out; None after `stop`, or when nothing is left.

        Raises:
            RuntimeError: The consumer has not started, or has ended.

        """
        if self._phase is _CREATED or self._phase is _ENDED:
            raise RuntimeError("A consumer hands out deliveries inside `async with` only.")
        while self._phase < _STOPPING:
            delivery = self._queue.pop()
            if delivery is not None:
                if delivery.attempt == 1:  # Redis has counted it with the delivery of the entry
                    delivery.state = _OPEN
                    return delivery
                if await self._begin([delivery]):
                    return delivery
            elif self._is_empty():
                break
            else:
                self._work.clear()
                await self._work.wait()
        return None

    async def next_batch(
        self, limit: int, *, alone: Callable[[Delivery], bool] | None = None
    ) -> list[Delivery]:
        """Wait for the next delivery and hand out up to `limit` that are ready; empty after `stop` or at the end.

        A delivery for which `alone` is true is handed out in a batch of its own.
        """
        first = await self.next()
        if first is None:
            return []
        if alone and alone(first):
            return [first]
        more: list[Delivery] = []
        while len(more) < limit - 1 and (delivery := self._queue.pop()) is not None:
            if alone and alone(delivery):
                self._requeue(delivery)
                break
            more.append(delivery)
        return [first, *await self._begin(more)]

    def _is_empty(self) -> bool:
        """True if nothing is left to hand out, and nothing can be requeued."""
        busy = self._dead_letters.busy or (self._queue.exclusive and self._queue.out)
        return self._phase >= _EXHAUSTED and not (self._queue.waiting or busy)

    async def _begin(self, deliveries: list[Delivery]) -> list[Delivery]:
        """Hand out deliveries, after Redis has counted the attempts of those that are retried.

        Returns those that no other consumer has claimed meanwhile.
        """
        retries = [delivery for delivery in deliveries if delivery.attempt > 1 and not delivery.trimmed]
        if not retries:
            for delivery in deliveries:
                delivery.state = _OPEN
            return deliveries
        for delivery in deliveries:
            delivery.state = DeliveryState.BEGINNING
        await self._pending.count_attempts(retries)
        begun = []
        for delivery in deliveries:
            if delivery in self._pending:
                delivery.state = _OPEN
                begun.append(delivery)
            else:
                self._queue.done(delivery)
        return begun

    # Answers

    async def ack(self, deliveries: Sequence[Delivery], *, wait: bool = True) -> None:
        """Acknowledge those deliveries that are open. With `wait`, return when Redis has done so.

        Raises:
            RuntimeError: The consumer has ended.

        """
        for delivery in deliveries:
            self.acknowledge(delivery)
        if wait:
            await self._acks.flushed()
        else:
            self._acks.request()

    def acknowledge(self, delivery: Delivery) -> None:
        """Add a delivery to the next acknowledgement if it is open. Without waiting, since it is done for each event.

        Raises:
            RuntimeError: The consumer has ended.

        """
        if self._phase is _ENDED:
            raise RuntimeError("The consumer has ended. Deliveries that it did not acknowledge come again.")
        if delivery.state is _OPEN:
            delivery.state = _ANSWERED
            self._acks.add(delivery)
            if self._queue.done(delivery) or self._phase >= _EXHAUSTED:  # the last answer ends the consumer
                self._changed()

    async def fail(
        self, delivery: Delivery, error: BaseException | str, *, retry: bool, wait: bool = True
    ) -> None:
        """Queue an open delivery for its next attempt, after a pause; or make it a dead letter if it was the last.

        With `wait`, return when the dead letter is written. Does nothing if the consumer has ended.
        """
        if delivery.state is not _OPEN or self._phase is _ENDED:
            return
        self._counts.failed += 1
        reason, trace = explain(error)
        if retry and delivery.attempt < self._options.max_deliveries:
            pause = self._options.backoff.pause(delivery.attempt, self._clock)
            self._log.failed(delivery, reason, pause)
            delivery.attempt += 1
            self._requeue(delivery, pause)
            return
        delivery.state = _ANSWERED
        cursor = self._cursors[delivery.resource]
        written = self._dead_letters.add(PendingDeadLetter.of_delivery(delivery, cursor, reason, trace))
        if wait:
            await written

    def requeue(self, deliveries: Sequence[Delivery]) -> None:
        """Queue those deliveries again that are open, in the same order. No attempt is counted."""
        for delivery in reversed(deliveries):
            if delivery.state is _OPEN:
                self._requeue(delivery)

    def _requeue(self, delivery: Delivery, pause: float = 0.0) -> None:
        """Queue a delivery again, unless another consumer has claimed it."""
        if delivery in self._pending:
            delivery.state = DeliveryState.WAITING
            self._queue.requeue(delivery, self._clock.monotonic() + pause)
        else:
            delivery.state = _ANSWERED
            self._queue.done(delivery)
        self._changed()

    def _on_acknowledged(self, deliveries: list[Delivery]) -> None:
        self._pending.remove(deliveries)
        self._counts.acknowledged += len(deliveries)
        self._capacity.set()

    def _on_dead_letter(self, letter: PendingDeadLetter, written: bool) -> None:
        if written:
            self._counts.dead += 1
            self._log.dead(letter)
        if letter.delivery is not None:
            self._pending.remove([letter.delivery])
            self._queue.done(letter.delivery)
        self._changed()

    def _on_lost(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            if delivery.state is DeliveryState.WAITING:
                self._queue.discard(delivery)
        self._changed()

    def _changed(self) -> None:
        """Wake every task that waits for work, for capacity or for the next due time."""
        self._work.set()
        self._capacity.set()
        self._due.look_again()

    # Its life

    @property
    def stopping(self) -> bool:
        """True after `stop`."""
        return self._phase >= Phase.STOPPING

    def start(self) -> None:
        """Start handing out deliveries."""
        self._move_on(Phase.FETCHING)

    def stop(self) -> None:
        """Stop handing out deliveries; they can still be answered."""
        self._move_on(Phase.STOPPING)

    def end(self) -> None:
        """Stop accepting answers."""
        self._move_on(Phase.ENDED)

    async def end_of_input(self) -> None:
        """Record that nothing is left to fetch. After `stop`, give back what is not handed out."""
        self._move_on(Phase.EXHAUSTED)
        if self.stopping:
            self._queue.drain()
            await self._pending.give_back(rest=False)

    def _move_on(self, phase: Phase) -> None:
        self._phase = max(self._phase, phase)
        self._work.set()
        self._capacity.set()

    async def close(self) -> None:
        """Send acknowledgements, write dead letters and give back the rest, for at most `CLOSE_SECONDS`."""
        self._queue.drain()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._acks.flush()
                await self._dead_letters.flush()
                await self._pending.give_back(rest=True)
        except (OSError, RedisError, OrdersyncError) as error:  # out of time, or Redis refuses
            self._log.unfinished(len(self._pending), words_of(error))
        finally:
            await self._acks.close()
        self._log.stopped(self._counts.acknowledged, self._counts.given_back)
