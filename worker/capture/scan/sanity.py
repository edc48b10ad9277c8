"""What a read has shown, and what speaks against believing it. No I/O.

A response can be well formed and still wrong: an empty list for a moment, half of it, every record changed at the same
time. (Records of another account: see `strangers.py`.) The records of such a read are published, since each is what the
server gave. But the read is suspect: it is not used to detect deletions, or to report freshness.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.capture.probe.samples import SampleRecord
from worker.capture.records.actions import Action
from worker.capture.records.fingerprint import RecordState
from worker.capture.scan.strategy import OVERLAP_MS
from worker.capture.state.run import MAX_OFFSET
from worker.clock import rfc3339

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.capture.records.diff import Change
    from worker.capture.state.cursor import Cursor

MIN_FOR_ALL = 100
"""Where fewer records than these are known, all of them may change at the same time."""
_ALL = 0.95
_MIN_LAST = 20
_MORE = 1000
_SAME = 0.1


MIN_OFFSET = 5.0
"""Seconds. A smaller difference between two clocks is noise."""


def server_time(now: float, offset: float) -> float:
    """Return the time by the server's clock, which stamps the records, where ours says `now`.

    Where the `offset` of the server's clock is implausible, it is the time by ours.
    """
    # Somewhat later: the server gives whole seconds, some of them late, and a change of now is not in the future.
    return now + offset + MIN_OFFSET if MIN_OFFSET <= abs(offset) <= MAX_OFFSET else now


class SanityCheck:
    """The evidence of one read: of newer changes (`fast`), or of a full scan over all its runs.

    Attributes:
        seen: Records read.
        changed: Those among them that had changed.
        newest: The latest modification among the changes, by the records' own times (milliseconds since 1970), not
            later than now.
        latest: Likewise among all records that were looked at.
        missed: Changes that this full scan has found, and reads of newer changes should have.
        witness: The latest change that this full scan has found.

    """

    def __init__(self, cursor: Cursor, *, fast: bool, resumed: bool, partial: bool = False) -> None:
        self._cursor, self._fast, self._partial = cursor, fast, partial
        self.seen = cursor.scan.seen if resumed else 0
        self.changed = cursor.scan.changed if resumed else 0
        self.newest = self.latest = cursor.newest
        self.missed = 0
        self.witness: SampleRecord | None = None

    def observe(self, count: int, times: Sequence[int], changes: Sequence[Change], now: float) -> None:
        """Count a page of `count` records that was committed at `now` (milliseconds since 1970).

        A time in the future must not move the mark past what has been read.
        """
        self.seen += count
        self.newest = max(self.newest, latest_until(now, [change.modified for change in changes]))
        self.latest = max(self.latest, self.newest, latest_until(now, times))
        created, updated = Action.CREATED, Action.UPDATED  # before Python 3.12 it takes time to get them
        for change in changes:
            self.changed += change.action is updated
            if change.action in {created, updated} and not self._fast:
                self.missed += self._was_due(change)
                self._keep_witness(change, now)

    @property
    def tests_filter(self) -> bool:
        """Whether this full scan has found changes that the filter or the sort of other reads is held against."""
        return bool(self.missed or self.witness)

    def find_anomaly(self, cursor: Cursor) -> str:
        """Return what speaks against this read, now that it has ended; empty where nothing does."""
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

    def _keep_witness(self, change: Change, now: float) -> None:
        """Keep the latest change: the filter or the sort that other reads use must show it."""
        latest = self.witness.modified or 0 if self.witness else 0
        if latest < change.modified <= now:
            self.witness = SampleRecord(change.observed.identifier, change.modified, unchanged=True)

    def _was_due(self, change: Change) -> bool:
        """Whether a read of newer changes should have found it: it changed after the last full scan, and long ago."""
        cursor = self._cursor
        if not cursor.swept_mark:
            return False
        try:
            moved = not change.before or RecordState.unpack(change.before).modified < change.modified
        except ValueError:
            return False  # a foreign state says nothing
        return moved and cursor.swept_mark < change.modified < cursor.mark - OVERLAP_MS


def latest_until(moment: float, times: Sequence[int]) -> int:
    """Return the latest of these times that is not after a moment, all in milliseconds since 1970; 0 for none."""
    latest = max(times, default=0)
    if latest > moment:
        latest = max((time for time in times if time <= moment), default=0)
    return max(latest, 0)


def _alike(one: int, other: int) -> bool:
    return abs(one - other) <= _SAME * max(one, other)
