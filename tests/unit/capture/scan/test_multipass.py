"""The head plan against lists that move while they are read: what changed is shown, or the read does not settle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.capture.scan.keyset import KeysetPaginator
from worker.capture.scan.multipass import MAX_PASSES, MultiPassPaginator, NewestFirstPaginator
from worker.capture.scan.offset import OffsetPaginator
from worker.capture.scan.paginators import Paginator
from worker.capture.scan.strategy import PageSummary
from worker.errors import SortBroken, UnreadableAnswer


@dataclass
class Moving:
    """Records with their times; `known` holds what the worker has seen, `then` moves them before each request."""

    times: dict[int, int]
    total: bool = True
    known: dict[int, int] = field(default_factory=dict)
    then: Callable[[], None] = lambda: None
    requests: int = 0

    def page(self, number: int, size: int, *, since: int | None = None, rising: bool = False) -> PageSummary:
        """A page of what was modified since a time, the newest first or the oldest."""
        self.then()
        self.requests += 1
        rows = [(time, name) for name, time in self.times.items() if since is None or time >= since]
        rows.sort(reverse=not rising)
        shown = rows[number * size : (number + 1) * size]
        found = [time for time, name in shown if self.known.get(name) != time]
        self.known.update((name, time) for time, name in shown)
        ids = [str(name).encode() for _, name in shown]
        return PageSummary(ids, len(rows) if self.total else None, [time for time, _ in shown], found)


def run(
    plan: Paginator,
    server: Moving,
    size: int,
    *,
    rising: bool = False,
) -> int:
    """Read to the end; the number of requests."""
    fetched: dict[int, PageSummary] = {}
    before = server.requests
    while not plan.done:
        for step in plan.issue():
            ask = plan.ask(step)
            fetched[step] = server.page(ask.page, size, since=ask.since, rising=rising)
        plan.accept(fetched.pop(plan.next_step))
        assert server.requests - before < 5_000
    return server.requests - before


def head(size: int = 10, since: int = 0) -> NewestFirstPaginator:
    pages = OffsetPaginator("x", page_size=size, window=1, read_ahead=1, goes_over_again=False)
    return NewestFirstPaginator("x", pages, since=since)


def known(count: int) -> dict[int, int]:
    return {name: 1000 + name for name in range(count)}


def test_a_quiet_head_is_one_request() -> None:
    """Where nothing has changed and the first page is older than the mark, that is all."""
    server = Moving(known(100), known=known(100))
    assert run(head(since=5_000), server, 10) == 1


def test_it_reads_on_while_a_page_is_new_enough() -> None:
    """A page that reaches behind the mark is followed by the next one, also where all of it is known."""
    server = Moving(known(100), known=known(100))
    assert run(head(since=1075), server, 10) == 4


def test_it_reads_on_while_a_page_shows_a_change() -> None:
    """A page older than the mark ends the read only when nothing on it has changed."""
    server = Moving(known(100), known=known(85))
    assert run(head(since=5_000), server, 10) == 3
    assert server.known == server.times


@pytest.mark.parametrize("at", range(3))
def test_a_page_out_of_order(at: int) -> None:
    """A page that is not sorted is no head, wherever in the read it stands."""
    plan = head()
    for page in range(at):
        first = 1000 - page * 10
        times = list(range(first, first - 10, -1))
        plan.accept(PageSummary([b"%d" % time for time in times], 100, times))
    with pytest.raises(SortBroken, match=f"page {at} is not sorted"):
        plan.accept(PageSummary([b"a", b"b"], 100, [1, 2]))


def test_a_server_that_sorts_each_page_for_itself() -> None:
    """Where pages are sorted but not one after the other, that is found out, and not taken for records that move."""
    plan, pages = head(2), [[40, 10], [50, 20], [60, 30]]
    for step in range(2 * MAX_PASSES - 1):
        page = plan.next_page
        assert page == step % 2
        plan.accept(PageSummary([b"%d" % time for time in pages[page]], 6, pages[page]))
    with pytest.raises(SortBroken, match="page 1 begins with newer changes than page 0 ends with"):
        plan.accept(PageSummary([b"%d" % time for time in pages[1]], 6, pages[1]))


def test_a_burst_of_new_records_is_no_broken_sort() -> None:
    """When more than a page of records comes in above, the next page begins higher: it is read from the top again."""
    server = Moving(known(40), known=known(10))
    bursts = iter([None, 25])

    def burst() -> None:
        for number in range(next(bursts, None) or 0):
            server.times[100 + number] = 2000 + number

    server.then = burst
    plan = head()
    run(plan, server, 10)
    assert not plan.unsettled
    assert server.known == server.times


def moves(server: Moving, rng: Random, share: float, *, until: int) -> Iterator[None]:
    """What happens between two requests, up to request `until`: changes, new records, deletions."""
    clock = 10_000
    for _ in range(until):
        if rng.random() < share:
            for _ in range(rng.randint(1, 4)):
                clock += 1
                match rng.randrange(3):
                    case 0:
                        server.times[1000 + clock] = clock
                    case 1 if server.times:
                        server.times[rng.choice(list(server.times))] = clock
                    case _ if server.times:
                        del server.times[rng.choice(list(server.times))]
        yield


def missed(due: dict[int, int], server: Moving) -> set[int]:
    """Records that had changed before a read, and not since, and were not shown. What changes later is for the next."""
    return {
        name
        for name, time in due.items()
        if server.times.get(name) == time and server.known.get(name) != time
    }


@given(
    count=st.integers(0, 60),
    new=st.integers(0, 60),
    size=st.integers(5, 12),  # more than ever move between two requests
    seed=st.integers(0, 10_000),
    total=st.booleans(),
)
# A record moves up to the full first page between two requests; the second page is empty.
@example(count=0, new=5, size=5, seed=473, total=False)
def test_nothing_that_changed_before_a_head_is_passed_by(
    count: int, new: int, size: int, seed: int, *, total: bool
) -> None:
    """Whatever comes, moves and goes meanwhile: what had changed before is shown, or it is unsettled."""
    truth = known(count)
    server = Moving(truth | {500 + n: 5000 + n for n in range(new)}, total=total, known=dict(truth))
    due = {name: time for name, time in server.times.items() if time >= 5000}
    going_on = moves(server, Random(seed), 0.4, until=60)
    server.then = lambda: next(going_on, None)
    plan = head(size, since=4_000)
    run(plan, server, size)
    assert plan.unsettled or not missed(due, server)


@given(
    new=st.integers(0, 80),
    ties=st.integers(1, 30),
    size=st.integers(1, 12),
    seed=st.integers(0, 10_000),
    total=st.booleans(),
)
def test_nothing_that_changed_before_a_seek_is_passed_by(
    new: int, ties: int, size: int, seed: int, *, total: bool
) -> None:
    """The same of a window that goes from time to time, with up to `ties` records of the same time."""
    server = Moving({500 + n: 5000 + n // ties for n in range(new)}, total=total)
    due = dict(server.times)
    going_on = moves(server, Random(seed), 0.4, until=40)
    server.then = lambda: next(going_on, None)
    plan = KeysetPaginator("x", page_size=size, since=4_000)
    run(plan, server, size, rising=True)
    assert plan.unsettled or not missed(due, server)


def pass_plan(size: int) -> MultiPassPaginator:
    return MultiPassPaginator(OffsetPaginator("x", page_size=size, window=1, goes_over_again=False))


def test_a_window_of_one_page_is_not_gone_over_again() -> None:
    """One answer is of one moment."""
    assert run(pass_plan(10), Moving(known(7)), 10) == 1


def test_a_window_of_many_pages_is_gone_over_until_nothing_is_found() -> None:
    """A record that slipped to a page that had been read is found by the next pass."""
    server = Moving(known(30))
    deletions = iter([None, None, 29])  # the first page loses a record once it has been read

    def delete() -> None:
        name = next(deletions, None)
        if name is not None:
            server.times.pop(name, None)

    server.then = delete
    run(pass_plan(10), server, 10)
    assert server.known.keys() >= server.times.keys()


def test_pages_that_never_stand_still() -> None:
    """After some passes a complete read has to settle it."""
    plan = pass_plan(1)
    stamp = 0
    while not plan.done:
        stamp += 1
        if plan.next_page < 2:
            plan.accept(PageSummary([b"%d" % stamp], None, [5], [5]))
        else:
            plan.accept(PageSummary([]))
    assert plan.unsettled


# Seeking


def test_seeking_asks_for_first_pages_alone() -> None:
    """However much is newer, no page deeper than the first is asked for: none that a server could refuse."""
    server, plan = Moving(known(95)), KeysetPaginator("x", page_size=10, since=0)
    asked = []
    while not plan.done:
        for step in plan.issue():
            asked.append(plan.ask(step))
            shown = server.page(*asked[-1][:1], 10, since=asked[-1].since, rising=True)
        plan.accept(shown)
    assert {ask.page for ask in asked} == {0}
    assert server.known == server.times
    assert all(one.since is not None and one.since < (two.since or 0) for one, two in pairwise(asked))


def test_seeking_is_one_request_where_the_total_says_that_it_is_all() -> None:
    """A quiet window of a server that gives a total costs one request, one without a total by what is known."""
    assert run(KeysetPaginator("x", page_size=10, since=0), Moving(known(4)), 10, rising=True) == 1
    quiet = Moving(known(4), total=False)
    assert run(KeysetPaginator("x", page_size=10, since=0, full=10), quiet, 10, rising=True) == 1


@pytest.mark.parametrize("told", [lambda rows, _: len(rows), lambda _rows, left: min(left, 15), lambda *_: 0])
def test_a_total_that_says_little(told: Callable[[list[int], int], int]) -> None:
    """A total of the page alone, one that is capped, and one that is always 0 end no window early."""
    times, plan, seen = list(range(1, 96)), KeysetPaginator("x", page_size=10, since=0), set()
    while not plan.done:
        for step in plan.issue():
            ask = plan.ask(step)
            left = [time for time in times if time >= (ask.since or 0)]
            rows = left[ask.page * 10 : ask.page * 10 + 10]
        seen.update(rows)
        plan.accept(PageSummary([b"%d" % time for time in rows], told(rows, len(left)), rows))
    assert seen == set(times)


def test_a_window_that_is_not_sorted() -> None:
    """The sort is not used where it does not hold."""
    with pytest.raises(SortBroken):
        KeysetPaginator("x", page_size=10, since=0).accept(PageSummary([b"a", b"b"], 2, [2, 1]))


def test_an_empty_window_against_its_total() -> None:
    """An empty page is not the end where its total says that there is more."""
    with pytest.raises(UnreadableAnswer, match="the total is 7"):
        KeysetPaginator("x", page_size=10, since=0).accept(PageSummary([], 7))


def test_more_ties_than_a_page_of_a_server_that_does_not_turn_pages() -> None:
    """Records of the same time that fill more than a page, and a page that comes again: it cannot be read."""
    plan, page = KeysetPaginator("x", page_size=2, since=5), PageSummary([b"a", b"b"], 4, [5, 5])
    plan.accept(page)
    with pytest.raises(UnreadableAnswer, match="does not honour the page parameter"):
        plan.accept(page)


@pytest.mark.parametrize("total", [True, False])
@pytest.mark.parametrize("window", [True, False])
def test_a_record_that_moves_up_to_a_full_first_page_is_shown(total: bool, window: bool) -> None:
    """Six records, pages of five: one of the first page is deleted before the second is requested, which is empty."""
    server = Moving({name: 1000 + name for name in range(6)}, total=total)

    def delete_before_the_second_request() -> None:
        if server.requests == 1:
            del server.times[5]

    server.then = delete_before_the_second_request
    pages = OffsetPaginator("x", page_size=5, window=1, read_ahead=1, goes_over_again=False)
    run(MultiPassPaginator(pages) if window else head(5), server, 5)
    assert server.times.keys() <= server.known.keys()


def test_a_full_first_page_with_a_steady_total_is_read_once() -> None:
    """The total rules out that a record has moved: the empty second page ends the read."""
    server = Moving(known(5), known=known(5))
    pages = OffsetPaginator("x", page_size=5, window=1, read_ahead=1, goes_over_again=False)
    assert run(MultiPassPaginator(pages), server, 5) == 2
