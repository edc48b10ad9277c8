"""When the next poll of a source is due, so that those of all sources are spread."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.capture.lanes import next_poll, phase_of

INTERVAL = 60.0


@given(
    started=st.floats(1.7e9, 1.9e9),
    interval=st.floats(0.5, 86_400.0),
    phase=st.floats(0.0, 1.0, exclude_max=True),
)
def test_no_poll_is_later_than_an_interval_after_the_one_before(
    started: float, interval: float, phase: float
) -> None:
    """And none comes at once after it."""
    wait = next_poll(started, interval, phase) - started
    assert min(1.0, interval / 4) - 1e-3 <= wait <= interval + 1e-3


def test_polls_have_one_time_in_each_interval() -> None:
    """However late each one begins, so an overload that is over leaves no burst and no poll more than one for each."""
    due = next_poll(1_000_000.0, INTERVAL, 0.25)
    for late in (0.01, 3.0, 0.0, 58.0, 20.0):
        after = next_poll(due + late, INTERVAL, 0.25)
        assert after - due == pytest.approx(INTERVAL)
        due = after
    assert due % INTERVAL == pytest.approx(15.0)


def test_a_clock_that_was_corrected_costs_no_poll() -> None:
    """A poll that began a moment before its time is not repeated at its time."""
    due = next_poll(1_000_000.0, INTERVAL, 0.25)
    assert next_poll(due - 0.4, INTERVAL, 0.25) == pytest.approx(due - 0.4 + INTERVAL)


def test_without_a_phase_a_poll_is_due_after_the_interval() -> None:
    """As for a read whose times nobody has spread."""
    assert next_poll(1_000.0, INTERVAL, None) == 1_060.0


def test_sources_are_spread_over_the_interval() -> None:
    """By their names: a thousand accounts with two resources each have about as many polls in each tenth of it."""
    phases = [phase_of(f"a{number:05d}", name) for number in range(1000) for name in ("orders", "shipments")]
    tenths = Counter(int(phase * 10) for phase in phases)
    assert sorted(tenths) == list(range(10))
    assert max(tenths.values()) < 1.25 * 200
    assert phase_of("default", "orders") == phase_of("default", "orders") != phase_of("default", "notes")
