"""The sweep plan: every page of a resource, read in parallel, dealt with in order. No I/O.

It needs nothing of the server but pages. The end is an empty page, or a page that is not full where the
server's total says that it is the last. A total alone is not believed: one that is capped would hide records.
Nor is an empty page where the total, or the last sweep, says that there is more.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from worker.capture.plans import Ask
from worker.errors import UnreadableAnswer

if TYPE_CHECKING:
    from worker.capture.plans import Shown

READ_AHEAD = 2
"""Pages under way or waiting for their turn, as a multiple of the requests that may be under way: while one
window of pages is dealt with, the next is fetched. It bounds the memory of a read of any size."""


class SweepPlan:
    """Which pages to ask for next, and when the resource has been read completely.

    Pages are counted from 0; so are requests, over all passes. `window` requests may be under way at a time.
    `expected` is the number of pages with records that the last sweep found: it permits to read ahead where the
    server gives no total, and an end before it is doubted once. `clamps`: the server answers a page beyond the last
    one with the last one, as the probe has seen. `tracked` is the number of records that are known, `total` the last
    one that the server gave to a sweep that is resumed.
    """

    unsettled = False

    def __init__(
        self,
        operation: str,
        *,
        page_size: int,
        window: int,
        start: int = 0,
        expected: int = 0,
        tracked: int = 0,
        total: int = 0,
        clamps: bool = False,
    ) -> None:
        self._operation, self._page_size, self._window = operation, page_size, window
        self._start, self._issued, self._tracked = start, start, tracked
        self._before = 0  # requests of earlier passes over the same pages
        self._total: int | None = total or None
        self._clamps = clamps
        self._largest = 0
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
    def next_step(self) -> int:
        """The request whose turn it is."""
        return self._before + self.next_page

    def issue(self) -> range:
        """The requests to send now. Each is handed out once."""
        return self._issue_up_to(min(self.next_page + READ_AHEAD * self._window, self._horizon()))

    def ask(self, step: int) -> Ask:
        """What request number `step` asks for."""
        return Ask(step - self._before)

    def start_over(self) -> None:
        """Read from the first page on once more. What is under way of the pass that has ended is not waited for."""
        self._before += self._issued
        self._start = self._issued = self.next_page = 0
        self._seen = self._streak = 0
        self._last_ids = frozenset()
        self.done = False

    def _issue_up_to(self, end: int) -> range:
        if self.done:
            return range(0)
        end = max(self.next_page + 1, end)
        pages = range(self._issued, end)
        self._issued = max(self._issued, end)
        return range(self._before + pages.start, self._before + pages.stop)

    def dealt_with(self, shown: Shown) -> None:
        """Page `next_page` has been dealt with.

        Raises:
            UnreadableAnswer: The server does not turn pages, or an empty page contradicts what is known.

        """
        count, total, ids = shown.count, shown.total, frozenset(shown.ids)
        # A total below what is served with it means nothing: 0 and -1 are ways to say "not known".
        if total is not None and total >= max(count, 1):
            self._total = total
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

    def _check_end(self) -> None:
        """An empty page: is it the end?"""
        page = self.next_page
        if self._total is not None:
            # A sweep that was resumed may have seen the last page alone, which says nothing of a full one.
            width = max(self._largest, self._page_size) if self._start else self._largest
            if page * width < self._total:
                raise self._refusal(f"the page is empty, but the total is {self._total}")
        elif page == 0 and self._tracked:
            raise self._refusal(f"the first page is empty, but {self._tracked} records are known")
        elif page < self.expected:
            before, self.expected = self.expected, page  # if it is so once more, it is believed
            raise self._refusal(f"the page is empty, but the last sweep found {before} pages with records")

    def _check_repeated(self, count: int) -> None:
        """The records of the page before once more: are they all, served whatever page is asked for?"""
        unexplained = count == self._page_size and not self._clamps
        if not self._covered() if self._total is not None else unexplained:
            raise self._refusal(
                "the server gave the records of the page before once more: it does not honour the page "
                "parameter, so the rest cannot be read"
            )

    def _refusal(self, what: str) -> UnreadableAnswer:
        self._refused = True
        return UnreadableAnswer(self._operation, what, page=self.next_page)

    def _covered(self) -> bool:
        """Whether the total says that there is nothing more."""
        return self._total is not None and self._start * self._largest + self._seen >= self._total

    def _full_page(self) -> int:
        """Records in a page that is not the last: as many as were asked for, or fewer if the server caps it."""
        return self._largest if self._total and self._total > self._largest else self._page_size

    def _horizon(self) -> int:
        """The page after the last one that probably exists."""
        if self._total is not None and self._largest:
            return math.ceil((self._total + 1) / self._largest)
        # Without a total: as far as last time, and beyond that further with each page that was not empty.
        return max(self.expected, self.next_page + min(self._window, 1 << min(self._streak, 10)))
