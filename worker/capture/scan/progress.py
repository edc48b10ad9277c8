"""What a step has read so far: a full scan over all its runs, any other step in this one. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from worker.capture.records.actions import Action
from worker.capture.scan.conclusion import NO_STATUSES_YET, ScanResult, merge_statuses
from worker.capture.scan.discovery import Discovery
from worker.capture.scan.sanity import SanityCheck, server_time
from worker.capture.scan.strategy import Strategy
from worker.capture.scan.unreadable_pages import Hole, describe
from worker.capture.scan.withheld import with_sample
from worker.capture.state.run import MAX_OFFSET, time_by_server

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from worker.capture.context import ReadOptions
    from worker.capture.records.diff import Change
    from worker.capture.scan.pages import FetchedPage
    from worker.capture.scan.strategy import ScanStep
    from worker.capture.state.cursor import Cursor
    from worker.capture.state.run import Run

FOREVER = 1 << 62
"""Later than any time."""
OFFSET_ERROR = 2.0
"""Seconds by which the time of a change may be less than what the server says of its clock lets expect: both may be in
whole seconds, and another machine than the one that answers may stamp the records."""


class ScanProgress:
    """Counts what the pages of a step have shown, and adds it to the counts of the run.

    `options`: how the source is read. `started_at`: when the scan began (seconds since 1970).
    `unreadable`: records so far that cannot be read; `withheld`: records so far that were not published, since nothing
    says that they are of this account. `now`: when the step begins (likewise).
    """

    def __init__(self, step: ScanStep, cursor: Cursor, run: Run, options: ReadOptions, now: float) -> None:
        scan = cursor.scan
        resumed = scan.started > 0 and not step.is_fast
        self._step, self._run, self._options = step, run, options
        self.started_at = scan.started if resumed else run.started_at
        self._requested_at = scan.started if resumed else now  # the probe may take its time
        self._began: int | None = (scan.began or None) if resumed else None
        self._touched = 0
        self.unreadable = scan.unreadable if resumed else 0
        self.holes = _parse(scan.unread) if resumed else []
        self.withheld = scan.withheld if resumed else 0
        self.withheld_ids = scan.withheld_ids if resumed else ""
        self.discovery = Discovery.of(cursor, resumed=resumed)
        self._spent = scan.spent if resumed else 0.0
        self._statuses = scan.statuses if resumed else NO_STATUSES_YET
        self._first_scan_at = cursor.first_scan_at
        self._is_first, self._is_resumed = not cursor.baseline, resumed
        if resumed:
            run.scan_age = run.started_at - scan.started
        partial = step.strategy is Strategy.OPEN
        self.sanity = SanityCheck(cursor, fast=step.is_fast, resumed=resumed, partial=partial)

    def discover(self, before: Discovery, changes: Iterable[Change]) -> None:
        """Count what a page has shown that was not known; `before`: the count without that page."""
        known_since = self._first_scan_at or self._by_server(self.started_at)
        self.discovery = before.after(
            changes,
            began_at=self._first_request(),
            first_scan_at=FOREVER if self._offset is None else known_since,
        )

    def _first_request(self) -> int:
        """When the list was first requested, or earlier, by the clock that stamps its records.

        In milliseconds since 1970. Our clock may be ahead of that one: what changes now would then seem to have changed
        before the scan. So it is told from ours less what the two differ by, and a clock that is put back meanwhile
        takes it back. Where the server does not say its time it is 0: any change may be one of now.
        """
        offset = self._offset
        now = 0 if offset is None else int((self._requested_at + offset - OFFSET_ERROR) * 1000)
        self._began = now if self._began is None else min(self._began, now)
        return self._began

    @property
    def _offset(self) -> float | None:
        """Seconds by which the server's clock is ahead of ours; None where it does not say, or is wrong."""
        offset = self._run.usage.clock_offset
        return None if offset is None or abs(offset) > MAX_OFFSET else offset

    def _by_server(self, moment: float) -> int:
        """Return what the clock of the server said at a moment, in milliseconds since 1970."""
        return int(time_by_server(moment, self._run.usage.clock_offset or 0.0) * 1000)

    def observe(self, page: FetchedPage, changes: Sequence[Change], now: float) -> None:
        """Count a page that has been committed at `now` (seconds since 1970, by our clock)."""
        run = self._run
        run.count_page(page.count, changes)
        by_server = server_time(now, run.usage.clock_offset or 0.0)
        self.sanity.observe(page.count, page.times, changes, by_server * 1000)
        run.latest = max(run.latest, self.sanity.latest)
        self._touched = max(self._touched, max((change.modified for change in changes), default=0))

    @property
    def unread(self) -> str:
        """Which records the server does not serve, in words."""
        return describe(self.holes, self._step.page_size) if self.holes else ""

    def withhold(self, page: FetchedPage) -> None:
        """Count a page that is not published."""
        self._run.pages += 1
        self._run.records += page.count
        self.withheld += page.count
        self.withheld_ids = with_sample(self.withheld_ids, page.identities)
        self.sanity.seen += page.count

    def result(
        self,
        pages: int | None,
        statuses: Iterable[str],
        now: float,
        *,
        moved: bool = False,
        clock_moved: float = 0.0,
    ) -> ScanResult:
        """Return what has been read so far.

        Args:
            pages: Pages with records; None where they have no numbers.
            statuses: The statuses that this run has found.
            now: Seconds since 1970.
            moved: The pages of the list have moved.
            clock_moved: Seconds by which the clock was put forward during this run.

        """
        run, sanity = self._run, self.sanity
        offset = run.usage.clock_offset or 0.0
        if self._is_first and not self._first_scan_at:
            self._first_scan_at = self._by_server(self.started_at)
        return ScanResult(
            started_at=self.started_at + clock_moved,
            run_started_at=run.started_at + clock_moved,
            interval=self._options.interval,
            phase=self._options.phase,
            spent=self._spent + max(0.0, now - run.started_at - clock_moved),
            seen=sanity.seen,
            changed=sanity.changed,
            newest=sanity.newest,
            unreadable=self.unreadable,
            withheld=self.withheld,
            withheld_ids=self.withheld_ids,
            complete=not run.unreadable,
            pages=pages,
            statuses=merge_statuses(self._statuses, statuses) if self._step.learns else "",
            clock_offset=offset,
            first_scan_at=self._first_scan_at,
            began=self._began or 0,
            discovery=self.discovery,
            is_still=not (moved or self._is_resumed or self.holes or self._touched >= self._first_request()),
            unread=self.unread,
            unread_records=sum(hole.records for hole in self.holes),
            holes=msgspec.json.encode(self.holes).decode() if self.holes else "",
            bare=run.bare,
        )


def _parse(holes: str) -> list[Hole]:
    try:
        return msgspec.json.decode(holes, type=list[Hole]) if holes else []
    except (msgspec.DecodeError, msgspec.ValidationError):
        return []  # of another version or hand


def count_unreadable(page: FetchedPage, changes: Iterable[Change]) -> int:
    """Return how many records of a page cannot be read, whether that is new or was known."""
    unidentified = [record for record in page.observed if record.problem]
    return len(unidentified) + sum(
        change.action in {Action.UNREADABLE, Action.PARKED} and not change.observed.problem
        for change in changes
        if change.problem
    )
