"""Time and randomness, injected so that tests need not sleep, and times as text."""

from __future__ import annotations

import random
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

import anyio

_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\dT([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)", re.ASCII
)
_CLOCK = re.compile(r"(.+?[T ])(\d\d)(:?\d\d)?(:?\d\d)?(.*)", re.ASCII)
_FRACTION = re.compile(r"[.,](\d+)", re.ASCII)
_NOT_ZERO = re.compile(r"[:0.,]*[1-9]")


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


class SharedClock(Clock, Protocol):
    """A clock whose `now` may be that of another machine, so that all workers have the same."""

    async def sync(self) -> None:
        """Compare `now` with that machine, and correct it."""

    def steady_for(self) -> float:
        """Return for how many seconds, by the monotonic clock, `now` has not jumped ahead."""


AHEAD_SECONDS = 5.0
"""A recorded time that is further ahead than this was written by a clock that has been put back since."""


def is_ahead(at: float, now: float) -> bool:
    """Return True if a recorded time lies in the future: it says nothing about when something happened."""
    return at > now + AHEAD_SECONDS


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

    async def sync(self) -> None:
        """Do nothing: there is nothing to compare it with."""

    def steady_for(self) -> float:
        """Return infinity: it is not compared with anything."""
        return float("inf")

    def uniform(self, low: float, high: float) -> float:
        """Return a random number between `low` and `high`."""
        return random.uniform(low, high)  # noqa: S311 - jitter, not a secret


def rfc3339(seconds: float) -> str:
    """Return `seconds` since 1970 as RFC 3339 in UTC with milliseconds, such as `2026-02-27T22:29:29.491Z`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_time(text: object) -> int | None:
    """Return the milliseconds since 1970 of a time that OrderMesh wrote, or None if it cannot be parsed.

    The order service writes seven fraction digits and a zone. The shipment service writes no zone; its times are read
    as UTC (docs/reference/api-facts.md, 1.4). Any form of ISO 8601 is accepted that Python reads, in either case, and
    24:00 and second 60, which are the moment after.
    """
    parsed = _parse(text)
    try:
        return None if parsed is None else int(parsed.timestamp() * 1000)
    except (OverflowError, ValueError):
        return None


def as_rfc3339(text: str) -> str:
    """Return a time that `parse_time` can parse as RFC 3339, with all of its digits; "" for another text.

    A time that is RFC 3339 is returned as it is. A time without a zone is in UTC.
    """
    parsed = _parse(text)
    if parsed is None or _RFC3339.fullmatch(text):
        return "" if parsed is None else text
    offset = parsed.utcoffset() or timedelta()
    if offset % timedelta(minutes=1):  # RFC 3339 has no seconds in an offset
        try:
            parsed = parsed.astimezone(UTC)
        except OverflowError:
            return ""
        return parsed.isoformat().replace("+00:00", "Z")
    fraction = _FRACTION.search(text)
    whole = parsed.replace(microsecond=0, tzinfo=None).isoformat()
    zone = parsed.replace(microsecond=0).isoformat()[len(whole) :].replace("+00:00", "Z")
    return f"{whole}.{fraction[1]}{zone}" if fraction else f"{whole}{zone}"


def _parse(text: object) -> datetime | None:
    """Return a time with its zone; None if this is none."""
    if not isinstance(text, str):
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        late = _parse_late(text.upper())
        if late is None:
            return None
        parsed = late
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _parse_late(text: str) -> datetime | None:
    """Return a time that is written as hour 24 of the day before, or as second 60; also any other, in upper case."""
    found = _CLOCK.fullmatch(text)
    if found is None:
        return None
    day, hour, minute, second, rest = found.groups(default="")
    later = timedelta()
    if second.endswith("60"):
        second, later = f"{second[:-2]}59", timedelta(seconds=1)
    elif hour == "24" and not _NOT_ZERO.match(f"{minute}{second}{rest}"):
        hour, later = "00", timedelta(days=1)
    try:
        return datetime.fromisoformat(f"{day}{hour}{minute}{second}{rest}") + later
    except (OverflowError, ValueError):
        return None
