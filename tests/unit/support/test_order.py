"""Slow tests are begun first, whichever worker runs them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.order import dealt


@given(st.lists(st.booleans(), max_size=80), st.integers(1, 9))
def test_each_worker_begins_with_its_share(slow: list[bool], workers: int) -> None:
    """None is lost or run twice, the others stay in order, and no slow one follows another test in its part."""
    tests = list(enumerate(slow))
    order = dealt(tests, lambda test: test[1], workers)
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
