"""A page that always fails is read in parts: all that can be read is, and the rest is named."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.capture.records.raw_records import RawRecord
from worker.capture.scan.pages import FetchedPage
from worker.capture.scan.strategy import PageRequest
from worker.capture.scan.unreadable_pages import (
    MAX_FAILED,
    Hole,
    PageSplitter,
    SplitPage,
    describe,
    letters,
    part_size,
)
from worker.errors import LoginRejected, OrderMeshError, ServerError

ERROR = ServerError("orders.search", 500, "made up")


@dataclass
class Server:
    """A list of `count` records, of which the bad ones make their page fail."""

    count: int
    bad: frozenset[int] = frozenset()
    total: bool = True
    fixed: int | None = None
    sizes: tuple[int, ...] = ()
    down: bool = False
    once: set[int] = field(default_factory=set)
    asked: list[tuple[int, int]] = field(default_factory=list)

    async def fetch(self, ask: PageRequest, size: int) -> FetchedPage:
        """A page of so many records."""
        self.asked.append((ask.page, size))
        size = self.fixed or max((each for each in self.sizes if each <= size), default=size)
        rows = range(ask.page * size, min(self.count, (ask.page + 1) * size))
        if self.down or self.bad & set(rows) or self.once & set(rows):
            self.once -= set(rows) if len(rows) == 1 else set()
            raise ERROR
        observed = [RawRecord(str(row).encode(), str(row), b"", msgspec.Raw(b"{}")) for row in rows]
        return FetchedPage(observed, self.count if self.total else None, [], [])


def split(server: Server, number: int, size: int) -> SplitPage:
    total, control = server.count if server.total else None, 0 if number else 1
    return asyncio.run(PageSplitter(server.fetch).read(number, size, ERROR, control=control, total=total))


def shown(page: SplitPage) -> set[int]:
    return {int(record.identifier) for record in page.page.observed}


def missing(page: SplitPage) -> set[int]:
    return {row for hole in page.holes for row in range(hole.first, hole.first + hole.records)}


@given(
    size=st.integers(1, 100),
    number=st.integers(1, 4),
    beyond=st.integers(1, 100),
    total=st.booleans(),
    data=st.data(),
)
def test_all_that_can_be_read_is_read(
    size: int, number: int, beyond: int, total: bool, data: st.DataObject
) -> None:
    """Up to three bad records in a page of any size, which may be the last one."""
    count = number * size + beyond
    page = range(number * size, min(count, (number + 1) * size))
    bad = data.draw(st.frozensets(st.sampled_from(page), min_size=1, max_size=3))
    found = split(Server(count, bad, total), number, size)
    end = {page.stop - 1} if beyond <= size else set()
    assert missing(found) >= bad - (set() if total else end)
    if len(found.holes) <= 3:
        assert shown(found) | missing(found) == set(page) | (missing(found) - set(page))
        assert missing(found) == bad or not total


@given(size=st.sampled_from([10, 20, 50, 100]), fixed=st.sampled_from([None, 10, 50, 100]), data=st.data())
def test_a_server_that_does_not_honour_the_page_size(
    size: int, fixed: int | None, data: st.DataObject
) -> None:
    """Nothing of the page is taken for read that was not."""
    sizes = data.draw(st.sampled_from([(), (20, 50, 100), (10, 20, 50, 100)]))
    bad = frozenset({2 * size + data.draw(st.integers(0, size - 1))})
    server = Server(1000, bad, data.draw(st.booleans()), fixed, sizes)
    try:
        found = split(server, 2, size)
    except OrderMeshError:
        return  # its other pages hold the record
    assert shown(found) | missing(found) >= set(range(2 * size, 3 * size))


def test_a_failure_that_passes() -> None:
    """What fails once more than it should is no hole."""
    assert split(Server(300, once={150}), 1, 100).holes == ()


def test_the_gateway_is_down() -> None:
    """No page can be read, so this one is not to blame; nor is it where there is no other page."""
    with pytest.raises(ServerError):
        split(Server(300, down=True), 1, 100)
    with pytest.raises(ServerError):
        split(Server(100, down=True), 0, 100)


def test_it_goes_down_meanwhile() -> None:
    """The other page is read after the parts as well."""
    server = Server(300, frozenset({150}))
    fetch, count = server.fetch, 0

    async def failing(ask: PageRequest, size: int) -> FetchedPage:
        nonlocal count
        count += 1
        server.down = count > 5
        return await fetch(ask, size)

    with pytest.raises(ServerError):
        asyncio.run(PageSplitter(failing).read(1, 100, ERROR, control=0, total=300))


def test_another_failure_ends_it() -> None:
    """A refused login says nothing of the page."""

    async def refused(_ask: PageRequest, _size: int) -> FetchedPage:
        raise LoginRejected(401, "no")

    with pytest.raises(LoginRejected):
        asyncio.run(PageSplitter(refused).read(1, 100, ERROR, control=0, total=300))


def test_a_page_of_which_nothing_can_be_read_is_given_up() -> None:
    """After some requests that failed, whole parts are."""
    server = Server(300, frozenset(range(100, 200)))
    found = split(server, 1, 100)
    assert missing(found) == set(range(100, 200))
    assert len(server.asked) < 4 * MAX_FAILED


def test_sizes() -> None:
    """The largest divisor that is smaller."""
    assert [part_size(size) for size in (2, 3, 25, 50, 100, 97)] == [1, 1, 5, 25, 50, 1]


def test_words() -> None:
    """The page is named, and what is stored of a hole is its place."""
    text = "1 record cannot be read; number 250 of the list, on page 2 (both counted from 0): why"
    assert describe([Hole(250, 1, "why")], 100) == text
    assert describe([Hole(250, 1, "why"), Hole(300, 2, "so")], 100).startswith(
        "3 records cannot be read; the first is"
    )
    (letter,) = letters([Hole(250, 1, "why")], "orders.search", 100)
    assert letter.problem == text
    assert msgspec.json.decode(letter.observed.record) == {
        "operation": "orders.search", "page": 2, "first": 250, "records": 1,
    }  # fmt: skip
