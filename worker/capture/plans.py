"""Which parts a poll reads, and in what order, by what is known of the gateway. No I/O.

`window` needs a filter by modification, `head` a sort by modification with the newest first, `sweep` nothing. The
best one that the probe has seen to hold reads what is newer with every poll; a sweep reads everything once in a
while, in parts that do not keep the next poll waiting. Which pages a part takes is decided by the plan of its kind:
see `sweep.py`, `head.py` and `seek.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.capture.store import Cursor
    from worker.ordermesh.profile import Listing

OVERLAP_MS = 60_000
"""What is newer begins so long before the mark: a change may be committed, or shown, later than its time says."""
SHORTEST_PART = 5.0
"""Seconds that a sweep may take, at least, before what is newer is read again."""


class Plan(StrEnum):
    """How a part is read, as it is called in summaries."""

    WINDOW = "window"
    HEAD = "head"
    SWEEP = "sweep"


class Ask(NamedTuple):
    """One request: the page, counted from 0, of what was modified `since` (milliseconds since 1970), None for all."""

    page: int
    since: int | None = None


@dataclass(frozen=True, slots=True)
class Shown:
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
class Part:
    """One part of a poll: how it is read, and how much of it.

    It ends early after so many `seconds`. `since` (milliseconds since 1970): what was modified before it is left out,
    by the query parameter `since_parameter` in a window, by ending there in a head. `query`: further parameters, that
    sort or narrow. `seeks`: it stands in the order of modification and is filtered by it, so that it is read from
    time to time instead of from page to page; `may_seek`: a sweep that could be. `concludes`: nothing else is read in
    this poll, so its record is written at the end.
    """

    plan: Plan
    page_size: int
    seconds: float = float("inf")
    since: int | None = None
    since_parameter: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    seeks: bool = False
    may_seek: bool = False
    concludes: bool = True

    @property
    def is_fast(self) -> bool:
        """Whether it reads what is newer, instead of everything."""
        return self.plan is not Plan.SWEEP

    @property
    def wants_times(self) -> bool:
        """Whether its plan goes by the times of the records."""
        return self.seeks or self.is_fast


def choose(
    listing: Listing,
    cursor: Cursor,
    now: float,
    *,
    page_size: int,
    interval: float,
    seconds: float,
    complete_every: float,
    complete: bool = False,
) -> list[Part]:
    """What a poll reads that begins at `now` and may take so many `seconds`.

    `complete`: everything, whatever is known to be newer. It is also read where no filter and no sort holds, before
    the first complete read has ended, and `complete_every` so many seconds.
    """
    size = min(page_size, listing.largest_page or page_size)
    sweep = sweep_of(listing, size, seconds, capped=bool(cursor.capped))
    fast = _fast(listing, cursor, sweep)
    if complete or fast is None:
        return [sweep]
    is_due = not 0 <= now - cursor.swept_at < complete_every
    # What speaks against a read is settled by a complete one.
    if not is_due and not cursor.sweep_started and not cursor.suspicious:
        return [fast]
    part = min(seconds, max(interval, SHORTEST_PART))
    return [replace(fast, concludes=False), replace(sweep, seconds=part)]


def sweep_of(listing: Listing, page_size: int, seconds: float, *, capped: bool) -> Part:
    """A sweep; where the server shows no more than a number of records of a list (`capped`), from time to time.

    Page by page, the rest would never be shown. It takes a filter and a sort that hold.
    """
    may_seek = bool(listing.since_parameter and listing.ascending)
    sweep = Part(Plan.SWEEP, page_size, seconds, may_seek=may_seek)
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


def _fast(listing: Listing, cursor: Cursor, sweep: Part) -> Part | None:
    """The part that reads what is newer; None where nothing holds by which that could be told, or it is not known."""
    if not (cursor.baseline and cursor.mark and cursor.swept_at):
        return None
    since = cursor.mark - OVERLAP_MS
    if listing.since_parameter:
        return Part(
            Plan.WINDOW,
            sweep.page_size,
            sweep.seconds,
            since=since,
            since_parameter=listing.since_parameter,
            query=dict(listing.ascending),
            seeks=bool(listing.ascending),
        )
    if listing.descending:
        return Part(Plan.HEAD, sweep.page_size, sweep.seconds, since=since, query=dict(listing.descending))
    return None
