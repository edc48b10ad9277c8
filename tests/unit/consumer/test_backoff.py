"""Exponential backoff: pauses grow, are bounded, and jitter shortens them by a half at most."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import worker.backoff
from ordersync_consumer.backoff import Backoff


class OneBound:
    """A source of random numbers that returns the bound that the test chose."""

    def __init__(self, *, low: bool) -> None:
        self._low = low

    def uniform(self, low: float, high: float) -> float:
        """One of the two."""
        return low if self._low else high


def test_pauses_grow() -> None:
    """From `first`, by `factor`, to `most`."""
    assert [Backoff(first=5, most=60).ceiling(attempt) for attempt in range(1, 7)] == [5, 10, 20, 40, 60, 60]
    assert [Backoff(first=5, factor=4).ceiling(attempt) for attempt in range(1, 5)] == [5, 20, 80, 300]
    assert Backoff(most=0).ceiling(1) == 0


@given(attempt=st.integers(1, 10_000), low=st.booleans())
def test_pauses_are_bounded(attempt: int, *, low: bool) -> None:
    """A pause is never longer than it may be, never shorter than half of it, however many attempts there were."""
    backoff = Backoff(first=2.0, factor=2.0, most=100.0)
    longest = min(100.0, 2.0 ** min(attempt, 10))
    pause = backoff.pause(attempt, OneBound(low=low))
    assert pause == pytest.approx(longest / 2 if low else longest)


def test_the_engine_has_the_same_class() -> None:
    """Under its own name."""
    assert worker.backoff.Backoff is Backoff
