"""What a consumer hands out: events one by one or in batches, and the ways to answer them."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol, TypeAlias

import msgspec

from ordersync_consumer.envelope import Event
from ordersync_consumer.redaction import redaction, words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Key: TypeAlias = tuple[str, str]
"""Names an entity: its resource and subject."""
MAX_REASON = 1_000
MAX_TRACE = 8_000


class Reject(Exception):
    """Raised by a handler for an event that it can never process: the event becomes a dead letter at once."""


@dataclass(frozen=True, slots=True)
class Trimmed:
    """An entry that was pending for the group and was removed from the stream, by XTRIM, XDEL or MAXLEN.

    The group has lost the event. `ordersync resync RESOURCE --id ID --force` publishes the record as it is now.
    """

    resource: str
    entry_id: str


class DeliveryState(Enum):
    """What a consumer does with a delivery at the moment."""

    WAITING = "waiting"
    """It waits to be handed out, for the first time or again."""
    BEGINNING = "beginning"
    """Redis is counting its next attempt; then it is handed out."""
    OPEN = "open"
    """It is handed out and not answered."""
    ANSWERED = "answered"
    """It is answered; Redis may not have acknowledged it yet."""


class Acknowledger(Protocol):
    """Takes the answers to deliveries. Answers to a delivery that is not open are ignored."""

    async def ack(self, deliveries: Sequence[Delivery], *, wait: bool = True) -> None:
        """Acknowledge deliveries. With `wait`, return when Redis has done so."""

    async def fail(
        self, delivery: Delivery, error: BaseException | str, *, retry: bool, wait: bool = True
    ) -> None:
        """Try a delivery again later, or make it a dead letter. With `wait`, return when the letter is written."""

    def requeue(self, deliveries: Sequence[Delivery]) -> None:
        """Hand out deliveries again, in the same order, without counting an attempt."""


class Delivery(msgspec.Struct, eq=False):
    """An event that this consumer has claimed: no other consumer of the group works on it meanwhile.

    Answer it with one of `ack`, `fail` and `put_back`. The first answer counts; later ones do nothing.

    Attributes:
        event: The event; its `data` is the record as served.
        resource: The resource from whose stream it comes.
        entry_id: Its id in the stream.
        key: Names the entity, the events of which come in order.
        attempt: The number of this attempt, from 1: how often the group has handed it out. After a crash it may be
            one too high, never too low.
        replayed: True if the group has processed it before, and a replay was requested.
        state: What the consumer does with it.
        trimmed: True if its entry was removed from the stream, so that only this process still has the event.

    """

    _acknowledger: Acknowledger
    resource: str
    event: Event
    entry_id: str
    key: Key
    attempt: int = 1
    replayed: bool = False
    state: DeliveryState = DeliveryState.WAITING
    trimmed: bool = False

    @property
    def attempts_begun(self) -> int:
        """How often it was handed out, including the current attempt."""
        begun = self.state in (DeliveryState.OPEN, DeliveryState.ANSWERED)
        return self.attempt if begun else self.attempt - 1

    @property
    def position(self) -> tuple[int, int]:
        """Its position in the stream; older entries compare as smaller."""
        milliseconds, _, number = self.entry_id.partition("-")
        return int(milliseconds), int(number)

    async def ack(self, *, wait: bool = True) -> None:
        """Acknowledge it: the event was processed.

        Args:
            wait: Return when Redis has acknowledged it; concurrent callers share one call. Without, return at
                once, and the consumer acknowledges it soon, at the latest when it closes.

        Raises:
            RuntimeError: The consumer has closed; the event will be delivered again.

        """
        await self._acknowledger.ack([self], wait=wait)

    async def fail(self, error: BaseException | str, *, retry: bool = True) -> None:
        """Report that the event could not be processed.

        It is handed out again after a pause, before later events of the same entity. After `max_deliveries`
        attempts, or without `retry`, it becomes a dead letter; then this returns when the letter is written.

        Args:
            error: The reason, for the log and the dead letter. An exception adds its stack trace.
            retry: False if another attempt would fail as well.

        """
        await self._acknowledger.fail(self, error, retry=retry)

    def put_back(self) -> None:
        """Return it untried: it is handed out again at once, and this does not count as an attempt."""
        self._acknowledger.requeue([self])

    def __repr__(self) -> str:
        return f"<Delivery {self.resource} {self.entry_id} {self.event.type} attempt {self.attempt}>"


class Batch:
    """Deliveries that were handed out together, in order. Answer them one by one or together."""

    __slots__ = ("_acknowledger", "deliveries")

    def __init__(self, acknowledger: Acknowledger, deliveries: Sequence[Delivery]) -> None:
        self._acknowledger, self.deliveries = acknowledger, tuple(deliveries)

    def __iter__(self) -> Iterator[Delivery]:
        return iter(self.deliveries)

    def __len__(self) -> int:
        return len(self.deliveries)

    async def ack(self) -> None:
        """Acknowledge all that is not answered yet, in one call to Redis. Return when Redis has done so.

        Raises:
            RuntimeError: The consumer has closed; the events will be delivered again.

        """
        await self._acknowledger.ack(self.deliveries)

    def put_back(self) -> None:
        """Return all that is not answered yet, untried: it is handed out again in the same order."""
        self._acknowledger.requeue(self.deliveries)


def explain(error: BaseException | str) -> tuple[str, str]:
    """Return an error as a reason of one line and a stack trace, both without secrets and of bounded length."""
    if isinstance(error, str):
        return words(error, MAX_REASON), ""
    if isinstance(error, Reject):
        reason = str(error) or "rejected"
    else:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    trace = "".join(traceback.format_exception(error))
    return words(reason, MAX_REASON), redaction.text(trace)[-MAX_TRACE:]
