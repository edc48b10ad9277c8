"""Reads a list page after page by the continuation in each response: a token, or the address of the next page. No I/O.

Requests follow one another, since each needs the response before it. The list ends where a response has no
continuation; a page without records is not the end, since such servers filter after they have cut the list into pages.
What the pages show, their totals and whether records have moved, is judged as for page numbers (see `offset.py`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from xxhash import xxh3_64_hexdigest

from worker.capture.scan.strategy import PageRequest
from worker.errors import UnreadableAnswer

if TYPE_CHECKING:
    from worker.capture.scan.offset import OffsetPaginator
    from worker.capture.scan.strategy import PageSummary
    from worker.capture.state.cursor import CursorUpdate

MAX_EMPTY = 100
"""Pages without records in a row after which a list is taken for one that never ends."""


class ContinuationPaginator:
    """Pages of a list, each requested with the continuation of the one before.

    Args:
        operation: The operation that lists the resource.
        pages: Judges what the pages show; it is not asked which pages to request.
        after: The continuation to begin with, "" for the first page.
        watch: What `LoopWatch` keeps of the continuations so far.

    """

    unsettled = False
    width = 0
    total: int | None = None

    def __init__(self, operation: str, pages: OffsetPaginator, *, after: str = "", watch: str = "") -> None:
        self._operation, self._pages = operation, pages
        self._after, self._watch = after, LoopWatch(watch)
        self._issued = self._empty = 0
        self._last: frozenset[bytes] = frozenset()
        self.next_step = 0
        self.done = False

    @property
    def next_page(self) -> int:
        """The number of the page that is accepted next, counted from 0."""
        return self._pages.next_page

    @property
    def repeated(self) -> bool:
        """Whether the page that was accepted last shows the records of the one before again."""
        return self._pages.repeated

    @property
    def total_fell(self) -> bool:
        """True if the total has fallen from one page to the next in this pass."""
        return self._pages.total_fell

    @property
    def advanced(self) -> bool:
        """Whether this run has accepted a page with records, and nothing that contradicts it."""
        return self._pages.advanced

    @property
    def expected(self) -> int:
        """Pages with records that the list is expected to have; 0 where nothing is known."""
        return self._pages.expected

    @property
    def again(self) -> bool:
        """Whether the list is read for the second time, since its pages moved."""
        return self._pages.again

    @property
    def pages(self) -> int:
        """Pages with records so far."""
        return self._pages.pages

    @property
    def records(self) -> int:
        """Records on these pages."""
        return self._pages.records

    @property
    def moved(self) -> bool:
        """Whether records have moved from page to page while they were read, in any pass."""
        return self._pages.moved

    @property
    def capped(self) -> int:
        """Records after which the server ends every list; 0 where nothing says so."""
        return self._pages.capped

    @property
    def short(self) -> int:
        """The page before which the list ended, although its total says more; 0 where it did not."""
        return self._pages.short

    @property
    def overruled(self) -> int:
        """The total that this scan has found not to be that of the list; 0 where it has not."""
        return self._pages.overruled

    def cursor_fields(self, next_page: int, after: str = "", *, count: int = 0) -> CursorUpdate:
        """What the cursor keeps to resume at `next_page`, which is requested with the continuation `after`."""
        watch = self._watch if after == self._after else self._watch.after(after)
        fields = self._pages.cursor_fields(next_page, count=count)
        return {**fields, "sweep_after": after, "sweep_watch": str(watch)}

    def issue(self) -> range:
        """The next request, if it has not been sent."""
        steps = range(self._issued, self.next_step if self.done else self.next_step + 1)
        self._issued = max(self._issued, steps.stop)
        return steps

    def ask(self, step: int) -> PageRequest:
        """What request number `step`, the next one, asks for."""
        del step
        return PageRequest(self.next_page, after=self._after)

    def start_over(self) -> None:
        """Begin another pass with the first page."""
        self._pages.start_over()
        self._begin()

    def accept(self, page: PageSummary, *, may_repeat: bool = False) -> None:
        """Move on: the page of the last request has been committed.

        Args:
            page: What it has shown.
            may_repeat: Where it shows the records of the page before again, set `repeated` instead of refusing it.

        Raises:
            UnreadableAnswer: The continuations lead in a circle, or the end contradicts what is known.

        """
        self.next_step += 1
        self._check_progress(page, may_repeat=may_repeat)
        if page.count:
            self._pages.accept(page, may_repeat=may_repeat)
            if self.repeated:
                return
        # A continuation that stays the same with nothing to show waits for records to come.
        if page.after and (page.count or page.after != self._after):
            self._watch, self._after = self._watch.after(page.after), page.after
            return
        self._pages.accept(replace(page, ids=(), times=(), found=()))
        self.done = self._pages.done
        if not self.done:  # the list moved, so it is read again
            self._begin()

    def _begin(self) -> None:
        self._after, self._watch = "", LoopWatch()
        self._last, self._empty = frozenset(), 0
        self.done = False

    def _check_progress(self, page: PageSummary, *, may_repeat: bool) -> None:
        """Raise if the continuations lead in a circle, or nowhere."""
        ids = frozenset(page.ids)
        self._empty = 0 if ids else self._empty + 1
        if ids and ids == self._last and not may_repeat:
            raise self._refusal(
                "the server returned the records of the previous page again: it does not honour"
            )
        self._last = ids or self._last
        if page.after and page.count and (page.after == self._after or self._watch.knows(page.after)):
            raise self._refusal("the continuations lead in a circle: the server does not move on with")
        if page.after and self._empty > MAX_EMPTY:
            raise self._refusal(f"{self._empty} pages in a row have no records: the server does not end")

    def _refusal(self, what: str) -> UnreadableAnswer:
        self._pages.refuse()
        return UnreadableAnswer(
            self._operation, f"{what} the continuation, so the rest cannot be read", page=self.next_page
        )


class LoopWatch:
    """Notices that continuations come again, with Brent's algorithm: it keeps one of them, and a later one each time.

    As text, it is the number of continuations so far, a colon, and a hash of the one that it keeps.
    """

    def __init__(self, text: str = "") -> None:
        count, _, self._kept = text.partition(":")
        self._count = int(count) if count.isascii() and count.isdigit() else 0

    def __str__(self) -> str:
        return f"{self._count}:{self._kept}" if self._count else ""

    def knows(self, continuation: str) -> bool:
        """Whether this is the one that it keeps."""
        return self._kept == _hash(continuation)

    def after(self, continuation: str) -> LoopWatch:
        """Return a watch that has seen one more."""
        result = LoopWatch(str(self))
        result._count += 1
        if result._count & (result._count - 1) == 0:  # a power of two
            result._kept = _hash(continuation)
        return result


def _hash(continuation: str) -> str:
    return xxh3_64_hexdigest(continuation.encode("utf-8", "surrogatepass"))
