"""Reads a list by page numbers: pages are fetched in parallel and accepted in order. No I/O.

The server needs to offer nothing but pages. The end is an empty page, or a page that is not full where the server's
total says that it is the last. A total alone is not believed: one that is capped would hide records. Nor is an empty
page where the total, or the last full scan, says that there are more. A server may also limit the length of every
list: the list is `capped` then, where the pages show that. A total may count records that the token may not see: where
two full scans in a row end before it at the same page, the list is believed, and the total is `overruled`.

Pages move while they are read. A record is missed where it moves from a page that is still to be served to one that
was: up, when a record above it goes away between the two; or down, when a record comes in above it and the lower page
is served first. Either way the total of the lower page is less than that of the one above it. So where a total falls
from page to page, the whole list is read a second time, once; without a total, where two pages show the same record.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from worker.capture.scan.strategy import PageRequest
from worker.errors import UnreadableAnswer

if TYPE_CHECKING:
    from worker.capture.scan.strategy import PageSummary
    from worker.capture.state.cursor import CursorUpdate

CAPS = 500
"""Most caps are multiples of it. A list that ends at one, before its total, is never believed: a list that lives grows
past it."""
MIN_CAP = 1000
"""Caps are multiples of it; a list that ends there is not taken for capped without more to show for it."""
READ_AHEAD = 2
"""Pages under way or fetched, as a multiple of the requests that may be under way: while one window of pages is
committed, the next is fetched. It bounds the memory of a read of any size."""


class OffsetPaginator:
    """Pages of a list by their numbers. Pages are counted from 0; so are requests, over all passes.

    Args:
        operation: The operation that lists the resource.
        page_size: Records to request per page.
        window: Requests that may be under way at a time.
        read_ahead: Pages that may be under way or fetched, as a multiple of `window`.
        start: The page to begin with.
        expected: Pages with records that the last full scan found: the paginator reads ahead so far where the server
            gives no total, and refuses an end before it once.
        total: The last total that the server gave to the scan that is resumed.
        short: The page before which the last full scan ended, although the total said more; 0 where it did not.
        width: Records on the fullest page of the scan that is resumed.
        clamps: The server answers a page after the last one with the last one, as the probe has found.
        restarts: It answers with the first one.
        is_capped: The server limits the length of every list, as the probe has found.
        goes_over_again: Read the list a second time where its pages move.
        by_number: Pages have numbers. Without, only an empty page is the end, which the caller makes of the last one.

    """

    unsettled = False

    def __init__(
        self,
        operation: str,
        *,
        page_size: int,
        window: int,
        read_ahead: int = READ_AHEAD,
        start: int = 0,
        expected: int = 0,
        total: int = 0,
        short: int = 0,
        width: int = 0,
        clamps: bool = False,
        restarts: bool = False,
        is_capped: bool = False,
        goes_over_again: bool = True,
        by_number: bool = True,
    ) -> None:
        self.goes_over_again, self._by_number = goes_over_again, by_number
        self._operation, self._page_size = operation, page_size
        self._window, self._ahead = window, read_ahead * window
        self._start, self._issued = start, start
        self._before = 0  # requests of earlier passes over the same pages
        self._total: int | None = total or None
        self._clamps, self._restarts, self._is_capped = clamps, restarts, is_capped
        self._largest, self._last_count = width, 0
        self._last_total = 0
        self._has_moved = False
        self.moved = not goes_over_again
        self._seen = 0
        self._streak = 0
        self._refused = self._looks_capped = False
        self._first_ids = self._last_ids = frozenset[bytes]()
        self.expected, self.short = expected, short
        self.overruled = 0
        self.next_page = start
        self.done = self.repeated = False

    @property
    def advanced(self) -> bool:
        """Whether this run has accepted a page with records, and nothing that contradicts it."""
        return self.next_page > self._start and not self._refused

    @property
    def again(self) -> bool:
        """Whether the list is read for the second time, since its pages moved."""
        return not self.goes_over_again

    @property
    def pages(self) -> int:
        """Pages with records so far."""
        return self.next_page

    @property
    def records(self) -> int:
        """Records on these pages, if those of earlier runs were full."""
        return self._start * self._largest + self._seen

    @property
    def width(self) -> int:
        """Records on a page that is not the last: fewer than were asked for, if each page so far had as many."""
        is_even = self._largest > 0 and self._seen == (self.next_page - self._start) * self._largest
        return self._largest if is_even else self._page_size

    @property
    def total(self) -> int | None:
        """Records in the list, as far as the server says so."""
        return self._total

    @property
    def capped(self) -> int:
        """Records after which the server ends every list; 0 where nothing says so."""
        return self.records if self._looks_capped else 0

    @property
    def next_step(self) -> int:
        """The request whose page is accepted next."""
        return self._before + self.next_page

    def issue(self) -> range:
        """The requests to send now. Each is issued once."""
        if self.done:
            return range(0)
        end = max(self.next_page + 1, min(self.next_page + self._ahead, self._horizon()))
        pages = range(self._issued, end)
        self._issued = max(self._issued, end)
        return range(self._before + pages.start, self._before + pages.stop)

    def ask(self, step: int) -> PageRequest:
        """What request number `step` asks for."""
        return PageRequest(step - self._before)

    def start_over(self) -> None:
        """Begin another pass with the first page. Requests of the pass that has ended are not waited for."""
        self._before += self._issued
        self._start = self._issued = self.next_page = 0
        self._seen = self._streak = self._last_total = 0
        self._has_moved = False
        self._first_ids = self._last_ids = frozenset()
        self.done = self.repeated = False

    def cursor_fields(self, next_page: int, after: str = "", *, count: int = 0) -> CursorUpdate:
        """What the cursor keeps to resume at `next_page`; `count`: records on a page that is yet to be accepted."""
        del after
        return {
            "sweep_page": next_page,
            "sweep_width": max(self._largest, count),
            "sweep_total": self._total or 0,
            "sweep_again": not self.goes_over_again,
            "sweep_since": 0,
        }

    @property
    def total_fell(self) -> bool:
        """True if the total has fallen from one page to the next in this pass."""
        return self._has_moved and self._total is not None

    def accept(self, page: PageSummary, *, may_repeat: bool = False) -> None:
        """Move on: page `next_page` has been committed.

        Args:
            page: What it has shown.
            may_repeat: Where it shows the records of the page before once more, which nothing explains, set
                `repeated` instead of refusing it.

        Raises:
            UnreadableAnswer: The server does not turn pages, or an empty page contradicts what is known.

        """
        count, total, ids = page.count, page.total, frozenset(page.ids)
        is_same = ids == self._last_ids
        overlaps = not is_same and not ids.isdisjoint(self._last_ids)  # else it is past the end
        # A total below what is served with it means nothing: 0 and -1 are ways to say "not known".
        if total is not None and total >= max(count, 1):
            # One that is always that of the page alone falls at the last one.
            self._has_moved = self._has_moved or count < total < self._last_total
            self._total = self._last_total = total
        elif self._total is None and overlaps:
            self._has_moved = True
        self.moved = self.moved or self._has_moved or overlaps
        if self._is_past_end(count, ids):
            self._check_end(count)
            self.done = True
        elif ids and is_same:
            self.repeated = True
            if not may_repeat:
                raise self._refusal(
                    "the server returned the records of the previous page again: it does not honour the page "
                    "parameter, so the rest cannot be read"
                )
            self.done = True
        else:
            self._first_ids = self._first_ids if self.next_page else ids
            self._last_ids = ids
            self._largest = max(self._largest, count)
            self._seen += count
            self._streak += 1
            self.next_page += 1
            # Records beyond the total show that it is not to be believed.
            self.done = self._by_number and self.records == self._total and count != self._full_page()
        if self.done and count == 0:
            full = self._last_count == self._largest
            self._looks_capped = full and _is_round(self.next_page * self._largest)
        self._last_count = count
        if self.done and self._has_moved and self.goes_over_again:
            self.goes_over_again = False
            self.start_over()

    def _is_past_end(self, count: int, ids: frozenset[bytes]) -> bool:
        """Whether a page is what the server gives for every page after the last one."""
        # All records of a page without ids are unreadable.
        if not (count and ids and self.next_page and self._by_number):
            return not count
        again, first = ids == self._last_ids, ids == self._first_ids
        if (self._restarts and first) or (self._clamps and again):
            return True
        return (again or first) and (self._covered() if self._total is not None else count != self._page_size)

    def _check_end(self, count: int) -> None:
        """A page with `count` records shows the end: is it plausible?"""
        page = self.next_page
        found = "the page is empty" if count == 0 else "the page shows earlier records again"
        if self._total is not None:
            # A scan that was resumed may have seen the last page alone, which says nothing of a full one.
            width = max(self._largest, self._page_size) if self._start else self._largest
            if page * width < self._total:
                self._looks_capped = self._is_capped or _is_round(page * width)
                if self._is_capped:
                    raise self._refusal(f"the server returns only {page * width} of {self._total} records")
                self._overrule_total(found)
        elif 0 < page < self.expected:
            before, self.expected = self.expected, page  # if it is so once more, it is believed
            raise self._refusal(f"{found}, but the last full scan found {before} pages with records")

    def _overrule_total(self, found: str) -> None:
        """The list ends before its total: believe it where the last full scan has ended at the same page.

        Raises:
            UnreadableAnswer: It has not, or the list has as many records as a server that limits its length shows.

        """
        before, self.short = self.short, self.next_page
        agrees = 0 < before <= self.next_page <= before + max(1, before // 50)
        if not agrees or self.records % CAPS == 0:
            raise self._refusal(f"{found}, but the total is {self._total}")
        self.overruled = self._total or 0

    def refuse(self) -> None:
        """Note that the list cannot be read any further."""
        self._refused = True

    def _refusal(self, what: str) -> UnreadableAnswer:
        self.refuse()
        return UnreadableAnswer(self._operation, what, page=self.next_page)

    def _covered(self) -> bool:
        """Whether the total says that there are no more records."""
        return self._total is not None and self.records >= self._total

    def _full_page(self) -> int:
        """Records in a page that is not the last: as many as were asked for, or fewer if the server caps it."""
        return self._largest if self._total and self._total > self._largest else self._page_size

    def _horizon(self) -> int:
        """The page after the last one that probably exists."""
        if self._total is not None and self._largest:
            return math.ceil((self._total + 1) / self._largest)
        # Without a total: as far as last time, and beyond that further with each page that was not empty.
        return max(self.expected, self.next_page + min(self._window, 1 << min(self._streak, 10)))


def _is_round(records: int) -> bool:
    """Whether a cap may stand at this number."""
    return records >= MIN_CAP and records % MIN_CAP == 0
