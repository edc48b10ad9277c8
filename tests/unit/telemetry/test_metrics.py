"""The metrics: their table, and the gauges of the rows of `ordersync status --json`."""

from __future__ import annotations

from typing import Any

import pytest

from worker.capture.health import Health
from worker.capture.state.run import Outcome
from worker.telemetry.catalog.metrics import HEALTHS, METRICS, OUTCOMES
from worker.telemetry.status_metrics import Sample, samples

ROW: dict[str, Any] = {
    "account": "a",
    "resource": "orders",
    "health": "ok",
    "cause_code": "",
    "fresh_s": 3.0,
    "part_s": None,
    "failures": 0,
    "suspect": None,
    "capabilities_withdrawn": [],
    "paused": None,
    "proven_until": "2026-03-02T10:00:00Z",
    "open_gaps": 0,
    "due": 2,
    "due_oldest_s": 7.0,
    "records": 50,
    "resyncs": [{"share": 0.5}, {"share": None}],
    "backpressure": {"cause": ""},
    "dead": 0,
    "dead_oldest_s": None,
    "groups": [
        {"group": "warehouse", "unread": 4, "pending": 1, "oldest_s": 9.0, "idle_s": 0.5, "late": False}
    ],
    "workers": [{"clock_offset_s": 0.1}, {"clock_offset_s": -3600.0}],
    "budget": {"share": None},
}
OF = ("a", "orders")


def gauges(away_s: float | None = None, **changed: Any) -> dict[tuple[str, ...], float]:
    """Return the values by name and labels."""
    return {(name, *labels): value for name, labels, value in samples([ROW | changed], away_s)}


def test_the_table_knows_every_word() -> None:
    """The table of metrics, which may not import the capture, lists the words of the capture."""
    assert set(OUTCOMES) == set(Outcome)
    assert set(HEALTHS) == set(Health)


@pytest.mark.parametrize("away_s", [None, 60.0])
def test_each_sample_is_in_the_table(away_s: float | None) -> None:
    """Its labels are as many as in the table, so none can be given to another label."""
    for sample in samples([ROW], away_s):
        assert isinstance(sample, Sample)
        assert len(sample.labels) == len(METRICS[f"ordersync_{sample.name}"].labels)


def test_what_the_rows_say() -> None:
    """The worst of what is of many; nothing for what is not known."""
    seen = gauges()
    assert seen["clock_offset_seconds", "a"] == -3600
    assert seen["workers", "a"] == 2
    assert seen["resync_progress_ratio", *OF] == 0  # the total of one is not known yet
    assert seen["proven_until_timestamp_seconds", *OF] == 1772445600
    assert seen["due_oldest_seconds", *OF] == 7
    assert ("part_freshness_seconds", *OF) not in seen
    assert ("resync_progress_ratio", *OF) not in gauges(resyncs=[])
    assert gauges(suspect="fewer records than before")["suspect", *OF] == 1
    assert ("clock_offset_seconds", "a") not in gauges(workers=[])


def test_while_redis_is_away() -> None:
    """Ages grow, so an alert on them fires; what is healthy fails; nothing is said of other workers."""
    seen = gauges(60.0)
    assert seen["freshness_seconds", *OF] == 63
    assert seen["group_oldest_seconds", *OF, "warehouse"] == 69
    assert seen["dead_letter_oldest_seconds", *OF] == 0  # there is none
    assert seen["health", *OF, "failing"] == 1
    assert seen["health", *OF, "ok"] == 0
    assert not {"workers", "budget_used_ratio", "clock_offset_seconds"} & {key[0] for key in seen}
    assert gauges(60.0, health="paused")["health", *OF, "paused"] == 1
