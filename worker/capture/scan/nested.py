"""Reads lists that belong to one record: its audit log, or the records of which it is the parent.

Most of them fit on one page, so one request without a page number comes first, unless the probe has found how the pages
are numbered. Where that answer may not be all, the pages are turned as those of any list (see `offset.py`). A list of
which the rest cannot be had is `cut`: what it shows is used, and nothing is concluded from what it does not show.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from xxhash import xxh3_64_digest

from worker.capture.probe.logs import CAPS
from worker.capture.records.audit import digest_of
from worker.capture.scan.continuation import ContinuationPaginator
from worker.capture.scan.offset import OffsetPaginator
from worker.capture.scan.strategy import PageRequest, PageSummary
from worker.errors import ApiError, UnreadableAnswer
from worker.ordermesh.http.continuation import names_next, next_of
from worker.ordermesh.http.reply import AuditEntry, Reply, audit_of, list_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    import msgspec

    from worker.ordermesh.contract.profile import ContractProfile, Listing

T = TypeVar("T")
Call: TypeAlias = "Callable[[Mapping[str, str], str], Awaitable[Reply]]"
"""Requests the list with these query parameters, after this continuation; "" for the first page."""

LARGEST = 500
"""Entries to request per page, at most."""
SMALLEST = 10
"""A list with fewer entries is on one page, unless the probe has seen smaller pages."""
MAX_PAGES = 1000
MAX_BYTES = 1 << 25
"""Most bytes of such a list, which is in memory as a whole."""
NO_PAGE = frozenset({400, 404, 405, 410, 416, 422})
"""Answers to the number of a page after the last one."""


@dataclass(frozen=True, slots=True)
class NestedList(Generic[T]):
    """Such a list: each of its `items` once, in the order of the server.

    `raw`: the bodies of its pages. `cut`: why a part of it cannot be read, "" if it was read to its end.
    """

    items: tuple[T, ...]
    raw: bytes
    cut: str = ""


@dataclass(frozen=True, slots=True)
class _Page(Generic[T]):
    items: dict[bytes, T]
    count: int
    total: int | None
    raw: bytes
    after: str = ""

    @property
    def summary(self) -> PageSummary:
        """The page as a paginator sees it."""
        return PageSummary(list(self.items), self.total, after=self.after)

    def is_like(self, other: _Page[T]) -> bool:
        """Whether both are the same page. A list may grow by some entries between two requests."""
        shared = len(self.items.keys() & other.items.keys())
        return 2 * shared > min(len(self.items), len(other.items))


async def read_log(call: Call, key: str, profile: ContractProfile) -> NestedList[AuditEntry]:
    """Return an audit log; `key` is the operation that reads it.

    Raises:
        OrderMeshError: It cannot be had or read.

    """

    def page_of(reply: Reply) -> _Page[AuditEntry]:
        log = audit_of(reply, profile.wrappers(key))
        return _Page({digest_of(entry): entry for entry in log.entries}, len(log.entries), log.total, log.raw)

    return await _NestedReader(call, key, profile, page_of).read()


async def read_children(call: Call, key: str, profile: ContractProfile) -> NestedList[msgspec.Raw]:
    """Return the records of one parent; `key` is the operation that lists them.

    Raises:
        OrderMeshError: They cannot be had or read.

    """

    def page_of(reply: Reply) -> _Page[msgspec.Raw]:
        page = list_of(reply, profile.wrappers(key))
        items = {xxh3_64_digest(bytes(record)): record for record in page.records}
        return _Page(items, len(page.records), page.total, page.raw)

    return await _NestedReader(call, key, profile, page_of).read()


class _NestedReader(Generic[T]):
    """Reads one list. `page_of` returns what a response contains."""

    def __init__(
        self, call: Call, key: str, profile: ContractProfile, page_of: Callable[[Reply], _Page[T]]
    ) -> None:
        self._call, self._key, self._profile, self._page_of = call, key, profile, page_of
        self._listing: Listing = profile.list_of(key)
        # The page size is one that the server was seen to honour, or that a person has set.
        self._size = min(self._listing.largest_page or 0, LARGEST) if key in profile.lists else 0
        self._first_page = self._listing.first_page
        self._items: dict[bytes, T] = {}
        self._duplicates, self._names_next = 0, False
        self._total: int | None = None
        self._raw: list[bytes] = []

    async def read(self) -> NestedList[T]:
        is_numbered = bool(self._size) and not self._listing.whole
        first = await self._request(self._query(0) if is_numbered else {})
        cut = ""
        if self._may_have_more(first):
            self._size = self._size if is_numbered else 0
            cut = await self._turn_pages(first)
        is_whole = self._total == len(self._items) or self._listing.past_end == "restarts"
        if self._names_next and not cut and not is_whole:
            cut = f"after {len(self._items)} entries it names a next page, which the probe has not learnt to request"
        return NestedList(tuple(self._items.values()), b"\n".join(self._raw), cut)

    def _may_have_more(self, first: _Page[T]) -> bool:
        if self._listing.next_in is not None:
            return bool(first.after)
        if first.total is not None and first.total >= max(first.count, 1):
            return first.total > first.count
        if self._listing.whole:
            return first.count in CAPS and first.count >= (self._listing.largest_page or 0)
        return first.count >= (self._size or SMALLEST)

    async def _turn_pages(self, first: _Page[T]) -> str:
        """Read the pages after the first one; return why the rest cannot be read, "" if nothing remains."""
        ready = {0: first}
        if self._key not in self._profile.lists and not self._listing.next_in:
            ready |= await self._find_first_number(first)
        numbered = OffsetPaginator(
            self._key,
            by_number=not self._listing.next_in,
            page_size=self._size or len(first.items),
            window=1,
            read_ahead=1,
            clamps=self._listing.past_end == "repeats",
            restarts=self._listing.past_end == "restarts",
        )
        pages = ContinuationPaginator(self._key, numbered) if self._listing.next_in else numbered
        page, problem = first, ""
        while not pages.done and not problem:
            (step,) = pages.issue()
            if step >= MAX_PAGES:
                return f"it has more than {MAX_PAGES} pages"
            if sum(map(len, self._raw)) > MAX_BYTES:
                return f"it has more than {MAX_BYTES} bytes"
            page = ready.pop(step) if step in ready else await self._page(pages.ask(step))
            try:
                pages.accept(page.summary)
            except UnreadableAnswer as error:
                problem = error.what
        return self._why_cut(problem)

    def _why_cut(self, problem: str) -> str:
        """Return why not all of the list was read; "" if that is not so. `problem`: why no other page can be had."""
        count, total = len(self._items) + self._duplicates, self._total
        if total is not None and total > count:
            return f"{count} of {total} entries can be read" + (f": {problem}" if problem else "")
        if total is None and problem and count in CAPS:
            return f"it ends after {count} entries, as a list does that is cut: {problem}"
        return ""

    async def _find_first_number(self, first: _Page[T]) -> dict[int, _Page[T]]:
        """Find out whether pages are numbered from 0 or from 1; return page 1 if it was read on the way."""
        self._first_page = 0
        one = await self._page(PageRequest(1))
        if not one.is_like(first):
            return {1: one}
        self._first_page = 1
        return {}

    async def _page(self, ask: PageRequest) -> _Page[T]:
        """Return a page; an empty one where the server says that there is none with this number."""
        try:
            return await self._request(self._query(ask.page), ask.after)
        except ApiError as error:
            if error.status in NO_PAGE and not ask.after:
                return _Page({}, 0, None, b"")
            raise

    def _query(self, number: int) -> dict[str, str]:
        listing = self._listing
        query = {} if listing.next_in else {listing.page_parameter: str(number + self._first_page)}
        return query | ({listing.size_parameter: str(self._size)} if self._size else {})

    async def _request(self, query: Mapping[str, str], after: str = "") -> _Page[T]:
        reply = await self._call(query, after)
        page, place = self._page_of(reply), self._listing.next_in
        page = replace(page, after=next_of(reply, place) if place else "")
        self._names_next = not place and bool(page.items) and names_next(reply)
        if self._listing.total == "untrusted":
            page = replace(page, total=None)
        self._total = page.total if page.total is not None and page.total >= page.count else self._total
        self._duplicates += page.count - len(page.items)
        self._items.update(page.items)
        self._raw.append(page.raw)
        return page
