"""The entries that are pending for one consumer, kept in step with Redis.

While they are pending, their claim is renewed, so that no other consumer claims them. Entries that another consumer
has claimed all the same are dropped, and those that are not needed any more are given back to the group.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ordersync_consumer.cancellation import finish
from ordersync_consumer.consumer.delivery import DeliveryState, Trimmed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from ordersync_consumer.clock import Clock
    from ordersync_consumer.consumer.delivery import Delivery
    from ordersync_consumer.consumer.group_client import GroupClient, StreamCursor
    from ordersync_consumer.consumer.log import ConsumerLog
    from ordersync_consumer.consumer.options import ConsumerOptions
    from ordersync_consumer.consumer.retry import RetryForever
    from ordersync_consumer.consumer.statistics import Counts


class PendingEntries:
    """The deliveries of one consumer that Redis has not acknowledged, by resource and entry id.

    Args:
        group: The consumer's commands.
        options: The options of the consumer.
        retry: Repeats a call while Redis is away.
        log: Writes the log lines.
        clock: The time between two renewals.
        counts: The counters of the consumer.
        on_lost: Called with deliveries that another consumer has claimed or acknowledged.

    """

    def __init__(
        self,
        group: GroupClient,
        options: ConsumerOptions,
        *,
        retry: RetryForever,
        log: ConsumerLog,
        clock: Clock,
        counts: Counts,
        on_lost: Callable[[list[Delivery]], None],
    ) -> None:
        self._group, self._options = group, options
        self._retry, self._log, self._clock, self._counts = retry, log, clock, counts
        self._on_lost = on_lost
        self._deliveries: dict[str, dict[str, Delivery]] = {cursor.resource: {} for cursor in group.cursors}

    def __len__(self) -> int:
        """How many entries are pending."""
        return sum(map(len, self._deliveries.values()))

    def __contains__(self, delivery: Delivery) -> bool:
        """False after the delivery was acknowledged, given back or claimed by another consumer."""
        return self._deliveries[delivery.resource].get(delivery.entry_id) is delivery

    def ids(self, resource: str) -> Collection[str]:
        """Return the ids of the pending entries of a resource."""
        return self._deliveries[resource].keys()

    def add(self, delivery: Delivery) -> None:
        """Add a delivery that Redis has made."""
        self._deliveries[delivery.resource][delivery.entry_id] = delivery

    def remove(self, deliveries: Sequence[Delivery]) -> None:
        """Remove deliveries. A later delivery of the same entry stays."""
        for delivery in deliveries:
            of_resource = self._deliveries[delivery.resource]
            if of_resource.get(delivery.entry_id) is delivery:
                del of_resource[delivery.entry_id]

    async def renew(self) -> None:
        """Renew the claim on all entries, three times in `claim_after` seconds, until cancelled.

        Raises:
            ConsumerReplaced: Another process consumes under the same name.
            GroupGone: The group was dropped.

        """
        while True:
            await self._clock.sleep(self._options.claim_after / 3)
            for cursor in self._group.cursors:
                deliveries = [
                    delivery
                    for delivery in self._deliveries[cursor.resource].values()
                    if not delivery.trimmed
                ]
                await self._retry("keep entries", partial(self._extend, cursor, deliveries, count=False))

    async def count_attempts(self, deliveries: Sequence[Delivery]) -> None:
        """Store in Redis the attempt of each delivery. Those that another consumer has claimed are removed."""
        for cursor in self._group.cursors:
            some = [delivery for delivery in deliveries if delivery.resource == cursor.resource]
            if some:
                await self._retry("count an attempt", partial(self._extend, cursor, some, count=True))

    async def _extend(self, cursor: StreamCursor, deliveries: list[Delivery], *, count: bool) -> None:
        """Renew claims to the end: what the answer says of a removed entry is said once."""
        await finish(self._extend_now(cursor, deliveries, count=count))

    async def _extend_now(self, cursor: StreamCursor, deliveries: list[Delivery], *, count: bool) -> None:
        lost, trimmed = await self._group.extend(
            cursor, [(delivery.entry_id, delivery.attempt if count else "") for delivery in deliveries]
        )
        by_id = {delivery.entry_id: delivery for delivery in deliveries}
        for entry_id in trimmed:
            by_id[entry_id].trimmed = True
        claimed = [
            by_id[entry_id] for entry_id in lost if by_id[entry_id].state is not DeliveryState.ANSWERED
        ]
        self.remove(claimed)
        if claimed:
            self._counts.lost += len(claimed)
            self._log.lost(cursor.resource, len(claimed))
            self._on_lost(claimed)

    async def give_back(self, *, rest: bool) -> None:
        """Give back what is not handed out; with `rest`, everything that is not answered, and unlock the name.

        Raises:
            RuntimeError: `on_trimmed` failed.

        """
        for cursor in self._group.cursors:
            await self._retry("give back", partial(self._give_back, cursor, rest=rest))

    async def _give_back(self, cursor: StreamCursor, *, rest: bool) -> None:
        deliveries = [
            delivery
            for delivery in self._deliveries[cursor.resource].values()
            if delivery.state is DeliveryState.WAITING
            or (rest and delivery.state is not DeliveryState.ANSWERED)
        ]
        begun = [(delivery.entry_id, delivery.attempts_begun) for delivery in deliveries]
        untold = len(cursor.trimmed)
        await self._group.give_back(cursor, begun, rest=rest)
        self.remove(deliveries)
        cursor.trimmed += [delivery.entry_id for delivery in deliveries if delivery.trimmed]
        self._counts.given_back += len(deliveries) - (len(cursor.trimmed) - untold)
        await self.report_trimmed(cursor)

    async def report_trimmed(self, cursor: StreamCursor) -> None:
        """Count and log pending entries that were removed from the stream, and call `on_trimmed` for each.

        If `on_trimmed` is cancelled, the consumer calls it again for that entry when it ends.

        Raises:
            RuntimeError: `on_trimmed` failed.

        """
        told: list[str] = []
        try:
            while cursor.trimmed:
                await self._tell(cursor.resource, cursor.trimmed[0])
                told.append(cursor.trimmed.pop(0))
        except Exception:
            told += cursor.trimmed
            cursor.trimmed.clear()
            raise
        finally:
            if told:
                self._counts.trimmed += len(told)
                self._log.trimmed(cursor.resource, told)

    async def _tell(self, resource: str, entry_id: str) -> None:
        if self._options.on_trimmed is None:
            return
        try:
            await self._options.on_trimmed(Trimmed(resource, entry_id))
        except Exception as error:  # wrapped, so that it is not mistaken for a transient error of Redis
            raise RuntimeError(f"on_trimmed failed for entry {entry_id} of {resource}") from error
