"""What a consumer is handed: an event with its place, and the ways to answer it."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from worker.queue.envelope import Event

MAX_REASON = 1_000
MAX_TRACE = 8_000


class Reject(Exception):
    """Raised by a handler for an event that it will never be able to deal with: it becomes a dead letter at once."""


@dataclass(frozen=True, slots=True)
class Trimmed:
    """An entry that was pending for the group, and whose data is gone: somebody removed it from the stream.

    The event is lost to the group; a resync of the resource publishes the record as it is now.
    """

    resource: str
    entry_id: str


class DeliveryState(Enum):
    """Where a delivery stands."""

    WAITING = "waiting"
    """It is this consumer's, and nobody has it yet, or nobody has it at the moment."""
    BEGINNING = "beginning"
    """It is about to be handed out."""
    OPEN = "open"
    """Somebody works on it."""
    ANSWERED = "answered"
    """Somebody has answered it; Redis may not know of it yet."""


class Acknowledger(Protocol):
    """Takes the answers to deliveries: the desk of the consumer."""

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """They have been dealt with."""

    async def refuse(self, delivery: Delivery, reason: str, trace: str, *, retry: bool) -> None:
        """It could not be dealt with."""

    def put_back(self, deliveries: Sequence[Delivery]) -> None:
        """They have not been tried."""


class Delivery:
    """An event that this consumer has taken, and that nobody else works on meanwhile.

    Attributes:
        event: The event; its `data` is the record as served.
        resource: The resource from whose stream it comes.
        entry_id: Its id in the stream.
        attempt: The number of this attempt, from 1: how often it was handed to somebody to deal with, as the
            group counts it. After a crash it may be one too high, never too low.
        replayed: It was dealt with before, and somebody has asked for it again.

    One of `ack`, `fail` and `put_back` answers it; the first answer counts, and further ones do nothing.

    """

    __slots__ = (
        *(
            "_answers",
            "attempt",
            "detached",
            "due",
            "entry_id",
            "event",
            "lost",
            "replayed",
            "resource",
            "state",
        ),
        *("uncounted",),
    )

    def __init__(
        self,
        answers: Acknowledger,
        resource: str,
        event: Event,
        *,
        attempt: int = 1,
        uncounted: bool = False,
        replayed: bool = False,
    ) -> None:
        self._answers = answers
        self.resource, self.event, self.entry_id = resource, event, event.entry_id
        self.attempt, self.replayed = attempt, replayed
        self.uncounted = uncounted
        """Its attempt is not counted in Redis yet."""
        self.state = DeliveryState.WAITING
        self.lost = False
        """Another consumer has claimed it."""
        self.detached = False
        """Its data is gone from Redis; nobody but this process has it."""
        self.due = 0.0
        """The monotonic time before which it is not tried again."""

    @property
    def begun(self) -> int:
        """How often it was tried, the attempt under way included."""
        return (
            self.attempt if self.state in (DeliveryState.OPEN, DeliveryState.ANSWERED) else self.attempt - 1
        )

    @property
    def place(self) -> tuple[int, int]:
        """Its place in the stream: smaller is older."""
        milliseconds, _, number = self.entry_id.partition("-")
        return int(milliseconds), int(number)

    async def ack(self) -> None:
        """It has been dealt with. Redis knows it when this returns; several at once share one call."""
        await self._answers.acknowledge([self])

    async def fail(self, error: BaseException | str, *, retry: bool = True) -> None:
        """It could not be dealt with: it comes again after a pause, before later events of the same entity.

        After `max_deliveries`, and without `retry` at once, it becomes a dead letter with `error` as its
        reason; that stands when this returns.
        """
        reason, trace = explain(error)
        await self._answers.refuse(self, reason, trace, retry=retry)

    def put_back(self) -> None:
        """It was not tried: it comes again at once, and this does not count as an attempt."""
        self._answers.put_back([self])

    def __repr__(self) -> str:
        return f"<Delivery {self.resource} {self.entry_id} {self.event.type} attempt {self.attempt}>"


class Batch:
    """Deliveries that were handed out together, in order. Answer them one by one or together."""

    __slots__ = ("_answers", "deliveries")

    def __init__(self, answers: Acknowledger, deliveries: Sequence[Delivery]) -> None:
        self._answers, self.deliveries = answers, tuple(deliveries)

    def __iter__(self) -> Iterator[Delivery]:
        return iter(self.deliveries)

    def __len__(self) -> int:
        return len(self.deliveries)

    async def ack(self) -> None:
        """All that is not answered yet has been dealt with: one call to Redis."""
        await self._answers.acknowledge(self.deliveries)

    def put_back(self) -> None:
        """All that is not answered yet was not tried: it comes again, in the same order."""
        self._answers.put_back(self.deliveries)


def explain(error: BaseException | str) -> tuple[str, str]:
    """A reason of one line and the trace, both of a bounded length."""
    if isinstance(error, str):
        return error[:MAX_REASON], ""
    if isinstance(error, Reject):
        reason = str(error) or "rejected"
    else:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    trace = "".join(traceback.format_exception(error))
    return reason[:MAX_REASON], trace[-MAX_TRACE:]
