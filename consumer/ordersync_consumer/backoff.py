"""Exponential backoff: how long to wait before the next attempt. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class RandomSource(Protocol):
    """Makes random numbers. `ordersync_consumer.clock.Clock` does."""

    def uniform(self, low: float, high: float) -> float:
        """Return a random number between `low` and `high`."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """The pauses between attempts, in seconds.

    The pause after the first failure is `first`, each further one is `factor` times as long, and none is longer
    than `most`.
    """

    first: float = 1.0
    factor: float = 2.0
    most: float = 300.0

    def ceiling(self, attempt: int) -> float:
        """Return the pause after attempt number `attempt`, counted from 1, without jitter."""
        return min(self.most, self.first * self.factor ** min(attempt - 1, 64))

    def pause(self, attempt: int, clock: RandomSource) -> float:
        """Return a random pause between half of `ceiling(attempt)` and the whole of it.

        The jitter keeps clients that failed together from coming back together.
        """
        ceiling = self.ceiling(attempt)
        return clock.uniform(ceiling / 2, ceiling)
