"""What a read has seen: its evidence, and what speaks against believing it. No I/O.

A server may answer in good order and be wrong: an empty list for a moment, the records of somebody else, every record
rendered anew. What such a read has shown is published, since each record is what was served. But nothing is concluded
from what it did not show, and it stands for no complete read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.capture.probe.samples import SampleRecord
from worker.capture.records.diff import Action
from worker.capture.records.fingerprint import RecordState
from worker.capture.scan.strategy import OVERLAP_MS
from worker.clock import rfc3339

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.capture.records.diff import Change
    from worker.capture.state.cursor import Cursor

MIN_FOR_ALL = 100
"""Where fewer records than these are known, all of them may well change at once."""
_ALL = 0.95
_MIN_LAST = 20
_MORE = 1000
_SAME = 0.1


MIN_OFFSET, MAX_OFFSET = 5.0, 86_400.0
"""Seconds. A smaller difference between two clocks is noise; with a larger one, the server's clock is wrong."""


def server_time(now: float, offset: float) -> float:
    """Return the time by the server's clock, which stamps the records, where ours says `now`.

    Where the `offset` of the server's clock is implausible, it is the time by ours.
    """
    # Somewhat later: the server gives whole seconds, some of them late, and a change of now is not in the future.
    return now + offset + MIN_OFFSET if MIN_OFFSET <= abs(offset) <= MAX_OFFSET else now


class SanityCheck:
    """The evidence of one read. `fast`: it reads what is newer; otherwise everything, also over several runs.

    `partial`: no more than the records of one status.
    `seen` and `changed` are records shown, and those among them that had changed since they were known. `newest` is
    the latest modification among changes up to now, by the records' own times, `latest` among all that were looked
    at. `missed`: changes that a sweep has found and a fast read should have; `witness`: the latest one found.
    """

    def __init__(self, cursor: Cursor, *, fast: bool, resumed: bool, partial: bool = False) -> None:
        self._cursor, self._fast, self._partial = cursor, fast, partial
        self.seen = cursor.scan.seen if resumed else 0
        self.changed = cursor.scan.changed if resumed else 0
        self.newest = self.latest = cursor.newest
        self.missed = 0
        self.witness: SampleRecord | None = None

    def observe(self, count: int, times: Sequence[int], changes: Sequence[Change], now: float) -> None:
        """A page of `count` records was dealt with at `now` (milliseconds since 1970).

        A time in the future must not carry the mark beyond what has been read.
        """
        self.seen += count
        self.changed += sum(change.action is Action.UPDATED for change in changes)
        past = [change.modified for change in changes if change.modified <= now]
        self.newest = max(self.newest, *past, 0)
        self.latest = max(self.latest, self.newest, *(time for time in times if time <= now), 0)
        if not self._fast:
            self.missed += sum(self._was_due(change) for change in changes)
            self._keep_witness(changes, now)

    def find_anomaly(self, cursor: Cursor) -> str:
        """What speaks against this read now that it has ended, held against what is known; "" for nothing."""
        if self._partial:
            return ""
        if self._fast:
            if not self.seen and cursor.newest != cursor.bare:
                return f"no record was returned, but a record was modified at {rfc3339(cursor.newest / 1000)}"
        elif not self.seen and cursor.tracked:
            return f"the list was empty, but {cursor.tracked} records are known"
        elif self._is_far(cursor.swept_records) and not _alike(self.seen, cursor.suspect_records):
            return (
                f"{self.seen} records were returned, but the last full scan returned {cursor.swept_records}"
            )
        of = cursor.tracked if self._fast else min(self.seen, cursor.tracked)
        if of >= MIN_FOR_ALL and self.changed >= _ALL * of:
            return f"{self.changed} of {of} records have changed at the same time"
        return ""

    def _is_far(self, last: int) -> bool:
        return last >= _MIN_LAST and not last <= 2 * self.seen <= 4 * last + 2 * _MORE

    def _keep_witness(self, changes: Sequence[Change], now: float) -> None:
        """The latest change that this sweep has found: what fast reads go by must show it."""
        for change in changes:
            latest = self.witness.modified or 0 if self.witness else 0
            if change.action in {Action.CREATED, Action.UPDATED} and latest < change.modified <= now:
                self.witness = SampleRecord(change.observed.identifier, change.modified, unchanged=True)

    def _was_due(self, change: Change) -> bool:
        """Whether a sweep has found what a fast read should have: it changed since the last sweep, and long ago."""
        cursor = self._cursor
        if change.action not in {Action.CREATED, Action.UPDATED} or not cursor.swept_mark:
            return False
        try:
            moved = not change.before or RecordState.unpack(change.before).modified < change.modified
        except ValueError:
            return False  # a state of another hand says nothing
        return moved and cursor.swept_mark < change.modified < cursor.mark - OVERLAP_MS


def _alike(one: int, other: int) -> bool:
    return abs(one - other) <= _SAME * max(one, other)
