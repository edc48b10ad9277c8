"""What a step has read so far: a full scan over all its runs, any other step in this one. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from worker.capture.records.diff import Action
from worker.capture.scan.conclusion import NO_STATUSES_YET, ScanResult, merge_statuses
from worker.capture.scan.discovery import Discovery
from worker.capture.scan.sanity import SanityCheck, server_time
from worker.capture.scan.strategy import Strategy
from worker.capture.scan.unreadable_pages import Hole, describe
from worker.capture.state.run import time_by_server

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from worker.capture.records.diff import Change
    from worker.capture.scan.pages import FetchedPage
    from worker.capture.scan.strategy import ScanStep
    from worker.capture.state.cursor import Cursor
    from worker.capture.state.run import Run


class ScanProgress:
    """Counts what the pages of a step have shown, and adds it to the counts of the run.

    `interval`: seconds between two polls of the resource. `started_at`: when the scan began (seconds since 1970).
    `unreadable`: records so far that cannot be read; `withheld`: records so far that were not published, since nothing
    says that they are of this account. `now`: when the step begins (likewise).
    """

    def __init__(self, step: ScanStep, cursor: Cursor, run: Run, interval: float, now: float) -> None:
        scan = cursor.scan
        resumed = scan.started > 0 and not step.is_fast
        self._step, self._run, self._interval = step, run, interval
        self.started_at = scan.started if resumed else run.started_at
        self._requested_at = scan.started if resumed else now  # the probe may take its time
        self.unreadable = scan.unreadable if resumed else 0
        self.holes = _parse(scan.unread) if resumed else []
        self.withheld = scan.withheld if resumed else 0
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
        self.discovery = before.after(
            changes,
            began_at=self._first_request,
            first_scan_at=self._first_scan_at or self._by_server(self.started_at),
        )

    @property
    def _has_changed(self) -> bool:
        """Whether a record has changed since the scan began."""
        newest, began_at = self.sanity.newest, self._first_request
        # A service may keep its times by the second.
        return newest >= began_at or (newest % 1000 == 0 and newest + 1000 > began_at)

    @property
    def _first_request(self) -> int:
        """When the list was first requested, or a little earlier, by the clock of the server (as below)."""
        moment = self._by_server(self._requested_at)
        # What the server says of its clock is right to the second.
        return moment if moment == int(self._requested_at * 1000) else moment - 1000

    def _by_server(self, moment: float) -> int:
        """Return what the clock of the server said at a moment, in milliseconds since 1970."""
        return int(time_by_server(moment, self._run.usage.clock_offset or 0.0) * 1000)

    def observe(self, page: FetchedPage, changes: Sequence[Change], now: float) -> None:
        """Count a page that has been committed at `now` (seconds since 1970, by our clock)."""
        run = self._run
        run.count_page(len(page.observed), changes)
        by_server = server_time(now, run.usage.clock_offset or 0.0)
        self.sanity.observe(len(page.observed), page.times, changes, by_server * 1000)
        run.latest = max(run.latest, self.sanity.latest)

    @property
    def unread(self) -> str:
        """Which records the server does not serve, in words."""
        return describe(self.holes, self._step.page_size) if self.holes else ""

    def withhold(self, page: FetchedPage) -> None:
        """Count a page that is not published."""
        self._run.pages += 1
        self._run.records += len(page.observed)
        self.withheld += len(page.observed)
        self.sanity.seen += len(page.observed)

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
            clock_moved: Seconds by which the clock was put on during this run.

        """
        run, sanity = self._run, self.sanity
        offset = run.usage.clock_offset or 0.0
        if self._is_first and not self._first_scan_at:
            self._first_scan_at = self._by_server(self.started_at)
        return ScanResult(
            started_at=self.started_at + clock_moved,
            run_started_at=run.started_at + clock_moved,
            interval=self._interval,
            spent=self._spent + max(0.0, now - run.started_at - clock_moved),
            seen=sanity.seen,
            changed=sanity.changed,
            newest=sanity.newest,
            unreadable=self.unreadable,
            withheld=self.withheld,
            complete=not run.unreadable,
            pages=pages,
            statuses=merge_statuses(self._statuses, statuses) if self._step.learns else "",
            clock_offset=offset,
            first_scan_at=self._first_scan_at,
            discovery=self.discovery,
            is_still=not (moved or self._is_resumed or self.holes or self._has_changed),
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
    states = (Action.UNREADABLE, Action.PARKED)
    return sum(bool(record.problem) for record in page.observed) + sum(
        change.action in states and not change.observed.problem for change in changes
    )
