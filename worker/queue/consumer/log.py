"""What a consumer says in the log. Never a field of a record; reasons pass through the redaction of the log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import structlog

from worker.telemetry.log import Repeats, get_logger, redaction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.clock import Clock
    from worker.queue.consumer.acks import PendingDeadLetter
    from worker.queue.consumer.delivery import Delivery

REPEAT_LOG_SECONDS = 10.0
"""Seconds in which the failures of one resource with one reason are told once."""


class ConsumerLog:
    """The log of one consumer."""

    def __init__(self, account: str, group: str, name: str, clock: Clock) -> None:
        self.log = logger(account=account, group=group, consumer=name)
        self._clock, self._repeats = clock, Repeats(REPEAT_LOG_SECONDS)

    def started(self, resources: Sequence[str]) -> None:
        """It has joined the group."""
        self.log.info("consumer_started", resources=list(resources))

    def stopped(self, acknowledged: int, given_back: int) -> None:
        """It has left."""
        self.log.info("consumer_stopped", acknowledged=acknowledged, given_back=given_back)

    def failed(self, delivery: Delivery, reason: str, pause: float) -> None:
        """An attempt has failed, and there will be another one. Not told each time when many fail alike."""
        key = f"{delivery.resource} {reason.partition(':')[0]}"
        if self._repeats.allow(key, self._clock.monotonic()):
            self.log.warning(
                "delivery_failed",
                resource=delivery.resource,
                entry_id=delivery.entry_id,
                subject=delivery.event.subject,
                attempt=delivery.attempt,
                retry_in_s=round(pause, 3),
                error=reason,
                not_told=self._repeats.held_back(key),
            )

    def buried(self, burial: PendingDeadLetter) -> None:
        """An event has become a dead letter."""
        self.log.error(
            "delivery_dead",
            resource=burial.source.resource,
            entry_id=burial.entry_id,
            subject=burial.subject,
            attempts=burial.attempts,
            error=burial.reason,
            advice=f"ordersync dead list {burial.source.resource}",
        )

    def lost(self, resource: str, entries: int) -> None:
        """Others have taken over entries of this consumer."""
        self.log.warning(
            "deliveries_lost",
            resource=resource,
            entries=entries,
            advice="the loop of the process stood still for longer than claim_after, or Redis was away; "
            "a handler must not block the loop",
        )

    def trimmed(self, resource: str, entry_ids: Sequence[str]) -> None:
        """Entries that were pending are gone."""
        self.log.error(
            "deliveries_trimmed",
            resource=resource,
            entries=len(entry_ids),
            first=entry_ids[0],
            last=entry_ids[-1],
            advice="somebody removed entries that this group needed, with XTRIM, XDEL or MAXLEN; "
            f"ordersync resync {resource} publishes the records as they are now",
        )

    def unfinished(self, entries: int, error: str) -> None:
        """It had to end without having told Redis everything."""
        self.log.warning(
            "consumer_left_early",
            entries=entries,
            error=error,
            advice="what was not acknowledged comes again",
        )


def logger(**fields: object) -> structlog.typing.FilteringBoundLogger:
    """The logger of the engine; in a program that has not set it up, one that goes through `logging`.

    structlog writes to stdout by default, where the program has its answers.
    """
    if structlog.is_configured():
        return get_logger(**fields)
    wrapped: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        logging.getLogger("ordersync"),
        processors=[
            redaction,
            structlog.processors.KeyValueRenderer(key_order=["event"], drop_missing=True),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    return wrapped.bind(**fields)
