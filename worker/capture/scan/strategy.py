"""Which parts a poll reads, and in what order, by what is known of the gateway. No I/O.

`window` needs a filter by modification, `head` a sort by modification with the newest first, `sweep` nothing. The
best one that the probe has seen to hold reads what is newer with every poll; a sweep reads everything once in a
while, in parts that do not keep the next poll waiting. Which pages a part takes is decided by the plan of its kind:
see `sweep.py`, `head.py` and `seek.py`.

Where neither holds, but records can be chosen by their status, `open` reads those that may still change, one status
after the other: its cost follows the open orders, not the history. A record that it does not show any more is read by
its id.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from worker.capture.records.scope import EVERYTHING, RecordScope

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.capture.state.cursor import Cursor
    from worker.ordermesh.contract.profile import Listing

OVERLAP_MS = 60_000
"""What is newer begins so long before the mark: a change may be committed, or shown, later than its time says."""
MIN_STEP_SECONDS = 5.0
"""Seconds that a sweep may take, at least, before what is newer is read again."""


class Strategy(StrEnum):
    """How a part is read, as it is called in summaries."""

    WINDOW = "window"
    HEAD = "head"
    OPEN = "open"
    SWEEP = "sweep"


class PageRequest(NamedTuple):
    """One request: the page, counted from 0, of what was modified `since` (milliseconds since 1970), None for all."""

    page: int
    since: int | None = None


@dataclass(frozen=True, slots=True)
class PageSummary:
    """What one page has shown to a plan.

    `times`: when its records were modified, in their order, in milliseconds since 1970, 0 for one that does not say
    so; only where the part `wants_times`. `found`: likewise of those records that were new, or had changed.
    """

    ids: Sequence[bytes]
    total: int | None = None
    times: Sequence[int] = ()
    found: Sequence[int] = ()

    @property
    def count(self) -> int:
        """Records on it."""
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class ScanStep:
    """One part of a poll: how it is read, and how much of it.

    It ends early after so many `seconds`. `since` (milliseconds since 1970): what was modified before it is left out,
    by the query parameter `since_parameter` in a window, by ending there in a head. `query`: further parameters, that
    sort or narrow; `chosen`: the status that it asks for; `of_merchant`: it asks for one merchant. `seeks`: it stands
    in the order of modification and is filtered by it, so that it is read from time to time instead of from page to
    page; `may_seek`: a sweep that could be. `claims`: with its end, what is newer has been read. `concludes`: nothing
    else is read in this poll, so its record is written at the end. `learns`: it notes in which statuses records are.
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

    @property
    def is_fast(self) -> bool:
        """Whether it reads what is newer, instead of everything."""
        return self.strategy is not Strategy.SWEEP

    @property
    def wants_order(self) -> bool:
        """Whether the server is asked to sort."""
        return self.seeks or self.strategy is Strategy.HEAD

    @property
    def wants_times(self) -> bool:
        """Whether its plan goes by the times of the records."""
        return self.wants_order or self.strategy is Strategy.WINDOW


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
    """What a poll reads that begins at `now` and may take so many `seconds`.

    `complete`: everything, whatever is known to be newer. It is also read where no filter and no sort holds, before
    the first complete read has ended, and `complete_every` so many seconds. `scope`: what of it is published;
    `single`: a record can be read by its id.
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
    is_due = not 0 <= now - cursor.swept_at < complete_every
    # What speaks against a read is settled by a complete one.
    if not is_due and not cursor.scan.started and not cursor.suspicious:
        return fast
    step = min(seconds, max(interval, MIN_STEP_SECONDS))
    return [*(replace(item, concludes=False) for item in fast), replace(sweep, seconds=step)]


def _of_merchant(listing: Listing, scope: RecordScope) -> dict[str, str]:
    """The parameter that leaves out what is of other merchants, where one does."""
    if listing.merchant_parameter is None or len(scope.merchants) != 1:
        return {}
    return {listing.merchant_parameter: next(iter(scope.merchants))}


def _open(listing: Listing, cursor: Cursor, sweep: ScanStep, scope: RecordScope) -> list[ScanStep]:
    """The parts that read the records which may still change; none where that costs as much as reading everything."""
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
    """A sweep; where the server shows no more than a number of records of a list (`capped`), from time to time.

    Page by page, the rest would never be shown. It takes a filter and a sort that hold.
    """
    may_seek = bool(listing.since_parameter and listing.ascending)
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
    """The part that reads what is newer; none where nothing holds by which that could be told, or it is not known."""
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
            seeks=bool(listing.ascending),
        )
        return [window]
    if listing.descending:
        return [replace(fast, strategy=Strategy.HEAD, query={**of_merchant, **listing.descending})]
    return []
