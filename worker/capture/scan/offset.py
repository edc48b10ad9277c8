"""The sweep plan: every page of a resource, read in parallel, dealt with in order. No I/O.

It needs nothing of the server but pages. The end is an empty page, or a page that is not full where the
server's total says that it is the last. A total alone is not believed: one that is capped would hide records.
Nor is an empty page where the total, or the last sweep, says that there is more. A server may also show no more than
a number of records of any list: the sweep is `capped` then, where that can be told.

Pages move while they are read. A record is passed by where it moves from a page that is still to be served to one that
was: up, when one above it goes away between the two; or down, when one comes in above it and the lower page is served
first. Either way the total of the lower page is less than that of the one above it. So where a total falls from page to
page, everything is read a second time, once; without a total, where two pages show the same record.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from worker.capture.scan.strategy import PageRequest
from worker.errors import UnreadableAnswer

if TYPE_CHECKING:
    from worker.capture.scan.strategy import PageSummary

MIN_CAP = 1000
"""Caps are multiples of it; a list that ends there is not taken for capped without more to show for it."""
READ_AHEAD = 2
"""Pages under way or waiting for their turn, as a multiple of the requests that may be under way: while one
window of pages is dealt with, the next is fetched. It bounds the memory of a read of any size."""


class OffsetPaginator:
    """Which pages to ask for next, and when the resource has been read completely.

    Pages are counted from 0; so are requests, over all passes. `window` requests may be under way at a time.
    `expected` is the number of pages with records that the last sweep found: it permits to read ahead where the
    server gives no total, and an end before it is doubted once. `clamps`: the server answers a page beyond the last
    one with the last one, as the probe has seen. `total` is the last one that the server
    gave to a sweep that is resumed. `is_capped`: the server shows no more than the beginning of a list, as the
    probe has seen. `goes_over_again`: it may be read a second time, if its pages move.
    """

    unsettled = False
    capped = False

    def __init__(
        self,
        operation: str,
        *,
        page_size: int,
        window: int,
        start: int = 0,
        expected: int = 0,
        total: int = 0,
        clamps: bool = False,
        is_capped: bool = False,
        goes_over_again: bool = True,
    ) -> None:
        self.goes_over_again = goes_over_again
        self._operation, self._page_size, self._window = operation, page_size, window
        self._start, self._issued = start, start
        self._before = 0  # requests of earlier passes over the same pages
        self._total: int | None = total or None
        self._clamps, self._is_capped = clamps, is_capped
        self._largest = self._last_count = 0
        self._last_total = 0
        self._has_moved = False
        self._seen = 0
        self._streak = 0
        self._refused = False
        self._last_ids: frozenset[bytes] = frozenset()
        self.expected = expected
        self.next_page = start
        self.done = False

    @property
    def total(self) -> int:
        """The last total that the server gave, 0 for none."""
        return self._total or 0

    @property
    def width(self) -> int:
        """Records in the fullest page of this run: as many as were asked for, or fewer if the server caps it."""
        return self._largest

    @property
    def advanced(self) -> bool:
        """Whether a page with records has been dealt with, and nothing that contradicts it."""
        return self.next_page > self._start and not self._refused

    @property
    def shown(self) -> int:
        """Records on the pages that have been dealt with, if those of earlier runs were full."""
        return self._start * self._largest + self._seen

    @property
    def next_step(self) -> int:
        """The request whose turn it is."""
        return self._before + self.next_page

    def issue(self) -> range:
        """The requests to send now. Each is handed out once."""
        return self._issue_up_to(min(self.next_page + READ_AHEAD * self._window, self._horizon()))

    def ask(self, step: int) -> PageRequest:
        """What request number `step` asks for."""
        return PageRequest(step - self._before)

    def start_over(self) -> None:
        """Read from the first page on once more. What is under way of the pass that has ended is not waited for."""
        self._before += self._issued
        self._start = self._issued = self.next_page = 0
        self._seen = self._streak = self._last_total = 0
        self._has_moved = False
        self._last_ids = frozenset()
        self.done = False

    def _issue_up_to(self, end: int) -> range:
        if self.done:
            return range(0)
        end = max(self.next_page + 1, end)
        pages = range(self._issued, end)
        self._issued = max(self._issued, end)
        return range(self._before + pages.start, self._before + pages.stop)

    def accept(self, shown: PageSummary) -> None:
        """Page `next_page` has been dealt with.

        Raises:
            UnreadableAnswer: The server does not turn pages, or an empty page contradicts what is known.

        """
        count, total, ids = shown.count, shown.total, frozenset(shown.ids)
        # A total below what is served with it means nothing: 0 and -1 are ways to say "not known".
        if total is not None and total >= max(count, 1):
            # One that is always that of the page alone falls at the last one.
            self._has_moved = self._has_moved or count < total < self._last_total
            self._total = self._last_total = total
        elif self._total is None and not ids.isdisjoint(self._last_ids) and ids != self._last_ids:
            self._has_moved = True
        if count == 0:
            self._check_end()
            self.done = True
        elif ids == self._last_ids:
            self._check_repeated(count)
            self.done = True
        else:
            self._last_ids = ids
            self._largest = max(self._largest, count)
            self._seen += count
            self._streak += 1
            self.next_page += 1
            self.done = self._covered() and count != self._full_page()
        if self.done and count == 0:
            self.capped = self._last_count == self._largest and _is_round(self.next_page * self._largest)
        self._last_count = count
        if self.done and self._has_moved and self.goes_over_again:
            self.goes_over_again = False
            self.start_over()

    def _check_end(self) -> None:
        """An empty page: is it the end?"""
        page = self.next_page
        if self._total is not None:
            # A sweep that was resumed may have seen the last page alone, which says nothing of a full one.
            width = max(self._largest, self._page_size) if self._start else self._largest
            if page * width < self._total:
                self.capped = self._is_capped or _is_round(page * width)
                if self._is_capped:
                    raise self._refusal(f"the server returns only {page * width} of {self._total} records")
                raise self._refusal(f"the page is empty, but the total is {self._total}")
        elif 0 < page < self.expected:
            before, self.expected = self.expected, page  # if it is so once more, it is believed
            raise self._refusal(
                f"the page is empty, but the last full scan found {before} pages with records"
            )

    def _check_repeated(self, count: int) -> None:
        """The records of the page before once more: are they all, served whatever page is asked for?"""
        unexplained = count == self._page_size and not self._clamps
        if not self._covered() if self._total is not None else unexplained:
            raise self._refusal(
                "the server returned the records of the previous page again: it does not honour the page "
                "parameter, so the rest cannot be read"
            )

    def _refusal(self, what: str) -> UnreadableAnswer:
        self._refused = True
        return UnreadableAnswer(self._operation, what, page=self.next_page)

    def _covered(self) -> bool:
        """Whether the total says that there is nothing more."""
        return self._total is not None and self.shown >= self._total

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
