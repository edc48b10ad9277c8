"""Passes events to a receiver, and answers them by what becomes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from worker.cli.forward.answers import BlameCount, Verdict
from worker.errors import ReceiverGone, ReceiverUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ordersync_consumer import Batch, Delivery
    from worker.cli.consume.batches import EventFeed, FailureThrottle
    from worker.cli.forward.answers import Answer
    from worker.cli.forward.receiver import Receiver
    from worker.clock import Clock


class Forwarding:
    """What all lanes share: the feed, the pauses, and which event is to blame for a failed attempt.

    Args:
        feed: The events; exclusive if there are several lanes.
        throttle: Slows down while every event fails.
        clock: Time.
        address: The receiver, for messages.
        limit: Events in a request at most.
        max_deliveries: Attempts after which an event becomes a dead letter.
        once: End at the first failure that no event is to blame for.

    """

    def __init__(
        self,
        feed: EventFeed,
        throttle: FailureThrottle,
        clock: Clock,
        *,
        address: str,
        limit: int,
        max_deliveries: int,
        once: bool,
    ) -> None:
        self._feed, self._throttle, self._clock = feed, throttle, clock
        self._address, self._limit, self._max_deliveries, self._once = address, limit, max_deliveries, once
        self._blame = BlameCount()
        self._not_before = 0.0

    async def lane(self, receiver: Receiver) -> None:
        """Send one request after the other, until there are no events.

        Raises:
            ReceiverGone: The receiver was removed.
            ReceiverUnavailable: With `once`: it takes none at the moment.

        """
        while (batch := await self._feed.next_batch(self._limit)) is not None:
            try:
                await self._wait()
                await self._forward(receiver, batch)
            finally:
                batch.put_back()  # what is not answered

    async def _forward(self, receiver: Receiver, batch: Batch) -> None:
        if self._feed.stopping.is_set():
            return
        if len(batch) == 1:
            await self._send(receiver, batch.deliveries)
            return
        answer = await receiver.send(batch.deliveries)
        if answer.verdict is Verdict.TAKEN:
            await self._taken(batch.deliveries)
            return
        # Each by itself shows which of them the receiver does not take; later events of its entity wait for it.
        failed: set[tuple[str, str]] = set()
        for delivery in batch:
            entity = (delivery.resource, delivery.event.subject)
            if entity in failed:
                continue
            await self._wait()
            if self._feed.stopping.is_set():
                return
            verdict = await self._send(receiver, [delivery])
            if verdict is Verdict.UNAVAILABLE:
                return
            if verdict is not Verdict.TAKEN:
                failed.add(entity)

    async def _send(self, receiver: Receiver, deliveries: Sequence[Delivery]) -> Verdict:
        """Send one event, and answer it."""
        answer = await receiver.send(deliveries)
        if answer.verdict is Verdict.TAKEN:
            await self._taken(deliveries)
        else:
            await self._failed(deliveries[0], answer)
        return answer.verdict

    async def _taken(self, deliveries: Sequence[Delivery]) -> None:
        self._throttle.succeeded()
        self._not_before = 0.0
        for delivery in deliveries:
            self._blame.taken(_key(delivery))
            await self._feed.succeeded(delivery)

    async def _failed(self, delivery: Delivery, answer: Answer) -> None:
        if answer.verdict is Verdict.GONE:
            raise ReceiverGone(self._address)
        self._throttle.failed(delivery)
        self._not_before = max(self._not_before, self._clock.monotonic() + answer.retry_after)
        key = _key(delivery)
        attempts = self._blame.failed(key, answer.verdict, everything_fails=self._throttle.everything_fails)
        if self._once and not attempts:
            raise ReceiverUnavailable(self._address, answer.reason)
        is_dead = attempts >= self._max_deliveries
        if is_dead:
            self._blame.forget(key)
        await self._feed.failed(delivery, answer.reason, retry=not is_dead)

    async def _wait(self) -> None:
        """Wait while every event fails, and as long as the receiver asks; not beyond the end."""
        await self._throttle.wait()
        remaining = self._not_before - self._clock.monotonic()
        if remaining > 0:
            with anyio.move_on_after(remaining):
                await self._feed.stopping.wait()


def _key(delivery: Delivery) -> tuple[str, str]:
    return delivery.resource, delivery.entry_id
