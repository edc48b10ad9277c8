"""Writing dead letters for the entries that a consumer gives up."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ordersync_consumer import envelope
from ordersync_consumer.cancellation import finish
from ordersync_consumer.clock import rfc3339
from ordersync_consumer.consumer.connection import with_timeout
from ordersync_consumer.functions import function

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

    from ordersync_consumer.clock import Clock
    from ordersync_consumer.consumer.delivery import Delivery
    from ordersync_consumer.consumer.group_client import Entry, StreamCursor
    from ordersync_consumer.consumer.options import ConsumerOptions
    from ordersync_consumer.consumer.retry import RetryForever


@dataclass(frozen=True, slots=True)
class PendingDeadLetter:
    """An entry whose dead letter is not written yet.

    Attributes:
        cursor: The stream of the entry.
        entry_id: Id of the entry.
        subject: The subject of its event; "" if unknown.
        attempts: How often it was tried.
        reason: Why it is given up, one line.
        trace: The stack trace of the last attempt; "" without one.
        event: Names and values of the event in turn, for a letter whose entry was removed from the stream; empty
            if the entry is not an event.
        delivery: Its delivery; None if it was never handed out.

    """

    cursor: StreamCursor
    entry_id: str
    subject: str
    attempts: int
    reason: str
    trace: str = ""
    event: tuple[str | bytes, ...] = ()
    delivery: Delivery | None = None

    @classmethod
    def of_delivery(
        cls, delivery: Delivery, cursor: StreamCursor, reason: str, trace: str
    ) -> PendingDeadLetter:
        """Return the letter of a delivery that failed for good."""
        event = delivery.event
        return cls(
            cursor=cursor,
            entry_id=event.entry_id,
            subject=event.subject,
            attempts=delivery.attempt,
            reason=reason,
            trace=trace,
            event=_fields(event),
            delivery=delivery,
        )

    @classmethod
    def of_event(
        cls, event: envelope.Event, cursor: StreamCursor, attempts: int, reason: str
    ) -> PendingDeadLetter:
        """Return the letter of an event that is not handed out again."""
        return cls(cursor, event.entry_id, event.subject, attempts, reason, event=_fields(event))

    @classmethod
    def of_entry(cls, entry: Entry, cursor: StreamCursor, reason: str) -> PendingDeadLetter:
        """Return the letter of an entry that is not an event."""
        subject = envelope.as_mapping(entry.flat).get(b"subject", b"").decode("utf-8", "replace")
        return cls(cursor, entry.entry_id.decode(), subject, entry.count, reason)


class DeadLetterWriter:
    """Writes dead letters one after the other and acknowledges their entries.

    While Redis is full and refuses a letter, its entry stays pending and the consumer works on other entries.

    Args:
        client: The caller's client.
        options: The options of the consumer.
        retry: Repeats a call while Redis is away or full.
        clock: The time of a letter.
        on_written: Called after each letter with True if it was written, and False if the entry no longer
            belongs to the consumer.

    """

    def __init__(
        self,
        client: Redis,
        options: ConsumerOptions,
        *,
        retry: RetryForever,
        clock: Clock,
        on_written: Callable[[PendingDeadLetter, bool], None],
    ) -> None:
        self._group, self._name = options.group, options.name
        self._retry, self._clock, self._on_written = retry, clock, on_written
        self._script = function(client, "bury")
        self._pending: list[tuple[PendingDeadLetter, asyncio.Future[None]]] = []
        self._requested = asyncio.Event()

    def add(self, letter: PendingDeadLetter) -> asyncio.Future[None]:
        """Have a letter written soon. Return a future that is done when it was."""
        done = asyncio.get_running_loop().create_future()
        self._pending.append((letter, done))
        self._requested.set()
        return done

    @property
    def busy(self) -> bool:
        """True if a letter is not written yet."""
        return bool(self._pending)

    async def run(self) -> None:
        """Write letters as they are added, until cancelled."""
        while True:
            await self._requested.wait()
            self._requested.clear()
            await self.flush()

    async def flush(self) -> None:
        """Write every letter that was added."""
        while self._pending:
            letter, done = self._pending[0]
            written = await self._retry("write a dead letter", partial(self._write, letter))
            self._pending.pop(0)
            self._on_written(letter, written)
            if not done.done():
                done.set_result(None)

    async def _write(self, letter: PendingDeadLetter) -> bool:
        cursor, delivery = letter.cursor, letter.delivery
        fields = [
            "kind", "delivery",
            "reason", letter.reason,
            "subject", letter.subject,
            "where", letter.entry_id,
            "time", rfc3339(self._clock.now()),
            "group", self._group,
            "consumer", self._name,
            "attempts", str(letter.attempts),
            "trace", letter.trace,
        ]  # fmt: skip
        trimmed = delivery is not None and delivery.trimmed
        arguments = [
            self._group, self._name, letter.entry_id, str(int(trimmed)), str(len(fields)), *fields, *letter.event
        ]  # fmt: skip
        keys = [cursor.stream, cursor.dead, cursor.replayed]
        return bool(await finish(with_timeout(self._script(keys=keys, args=arguments))))


def _fields(event: envelope.Event) -> tuple[str | bytes, ...]:
    """Return the fields of an event as they are in a stream: names and values in turn."""
    fields: dict[str, str | bytes] = {**event.attributes(), "data": event.data}
    return tuple(part for field in fields.items() for part in field)
