"""Time and chance, injected, so that tests neither sleep nor guess."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from typing import Protocol

import anyio


class Clock(Protocol):
    """What the worker knows of time. Seconds everywhere."""

    def now(self) -> float:
        """Seconds since 1970, of the wall clock."""

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    def uniform(self, low: float, high: float) -> float:
        """A random number between `low` and `high`."""


class SystemClock:
    """The clock of the machine."""

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await anyio.sleep(seconds)

    def uniform(self, low: float, high: float) -> float:
        """A random number between `low` and `high`."""
        return random.uniform(low, high)  # noqa: S311 - jitter, not a secret


def rfc3339(seconds: float) -> str:
    """`seconds` since 1970 as RFC 3339 with milliseconds, in UTC: `2026-02-27T22:29:29.491Z`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_time(text: object) -> int | None:
    """Milliseconds since 1970 of a time as OrderMesh writes it, or None if it cannot be read.

    The order service writes seven fraction digits and a zone, the shipment service no zone at all, which is
    taken as UTC (api-facts 1.4).
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
    """A time that `parse_time` can read, as RFC 3339: where it names no zone, it is UTC."""
    if text.endswith("Z") or text[-6:-5] in ("+", "-"):
        return text
    return f"{text}Z" if "T" in text else rfc3339((parse_time(text) or 0) / 1000)
