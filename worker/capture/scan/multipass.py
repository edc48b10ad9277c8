"""Reads pages by their numbers several times, until none has moved: windows, and lists with the newest first. No I/O.

Pages move while they are read. A record that is inserted or moved up is shown twice, which does no harm; one that is
deleted, or moved down, pulls up those after it, and the first of the next page is never shown. So a read of more than
one page is repeated until nothing has gone away between two passes, and the last has found nothing that the one
before should have.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

from worker.errors import SortBroken

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.capture.scan.continuation import ContinuationPaginator
    from worker.capture.scan.offset import OffsetPaginator
    from worker.capture.scan.strategy import PageRequest, PageSummary

    Pages: TypeAlias = OffsetPaginator | ContinuationPaginator

MAX_PASSES = 4
"""Passes over the same pages. Where the last one still finds a record that was missed, a full scan is needed."""


class MultiPassPaginator:
    """Several passes over `pages`. It is `unsettled` where they have moved in every pass."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._found = False
        self._newest = 0
        self._shown: set[bytes] = set()
        self._shown_before: set[bytes] = set()
        self._passes = 1
        self.done = self.unsettled = False

    @property
    def next_step(self) -> int:
        """The request whose page is accepted next."""
        return self._pages.next_step

    @property
    def next_page(self) -> int:
        """The number of that page."""
        return self._pages.next_page

    @property
    def in_last_pass(self) -> bool:
        """Whether no other pass follows this one."""
        return self._passes == MAX_PASSES

    def has_shown(self, record: bytes) -> bool:
        """Whether this pass has shown it."""
        return record in self._shown

    def issue(self) -> range:
        """The requests to send now."""
        return self._pages.issue()

    def ask(self, step: int) -> PageRequest:
        """What request number `step` asks for."""
        return self._pages.ask(step)

    def accept(
        self,
        page: PageSummary,
        *,
        counted: Iterable[bytes] | None = None,
        moved: bool = False,
        ended: bool = False,
        settled: bool = False,
    ) -> None:
        """Move on: page `next_page` has been committed. The first page of another pass may follow.

        Args:
            page: What it has shown.
            counted: Its records that every pass has to show; by default all.
            moved: It shows that records have moved, so another pass begins at once.
            ended: No page after it is wanted.
            settled: This pass has missed no record, so no other is needed.

        Raises:
            UnreadableAnswer: The server does not turn pages, or an empty page contradicts what is known.

        """
        self._observe(page, page.ids if counted is None else counted)
        # Where a page comes again, records that fill a page may have come in above it.
        self._pages.accept(page, may_repeat=not self.in_last_pass)
        self.done = self._pages.done or ended
        if moved or self._pages.repeated:
            self._start_over()
        elif self.done and not settled and not self._is_single(page) and self._may_have_missed():
            if self.in_last_pass:
                self.unsettled = True
            else:
                self._start_over()

    def _observe(self, page: PageSummary, counted: Iterable[bytes]) -> None:
        """Note what this pass shows, and whether an earlier one should have; a change of now need not be shown."""
        self._shown.update(counted)
        if self._passes == 1:
            self._newest = max(self._newest, *page.times, *page.found, 0)
        elif any(modified <= self._newest for modified in page.found):
            self._found = True

    def _is_single(self, page: PageSummary) -> bool:
        """True if the first page held every record, so that none can have moved between two requests.

        A full first page is followed by a request for the next one. If that is empty, a record may have moved up to the
        first page in between; only a total that has not fallen rules it out.
        """
        if self.next_page > 1:
            return False
        followed = page.count == 0 and self.next_page == 1
        return not followed or bool(page.total and not self._pages.total_fell)

    def _may_have_missed(self) -> bool:
        """Whether the passes so far may have missed a record.

        A record is missed where another above it goes away after it was shown, which the next pass does not show. So
        where none has gone between two passes, the first of them has missed none.
        """
        return self._passes == 1 or self._found or not self._shown >= self._shown_before

    def _start_over(self) -> None:
        self._pages.start_over()
        self._passes += 1
        self._found = self.done = False
        self._shown_before, self._shown = self._shown, set()


class NewestFirstPaginator:
    """From the newest change down to `since`: until a whole page is older than that, and unchanged.

    Page by page, one request at a time: a page that was requested before the one above it has come could hide records
    that moved between them. Read like that, a record is missed only where one above it was deleted, which lowers the
    total; so where the server gives a total that does not fall, a single pass is enough.
    """

    def __init__(self, operation: str, pages: Pages, *, since: int) -> None:
        self._operation, self._since = operation, since
        self._passes = MultiPassPaginator(pages)
        self._oldest: int | None = None
        self._lowest_total: int | None = None
        self._total_fell = False

    @property
    def done(self) -> bool:
        """Whether the last page has been accepted."""
        return self._passes.done

    @property
    def unsettled(self) -> bool:
        """Whether pages have moved in every pass."""
        return self._passes.unsettled

    @property
    def next_step(self) -> int:
        """The request whose page is accepted next."""
        return self._passes.next_step

    @property
    def next_page(self) -> int:
        """The number of that page."""
        return self._passes.next_page

    def issue(self) -> range:
        """The next request, if it has not been sent."""
        return self._passes.issue()

    def ask(self, step: int) -> PageRequest:
        """What request number `step` asks for."""
        return self._passes.ask(step)

    def accept(self, page: PageSummary) -> None:
        """Move on: page `next_page` has been committed.

        Raises:
            SortBroken: The records are not in the order that was requested.
            UnreadableAnswer: The server does not turn pages, or an empty page contradicts what is known.

        """
        if self.next_page == 0:  # of this pass
            self._oldest, self._lowest_total, self._total_fell = None, None, False
        begins_higher = self._check_order(page)
        self._watch_total(page)
        # A record without a time is not newer: it was looked up and is unchanged.
        is_older = bool(page.count and page.times) and not page.found and max(page.times) < self._since
        self._passes.accept(
            page,
            # How far below `since` a pass goes depends on what it finds there.
            counted=[key for key, time in zip(page.ids, page.times, strict=False) if time >= self._since],
            moved=begins_higher,
            ended=is_older,
            settled=not self._total_fell,
        )

    def _check_order(self, page: PageSummary) -> bool:
        """Return whether the page shows, above the end of the one before, a record that this pass has not shown.

        Records have come in above it then. Where every pass shows that, the server sorts each page by itself.
        """
        number, times = self.next_page, [time for time in page.times if time]
        if any(below > above for above, below in pairwise(times)):
            raise SortBroken(self._operation, f"page {number} is not sorted by modification time")
        above = max(self._since, self._oldest) if self._oldest is not None else None
        if times:
            self._oldest = times[-1]
        begins_higher = above is not None and any(
            time > above and not self._passes.has_shown(key)
            for key, time in zip(page.ids, page.times, strict=False)
        )
        if begins_higher and self._passes.in_last_pass:
            raise SortBroken(
                self._operation, f"page {number} begins with newer changes than page {number - 1} ends with"
            )
        return begins_higher

    def _watch_total(self, page: PageSummary) -> None:
        if page.total is None or page.total < max(page.count, 1):
            self._total_fell = True  # the server gives none that means anything
            return
        self._total_fell = self._total_fell or page.total < (self._lowest_total or 0)
        self._lowest_total = page.total
