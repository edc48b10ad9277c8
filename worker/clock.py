"""Time and randomness, injected so that tests need not sleep, and times as text."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from typing import Protocol

import anyio


class Clock(Protocol):
    """The time and randomness that the worker uses. All times are in seconds."""

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


def rfc3339(seconds: float) -> str:
    """Return `seconds` since 1970 as RFC 3339 in UTC with milliseconds, such as `2026-02-27T22:29:29.491Z`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_time(text: object) -> int | None:
    """Return the milliseconds since 1970 of a time that OrderMesh wrote, or None if it cannot be parsed.

    The order service writes seven fraction digits and a zone. The shipment service writes no zone; its times are read
    as UTC (docs/reference/api-facts.md, 1.4).
    """
    if not isinstance(text, str):
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return None
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=UTC)
    try:
        return int(parsed.timestamp() * 1000)
    except (OverflowError, ValueError):
        return None


def with_zone(text: str) -> str:
    """Return a time that `parse_time` can parse as RFC 3339; a time without a zone is in UTC."""
    if text.endswith("Z") or text[-6:-5] in ("+", "-"):
        return text
    return f"{text}Z" if "T" in text else rfc3339((parse_time(text) or 0) / 1000)
