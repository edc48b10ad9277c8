"""Which steps a poll takes, and in what order, by what is known of the gateway. No I/O.

`window` needs a filter by modification, `head` a sort by modification with the newest first, `sweep`, which is the full
scan, nothing. The best of them that the gateway honours, as the probe has found, reads newer changes with every poll;
a full scan reads the whole list from time to time, in slices that do not keep the next poll waiting. The paginator of a
step decides which pages it reads: see `paginators.py`.

Where the gateway honours neither, but filters by status, `open` reads the records that may still change, one status
after the other: its cost follows the open orders, not the history. A record that it no longer shows is read by its id.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from worker.capture.records.scope import EVERYTHING, RecordScope
from worker.capture.state.run import Covered

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.capture.state.cursor import Cursor
    from worker.ordermesh.contract.profile import Listing

OVERLAP_MS = 60_000
"""A read of newer changes begins so long before the mark: a change may be committed, or shown, after its time."""
UNREAD_SECONDS = 60.0
"""Seconds between two full scans, at least, while a page cannot be read."""
SPREAD = 0.1
"""By up to this share two full scans are closer to each other than the settings say."""
MIN_STEP_SECONDS = 5.0
"""Seconds that a slice of a full scan may take, at least, before newer changes are read again."""


class Strategy(StrEnum):
    """How a step reads; the value is its name in summaries."""

    WINDOW = "window"
    HEAD = "head"
    OPEN = "open"
    SWEEP = "sweep"


class PageRequest(NamedTuple):
    """One request: the page, counted from 0, of what was modified `since` (milliseconds since 1970), None for all.

    `after`: the continuation with which it is requested, where pages have no numbers; "" for the first page.
    """

    page: int
    since: int | None = None
    after: str = ""


@dataclass(frozen=True, slots=True)
class PageSummary:
    """What one page has shown to a paginator.

    `ids`: the identities of its records, in their order. `times`: likewise when they were modified (milliseconds since
    1970), 0 for a record without a time; only where the step `wants_times`. `found`: likewise for the records that were
    new, or had changed. `after`: the continuation that leads to the next page, where there is one. `unread`: how many
    of its records cannot be read.
    """

    ids: Sequence[bytes]
    total: int | None = None
    times: Sequence[int] = ()
    found: Sequence[int] = ()
    after: str = ""
    unread: int = 0

    @property
    def count(self) -> int:
        """Records on it."""
        return len(self.ids) + self.unread


@dataclass(frozen=True, slots=True)
class ScanStep:
    """One step of a poll: how it reads, and how much.

    Attributes:
        strategy: How it reads.
        page_size: Records to request per page.
        seconds: How long it may take; then it ends early.
        since: Records that were modified before then (milliseconds since 1970) are left out: by the query parameter
            `since_parameter` in a window, by ending there where the newest come first.
        since_parameter: The query parameter that filters by modification.
        query: Further query parameters, which sort or filter.
        chosen: The status that it requests.
        of_merchant: It requests the records of one merchant.
        seeks: The list is sorted and filtered by modification, so that it is read from time to time instead of from
            page to page.
        may_seek: A full scan that could be read like that.
        claims: With its end, all newer changes have been read.
        concludes: It is the last step of the poll, so the run record is written at its end.
        learns: It collects the statuses of the records.
        plan: A hash of what a full scan depends on (`resumption.py`).

    """

    strategy: Strategy
    page_size: int
    seconds: float = float("inf")
    since: int | None = None
    since_parameter: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    chosen: str | None = None
    of_merchant: bool = False
    seeks: bool = False
    may_seek: bool = False
    claims: bool = True
    concludes: bool = True
    learns: bool = False
    plan: str = ""

    @property
    def is_fast(self) -> bool:
        """Whether it is not a full scan."""
        return self.strategy is not Strategy.SWEEP

    @property
    def covers(self) -> Covered:
        """What has been read at its end, if it `claims`."""
        if self.strategy is Strategy.SWEEP:
            return Covered.ALL
        return Covered.OPEN if self.strategy is Strategy.OPEN else Covered.NEWER

    @property
    def wants_order(self) -> bool:
        """Whether the server is asked to sort."""
        return self.seeks or self.strategy is Strategy.HEAD

    @property
    def wants_times(self) -> bool:
        """Whether its paginator needs the times of the records."""
        return self.wants_order or self.strategy is Strategy.WINDOW


def scan_interval(complete_every: float, phase: float | None) -> float:
    """Return the seconds between two full scans of a source: up to a tenth less than `complete_every`, by its `phase`.

    So the full scans of many accounts, which fall together after a cold start, move apart.
    """
    return complete_every * (1 - SPREAD * (phase or 0.0))


def choose_steps(
    listing: Listing,
    cursor: Cursor,
    now: float,
    *,
    page_size: int,
    interval: float,
    seconds: float,
    complete_every: float,
    complete: bool = False,
    scope: RecordScope = EVERYTHING,
    single: bool = False,
) -> list[ScanStep]:
    """Return the steps of a poll that begins at `now` and may take so many `seconds`.

    Args:
        listing: What is known of the list.
        cursor: How far earlier polls have come.
        now: Seconds since 1970.
        page_size: Records to request per page, where the server gives as many.
        interval: Seconds between two polls.
        seconds: How long the poll may take.
        complete_every: Seconds between two full scans. There is also one where the gateway honours no filter and no
            sort, and before the first one has ended.
        complete: A full scan in any case, and nothing else.
        scope: Which records are published.
        single: The gateway answers reads of one record by its id.

    """
    size = min(page_size, listing.largest_page or page_size)
    sweep = full_scan(listing, size, seconds, capped=bool(cursor.capped))
    if narrowed := _of_merchant(listing, scope):
        sweep = replace(sweep, query={**sweep.query, **narrowed}, of_merchant=True)
    if listing.status_parameter and scope.final and single:
        sweep = replace(sweep, learns=not (listing.since_parameter or listing.descending))
    fast = _fast(listing, cursor, sweep) or _open(listing, cursor, sweep, scope)
    if complete or not fast:
        return [sweep]
    if cursor.unread:  # until the page can be read again; a tenth of the time is spent on it at most
        complete_every = min(complete_every, max(interval, UNREAD_SECONDS, 10 * cursor.scan.seconds))
    is_due = (cursor.reads_again and not cursor.unread) or not 0 <= now - cursor.swept_at < complete_every
    # A full scan settles whether a suspect read was right.
    if not is_due and not cursor.scan.started and not cursor.suspicious:
        return fast
    step = min(seconds, max(interval, MIN_STEP_SECONDS))
    return [*(replace(item, concludes=False) for item in fast), replace(sweep, seconds=step)]


def _of_merchant(listing: Listing, scope: RecordScope) -> dict[str, str]:
    """Return the parameter that leaves out the records of other merchants, where one does."""
    if listing.merchant_parameter is None or len(scope.merchants) != 1:
        return {}
    return {listing.merchant_parameter: next(iter(scope.merchants))}


def _open(listing: Listing, cursor: Cursor, sweep: ScanStep, scope: RecordScope) -> list[ScanStep]:
    """Return the steps that read the records which may still change; none where a full scan costs no more."""
    if not (sweep.learns and cursor.baseline and cursor.swept_at and cursor.statuses):
        return []
    statuses = scope.open_statuses(cursor.statuses.split("\n"))
    if not statuses or len(statuses) >= cursor.scan.pages:
        return []
    parts = [
        replace(
            sweep,
            strategy=Strategy.OPEN,
            query={**sweep.query, listing.status_parameter or "": status},
            chosen=status,
            claims=False,
            concludes=False,
            learns=False,
        )
        for status in statuses
    ]
    return [*parts[:-1], replace(parts[-1], claims=True, concludes=True)]


def full_scan(listing: Listing, page_size: int, seconds: float, *, capped: bool) -> ScanStep:
    """Return a full scan; where the server limits the length of every list (`capped`), from time to time.

    Page by page, the server would never show the rest. It needs a filter and a sort that the gateway honours.
    """
    may_seek = bool(listing.since_parameter and listing.ascending and not listing.next_in)
    sweep = ScanStep(Strategy.SWEEP, page_size, seconds, may_seek=may_seek)
    if not capped or not may_seek:
        return sweep
    return replace(
        sweep,
        since=0,
        since_parameter=listing.since_parameter or "",
        query=dict(listing.ascending),
        seeks=True,
        may_seek=False,
    )


def _fast(listing: Listing, cursor: Cursor, sweep: ScanStep) -> list[ScanStep]:
    """Return the step that reads newer changes; none without a filter or sort, or before the first full scan ends."""
    if not (cursor.baseline and cursor.mark and cursor.swept_at):
        return []
    since = cursor.mark - OVERLAP_MS
    of_merchant = {name: value for name, value in sweep.query.items() if name == listing.merchant_parameter}
    fast = replace(sweep, since=since, since_parameter="", query=of_merchant, seeks=False, may_seek=False)
    if listing.since_parameter:
        window = replace(
            fast,
            strategy=Strategy.WINDOW,
            since_parameter=listing.since_parameter,
            query={**of_merchant, **listing.ascending},
            seeks=bool(listing.ascending and not listing.next_in),
        )
        return [window]
    if listing.descending:
        return [replace(fast, strategy=Strategy.HEAD, query={**of_merchant, **listing.descending})]
    return []
