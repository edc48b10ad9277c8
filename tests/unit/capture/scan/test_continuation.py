"""Lists without page numbers: read to the end exactly, and no circle is followed for ever."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.capture.scan.continuation import MAX_EMPTY, ContinuationPaginator, LoopWatch
from worker.capture.scan.offset import OffsetPaginator
from worker.capture.scan.strategy import PageSummary
from worker.errors import UnreadableAnswer


def paginator(
    *, after: str = "", watch: str = "", total: int = 0, expected: int = 0, start: int = 0, width: int = 0
) -> ContinuationPaginator:
    pages = OffsetPaginator(
        "x", page_size=10, window=4, by_number=False, total=total, expected=expected, start=start, width=width
    )
    return ContinuationPaginator("x", pages, after=after, watch=watch)


def page(*rows: int, after: str = "", total: int | None = None) -> PageSummary:
    return PageSummary([str(row).encode() for row in rows], total, after=after)


@given(
    sizes=st.lists(st.integers(0, 12), min_size=1, max_size=20),
    total=st.sampled_from(["true", "page", "zero", "few", None]),
    stops=st.sets(st.integers(0, 19)),
)
@example(sizes=[11, 0], total="true", stops={1})
def test_reads_everything(sizes: list[int], total: str | None, stops: set[int]) -> None:
    """Pages of any length, empty ones as well, with any total that is not too high, in one go or resumed."""
    rows = list(range(sum(sizes)))
    totals = {"true": len(rows), "zero": 0, "few": min(5, len(rows))}
    plan, seen, number, asked = paginator(), list[int](), 0, 0
    while not plan.done:
        (step,) = plan.issue()
        assert plan.ask(step).after == (f"t{number}" if number else "")
        shown, after = rows[sum(sizes[:number]) : sum(sizes[: number + 1])], f"t{number + 1}"
        after = after if number + 1 < len(sizes) else ""
        told = len(shown) if total == "page" else totals.get(total or "")
        kept = plan.cursor_fields(plan.next_page + bool(shown), after, count=len(shown))
        plan.accept(page(*shown, after=after, total=told))
        seen += shown
        number, asked = number + 1, asked + 1
        if plan.ask(0).after == "" and not plan.done:
            number = 0  # a total that fell: the list is read a second time
        elif number in stops and not plan.done:
            plan = paginator(
                after=kept["sweep_after"],
                watch=kept["sweep_watch"],
                total=kept["sweep_total"],
                start=kept["sweep_page"],
                width=kept["sweep_width"],
            )
            plan._pages.goes_over_again = False
        assert asked <= 2 * len(sizes)
    assert set(seen) == set(rows)


@given(lead=st.integers(0, 40), length=st.integers(1, 40), every=st.integers(1, 7))
def test_a_circle_is_noticed(lead: int, length: int, every: int) -> None:
    """Wherever it begins and however long it is, also by a scan that is resumed again and again."""
    plan, number = paginator(), 0
    for requests in range(1, 5 * (lead + length) + 10):
        number = number + 1 if number + 1 < lead + length else lead
        after = f"t{number}"
        kept = plan.cursor_fields(plan.next_page + 1, after)
        try:
            plan.accept(page(requests, after=after))
        except UnreadableAnswer:
            return
        if requests % every == 0:
            plan = paginator(after=kept["sweep_after"], watch=kept["sweep_watch"], start=kept["sweep_page"])
    raise AssertionError("it goes round for ever")


def test_pages_without_records_and_without_end() -> None:
    """New continuations that lead nowhere are followed for a while."""
    plan = paginator()
    for number in range(MAX_EMPTY):
        plan.accept(page(after=f"t{number}"))
    with pytest.raises(UnreadableAnswer, match="have no records"):
        plan.accept(page(after="another"))


def test_a_continuation_that_waits_for_records() -> None:
    """The same one again, with nothing to show, is the end of a list that goes on when there is more."""
    plan = paginator()
    plan.accept(page(1, 2, after="t"))
    plan.accept(page(after="t"))
    assert plan.done


def test_a_continuation_that_is_ignored() -> None:
    """The first page with a new token each time is not read for ever."""
    plan = paginator()
    plan.accept(page(1, 2, after="a"))
    with pytest.raises(UnreadableAnswer, match="the records of the previous page again"):
        plan.accept(page(1, 2, after="b"))


def test_an_end_before_the_total() -> None:
    """No continuation is the end, but not where the total says that there are more records."""
    plan = paginator()
    plan.accept(page(1, 2, after="a", total=20))
    with pytest.raises(UnreadableAnswer, match="the total is 20"):
        plan.accept(page(3, total=20))
    assert not plan.advanced


def test_an_end_before_that_of_the_last_scan() -> None:
    """Without a total it is refused once, as with page numbers."""
    plan = paginator(expected=5)
    with pytest.raises(UnreadableAnswer, match="found 5 pages"):
        plan.accept(page(1, 2))
    again = paginator(expected=plan.expected)
    again.accept(page(1, 2))
    assert again.done


@given(st.text(max_size=20))
def test_a_watch_that_was_damaged(text: str) -> None:
    """What another hand has written counts as nothing seen, and does no harm."""
    watch = LoopWatch(text).after("a")
    assert str(LoopWatch(str(watch))) == str(watch)
