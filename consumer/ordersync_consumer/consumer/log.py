"""The log lines of a consumer. They never contain fields of a record; reasons pass through the redaction of the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ordersync_consumer.log import EventLog, with_fields
from ordersync_consumer.repeats import Repeats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ordersync_consumer.clock import Clock
    from ordersync_consumer.consumer.dead_letter_writer import PendingDeadLetter
    from ordersync_consumer.consumer.delivery import Delivery
    from ordersync_consumer.consumer.options import ConsumerOptions

REPEAT_LOG_SECONDS = 10.0
"""Seconds in which failures of one resource with the same reason are logged once."""


class ConsumerLog:
    """Writes the log lines of one consumer."""

    def __init__(self, options: ConsumerOptions, clock: Clock, log: EventLog | None) -> None:
        self.logger = with_fields(log, account=options.account, group=options.group, consumer=options.name)
        self._resources = list(options.resources)
        self._clock, self._repeats = clock, Repeats(REPEAT_LOG_SECONDS)

    def started(self) -> None:
        """Log that the consumer has joined the group."""
        self.logger.info("consumer_started", resources=self._resources)

    def stopped(self, acknowledged: int, given_back: int) -> None:
        """Log that the consumer has closed."""
        self.logger.info("consumer_stopped", acknowledged=acknowledged, given_back=given_back)

    def failed(self, delivery: Delivery, reason: str, pause: float) -> None:
        """Log that an attempt has failed and the next one follows in `pause` seconds; only once if many fail alike."""
        key = f"{delivery.resource} {reason.partition(':')[0]}"
        if self._repeats.allow(key, self._clock.monotonic()):
            self.logger.warning(
                "delivery_failed",
                resource=delivery.resource,
                entry_id=delivery.entry_id,
                subject=delivery.event.subject,
                attempt=delivery.attempt,
                retry_in_s=round(pause, 3),
                error=reason,
                not_told=self._repeats.held_back(key),
            )

    def dead(self, letter: PendingDeadLetter) -> None:
        """Log that an event has become a dead letter."""
        resource = letter.cursor.resource
        self.logger.error(
            "delivery_dead",
            resource=resource,
            entry_id=letter.entry_id,
            subject=letter.subject,
            attempts=letter.attempts,
            error=letter.reason,
            advice=f"Run `ordersync dead list {resource}`, then replay the dead letter or drop it.",
        )

    def lost(self, resource: str, entries: int) -> None:
        """Log that other consumers have claimed entries of this one."""
        self.logger.warning(
            "deliveries_lost",
            resource=resource,
            entries=entries,
            advice="Other consumers claimed these entries, because this process did not renew its claim within "
            "claim_after: its event loop was blocked, or Redis was away; or Redis has lost its last writes. Run "
            "blocking work of a handler in a thread.",
        )

    def trimmed(self, resource: str, entry_ids: Sequence[str]) -> None:
        """Log that entries were removed from the stream while they were pending."""
        self.logger.error(
            "deliveries_trimmed",
            resource=resource,
            entries=len(entry_ids),
            first=entry_ids[0],
            last=entry_ids[-1],
            advice="Another program removed entries that this group had not acknowledged, with XTRIM, XDEL or MAXLEN. "
            f"To publish the records as they are now, run `ordersync resync {resource} --all --force`, or use --since.",
        )

    def unfinished(self, entries: int, error: str) -> None:
        """Log that the consumer closed before Redis had all of its acknowledgements."""
        self.logger.warning(
            "consumer_left_early",
            entries=entries,
            error=error,
            advice="These entries were not acknowledged and will be delivered again.",
        )
