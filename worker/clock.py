"""Time and randomness, injected so that tests need not sleep, and times as text."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Protocol

from ordersync_consumer import clock as consumer_clock
from ordersync_consumer.clock import Clock, rfc3339

__all__ = [
    "AHEAD_SECONDS",
    "Clock",
    "SharedClock",
    "SystemClock",
    "as_rfc3339",
    "duration",
    "is_ahead",
    "parse_time",
    "read_time",
    "rfc3339",
]

_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\dT([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)", re.ASCII
)
_CLOCK = re.compile(r"(.+?[T ])(\d\d)(:?\d\d)?(:?\d\d)?(.*)", re.ASCII)
_FRACTION = re.compile(r"[.,](\d+)", re.ASCII)
_NOT_ZERO = re.compile(r"[:0.,]*[1-9]")


_SHORT = 64
"""Characters of the longest text that is kept; a usual time has 28."""


class SharedClock(Clock, Protocol):
    """A clock whose `now` may be that of another machine, so that all workers have the same."""

    async def sync(self, *, within: float = 0.0) -> None:
        """Compare `now` with that machine, and correct it, unless that was done within so many seconds."""

    def note(self, at: float, before: float, after: float) -> None:
        """Correct `now` by a time of that machine, which an answer has told.

        Args:
            at: Seconds since 1970.
            before: When it was asked, by the monotonic clock.
            after: When the answer was there, likewise.

        """

    def steady_for(self) -> float:
        """Return for how many seconds, by the monotonic clock, `now` has not jumped ahead."""


AHEAD_SECONDS = 5.0
"""A recorded time that is further ahead than this was written by a clock that has been put back since."""


def is_ahead(at: float, now: float) -> bool:
    """Return True if a recorded time lies in the future: it says nothing about when something happened."""
    return at > now + AHEAD_SECONDS


class SystemClock(consumer_clock.SystemClock):
    """The clock of this machine."""

    async def sync(self, *, within: float = 0.0) -> None:
        """Do nothing: there is nothing to compare it with."""

    def note(self, at: float, before: float, after: float) -> None:
        """Do nothing: it goes by no other clock."""

    def steady_for(self) -> float:
        """Return infinity: it is not compared with anything."""
        return float("inf")


def duration(seconds: float) -> str:
    """Return a rounded duration, such as `45 s`, `12 min`, `5 h` or `3 d`."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def parse_time(text: object) -> int | None:
    """Return the milliseconds since 1970 of a time that OrderMesh wrote, or None if it cannot be parsed.

    The order service writes seven fraction digits and a zone. The shipment service writes no zone; its times are read
    as UTC (docs/reference/api-facts.md, 1.4). Any form of ISO 8601 is accepted that Python reads, in either case, and
    24:00 and second 60, which are the moment after.
    """
    if not isinstance(text, str):
        return None
    return _milliseconds(text) if len(text) <= _SHORT else _milliseconds.__wrapped__(text)


@lru_cache(maxsize=256)  # the times of a record are asked for several times
def _milliseconds(text: str) -> int | None:
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
    return "" if parsed is None else _rfc3339_of(parsed, text)


def read_time(text: object) -> tuple[int, str] | None:
    """Return what `parse_time` and `as_rfc3339` return of a time; None if it cannot be parsed."""
    parsed = _parse(text)
    if parsed is None:
        return None
    try:
        milliseconds, text = int(parsed.timestamp() * 1000), str(text)
        return milliseconds, text if _RFC3339.fullmatch(text) else _rfc3339_of(parsed, text)
    except (OverflowError, ValueError):
        return None


def _rfc3339_of(parsed: datetime, text: str) -> str:
    if _RFC3339.fullmatch(text) is not None:
        return text
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
