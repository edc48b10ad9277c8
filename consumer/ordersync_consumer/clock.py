"""Time and randomness, injected so that tests need not sleep."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from typing import Protocol

import anyio


class Clock(Protocol):
    """A source of time and randomness. All times are in seconds."""

    def now(self) -> float:
        """Return the wall clock time in seconds since 1970."""

    def monotonic(self) -> float:
        """Return the seconds of a clock that never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Sleep for a number of seconds."""

    def uniform(self, low: float, high: float) -> float:
        """Return a random number between `low` and `high`."""


class SystemClock:
    """The clock of this machine."""

    def now(self) -> float:
        """Return the wall clock time in seconds since 1970."""
        return time.time()

    def monotonic(self) -> float:
        """Return the seconds of a clock that never goes back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Sleep for a number of seconds."""
        await anyio.sleep(seconds)

    def uniform(self, low: float, high: float) -> float:
        """Return a random number between `low` and `high`."""
        return random.uniform(low, high)  # noqa: S311 - jitter, not a secret


_FIRST = datetime(1, 1, 1, tzinfo=UTC).timestamp()
_LAST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()


def rfc3339(seconds: float) -> str:
    """Return `seconds` since 1970 as RFC 3339 in UTC with milliseconds, such as `2026-02-27T22:29:29.491Z`.

    A time before the year 1 or after the year 9999, as another program may have written, is the nearest that there is.
    """
    seconds = min(max(seconds, _FIRST), _LAST) if seconds == seconds else 0.0  # noqa: PLR0124 - NaN
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
