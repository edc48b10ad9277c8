"""The evidence of a read, and what speaks against believing it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.capture.records.actions import Action
from worker.capture.records.diff import Change
from worker.capture.records.raw_records import RawRecord
from worker.capture.scan.sanity import MIN_FOR_ALL, SanityCheck
from worker.capture.state.cursor import Cursor
from worker.capture.state.full_scan import FullScanProgress

NOW = 1_800_000_000_000.0
KNOWN: dict[str, Any] = {"tracked": 500, "swept_records": 500, "newest": 1000, "baseline": True}


def change(action: Action, modified: int = 0) -> Change:
    observed = RawRecord(b"a", "a", b"12345678", msgspec.Raw(b"{}"))
    return Change(action, observed, b"", b"", modified=modified)


def doubt(seen: int, changed: int = 0, *, fast: bool = False, **known: Any) -> str:
    cursor = Cursor(**{**KNOWN, **known})
    sight = SanityCheck(cursor, fast=fast, resumed=False)
    sight.observe(seen, [], [change(Action.UPDATED)] * changed, NOW)
    return sight.find_anomaly(cursor)


@pytest.mark.parametrize(
    ("seen", "changed", "known", "words"),
    [
        (500, 0, {}, ""),
        (500, 300, {}, ""),
        (0, 0, {}, "the list was empty, but 500 records are known"),
        (0, 0, {"tracked": 0, "swept_records": 0}, ""),
        (249, 0, {}, "249 records were returned, but the last full scan returned 500"),
        (250, 0, {}, ""),
        (2000, 0, {}, ""),
        (2001, 0, {}, "2001 records were returned"),
        (200, 0, {"suspect_records": 205}, ""),
        (0, 0, {"suspect_records": 0}, "the list was empty"),
        (5, 0, {"swept_records": 19, "tracked": 19}, ""),
        (500, 475, {}, "475 of 500 records have changed at the same time"),
        (500, 474, {}, ""),
        (MIN_FOR_ALL - 1, MIN_FOR_ALL - 1, {"tracked": 99, "swept_records": 99}, ""),
    ],
)
def test_a_complete_read(seen: int, changed: int, known: dict[str, Any], words: str) -> None:
    """Empty, far from the last one, or all changed: not believed; a number that is seen twice in a row is."""
    said = doubt(seen, changed, **known)
    assert words in said
    assert bool(said) is bool(words)


@pytest.mark.parametrize(
    ("seen", "changed", "known", "words"),
    [
        (3, 1, {}, ""),
        (0, 0, {}, "no record was returned, but a record was modified at 1970-01-01T00:00:01"),
        (0, 0, {"bare": 1000}, ""),
        (0, 0, {"newest": 0}, ""),
        (500, 490, {}, "490 of 500 records have changed at the same time"),
        (90, 90, {}, ""),
    ],
)
def test_a_read_of_what_is_newer(seen: int, changed: int, known: dict[str, Any], words: str) -> None:
    """Empty though the newest record should be there, or all changed: not believed."""
    said = doubt(seen, changed, fast=True, **known)
    assert words in said
    assert bool(said) is bool(words)


def test_a_sweep_over_several_runs_is_one_read() -> None:
    """What earlier runs have shown of it counts; what another plan has shown does not."""
    cursor = Cursor(**KNOWN, scan=FullScanProgress(seen=400, changed=390))
    resumed = SanityCheck(cursor, fast=False, resumed=True)
    resumed.observe(100, [], [change(Action.UPDATED)] * 90, NOW)
    assert (resumed.seen, resumed.changed) == (500, 480)
    assert "480 of 500" in resumed.find_anomaly(cursor)
    assert SanityCheck(cursor, fast=False, resumed=False).seen == 0


@given(times=st.lists(st.integers(0, int(NOW) * 2), max_size=20))
def test_a_time_in_the_future_counts_for_nothing(times: list[int]) -> None:
    """Neither the newest change nor the latest modification seen lies ahead of the clock."""
    sight = SanityCheck(Cursor(newest=5), fast=True, resumed=False)
    sight.observe(len(times), times, [change(Action.UPDATED, time) for time in times], NOW)
    assert sight.newest == sight.latest == max([5, *(time for time in times if time <= NOW)])
