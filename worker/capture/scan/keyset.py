"""The window plan where the gateway sorts as well: from time to time instead of from page to page. No I/O.

The first page of what was modified since a time, the oldest change first, shows what comes next; the request after it
begins with the newest time that it has shown. Each answer stands for itself, so no record is passed by however the
list moves meanwhile, and no page lies so deep that the server would refuse it, or leave it out of a result that it
caps. Records of the same time are shown again and again (`>=`), which costs no event. Only where more of them than
fill a page have the very same time are they read by page numbers, and gone over again while that finds more.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from worker.capture.scan.multipass import MAX_PASSES
from worker.capture.scan.strategy import PageRequest
from worker.errors import SortBroken, UnreadableAnswer

if TYPE_CHECKING:
    from worker.capture.scan.strategy import PageSummary


class KeysetPaginator:
    """What was modified since a time, in the order of modification.

    `full`: records that a page is known to hold where there are that many, 0 where it is not known: fewer end the
    read then, where the server gives no total.
    """

    expected = 0
    unsettled = False
    capped = False
    goes_over_again = False

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
        self.width = 0
        self.next_step = 0
        self.done = False

    @property
    def since(self) -> int:
        """Where the read has come to: what was modified before then has been dealt with."""
        return self._since

    @property
    def total(self) -> int:
        """The last total that the server gave of what is newer, 0 for none."""
        return self._total or 0

    @property
    def next_page(self) -> int:
        """The page whose turn it is, counted from where the read has come to."""
        return self._page

    @property
    def advanced(self) -> bool:
        """Whether a page has been dealt with."""
        return self.next_step > 0

    def issue(self) -> range:
        """The one request to send now: what it shows says which one is next."""
        steps = range(self._issued, self.next_step if self.done else self.next_step + 1)
        self._issued = max(self._issued, steps.stop)
        return steps

    def ask(self, step: int) -> PageRequest:
        """What request number `step`, the one whose turn it is, asks for."""
        del step
        return PageRequest(self._page, self._since)

    def accept(self, shown: PageSummary) -> None:
        """The answer to the last request has been dealt with.

        Raises:
            SortBroken: It does not stand in the order that was asked for.
            UnreadableAnswer: The server does not turn pages, or an empty page contradicts its total.

        """
        told = [time for time in shown.times if time]
        if any(above > below for above, below in pairwise(told)):
            raise SortBroken(self._operation, "the newer records are not sorted by modification time")
        self.next_step += 1
        self.width = max(self.width, shown.count)
        # A total below what is served with it means nothing: 0 and -1 are ways to say "not known".
        self._total = shown.total if shown.total is not None and shown.total >= max(shown.count, 1) else None
        self._found = self._found or any(time <= self._since for time in shown.found)
        newest = max(told, default=0)
        self._tied.update(one for one, at in zip(shown.ids, shown.times, strict=False) if at <= self._since)
        if not shown.count:
            self._check_end()
            self._leave(self._since + 1 if self._page else None)
        elif self._is_last(shown.count):
            self._leave(self._since + 1 if self._page else None)
        elif newest > self._since:
            # Behind more records of one time than fill a page, it goes on right after that time: what stands between
            # there and here may have moved to a page that was read.
            self._leave(self._since + 1 if self._page else newest)
        else:
            self._turn(shown)

    def _check_end(self) -> None:
        if self._total is not None and self._seen < self._total:
            raise UnreadableAnswer(
                self._operation, f"the page is empty, but the total is {self._total}", page=self._page
            )

    def _is_last(self, count: int) -> bool:
        """Whether nothing follows. A full page is never taken for the last: its total may be that of the page."""
        if count == self._page_size or (self._full and count >= self._full):
            return False
        return self._seen + count >= self._total if self._total is not None else count < self._full

    def _leave(self, since: int | None) -> None:
        """Go on with what was modified since then; with None it is over."""
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

    def _turn(self, shown: PageSummary) -> None:
        """More records of this very time than fill a page: the next page of them."""
        ids = frozenset(shown.ids)
        if ids == self._last:
            if not self._clamps:
                raise UnreadableAnswer(
                    self._operation,
                    "the server returned the records of the previous page again: it does not honour the page "
                    "parameter, so the rest cannot be read",
                    page=self._page,
                )
            self._leave(self._since + 1)
            return
        self._last = ids
        self._seen += shown.count
        self._page += 1
