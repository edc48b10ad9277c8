"""The sweep plan against servers of every kind: read to the end exactly, or not called complete."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.capture.scan.offset import READ_AHEAD, OffsetPaginator
from worker.capture.scan.strategy import PageSummary
from worker.errors import UnreadableAnswer


@dataclass
class Server:
    """A list of `records` numbers in pages; `cap` and `fixed` override the size that is asked for."""

    records: int
    cap: int | None = None
    fixed: int | None = None
    total: str | None = "true"
    turns: bool = True
    clamps: bool = False
    restarts: bool = False

    def page(self, number: int, size: int) -> tuple[list[int], int | None]:
        """Records of a page, and the total that comes with it."""
        size = self.fixed or min(size, self.cap or size)
        if self.clamps:
            number = min(number, max(0, -(-self.records // size) - 1))
        first = number * size if self.turns else 0
        first = 0 if self.restarts and first >= self.records else first
        rows = list(range(self.records))[first : first + size]
        totals = {
            "true": self.records,
            "zero": 0,
            "minus": -1,
            "page": len(rows),
            "few": min(self.records, 25),
        }
        return rows, totals[self.total] if self.total else None


def page_of(count: int, total: int | None, number: int = 0) -> PageSummary:
    """A page of so many records, which stand on no other."""
    return PageSummary([bytes([number, at]) for at in range(count)], total)


def read(
    server: Server,
    size: int,
    window: int = 4,
    *,
    start: int = 0,
    expected: int = 0,
    plan: OffsetPaginator | None = None,
) -> tuple[set[int], OffsetPaginator]:
    """Every record that a sweep sees, and the plan behind its end."""
    plan = plan or OffsetPaginator("x", page_size=size, window=window, start=start, expected=expected)
    fetched: dict[int, tuple[list[int], int | None]] = {}
    seen: set[int] = set()
    for _ in range(10_000):
        if plan.done:
            return seen, plan
        for step in plan.issue():
            assert step not in fetched
            fetched[step] = server.page(plan.ask(step).page, size)
        assert len(fetched) <= READ_AHEAD * window
        rows, total = fetched.pop(plan.next_step)
        seen.update(rows)
        plan.accept(PageSummary([str(row).encode() for row in rows], total))
    raise AssertionError("it never ends")


@given(
    records=st.integers(0, 120),
    size=st.integers(1, 40),
    cap=st.none() | st.integers(1, 40),
    total=st.sampled_from(["true", "zero", "minus", None]),
    data=st.data(),
)
def test_reads_everything(
    records: int, size: int, cap: int | None, total: str | None, data: st.DataObject
) -> None:
    """Any page size, any cap, with a total, without, or with one that says nothing: to the end exactly."""
    server = Server(records, cap=cap, total=total)
    pages = -(-records // min(size, cap or size))
    window, expected = data.draw(st.integers(1, 8)), data.draw(st.integers(0, pages))
    seen, plan = read(server, size, window, expected=expected)
    assert seen == set(range(records))
    assert plan.next_page == pages


@given(records=st.integers(0, 120), size=st.integers(1, 40), fixed=st.integers(1, 60))
def test_server_with_a_page_size_of_its_own(records: int, size: int, fixed: int) -> None:
    """A server that ignores the size asked for is read to its end."""
    seen, _ = read(Server(records, fixed=fixed), size)
    assert seen == set(range(records))


@given(records=st.integers(0, 120), size=st.integers(1, 40), fixed=st.none() | st.integers(1, 60))
def test_capped_total_hides_nothing(records: int, size: int, fixed: int | None) -> None:
    """A total that ends at some number, as search engines give, is not the end."""
    server = Server(records, fixed=fixed, total="few")
    if records > 25 and 25 in ((fixed or size), records):
        return  # one page of just that many records and a total to match: nothing tells it from a short list
    seen, _ = read(server, size)
    assert seen == set(range(records))


@given(records=st.integers(0, 120), size=st.integers(1, 40))
def test_total_of_the_page_hides_nothing(records: int, size: int) -> None:
    """A total that counts the page alone is not the end."""
    seen, _ = read(Server(records, total="page"), size)
    assert seen == set(range(records))


@given(
    records=st.integers(1, 120),
    size=st.integers(1, 40),
    total=st.sampled_from(["true", None]),
    data=st.data(),
)
def test_resumed_sweep_reads_the_rest(
    records: int, size: int, total: str | None, data: st.DataObject
) -> None:
    """Begun at any page, it reads from there to the end."""
    pages = -(-records // size)
    start = data.draw(st.integers(0, pages))
    seen, _ = read(Server(records, total=total), size, start=start, expected=pages)
    assert seen == set(range(start * size, records))


@given(records=st.integers(1, 120), size=st.integers(1, 40), total=st.sampled_from(["true", None]))
def test_server_that_ignores_page(records: int, size: int, total: str | None) -> None:
    """If it serves everything whatever page is asked for it is read; if it serves a part, that is an error."""
    server = Server(records, turns=False, total=total)
    if records > size or (records == size and total is None):
        with pytest.raises(UnreadableAnswer, match="does not honour the page"):
            read(server, size)
    else:
        assert read(server, size)[0] == set(range(records))


def test_capped_page_of_a_server_that_ignores_page() -> None:
    """Fewer than asked for, again and again, while the total says more: not the end."""
    with pytest.raises(UnreadableAnswer, match="does not honour the page"):
        read(Server(120, cap=30, turns=False), 100)


def test_everything_in_one_large_page() -> None:
    """A server that knows no pages may serve more than was asked for."""
    assert read(Server(120, fixed=500, turns=False, total=None), 50)[0] == set(range(120))


@given(records=st.integers(1, 120), size=st.integers(1, 40))
def test_server_that_repeats_its_last_page(records: int, size: int) -> None:
    """Beyond the end some servers serve the last page again: with a total, that is the end."""
    seen, _ = read(Server(records, clamps=True), size)
    assert seen == set(range(records))


@given(records=st.integers(1, 120), size=st.integers(1, 40), total=st.sampled_from(["true", None]))
def test_server_that_begins_again(records: int, size: int, total: str | None) -> None:
    """The first page after the last one is the end: no record is counted twice."""
    plan = OffsetPaginator("x", page_size=size, window=4, restarts=True)
    seen, plan = read(Server(records, total=total, restarts=True), size, plan=plan)
    assert seen == set(range(records))
    assert plan.records == records


@pytest.mark.parametrize("before", [0, 2, 3, 4])
def test_total_that_two_scans_contradict(before: int) -> None:
    """An end before the total is believed where the last scan got no further than this one."""
    plan = OffsetPaginator("x", page_size=10, window=1, short=before)
    for number in range(3):
        plan.accept(page_of(10 if number < 2 else 7, 400, number))
    if before in {2, 3}:
        plan.accept(page_of(0, 400))
        assert (plan.done, plan.overruled) == (True, 400)
    else:
        with pytest.raises(UnreadableAnswer, match="the page is empty, but the total is 400"):
            plan.accept(page_of(0, 400))
        assert (plan.short, plan.overruled, plan.advanced) == (3, 0, False)


def test_total_at_a_cap_is_not_contradicted() -> None:
    """A list that ends at 500 records may be capped, however often it does."""
    plan = OffsetPaginator("x", page_size=250, window=1, short=2)
    for number in range(2):
        plan.accept(PageSummary([bytes([number, at]) for at in range(250)], 4500))
    with pytest.raises(UnreadableAnswer, match="the total is 4500"):
        plan.accept(page_of(0, 4500))


@given(
    records=st.integers(0, 120),
    size=st.integers(1, 40),
    told=st.lists(st.integers(0, 60), min_size=1, max_size=8),
    uneven=st.data(),
)
def test_no_total_ends_a_list_too_soon(
    records: int, size: int, told: list[int], uneven: st.DataObject
) -> None:
    """Pages of uneven length, and totals that are too small: nothing is left out."""
    plan = OffsetPaginator("x", page_size=size, window=1, goes_over_again=False)
    rows, number = list(range(records)), 0
    seen: set[bytes] = set()
    while not plan.done and number < 1000:
        count = uneven.draw(st.integers(1, size)) if rows else 0
        ids, rows = [str(row).encode() for row in rows[:count]], rows[count:]
        seen.update(ids)
        # Never that of exactly what has been read, after which a page that is not full ends the list.
        total = told[number % len(told)]
        plan.accept(PageSummary(ids, total if total < max(len(seen), 1) else None))
        number += 1
    assert len(seen) == records


@given(page=st.integers(0, 3), claimed=st.sampled_from([40, 100]))
def test_empty_page_against_its_total(page: int, claimed: int) -> None:
    """An empty page is not the end where its own total says that there is more."""
    plan = OffsetPaginator("x", page_size=10, window=4)
    for number in range(page):
        plan.accept(page_of(10, None, number))
    with pytest.raises(UnreadableAnswer, match=f"the total is {claimed}"):
        plan.accept(PageSummary([], claimed))
    assert not plan.done
    assert not plan.advanced


def test_empty_page_against_the_total_before() -> None:
    """An empty page that says nothing, or 0, is held against the total of the pages before it."""
    for total in (0, None, -1):
        plan = OffsetPaginator("x", page_size=10, window=4)
        plan.accept(page_of(10, 35))
        with pytest.raises(UnreadableAnswer, match="the total is 35"):
            plan.accept(PageSummary([], total))


def test_records_that_vanish_meanwhile() -> None:
    """When the total has fallen to what was read, an empty page is the end; of a second pass, once."""
    plan = OffsetPaginator("x", page_size=10, window=4)
    for again in (True, False):
        plan.accept(page_of(10, 12))
        plan.accept(page_of(1, 11, 1))
        assert plan.done is not again
    assert not plan.goes_over_again


def test_two_pages_with_the_same_record() -> None:
    """Without a total, a record on two pages says that they have moved; with one, the total says whether."""
    for total, moved in ((None, True), (15, False)):
        plan = OffsetPaginator("x", page_size=10, window=4)
        plan.accept(page_of(10, total))
        plan.accept(PageSummary([bytes([0, 9]), b"b", b"c", b"d", b"e"], total))
        if total is None:
            plan.accept(PageSummary([]))
        assert plan.done is not moved


@given(records=st.integers(21, 60), data=st.data())
def test_what_slips_by_is_read_by_the_second_pass(records: int, data: st.DataObject) -> None:
    """Pages served in any order while a record goes away, or comes in above: all that stay are shown in the end."""
    size, rows = 10, list(range(records))
    plan, seen = OffsetPaginator("x", page_size=size, window=8, expected=-(-records // size)), set[int]()
    change = data.draw(st.sampled_from(["goes", "comes"]))
    waiting: list[int] = []
    served: dict[int, tuple[list[int], int]] = {}
    moved = False
    while not plan.done:
        waiting += plan.issue()
        while plan.next_step not in served:
            if not moved and data.draw(st.booleans()):
                moved = True
                if change == "goes":
                    rows.pop(0)
                else:
                    rows.insert(0, 1000)
            step = waiting.pop(data.draw(st.integers(0, len(waiting) - 1)))
            first = plan.ask(step).page * size
            served[step] = rows[first : first + size], len(rows)
        page, total = served.pop(plan.next_step)
        seen.update(page)
        plan.accept(PageSummary([str(row).encode() for row in page], total))
    assert seen >= set(rows) - {1000}


def test_early_end_is_believed_the_second_time() -> None:
    """Without a total, an end before that of the last full scan is refused once."""
    plan = OffsetPaginator("x", page_size=10, window=4, start=3, expected=9)
    with pytest.raises(UnreadableAnswer, match="the last full scan found 9 pages"):
        plan.accept(PageSummary([], None))
    again = OffsetPaginator("x", page_size=10, window=4, start=3, expected=plan.expected)
    again.accept(PageSummary([], None))
    assert again.done


def test_nothing_is_issued_behind_the_end() -> None:
    """A plan that is done asks for nothing."""
    _, plan = read(Server(5), 10)
    assert list(plan.issue()) == []
