"""Audit logs against what was published, by their times alone; and the share of the budget that asking takes."""

from __future__ import annotations

from itertools import pairwise

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.scripted_server import OwnClock
from worker.capture.reconcile.comparison import (
    Comparison,
    Window,
    are_whole_seconds,
    can_be_proven,
    compare,
    obstacle,
    times_of,
    window_of,
)
from worker.capture.reconcile.progress import is_due
from worker.capture.registry import CATEGORIES, ORDERS, SHIPMENTS
from worker.capture.throttle import Throttle
from worker.ordermesh.contract.findings import Capabilities, no, yes
from worker.ordermesh.http.reply import AuditEntry

WINDOW = Window(10_000, 20_000)


@pytest.mark.parametrize(
    ("times", "modified", "expected"),
    [
        ([], 0, Comparison()),  # a log without entries tells of nothing that could be missing
        ([15_001], 15_001, Comparison(1)),  # observed as it was at that very moment
        ([15_001], 15_002, Comparison(1)),  # observed later: what is published contains it
        ([15_002], 15_001, Comparison(1, uncovered=15_002)),  # a millisecond is a gap
        ([15_001, 15_002, 15_003], 15_002, Comparison(3, uncovered=15_003)),
        ([15_001, 16_001], 15_000, Comparison(2, uncovered=16_001)),  # the latest one is named
        ([15_001], 0, Comparison(1, uncovered=15_001)),  # nobody knows when it was modified
        ([10_000], 0, Comparison()),  # proven by the pass before, whose window it closed
        ([20_000], 0, Comparison(1, uncovered=20_000)),  # the window is closed at its end
        ([20_001], 0, Comparison()),  # the next pass looks at it
        ([None], 30_000, Comparison(timeless=1)),  # says nothing, and is counted
        ([None, 15_001], 15_000, Comparison(1, 1, 15_001)),
    ],
)
def test_an_entry_is_covered_by_what_was_modified_no_earlier(
    times: list[int | None], modified: int, expected: Comparison
) -> None:
    """Without tolerance: what is not certainly covered is read by id, which costs a request and no proof."""
    assert compare(times, modified, WINDOW) == expected


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (
            [15_700],
            Comparison(1),
        ),  # the record says 15.000, and its only entry of that second is the one it means
        ([15_700, 15_900], Comparison(2, uncovered=15_900)),  # which of them it is as after cannot be told
        ([14_999], Comparison(1)),
        ([16_000], Comparison(1, uncovered=16_000)),
        ([15_700, None], Comparison(1, timeless=1)),
    ],
)
def test_records_may_tell_whole_seconds(times: list[int | None], expected: Comparison) -> None:
    """Those of the shipment service do; with fractions, 15.000 would be another moment than 15.700."""
    assert compare(times, 15_000, WINDOW, whole_seconds=True) == expected
    if times == [15_700]:
        assert compare(times, 15_000, WINDOW) == Comparison(1, uncovered=15_700)
    assert are_whole_seconds([0, 15_000, 16_000])
    assert not are_whole_seconds([15_000, 15_001])


@given(
    st.lists(st.integers(1, 30_000), max_size=20),
    st.integers(0, 30_000),
    st.lists(st.integers(1, 30_000), max_size=5),
)
def test_windows_that_follow_each_other_leave_nothing_out(
    times: list[int], modified: int, edges: list[int]
) -> None:
    """However a span is cut into windows, their entries add up, and a gap is found exactly if one pass finds it."""
    bounds = [0, *sorted(edges), 30_000]
    parts = [compare(times, modified, Window(a, b)) for a, b in pairwise(bounds)]
    whole = compare(times, modified, Window(0, 30_000))
    assert whole.entries == len(times) == sum(part.entries for part in parts)
    assert whole.uncovered == max((part.uncovered for part in parts), default=0)
    if times and max(times) > modified:
        assert whole.uncovered == max(times)
    if all(time < modified for time in times):
        assert whole.uncovered == 0


def test_the_window_ends_before_what_may_still_be_on_its_way() -> None:
    """By the lag before now, and before the last read: what nobody has tried to read yet is not missing."""
    assert window_of(5, server_now=1000.0, fresh_as_of=990.0, lag=100.0) == Window(5, 890_000)
    assert window_of(5, server_now=1000.0, fresh_as_of=1010.0, lag=100.0) == Window(5, 900_000)
    assert window_of(890_000, server_now=1000.0, fresh_as_of=990.0, lag=100.0).empty
    assert not window_of(889_999, server_now=1000.0, fresh_as_of=990.0, lag=100.0).empty


def test_times_are_read_as_they_are_served() -> None:
    """Seven digits of a second, no zone, none at all, or nonsense: what cannot be read is told from what is early."""
    texts = ("2026-03-02T10:41:07.5131337Z", "2026-03-02T10:41:07.513", None, "yesterday")
    entries = [AuditEntry(b"{}", None, text) for text in texts]
    assert times_of(entries) == [1772448067513, 1772448067513, None, None]


def found(**known: object) -> Capabilities:
    shared = {"resource": "orders", "search": "orders.search", "at": 0.0, "configured": "", "state": "found"}
    return Capabilities(**{**shared, **known})  # type: ignore[arg-type] # as the test says


def test_what_cannot_be_proven_is_said() -> None:
    """Audit logs and single reads are needed, of the contract and of this gateway; what is not known is tried."""
    assert can_be_proven(ORDERS)
    assert can_be_proven(SHIPMENTS)
    assert not can_be_proven(CATEGORIES)
    assert obstacle(ORDERS, found()) == ""
    assert obstacle(ORDERS, found(audit=yes("seen"), single=yes("seen"))) == ""
    assert "audit logs cannot be read: 403" in obstacle(ORDERS, found(audit=no("403")))
    assert "single record cannot be read: 404" in obstacle(ORDERS, found(single=no("404")))
    assert "no audit logs, or no single records" in obstacle(CATEGORIES, found())


@pytest.mark.anyio
async def test_the_share_of_the_budget_is_kept() -> None:
    """Twenty requests at four a second take five seconds, however many wait at once; retries are paid for later."""
    clock = OwnClock()
    pace, began = Throttle(4, clock), clock.monotonic()
    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(pace.wait, lambda: False)
    for _ in range(10):
        assert await pace.wait(lambda: False)
    assert 19 / 4 <= clock.monotonic() - began < 10
    before = clock.monotonic()
    pace.charge(8)
    await pace.wait(lambda: False)
    assert clock.monotonic() - before >= 2


@pytest.mark.anyio
async def test_a_worker_that_ends_waits_for_no_turn() -> None:
    """Where the share is small a turn may be minutes away; an end is noticed within a second."""
    clock = OwnClock()
    pace = Throttle(0.01, clock)
    assert await pace.wait(lambda: False)
    began = clock.monotonic()
    assert not await pace.wait(lambda: clock.monotonic() - began > 3)
    assert clock.monotonic() - began < 10


@pytest.mark.parametrize(
    ("due_at", "interval", "began", "expected"),
    [
        (0, 0, 0, True),
        (1000, 3600, 0, True),
        (1005, 3600, 0, False),
        (3599, 7200, 0, True),  # the interval was made shorter: it counts at once
        (3601 + 3600, 7200, 0, False),
        (1030, 7200, 900, False),  # a pause within a pass is no interval
        (4601, 3600, 0, True),  # no slice waits so long: the clock was put back since
        (1005, 3600, 1010, True),  # it began in the future: likewise
    ],
)
def test_when_a_slice_is_due(due_at: float, interval: float, began: float, expected: bool) -> None:
    """By what is noted and the interval that is wanted now (an hour), at second 1000."""
    assert is_due(due_at, interval, began, every=3600.0, now=1000.0) is expected
