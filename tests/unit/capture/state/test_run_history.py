"""Run records: what is read out of them, and what comes out for each minute."""

from __future__ import annotations

import pytest

from worker.capture.state.run_history import MINUTES, RunRecord, parse, per_minute
from worker.cli.render.status import sparkline

NOW = 1_800_000_000.0


def record(ended_ago: float, **values: str | float) -> RunRecord:
    return RunRecord(f"{int((NOW - ended_ago) * 1000)}-0", {"resource": "orders", **values})


def test_a_record_is_read_with_its_numbers_as_numbers() -> None:
    """Texts stay texts, whatever they look like; a field of a later version is let through."""
    fields = {b"run_id": b"0123456789012345", b"records": b"12", b"duration_s": b"1.5", b"snapshot": b"2"}
    run = parse(b"1800000000000-0", {**fields, b"recorded": b"3", b"novel": b"-4", b"error": b"7"})
    assert run.values["run_id"] == "0123456789012345"
    assert (run.number("records"), run.number("duration_s"), run.values["novel"]) == (12, 1.5, -4)
    assert (run.events, run.text("error"), run.text("plan"), run.number("plan")) == (5, "7", "", 0)
    assert (run.ended_at, run.began_at) == (NOW, NOW - 1.5)


@pytest.mark.parametrize(
    ("outcome", "failed"), [("failed", True), ("suspicious", True), ("complete", False), ("paused", False)]
)
def test_failed(outcome: str, *, failed: bool) -> None:
    """What `runs --failed` shows."""
    assert record(0, outcome=outcome).failed is failed


def test_each_minute_has_its_sum() -> None:
    """The latest minute stands last; what is older than all of them is left out."""
    runs = [
        record(10, records=5, created=1),
        record(50, records=6, updated=2),
        record(70, records=7),
        record(MINUTES * 60 - 1, records=1),
        record(MINUTES * 60 + 1, records=100, created=100),
    ]
    records, events = per_minute(runs, NOW)["orders"]
    assert records == [1, *[0] * (MINUTES - 3), 7, 11]
    assert events == [*[0] * (MINUTES - 1), 3]


def test_a_long_run_is_spread_over_its_time() -> None:
    """Three minutes that ended half a minute ago, and one that began before the first minute that is told."""
    records, _ = per_minute([record(30, records=600, duration_s=180.0)], NOW)["orders"]
    assert records[-4:] == [100, 200, 200, 100]
    records, _ = per_minute([record((MINUTES - 1) * 60, records=600, duration_s=600.0)], NOW)["orders"]
    assert records == [60, *[0] * (MINUTES - 1)]


def test_a_clock_that_is_behind_that_of_redis() -> None:
    """A run that ends in the future counts for the latest minute."""
    records, _ = per_minute([record(-5, records=3)], NOW)["orders"]
    assert records[-1] == 3


@pytest.mark.parametrize(
    ("values", "bars"), [([], ""), ([0, 0], "▁▁"), ([1, 0, 100], "▂▁█"), ([7, 7], "██"), ([1, 2, 3], "▄▆█")]
)
def test_sparkline(values: list[int], bars: str) -> None:
    """Only nothing has the lowest bar; the largest has the highest."""
    assert sparkline(values) == bars
