"""Which parts a poll reads: the best that the gateway is known to keep, and everything once in a while."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.capture.records.scope import EVERYTHING, scope_of
from worker.capture.registry import ORDERS
from worker.capture.scan.strategy import (
    MIN_STEP_SECONDS,
    OVERLAP_MS,
    ScanStep,
    Strategy,
    choose_steps,
    scan_interval,
)
from worker.capture.state.cursor import Cursor
from worker.capture.state.full_scan import FullScanProgress
from worker.ordermesh.contract.profile import Listing

UP, DOWN = {"sort": "updatedAt"}, {"sort": "-updatedAt"}
FILTERS = Listing(since_parameter="updatedFrom")
SORTS = Listing(ascending=UP, descending=DOWN)
BOTH = msgspec.structs.replace(SORTS, since_parameter="updatedFrom")
NOW = 1_700_000_000.0
READ = Cursor(baseline=True, mark=int(NOW * 1000) - 500, swept_at=NOW - 100)


def parts(
    listing: Listing = BOTH, cursor: Cursor = READ, *, complete: bool = False, now: float = NOW
) -> list[ScanStep]:
    return choose_steps(
        listing,
        cursor,
        now,
        page_size=100,
        interval=15,
        seconds=45,
        complete_every=3600,
        complete=complete,
    )


@pytest.mark.parametrize(
    ("listing", "plan"),
    [
        (BOTH, Strategy.WINDOW),
        (FILTERS, Strategy.WINDOW),
        (SORTS, Strategy.HEAD),
        (Listing(), Strategy.SWEEP),
    ],
)
def test_the_best_that_holds(listing: Listing, plan: Strategy) -> None:
    """A filter before a sort, a sort before a sweep."""
    assert [part.strategy for part in parts(listing)] == [plan]


def test_full_scans_of_many_accounts_move_apart() -> None:
    """Each has its own interval, never longer than what was asked for, and at most a tenth shorter."""
    phases = [number / 1000 for number in range(1000)]
    intervals = [scan_interval(3600, phase) for phase in phases]
    assert (max(intervals), scan_interval(3600, None)) == (3600, 3600)
    assert 3240 <= min(intervals) < 3245
    in_a_minute = Counter(int(interval // 60) for interval in intervals)
    assert max(in_a_minute.values()) <= 170


def test_what_a_part_asks_for() -> None:
    """A window begins before the mark and goes by the sort where there is one; so does a head, without the filter."""
    since = READ.mark - OVERLAP_MS
    (window,), (head,), (plain,) = parts(BOTH), parts(SORTS), parts(FILTERS)
    assert (window.since, window.since_parameter, window.query, window.seeks) == (
        since,
        "updatedFrom",
        UP,
        True,
    )
    assert (head.since, head.since_parameter, head.query, head.seeks) == (since, "", DOWN, False)
    assert (plain.since, plain.since_parameter, plain.query, plain.seeks) == (since, "updatedFrom", {}, False)


@pytest.mark.parametrize(
    "cursor",
    [
        Cursor(),
        msgspec.structs.replace(READ, baseline=False),
        msgspec.structs.replace(READ, mark=0),
        msgspec.structs.replace(READ, swept_at=0.0),
    ],
)
def test_everything_comes_first(cursor: Cursor) -> None:
    """Before a complete read has ended, or where it is not known since when to read, everything is read."""
    assert [part.strategy for part in parts(cursor=cursor)] == [Strategy.SWEEP]


def test_everything_when_it_is_asked_for() -> None:
    """Whatever holds."""
    assert parts(complete=True) == [ScanStep(Strategy.SWEEP, 100, 45, may_seek=True)]
    assert parts(Listing(), complete=True) == [ScanStep(Strategy.SWEEP, 100, 45)]


def test_everything_where_a_read_was_not_believed() -> None:
    """What speaks against a read is settled by a complete one, at once."""
    assert [part.strategy for part in parts(cursor=msgspec.structs.replace(READ, suspicious="odd"))] == [
        Strategy.WINDOW,
        Strategy.SWEEP,
    ]


def test_a_sweep_of_a_capped_list() -> None:
    """It goes by time where filter and sort hold, from the beginning; else there is no other way than by pages."""
    (seeking,) = parts(cursor=msgspec.structs.replace(READ, capped=1000), complete=True)
    assert (seeking.strategy, seeking.since, seeking.since_parameter) == (Strategy.SWEEP, 0, "updatedFrom")
    assert (seeking.seeks, seeking.query, seeking.may_seek) == (True, UP, False)
    for listing in (FILTERS, SORTS, Listing()):
        (sweep,) = parts(listing, msgspec.structs.replace(READ, capped=1000), complete=True)
        assert (sweep.seeks, sweep.since) == (False, None)


@pytest.mark.parametrize("listing", [BOTH, SORTS])
@pytest.mark.parametrize(
    "cursor",
    [
        msgspec.structs.replace(READ, swept_at=NOW - 3600),
        msgspec.structs.replace(READ, swept_at=NOW + 10),
        msgspec.structs.replace(READ, scan=FullScanProgress(started=NOW - 5)),
    ],
    ids=["due", "in the future", "under way"],
)
def test_everything_once_in_a_while_beside_what_is_newer(listing: Listing, cursor: Cursor) -> None:
    """The trailing read takes a part of the interval, and the fast one goes before it and does not conclude."""
    fast, sweep = parts(listing, cursor)
    assert (fast.is_fast, fast.concludes) == (True, False)
    assert (sweep.strategy, sweep.seconds, sweep.concludes) == (Strategy.SWEEP, 15, True)


def test_a_short_interval_leaves_time_for_a_part() -> None:
    """A sweep gets somewhere between two polls, however close they are."""
    _, sweep = choose_steps(
        BOTH,
        msgspec.structs.replace(READ, swept_at=1.0),
        NOW,
        page_size=100,
        interval=1,
        seconds=45,
        complete_every=60,
    )
    assert sweep.seconds == MIN_STEP_SECONDS


CHOOSES = Listing(status_parameter="status", merchant_parameter="merchantId")
FINAL = scope_of(ORDERS, merchants=(), statuses=(), final=("Fulfilled", "Cancelled"))
SEEN = msgspec.structs.replace(
    READ, statuses="Cancelled\nFulfilled\nHeld\nOpen", scan=FullScanProgress(pages=20)
)


def chosen(listing: Listing = CHOOSES, cursor: Cursor = SEEN, **options: Any) -> list[ScanStep]:
    fixed: dict[str, Any] = {"page_size": 100, "interval": 15, "seconds": 45, "complete_every": 3600}
    return choose_steps(listing, cursor, NOW, **fixed, **{"scope": FINAL, "single": True, **options})


def test_open_statuses_alone() -> None:
    """Without filter and sort, the statuses in which something may happen are read; the last one claims the read."""
    assert [(part.strategy, part.chosen, part.query, part.claims, part.concludes) for part in chosen()] == [
        (Strategy.OPEN, "Held", {"status": "Held"}, False, False),
        (Strategy.OPEN, "Open", {"status": "Open"}, True, True),
    ]
    held, still_open, sweep = chosen(cursor=msgspec.structs.replace(SEEN, swept_at=1.0))
    assert (held.concludes, still_open.claims, still_open.concludes, sweep.strategy) == (
        False,
        True,
        False,
        Strategy.SWEEP,
    )
    assert sweep.learns


@pytest.mark.parametrize(
    ("listing", "cursor", "options"),
    [
        (Listing(), SEEN, {}),
        (CHOOSES, msgspec.structs.replace(SEEN, statuses=""), {}),
        (CHOOSES, msgspec.structs.replace(SEEN, statuses="Fulfilled"), {}),
        (CHOOSES, msgspec.structs.replace(SEEN, scan=FullScanProgress(pages=2)), {}),
        (CHOOSES, msgspec.structs.replace(SEEN, baseline=False), {}),
        (CHOOSES, SEEN, {"single": False}),
        (CHOOSES, SEEN, {"scope": EVERYTHING}),
        (CHOOSES, SEEN, {"complete": True}),
    ],
)
def test_where_open_statuses_alone_would_not_do(
    listing: Listing, cursor: Cursor, options: dict[str, Any]
) -> None:
    """Unknown statuses, no way to read what has left them, or nothing saved: everything is read."""
    assert [part.strategy for part in chosen(listing, cursor, **options)] == [Strategy.SWEEP]


@pytest.mark.parametrize("holds", [BOTH, SORTS, FILTERS, Listing()])
def test_one_merchant_is_asked_for(holds: Listing) -> None:
    """In every plan, where the server is known to choose and there is one; more than one are told apart here."""
    listing = msgspec.structs.replace(holds, merchant_parameter="merchantId", status_parameter="status")
    mine = scope_of(ORDERS, merchants=("m1",), statuses=(), final=("Fulfilled",))
    due = msgspec.structs.replace(SEEN, swept_at=1.0)
    parts = chosen(listing, due, scope=mine)
    assert len(parts) > 1
    assert {(part.query["merchantId"], part.of_merchant) for part in parts} == {("m1", True)}
    two = scope_of(ORDERS, merchants=("m1", "m2"), statuses=(), final=())
    assert not any("merchantId" in part.query for part in chosen(listing, due, scope=two))


@given(
    largest=st.none() | st.integers(1, 2000),
    size=st.integers(1, 1000),
    cursor=st.builds(
        Cursor,
        baseline=st.booleans(),
        mark=st.integers(0, 2**41),
        swept_at=st.floats(0, 2e9),
        scan=st.builds(FullScanProgress, started=st.floats(0, 2e9)),
    ),
    complete=st.booleans(),
    holds=st.sampled_from([BOTH, FILTERS, SORTS, Listing()]),
)
def test_every_choice_can_be_carried_out(
    largest: int | None, size: int, cursor: Cursor, holds: Listing, *, complete: bool
) -> None:
    """One part concludes, the last; no page is larger than the server gives; a fast part never comes alone first."""
    chosen = choose_steps(
        msgspec.structs.replace(holds, largest_page=largest),
        cursor,
        NOW,
        page_size=size,
        interval=15,
        seconds=45,
        complete_every=3600,
        complete=complete,
    )
    assert [part.concludes for part in chosen] == [False] * (len(chosen) - 1) + [True]
    assert all(part.page_size == min(size, largest or size) for part in chosen)
    assert all(
        not part.is_fast or (cursor.baseline and cursor.mark and cursor.swept_at and not complete)
        for part in chosen
    )
    assert all(part.since is not None for part in chosen if part.is_fast)
