"""The desk of a consumer: deliveries are answered here, and what it holds is kept, counted and given back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import anyio
from redis.exceptions import RedisError

from worker.errors import OrdersyncError
from worker.keys import Keys
from worker.queue.consumer.acks import AckBatcher, DeadLetterWriter, PendingDeadLetter, RetryForever
from worker.queue.consumer.delivery import DeliveryState, Trimmed
from worker.queue.consumer.group_client import GroupClient
from worker.queue.consumer.keyed_queue import KeyedQueue
from worker.queue.consumer.log import ConsumerLog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from worker.clock import Clock
    from worker.queue.consumer.delivery import Delivery
    from worker.queue.consumer.group_client import StreamCursor
    from worker.queue.consumer.options import ConsumerOptions

LEAVE_SECONDS = 10.0
"""How long a consumer that ends tries to tell Redis what is done, and to give back the rest."""


@dataclass(slots=True)
class ConsumerCounts:
    """What has happened so far; see `Statistics`."""

    taken: int = 0
    recovered: int = 0
    acknowledged: int = 0
    failed: int = 0
    dead: int = 0
    trimmed: int = 0
    lost: int = 0
    given_back: int = 0


class InFlight:
    """What one consumer holds.

    `lanes`: in which order it is handed out. `held`, by resource and entry id: all that is not acknowledged as far
    as Redis knows. `wake` is set when there may be something to work on, `room` when more may be taken.
    """

    def __init__(self, client: Redis, options: ConsumerOptions, clock: Clock) -> None:
        self.options, self.clock, self.counts, self.lanes = options, clock, ConsumerCounts(), KeyedQueue()
        self.said = ConsumerLog(options.account, options.group, options.name, clock)
        self.persist = RetryForever(clock, self.said.log)
        self.claims = GroupClient(
            client,
            Keys(options.account),
            group=options.group,
            name=options.name,
            resources=options.resources,
            claim_after=options.claim_after,
        )
        self.sources = self.claims.sources
        self.held: dict[str, dict[str, Delivery]] = {source.resource: {} for source in self.sources}
        self._by_resource = {source.resource: source for source in self.sources}
        self.acks = AckBatcher(client, self._by_resource, options.group, self.persist, self._on_known)
        self.burials = DeadLetterWriter(
            client,
            group=options.group,
            name=options.name,
            clock=clock,
            persist=self.persist,
            on_buried=self._on_buried,
        )
        self.wake, self.room, self._sooner = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.ended = False

    @property
    def size(self) -> int:
        """How many deliveries are held."""
        return sum(map(len, self.held.values()))

    async def begin(self, deliveries: list[Delivery]) -> list[Delivery]:
        """Hand out what was lined up, and count the attempts that Redis does not know of.

        Those that somebody else has meanwhile are left out.
        """
        for delivery in deliveries:
            delivery.state = DeliveryState.BEGINNING
        for source in self.sources:
            some = [d for d in deliveries if d.uncounted and not d.detached and d.resource == source.resource]
            if some:
                await self.persist("count an attempt", partial(self._extend, source, some, count=True))
        for delivery in deliveries:
            if delivery.lost:
                self.lanes.done(delivery, self.clock.monotonic())
            else:
                delivery.state, delivery.uncounted = DeliveryState.OPEN, False
        return [delivery for delivery in deliveries if not delivery.lost]

    # Answers

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """They have been dealt with; Redis knows it when this returns."""
        if self.ended:
            raise RuntimeError("the consumer has ended; what was not acknowledged comes again")
        for delivery in deliveries:
            if delivery.state is DeliveryState.OPEN:
                self.ack(delivery, soon=False)
        await self.acks.known()

    async def refuse(self, delivery: Delivery, reason: str, trace: str, *, retry: bool) -> None:
        """It could not be dealt with; if that is for good, its letter stands when this returns."""
        if delivery.state is DeliveryState.OPEN and not self.ended:
            letter = self.fail(delivery, reason, trace, retry=retry)
            if letter is not None:
                await letter

    def put_back(self, deliveries: Sequence[Delivery]) -> None:
        """They have not been tried."""
        for delivery in reversed(deliveries):
            if delivery.state is DeliveryState.OPEN:
                self._requeue(delivery, 0.0)

    def ack(self, delivery: Delivery, *, soon: bool = True) -> None:
        """An open delivery has been dealt with. Redis is told soon, or when the caller waits for it."""
        delivery.state = DeliveryState.ANSWERED
        self.acks.add(delivery, soon=soon)
        self.lanes.done(delivery, self.clock.monotonic())
        self.changed()

    def fail(
        self, delivery: Delivery, reason: str, trace: str, *, retry: bool
    ) -> asyncio.Future[None] | None:
        """An open delivery could not be dealt with. The future of its letter, if that was the last attempt."""
        options = self.options
        self.counts.failed += 1
        if not retry or delivery.attempt >= options.max_deliveries:
            delivery.state = DeliveryState.ANSWERED
            return self.burials.add(
                PendingDeadLetter.of(delivery, self._by_resource[delivery.resource], reason, trace)
            )
        pause = options.backoff.pause(delivery.attempt, self.clock)
        self.said.failed(delivery, reason, pause)
        delivery.attempt, delivery.uncounted = delivery.attempt + 1, True
        self._requeue(delivery, self.clock.monotonic() + pause)
        return None

    def _requeue(self, delivery: Delivery, due: float) -> None:
        """Line it up again, unless it is somebody else's by now."""
        now = self.clock.monotonic()
        if delivery.lost:
            delivery.state = DeliveryState.ANSWERED
            self.lanes.done(delivery, now)
        else:
            delivery.state, delivery.due = DeliveryState.WAITING, due
            self.lanes.requeue(delivery, now)
        self.changed()

    def _on_known(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            self._forget(delivery)
        self.counts.acknowledged += len(deliveries)
        self.room.set()

    def _on_buried(self, burial: PendingDeadLetter, written: bool) -> None:
        if written:
            self.counts.dead += 1
            self.said.buried(burial)
        if burial.delivery is not None:
            self._forget(burial.delivery)
            self.lanes.done(burial.delivery, self.clock.monotonic())
        self.changed()

    def _forget(self, delivery: Delivery) -> None:
        """It is not held any more. Another one of the same entry, taken anew since it was lost, still is."""
        held = self.held[delivery.resource]
        if held.get(delivery.entry_id) is delivery:
            del held[delivery.entry_id]

    def changed(self) -> None:
        """There may be something to work on, room for more, or another moment at which something is due."""
        self.wake.set()
        self.room.set()
        if self.lanes.next_due() is not None:
            self._sooner.set()

    # What goes on beside the work

    async def renew(self) -> None:
        """Keep what is held, so that nobody takes it over.

        Raises:
            ConsumerReplaced: Another process consumes under the same name.
            GroupGone: The group was dropped.

        """
        while True:
            await self.clock.sleep(self.options.claim_after / 3)
            for source in self.sources:
                held = [d for d in self.held[source.resource].values() if not d.detached]
                await self.persist("keep entries", partial(self._extend, source, held, count=False))

    async def remind(self) -> None:
        """Let what is to be tried again be handed out when its time has come."""
        while True:
            self._sooner.clear()
            due, now = self.lanes.next_due(), self.clock.monotonic()
            if due is None:
                await self._sooner.wait()
            elif due <= now:
                self.lanes.wake(now)
                self.changed()
            else:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._until, due - now, tasks.cancel_scope)
                    await self._sooner.wait()
                    tasks.cancel_scope.cancel()

    async def _until(self, seconds: float, scope: anyio.CancelScope) -> None:
        await self.clock.sleep(seconds)
        scope.cancel()

    async def _extend(self, source: StreamCursor, deliveries: list[Delivery], *, count: bool) -> None:
        """Keep deliveries, or count that they are begun, and note which of them are not there any more."""
        lost, gone = await self.claims.extend(
            source, [(item.entry_id, item.attempt if count else "") for item in deliveries]
        )
        by_id = {delivery.entry_id: delivery for delivery in deliveries}
        for entry_id in gone:
            by_id[entry_id].detached = True
        others = [by_id[entry_id] for entry_id in lost if by_id[entry_id].state is not DeliveryState.ANSWERED]
        for delivery in others:
            delivery.lost = True
            self._forget(delivery)
            if delivery.state is DeliveryState.WAITING:
                self.lanes.discard(delivery, self.clock.monotonic())
        if others:
            self.counts.lost += len(others)
            self.said.lost(source.resource, len(others))
            self.changed()

    # The end

    async def give_back(self) -> None:
        """Let others have at once what was not begun. Nothing is handed out from then on."""
        self.lanes.drain()
        for source in self.sources:
            await self.persist("give back", partial(self._give_back, source, rest=False))

    async def leave(self) -> None:
        """Tell Redis what is done, and give back whatever is not; not for longer than `LEAVE_SECONDS`."""
        self.lanes.drain()
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await self.acks.flush()
                await self.burials.flush()
                for source in self.sources:
                    await self.persist("give back", partial(self._give_back, source, rest=True))
        except (OSError, RedisError, OrdersyncError) as error:  # the time is over, or Redis refuses
            self.said.unfinished(self.size, str(error) or type(error).__name__)
        finally:
            await self.acks.close()
            await self.claims.close()
        self.said.stopped(self.counts.acknowledged, self.counts.given_back)

    async def _give_back(self, source: StreamCursor, *, rest: bool) -> None:
        held = self.held[source.resource].values()
        back = [
            item
            for item in held
            if item.state is DeliveryState.WAITING or (rest and item.state is not DeliveryState.ANSWERED)
        ]
        begun = [(each.entry_id, each.begun) for each in back]
        gone = await self.claims.give_back(source, begun, rest=rest)
        for delivery in back:
            self._forget(delivery)
        gone += [delivery.entry_id for delivery in back if delivery.detached]
        self.counts.given_back += len(back) - len(gone)
        await self.trimmed(source, gone)

    async def trimmed(self, source: StreamCursor, entry_ids: Sequence[str]) -> None:
        """Tell of entries that were pending and are gone."""
        if entry_ids:
            self.counts.trimmed += len(entry_ids)
            self.said.trimmed(source.resource, entry_ids)
        if self.options.on_trimmed is None:
            return
        for entry_id in entry_ids:
            try:
                await self.options.on_trimmed(Trimmed(source.resource, entry_id))
            except Exception as error:  # must not be taken for one of Redis, which passes
                raise RuntimeError(f"on_trimmed failed for entry {entry_id} of {source.resource}") from error
