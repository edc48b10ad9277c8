"""What Redis has lost of what was committed to it. No I/O: `loss_check.py` looks, and numbers anew.

After a crash, a failover or a restored backup, Redis contains an earlier state as a whole: what it has lost is read and
published again, but under numbers that consumers may have seen with other contents. So the sequence and all versions
go on above everything that was given out: in a new generation.

A single key that is gone leaves the others, which may contradict each other without it. Without the stream or the names
of the fields the resource begins anew, and every record is published again. Without the cursor the states are left, and
what the cursor counted is counted again. A record without its state seems to be new: it is published as a snapshot.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.capture.state.cursor import Cursor

_GENERATIONS_APART = 1 << 36
"""Numbers further apart than this are of two generations."""


class LossKind(StrEnum):
    """What has happened to Redis."""

    WENT_BACK = "went_back"
    """It contains an earlier state."""
    LOST_ITS_DATA = "lost_its_data"
    """It knows nothing of the source."""
    IN_DOUBT = "in_doubt"
    """It was started again, and the worker cannot know whether it contains the last events."""
    FAILED_OVER = "failed_over"
    """Another server has taken its place, and may lack the last events of this worker or of another one."""
    LOST_CURSOR = "lost_cursor"
    """The cursor is gone, and the stream is not."""
    LOST_STREAM = "lost_stream"
    """The stream is gone."""
    LOST_FIELDS = "lost_fields"
    """The names of the fields are gone, without which no record can be compared."""
    LOST_STATES = "lost_states"
    """States of records are gone, so these seem to be new."""


_WORDS = {
    LossKind.WENT_BACK: "Redis went back to an earlier state and lost {count} at least",
    LossKind.LOST_ITS_DATA: "Redis lost its data, {count} at least",
    LossKind.IN_DOUBT: "Redis was started again while a commit was under way, and may have lost the last events",
    LossKind.FAILED_OVER: "Redis failed over to a replica, which may lack the last events",
    LossKind.LOST_CURSOR: "Redis lost the cursor",
    LossKind.LOST_STREAM: "Redis lost the stream, with the events that consumers had not read",
    LossKind.LOST_STATES: "Redis lost the states of {states}",
    LossKind.LOST_FIELDS: "Redis lost the names of the fields, without which records cannot be compared",
}


@dataclass(frozen=True, slots=True)
class Found:
    """What Redis contains of one source.

    Attributes:
        cursor: Its cursor.
        has_stream: The stream exists.
        has_fields: The names of its fields exist, or it has none.
        last: Sequence of the last event in the stream, where there is no cursor; 0 for none.

    """

    cursor: Cursor
    has_stream: bool = True
    has_fields: bool = True
    last: int = 0


@dataclass(frozen=True, slots=True)
class Loss:
    """What Redis has lost of one source.

    Attributes:
        kind: What has happened.
        expected: The highest sequence that was given out, as far as is known.
        held: The sequence in Redis.
        anew: The source has to begin anew.
        states: Records whose states are gone.

    """

    kind: LossKind
    expected: int
    held: int
    anew: bool = False
    states: int = 0

    @property
    def events(self) -> int:
        """The number of lost events, at least; 0 if it is not known, as where a generation of numbers is lost."""
        events = self.expected - self.held
        return events if events < _GENERATIONS_APART else 0

    @property
    def words(self) -> str:
        """What has happened, as a sentence without a full stop."""
        count = "1 event" if self.events <= 1 else f"{self.events} events"
        states = "1 record" if self.states == 1 else f"{self.states} records"
        return _WORDS[self.kind].format(count=count, states=states)


def find_loss(found: Found, known: int, *, in_doubt: bool = False, failed_over: bool = False) -> Loss | None:
    """Return what Redis has lost; None if nothing is known to be lost.

    Args:
        found: What it contains.
        known: The highest sequence that is known to be given out; 0 if none is.
        in_doubt: More than that may have been given out, and the server was started again since.
        failed_over: Another server has taken its place since the source was looked at last. Replication is
            asynchronous, so what was committed shortly before, also by other workers, may be missing there.

    """
    held = found.cursor.sequence
    anew = found.cursor.events > 0 and not (found.has_stream and found.has_fields)
    if not held and found.last:
        return Loss(LossKind.LOST_CURSOR, max(known, found.last), held)
    if held < known:
        return Loss(LossKind.WENT_BACK if held else LossKind.LOST_ITS_DATA, known, held, anew)
    if anew:
        return Loss(LossKind.LOST_FIELDS if found.has_stream else LossKind.LOST_STREAM, held, held, anew)
    if failed_over and held:
        return Loss(LossKind.FAILED_OVER, held, held)
    return Loss(LossKind.IN_DOUBT, held, held) if in_doubt else None
