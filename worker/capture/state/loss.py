"""Notices that Redis has lost what was committed to it, and numbers what follows so that no number comes twice.

After a crash, a failover or a restored backup, Redis holds an earlier state as a whole: what it has lost is read and
published again, but under numbers that consumers may have seen with other contents. So the sequence and all versions
go on above everything that was given out: in a new generation.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from worker.cancellation import finish
from worker.capture.resources import Resource
from worker.capture.state.cursor import SCAN_OVER
from worker.redis import scripts
from worker.redis.connections import run_of
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.capture.resources import Captured
    from worker.capture.state.cursor import Cursor, CursorUpdate
    from worker.capture.state.given_out import SourceNumbers
    from worker.keys import Keys

WHAT_IT_CAUSES = (
    "Everything is read again, and what differs is published again, with sequence and versions above all earlier ones. "
    "What was published in the lost time and undone in OrderMesh before it is read again is not corrected."
)


_GENERATIONS_APART = 1 << 36
"""Numbers further apart than this are of two generations."""


class LossKind(StrEnum):
    """What has happened to Redis."""

    WENT_BACK = "went_back"
    """It holds an earlier state."""
    LOST_ITS_DATA = "lost_its_data"
    """It knows nothing of the source."""
    IN_DOUBT = "in_doubt"
    """It was started again, and the worker cannot know whether it contains the last events."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What Redis has lost of one source: events up to number `expected`; it holds those up to `held`."""

    kind: LossKind
    expected: int
    held: int

    @classmethod
    def of(cls, expected: int, cursor: Cursor) -> Loss:
        """Return the loss, given the highest sequence that was given out at least."""
        held = cursor.sequence
        if held >= expected:
            return cls(LossKind.IN_DOUBT, held, held)
        return cls(LossKind.WENT_BACK if held else LossKind.LOST_ITS_DATA, expected, held)

    @property
    def events(self) -> int:
        """The number of lost events, at least; 0 if it is not known, as where a generation of numbers is lost."""
        events = self.expected - self.held
        return events if events < _GENERATIONS_APART else 0

    @property
    def words(self) -> str:
        """What has happened, as a sentence without a full stop."""
        match self.kind:
            case LossKind.IN_DOUBT:
                return (
                    "Redis was started again while a commit was under way, and may have lost the last events"
                )
            case LossKind.WENT_BACK:
                return f"Redis went back to an earlier state and lost {self._count} at least"
            case LossKind.LOST_ITS_DATA:
                return f"Redis lost its data, {self._count} at least"

    @property
    def _count(self) -> str:
        return "1 event" if self.events <= 1 else f"{self.events} events"


class LossCheck:
    """Compares the sequence of one source in Redis with what this worker knows to be given out."""

    def __init__(self, redis: Redis, keys: Keys, source: Captured, numbers: SourceNumbers) -> None:
        self._redis, self._numbers, self._source = redis, numbers, source
        self._key, self._account = keys.cursor(source.name), keys.account
        self._renumber = scripts.load(redis, "worker.capture", "renumber")

    async def check(self, cursor: Cursor, now: float) -> Loss | None:
        """Begin a new generation, and log it, if Redis holds less than was given out. Call it under the lease.

        Everything is read again soon after that: a full scan publishes what differs.

        Args:
            cursor: The cursor as it was loaded.
            now: When the read began that notices it, in seconds since 1970.

        Returns:
            What Redis has lost, if the cursor has changed; None if it has lost nothing.

        """
        numbers = self._numbers
        if cursor.sequence >= numbers.sequence and not await self._may_have_lost():
            numbers.settle()
            numbers.note(cursor.sequence)
            return None
        loss = Loss.of(numbers.sequence, cursor)
        generation, _ = await finish(
            self._renumber(
                keys=[self._key],
                args=[str(cursor.generation), str(loss.expected), *self._fields(loss, now)],
            )
        )
        numbers.settle()
        if generation:
            self._log(loss, int(generation))
        return loss

    async def _may_have_lost(self) -> bool:
        """True if Redis may have given out more than is known, and was started again since."""
        return self._numbers.is_doubtful and self._numbers.is_other_server(await run_of(self._redis))

    def _fields(self, loss: Loss, now: float) -> list[str]:
        moved: CursorUpdate = {**SCAN_OVER, "swept_at": 0, "due_at": 0}
        if isinstance(
            self._source, Resource
        ):  # an audit log has no full scan, after which the loss is mended
            moved |= {"loss": loss.words, "lost": loss.events, "lost_at": now}
        flat: list[str] = []
        for name, value in moved.items():
            flat += (name, str(int(value) if isinstance(value, bool) else value))
        return flat

    def _log(self, loss: Loss, generation: int) -> None:
        log = get_logger(account=self._account)
        event = "redis_lost_its_data" if loss.kind is LossKind.LOST_ITS_DATA else "redis_went_back"
        log.error(
            event,
            resource=self._source.name,
            expected=loss.expected,
            held=loss.held,
            events=loss.events,
            in_doubt=loss.kind is LossKind.IN_DOUBT,
            generation=generation,
            advice=WHAT_IT_CAUSES,
        )
