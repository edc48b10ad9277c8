"""Slow tests are begun first, whichever worker runs them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.order import dealt


@given(st.lists(st.booleans(), max_size=80), st.integers(1, 9))
def test_each_worker_begins_with_its_share(slow: list[bool], workers: int) -> None:
    """None is lost or run twice, the others stay in order, and no slow one follows another test in its part."""
    tests = list(enumerate(slow))
    order = dealt(tests, lambda test: test if test[1] else None, workers)
    assert sorted(order) == tests
    assert [test for test in order if not test[1]] == [test for test in tests if not test[1]]
    if 2 * sum(slow) > len(slow):
        return  # more slow ones than a part may have room for
    begin = 0
    for worker in range(workers):
        end = begin + (len(order) - begin) // (workers - worker)
        part = [is_slow for _, is_slow in order[begin:end]]
        assert part == sorted(part, reverse=True)
        begin = end


@given(st.lists(st.sampled_from([None, "one", "two", "three"]), max_size=80), st.integers(1, 9))
def test_a_group_stays_together(groups: list[str | None], workers: int) -> None:
    """Its tests follow each other in their order, so that one worker runs them."""
    tests = list(enumerate(groups))
    order = dealt(tests, lambda test: test[1], workers)
    assert sorted(order) == tests
    for group in {group for group in groups if group is not None}:
        first = next(place for place, (_, its) in enumerate(order) if its == group)
        members = [test for test in tests if test[1] == group]
        assert order[first : first + len(members)] == members
