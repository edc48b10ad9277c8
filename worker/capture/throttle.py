"""A share of the request budget: so many requests a second, for work that must not be in the way of other work."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.clock import Clock

_LOOK_SECONDS = 1.0
"""Between two looks whether the work is to end."""


class Throttle:
    """Spaces requests evenly. It stands before the budget that all share, and takes nothing from it by itself.

    What was not used is not made up for: there are no bursts.
    """

    def __init__(self, per_second: float, clock: Clock) -> None:
        self._gap, self._clock = 1 / per_second, clock
        self._next = clock.monotonic()

    async def wait(self, stop: Callable[[], bool]) -> bool:
        """Wait for the turn of one request. False if `stop()` became true, and nothing is to be sent."""
        now = self._clock.monotonic()
        turn = max(now, self._next)
        self._next = turn + self._gap
        while not stop():
            left = turn - self._clock.monotonic()
            if left <= 0:
                return True
            await self._clock.sleep(min(left, _LOOK_SECONDS))
        return False

    def charge(self, requests: int) -> None:
        """So many more were sent than were waited for: tries that failed and were repeated."""
        self._next += requests * self._gap
