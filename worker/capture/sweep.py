"""The sweep plan: every page of a resource, read in parallel, dealt with in order. No I/O.

It needs nothing of the server but pages. The end is an empty page, or a page that is not full where the
server's total says that it is the last. A total alone is not believed: one that is capped would hide records.
"""

from __future__ import annotations

import math

from worker.errors import UnreadableAnswer

READ_AHEAD = 2
"""Pages under way or waiting for their turn, as a multiple of the requests that may be under way: while one
window of pages is dealt with, the next is fetched. It bounds the memory of a read of any size."""


class SweepPlan:
    """Which pages to ask for next, and when the resource has been read completely.

    Pages are counted from 0. `window` requests may be under way at a time. `expected` is the number of pages
    that the last sweep found: it permits to read ahead where the server gives no total.
    """

    def __init__(
        self, operation: str, *, page_size: int, window: int, start: int = 0, expected: int = 0
    ) -> None:
        self._operation, self._page_size, self._window = operation, page_size, window
        self._expected = expected
        self._issued = start
        self._total: int | None = None
        self._largest = 0
        self._streak = 0
        self._last_ids: frozenset[bytes] = frozenset()
        self.next_page = start
        self.done = False

    def issue(self) -> range:
        """The pages to ask for now. Each is handed out once."""
        if self.done:
            return range(0)
        end = max(self.next_page + 1, min(self.next_page + READ_AHEAD * self._window, self._horizon()))
        pages = range(self._issued, end)
        self._issued = max(self._issued, end)
        return pages

    def dealt_with(self, count: int, total: int | None, ids: frozenset[bytes]) -> None:
        """Page `next_page` has been dealt with: it had `count` records, and the server gave `total`.

        Raises:
            UnreadableAnswer: The server does not turn pages, or an empty page contradicts its total.

        """
        page = self.next_page
        self._total = total if total is not None else self._total
        if count and ids == self._last_ids:
            if count == self._page_size:
                raise UnreadableAnswer(
                    self._operation,
                    "the server gave the records of the page before once more: it does not honour the page "
                    "parameter, so the rest cannot be read",
                    page=page,
                )
            self.done = True  # it serves everything in one answer, whatever page is asked for
            return
        if page == 0 and count == 0 and self._total:
            raise UnreadableAnswer(
                self._operation, f"the first page is empty, but the total is {self._total}", page=page
            )
        self._last_ids = ids
        self._largest = max(self._largest, count)
        self._streak += 1
        self.next_page = page + 1
        covered = self._total is not None and (page + 1) * self._largest >= self._total
        self.done = count == 0 or (covered and count != self._full_page())

    def _full_page(self) -> int:
        return (
            min(self._page_size, self._largest)
            if self._total and self._total > self._largest
            else self._page_size
        )

    def _horizon(self) -> int:
        """The page after the last one that probably exists."""
        if self._total is not None and self._largest:
            return math.ceil((self._total + 1) / self._largest)
        # Without a total: as far as last time, and beyond that further with each page that was not empty.
        return max(self._expected, self.next_page + min(self._window, 1 << min(self._streak, 10)))
