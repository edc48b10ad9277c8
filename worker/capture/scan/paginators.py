"""Paginators say which pages a step requests next, and when it has read them all. No I/O.

Each kind of step has one: `offset.py` reads pages by their numbers, `continuation.py` by what each response says
of the next one, `keyset.py` goes from time to time, `multipass.py`
reads pages by their numbers again until none has moved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from worker.capture.scan.continuation import ContinuationPaginator
from worker.capture.scan.keyset import KeysetPaginator
from worker.capture.scan.multipass import MultiPassPaginator, NewestFirstPaginator
from worker.capture.scan.offset import READ_AHEAD, OffsetPaginator
from worker.capture.scan.strategy import Strategy

if TYPE_CHECKING:
    from worker.capture.scan.strategy import PageRequest, PageSummary, ScanStep
    from worker.capture.state.cursor import Cursor, CursorUpdate
    from worker.ordermesh.contract.profile import Listing


class Paginator(Protocol):
    """Which pages a step requests, and when it has read them all.

    Requests are counted from 0. Their pages may be fetched in any order, and are accepted in the order of the requests.
    """

    @property
    def done(self) -> bool:
        """Whether the last page has been accepted."""

    @property
    def unsettled(self) -> bool:
        """Whether pages moved so often that a record may have been missed; a full scan has to find it."""

    @property
    def next_step(self) -> int:
        """The request whose page is accepted next."""

    @property
    def next_page(self) -> int:
        """The number of that page, counted from 0."""

    def issue(self) -> range:
        """The requests to send now. Each is issued once."""

    def ask(self, step: int) -> PageRequest:
        """What request number `step` asks for."""

    def accept(self, page: PageSummary) -> None:
        """Move on: the page of request `next_step` has been committed.

        Raises:
            SortBroken: The records are not in the order that was requested.
            UnreadableAnswer: The server does not turn pages, or an empty page contradicts what is known.

        """


class FullScanPaginator(Paginator, Protocol):
    """One that can resume, and has evidence of how long the whole list is."""

    @property
    def advanced(self) -> bool:
        """Whether this run has accepted a page with records, and nothing that contradicts it."""

    @property
    def expected(self) -> int:
        """Pages with records that the list is expected to have; 0 where nothing is known."""

    @property
    def pages(self) -> int | None:
        """Pages with records so far; None where they have no numbers."""

    @property
    def records(self) -> int | None:
        """Records on these pages; None where a record may come on several."""

    @property
    def again(self) -> bool:
        """Whether the list is read for the second time, since its pages moved."""

    @property
    def moved(self) -> bool:
        """Whether records have moved from page to page while they were read, in any pass."""

    @property
    def width(self) -> int:
        """Records on a page that is not the last; 0 where pages have no numbers, so that none can be divided."""

    @property
    def total(self) -> int | None:
        """Records in the list, as far as the server says so."""

    @property
    def capped(self) -> int:
        """Records after which the server ends every list; 0 where nothing says so."""

    @property
    def short(self) -> int:
        """The page before which the list ended, although its total says more; 0 where it did not."""

    @property
    def overruled(self) -> int:
        """The total that this scan has found not to be that of the list; 0 where it has not."""

    def cursor_fields(self, next_page: int, after: str = "", *, count: int = 0) -> CursorUpdate:
        """What the cursor keeps to resume at `next_page`.

        Args:
            next_page: The number of the page.
            after: The continuation that leads to it, if there is one.
            count: Records on the page before, where that is yet to be accepted.

        """


def fast_paginator(
    operation: str, step: ScanStep, cursor: Cursor, *, window: int, listing: Listing
) -> Paginator:
    """Return the paginator of a step that reads newer changes, or open records.

    Args:
        operation: The operation that lists the resource.
        step: How it is read.
        cursor: What earlier scans have found.
        window: Requests that may be under way at a time.
        listing: What is known of the list.

    """
    if step.seeks:
        return _keyset(operation, step, cursor, listing, since=step.since or 0)
    is_head = step.strategy is Strategy.HEAD
    pages = OffsetPaginator(
        operation,
        page_size=step.page_size,
        window=1 if is_head else window,
        read_ahead=1 if is_head else READ_AHEAD,
        clamps=listing.past_end == "repeats",
        restarts=listing.past_end == "restarts",
        goes_over_again=step.strategy is Strategy.OPEN,
        by_number=not listing.next_in,
    )
    turned = ContinuationPaginator(operation, pages) if listing.next_in else pages
    if is_head:
        return NewestFirstPaginator(operation, turned, since=step.since or 0)
    return MultiPassPaginator(turned) if step.strategy is Strategy.WINDOW else turned


def full_scan_paginator(
    operation: str, step: ScanStep, cursor: Cursor, *, window: int, listing: Listing
) -> FullScanPaginator:
    """Return the paginator of a full scan: a new one, or the one that is under way. The arguments are as above."""
    size, scan = step.page_size, cursor.scan
    resumed = scan.started > 0
    if step.seeks:
        return _keyset(operation, step, cursor, listing, since=scan.since if resumed else step.since or 0)
    pages = OffsetPaginator(
        operation,
        page_size=size,
        window=window,
        by_number=not listing.next_in,
        start=resume_at(cursor, size) if resumed and bool(scan.after) == bool(listing.next_in) else 0,
        # The number of pages of another size says nothing about pages of this one.
        expected=scan.pages if scan.size == size else 0,
        total=scan.total if resumed and listing.total == "trusted" else 0,
        short=scan.short if scan.size == size else 0,
        width=scan.width if resumed and scan.size == size else 0,
        clamps=listing.past_end == "repeats",
        restarts=listing.past_end == "restarts",
        is_capped=listing.capped,
        goes_over_again=not (resumed and scan.again),
    )
    if not listing.next_in:
        return pages
    after, watch = (scan.after, scan.watch) if resumed else ("", "")
    return ContinuationPaginator(operation, pages, after=after, watch=watch)


def resume_at(cursor: Cursor, page_size: int) -> int:
    """Return the page where a full scan resumes, also with pages of another size: never after what was committed.

    `width` is what a page really had, and no page will have more records than are requested now.
    """
    if page_size == cursor.scan.size:
        return cursor.scan.page
    return cursor.scan.page * cursor.scan.width // page_size


def _keyset(
    operation: str, step: ScanStep, cursor: Cursor, listing: Listing, *, since: int
) -> KeysetPaginator:
    return KeysetPaginator(
        operation,
        page_size=step.page_size,
        since=since,
        full=_full_page(cursor, step.page_size),
        clamps=listing.past_end in {"repeats", "restarts"},
    )


def _full_page(cursor: Cursor, page_size: int) -> int:
    """Records on a full page of this size; 0 where that is not known."""
    return cursor.scan.width if cursor.scan.size == page_size and cursor.scan.pages > 1 else 0
