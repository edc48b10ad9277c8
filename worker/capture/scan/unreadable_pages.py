"""Pages that always fail: what smaller pages show of them is read, and the rest is known by its place in the list.

One record that the server cannot serve makes the page that holds it fail, each time. So such a page is read again in
smaller pages, down to single records. A page of a divisor of the size begins where a part of the page does, so that
nothing is left out between them, provided that the server honours the page size, which their lengths show. That other
pages can be read, before and after that, shows that it is the page which fails and not the gateway.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from ordersync_consumer.redaction import words_of
from worker.capture.failures import may_be_of_one_page
from worker.capture.records.actions import Action
from worker.capture.records.diff import Change
from worker.capture.records.fingerprint import pack_unreadable, raw_fingerprint
from worker.capture.records.raw_records import RawRecord
from worker.capture.scan.pages import FetchedPage
from worker.capture.scan.strategy import PageRequest
from worker.errors import OrderMeshError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

MAX_FAILED = 40
"""Requests for parts of one page that may fail: where more do, whole parts are given up without a closer look."""
MAX_WHY = 200
"""Characters of the error that are stored."""


class Hole(NamedTuple):
    """Records of a list that cannot be read: the number of the first, from 0, how many there are, and the error."""

    first: int
    records: int
    why: str


@dataclass(frozen=True, slots=True)
class SplitPage:
    """What could be read of a page, and its holes, which count as records of it."""

    page: FetchedPage
    holes: tuple[Hole, ...]

    @property
    def unread(self) -> int:
        """Records of it that could not be read."""
        return sum(hole.records for hole in self.holes)


@dataclass(slots=True)
class PageSplitter:
    """Reads a page in parts. `fetch`: returns a page of so many records."""

    fetch: Callable[[PageRequest, int], Awaitable[FetchedPage]]
    _read: list[tuple[int, int, FetchedPage]] = field(default_factory=list)
    _holes: list[Hole] = field(default_factory=list)
    _failed: int = 0

    async def read(
        self, number: int, size: int, error: OrderMeshError, *, control: int, total: int | None
    ) -> SplitPage:
        """Return what can be read of a page.

        Args:
            number: The number of the page, from 0.
            size: Records on it.
            error: The error that it gives.
            control: Another page, from which an answer is expected, be it an empty one.
            total: Records in the list, as far as the server says so.

        Raises:
            OrderMeshError: No other page can be read either, so nothing is known of this one.

        """
        await self._check(control, size, error)
        await self._split(number * size, size, error)
        for hole in self._holes[:]:
            self._holes.remove(hole)  # once more: it may have been temporary
            await self._read_part(hole.first, hole.records, split=False)
        await self._check(control, size, error)
        parts = sorted(self._read, key=lambda part: part[0])
        total = next((page.total for _, _, page in parts if page.total), total)
        if not _is_honoured(parts, total):
            why = f"{error}; the server does not honour the page size, so the page cannot be read in parts"
            return SplitPage(FetchedPage([], total, [], []), (Hole(number * size, size, why),))
        return SplitPage(_joined([page for _, _, page in parts], total), _within(self._holes, parts, total))

    async def _check(self, control: int, size: int, error: OrderMeshError) -> None:
        try:
            await self.fetch(PageRequest(control), size)
        except OrderMeshError as other:
            if may_be_of_one_page(other):
                raise error from other
            raise

    async def _split(self, first: int, size: int, error: OrderMeshError) -> None:
        if size == 1 or self._failed > MAX_FAILED:
            self._holes.append(Hole(first, size, words_of(error, MAX_WHY)))
            return
        part = part_size(size)
        for start in range(first, first + size, part):
            await self._read_part(start, part)

    async def _read_part(self, first: int, size: int, *, split: bool = True) -> None:
        try:
            self._read.append((first, size, await self.fetch(PageRequest(first // size), size)))
        except OrderMeshError as error:
            if not may_be_of_one_page(error):
                raise
            self._failed += 1
            if split:
                await self._split(first, size, error)
            else:
                self._holes.append(Hole(first, size, words_of(error, MAX_WHY)))


def part_size(size: int) -> int:
    """Return the largest size of the parts into which a page of this size can be divided: a half, where it is even."""
    return next(size // parts for parts in range(2, size + 1) if size % parts == 0)


def _is_honoured(parts: Sequence[tuple[int, int, FetchedPage]], total: int | None) -> bool:
    """Whether the parts have as many records as were requested, so that no record is left out between them."""
    for place, (first, size, page) in enumerate(parts):
        count = page.count
        if count > size:
            return False
        if total is not None:
            if count < min(size, max(0, total - first)):
                return False
        elif count < size and any(later.count for _, _, later in parts[place + 1 :]):
            return False
    return True


def _within(
    holes: Sequence[Hole], parts: Sequence[tuple[int, int, FetchedPage]], total: int | None
) -> tuple[Hole, ...]:
    """Return the holes before the end of the list: behind it a server may answer anything."""
    ends = [first + page.count for first, size, page in parts if page.count < size]
    end = min(ends, default=None) if total is None else total
    if end is None:
        return tuple(sorted(holes))
    return tuple(
        hole._replace(records=min(hole.records, end - hole.first))
        for hole in sorted(holes)
        if hole.first < end
    )


def _joined(pages: Sequence[FetchedPage], total: int | None) -> FetchedPage:
    return FetchedPage(
        [record for page in pages for record in page.observed],
        total,
        [record for page in pages for record in page.decoded],
        [time for page in pages for time in page.times],
        known=sum(page.known for page in pages),
        identities=[identity for page in pages for identity in page.identities],
    )


def describe(holes: Sequence[Hole], page_size: int) -> str:
    """Return which records of a list cannot be read, in words."""
    count, first = sum(hole.records for hole in holes), holes[0]
    noun = "record" if count == 1 else "records"
    place = f"number {first.first} of the list, on page {first.first // page_size} (both counted from 0)"
    which = place if count == 1 else f"the first is {place}"
    return f"{count} {noun} cannot be read; {which}: {first.why}"


def letters(holes: Sequence[Hole], operation: str, page_size: int) -> list[Change]:
    """Return a dead letter for each hole: nothing is known of its records but their place in the list."""
    found = []
    for hole in holes:
        place = {
            "operation": operation,
            "page": hole.first // page_size,
            "first": hole.first,
            "records": hole.records,
        }
        record = msgspec.Raw(msgspec.json.encode(place))
        raw = raw_fingerprint(record)
        observed = RawRecord(pack_unreadable(raw), "", raw, record, hole.why)
        found.append(Change(Action.UNREADABLE, observed, b"", b"", problem=describe([hole], page_size)))
    return found
