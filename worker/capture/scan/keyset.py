"""Reads newer changes from time to time instead of from page to page, where the server filters and sorts. No I/O.

The first page of the records that were modified since a time, the oldest change first, shows where to go on: the next
request begins with the newest time on it. Each response is complete by itself, so no record is missed however the list
moves meanwhile, and no page lies so deep that the server would refuse it, or leave it out of a result that it caps.
Records of the same time are shown again (`>=`), which costs no event. Only where more records than fill a page have
the very same time are these read by page numbers, and read again while that finds more.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from worker.capture.scan.multipass import MAX_PASSES
from worker.capture.scan.strategy import PageRequest
from worker.errors import SortBroken, UnreadableAnswer

if TYPE_CHECKING:
    from worker.capture.scan.strategy import PageSummary
    from worker.capture.state.cursor import CursorUpdate


class KeysetPaginator:
    """Records that were modified since a time, in the order of modification.

    Args:
        operation: The operation that lists the resource.
        page_size: Records to request per page.
        since: Where to begin (milliseconds since 1970).
        full: Records on a full page, 0 where that is not known: a page with fewer is the last one, where the server
            gives no total.
        clamps: The server answers a page after the last one with the last one, as the probe has found.

    """

    expected = capped = short = overruled = 0
    moved = again = False
    width = 0
    total: int | None = None
    pages: int | None = None
    records: int | None = None

    def __init__(
        self, operation: str, *, page_size: int, since: int, full: int = 0, clamps: bool = False
    ) -> None:
        self._operation, self._page_size, self._full, self._clamps = operation, page_size, full, clamps
        self._since, self._page = since, 0
        self._issued = 0
        self._passes, self._found = 1, False
        self._seen = 0
        self._tied: set[bytes] = set()
        self._tied_before: set[bytes] = set()
        self._last: frozenset[bytes] = frozenset()
        self._total: int | None = None
        self._width = 0
        self.next_step = 0
        self.done = self.unsettled = False

    @property
    def next_page(self) -> int:
        """The number of the page that is accepted next, counted from the time that the read has come to."""
        return self._page

    @property
    def advanced(self) -> bool:
        """Whether this run has accepted a page."""
        return self.next_step > 0

    def cursor_fields(self, _: int, after: str = "", *, count: int = 0) -> CursorUpdate:
        """What the cursor keeps to resume: the time that the read has come to.

        A scan by page numbers that has to take over, where the filter is no longer honoured, begins with page 0.
        """
        del after
        return {
            "sweep_page": 0,
            "sweep_width": max(self._width, count),
            "sweep_total": self._total or 0,
            "sweep_again": False,
            "sweep_since": self._since,
        }

    def issue(self) -> range:
        """The next request, if it has not been sent: its page shows where to go on."""
        steps = range(self._issued, self.next_step if self.done else self.next_step + 1)
        self._issued = max(self._issued, steps.stop)
        return steps

    def ask(self, step: int) -> PageRequest:
        """What request number `step`, the next one, asks for."""
        del step
        return PageRequest(self._page, self._since)

    def accept(self, page: PageSummary) -> None:
        """Move on: the page of the last request has been committed.

        Raises:
            SortBroken: The records are not in the order that was requested.
            UnreadableAnswer: The server does not turn pages, or an empty page contradicts its total.

        """
        times = [time for time in page.times if time]
        if any(above > below for above, below in pairwise(times)):
            raise SortBroken(self._operation, "the newer records are not sorted by modification time")
        self.next_step += 1
        self._width = max(self._width, page.count)
        # A total below what is served with it means nothing: 0 and -1 are ways to say "not known".
        self._total = page.total if page.total is not None and page.total >= max(page.count, 1) else None
        self._found = self._found or any(time <= self._since for time in page.found)
        newest = max(times, default=0)
        self._tied.update(key for key, time in zip(page.ids, page.times, strict=False) if time <= self._since)
        if not page.count:
            self._check_end()
            self._go_on(self._since + 1 if self._page else None)
        elif self._is_last(page.count):
            self._go_on(self._since + 1 if self._page else None)
        elif newest > self._since:
            # After more records of one time than fill a page, it goes on right after that time: records between there
            # and here may have moved to a page that was read.
            self._go_on(self._since + 1 if self._page else newest)
        else:
            self._turn_page(page)

    def _check_end(self) -> None:
        if self._total is not None and self._seen < self._total:
            raise UnreadableAnswer(
                self._operation, f"the page is empty, but the total is {self._total}", page=self._page
            )

    def _is_last(self, count: int) -> bool:
        """Whether no record follows. A full page is never taken for the last: its total may be that of the page."""
        if count == self._page_size or (self._full and count >= self._full):
            return False
        return self._seen + count >= self._total if self._total is not None else count < self._full

    def _go_on(self, since: int | None) -> None:
        """Go on with the records that were modified since then, None for the end; page numbers are read again first."""
        if self._page > 0 and (self._passes == 1 or self._found or not self._tied >= self._tied_before):
            self._passes += 1
            self._tied_before, self._tied = self._tied, set()
            self.unsettled = self.unsettled or self._passes > MAX_PASSES
            if self._passes <= MAX_PASSES:
                self._page, self._seen, self._found, self._last = 0, 0, False, frozenset()
                return
        self._passes, self._found, self._page, self._seen, self._last = 1, False, 0, 0, frozenset()
        self._tied, self._tied_before = set(), set()
        if since is None:
            self.done = True
        else:
            self._since = since

    def _turn_page(self, page: PageSummary) -> None:
        """Go on with the next page of the records of this very time, which fill more than one."""
        ids = frozenset(page.ids)
        if ids == self._last:
            if not self._clamps:
                raise UnreadableAnswer(
                    self._operation,
                    "the server returned the records of the previous page again: it does not honour the page "
                    "parameter, so the rest cannot be read",
                    page=self._page,
                )
            self._go_on(self._since + 1)
            return
        self._last = ids
        self._seen += page.count
        self._page += 1
