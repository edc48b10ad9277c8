"""The plans of fast reads that take pages by their number: `head`, and a window in an order that is not known. No I/O.

Pages move while they are read. A record that is inserted or moved up is shown twice, which does no harm; one that is
deleted, or moved down, pulls those behind it up, and the first of the next page is never shown. So a read of more
than one page is gone over again until nothing has gone away between two passes, and the last has found nothing that
the one before should have.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from worker.capture.scan.offset import OffsetPaginator
from worker.errors import SortBroken, UnreadableAnswer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.capture.scan.strategy import PageSummary

MAX_PASSES = 4
"""Passes over the same pages. Where the last one still finds what was missed, a complete read has to."""


class MultiPassPaginator(OffsetPaginator):
    """A window by page numbers. It is `unsettled` where its pages have moved in every pass."""

    def __init__(self, operation: str, *, page_size: int, window: int, clamps: bool = False) -> None:
        super().__init__(operation, page_size=page_size, window=window, clamps=clamps, goes_over_again=False)
        self._passes = 1
        self._found = False
        self._newest = 0
        self._moved = False
        self._shown: set[bytes] = set()
        self._shown_before: set[bytes] = set()
        self.unsettled = False

    def accept(self, shown: PageSummary) -> None:
        """Page `next_page` has been dealt with; the last one of a pass may be followed by the first one again.

        Raises:
            UnreadableAnswer: The server does not turn pages, or an empty page contradicts what is known.

        """
        self._note(shown)
        super().accept(shown)
        self._go_over_again()

    def start_over(self) -> None:
        """The first page again, in another pass."""
        super().start_over()
        self._passes += 1
        self._found = self._moved = False
        self._shown_before, self._shown = self._shown, set()

    def _check_repeated(self, count: int) -> None:
        """The records of the page before once more: a page of records may have come in above them since."""
        try:
            super()._check_repeated(count)
        except UnreadableAnswer:
            if self._passes == MAX_PASSES:
                raise
            self._moved, self._refused = True, False

    def _note(self, shown: PageSummary) -> None:
        """What this pass has shown, and whether an earlier one should have: what changes now is not meant."""
        self._shown.update(self._counted(shown))
        if self._passes == 1:
            self._newest = max(self._newest, *shown.times, *shown.found, 0)
        elif any(modified <= self._newest for modified in shown.found):
            self._found = True

    def _counted(self, shown: PageSummary) -> Iterable[bytes]:
        """Those of a page that every pass has to show."""
        return shown.ids

    def _go_over_again(self) -> None:
        if self._moved:
            self.start_over()
        elif not self.done or self.next_page <= 1 or not self._may_have_missed():
            return
        elif self._passes == MAX_PASSES:
            self.unsettled = True
        else:
            self.start_over()

    def _may_have_missed(self) -> bool:
        """Whether what this pass has shown does not settle it.

        A record is passed by where one above it goes away once it was shown, which the pass after shows no more. So
        where none has gone between two passes, the first of them has passed by none.
        """
        return self._passes == 1 or self._found or not self._shown >= self._shown_before


class NewestFirstPaginator(MultiPassPaginator):
    """From the newest change down to what has been read: until a whole page is older than `since` and unchanged.

    Page by page, one request at a time: a page that was asked for before the one above it has come could hide what
    moved between them. Read like that, a record is passed by only where one above it was deleted, which lowers the
    total; so where the server gives one that does not fall, a single pass is enough.
    """

    def __init__(self, operation: str, *, page_size: int, since: int, clamps: bool = False) -> None:
        super().__init__(operation, page_size=page_size, window=1, clamps=clamps)
        self._since = since
        self._oldest: int | None = None
        self._lowest_total: int | None = None
        self._total_fell = False

    def issue(self) -> range:
        """The next page alone."""
        return self._issue_up_to(self.next_page + 1)

    def accept(self, shown: PageSummary) -> None:
        """Page `next_page` has been dealt with.

        Raises:
            SortBroken: The page does not stand in the order that was asked for.
            UnreadableAnswer: The server does not turn pages, or an empty page contradicts what is known.

        """
        page, begins_higher = self.next_page, self._check_order(shown)
        self._watch_total(shown)
        self._note(shown)
        super(MultiPassPaginator, self).accept(shown)
        if begins_higher and self._passes == MAX_PASSES:
            raise SortBroken(
                self._operation, f"page {page} begins with newer changes than page {page - 1} ends with"
            )
        self._moved = self._moved or begins_higher
        if shown.count and not shown.found and shown.times and max(shown.times) < self._since:
            # One that does not say when it was modified is not newer: it was looked up and is unchanged.
            self.done = True
        self._go_over_again()

    def _counted(self, shown: PageSummary) -> Iterable[bytes]:
        # How far below the mark a pass goes depends on what it finds there.
        return [one for one, time in zip(shown.ids, shown.times, strict=False) if time >= self._since]

    def start_over(self) -> None:
        """The first page again, in another pass."""
        super().start_over()
        self._oldest, self._lowest_total, self._total_fell = None, None, False

    def _check_order(self, shown: PageSummary) -> bool:
        """Whether the page shows, above the end of the one before, what no page of this pass has shown.

        So many records have come in above it since. Time and again, they have not: the server sorts each page for
        itself.
        """
        told = [time for time in shown.times if time]
        if any(below > above for above, below in pairwise(told)):
            raise SortBroken(self._operation, f"page {self.next_page} is not sorted by modification time")
        above = max(self._since, self._oldest) if self._oldest is not None else None
        if told:
            self._oldest = told[-1]
        return above is not None and any(
            time > above and one not in self._shown for one, time in zip(shown.ids, shown.times, strict=False)
        )

    def _watch_total(self, shown: PageSummary) -> None:
        if shown.total is None or shown.total < max(shown.count, 1):
            self._total_fell = True  # there is none that means anything
            return
        self._total_fell = self._total_fell or shown.total < (self._lowest_total or 0)
        self._lowest_total = shown.total

    def _may_have_missed(self) -> bool:
        return self._total_fell and super()._may_have_missed()
