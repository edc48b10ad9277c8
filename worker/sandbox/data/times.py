"""The times of the sandbox: a strictly increasing clock, and the formats of the API.

The order service writes seven fractional digits and a time zone (`2026-02-27T22:29:29.4914307Z`), the shipment service
whole seconds without a time zone (`2022-04-03T12:00:00`), in UTC.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from worker.sandbox.data.orders import TICKS_PER_SECOND, format_ticks

if TYPE_CHECKING:
    from collections.abc import Callable

_ZONED = len("2026-02-27T22:29:29.4914307Z")
_UNZONED = len("2022-04-03T12:00:00")
_FRACTION = re.compile(r"\.(\d+)")


class Stamps:
    """Times in ticks of 100 ns, each later than the one before; the caller holds the lock of the sandbox.

    Args:
        clock: Nanoseconds since 1970. It may stop or go back.
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._last = 0

    def next(self) -> int:
        """Return the current time, or one tick after the last returned time if that is later."""
        self._last = max(self._clock() // 100, self._last + 1)
        return self._last

    def reach(self, ticks: int) -> None:
        """Make every further time later than this one."""
        self._last = max(self._last, ticks)


def format_unzoned(ticks: int) -> str:
    """Return a time in the format of the shipment service: `2022-04-03T12:00:00`."""
    return format_ticks(ticks)[:_UNZONED]


def unzoned(text: object) -> str | None:
    """Return a time of the order service in the format of the shipment service; None if it is not a time."""
    return sortable(text)[:_UNZONED] or None


def parse_ticks(text: str) -> int | None:
    """Return the time of an ISO 8601 text in ticks, in UTC if it has no time zone; None if it is not a time."""
    fraction = _FRACTION.search(text)
    try:
        moment = datetime.fromisoformat(_FRACTION.sub("", text, count=1))
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    digits = f"{fraction[1] if fraction else '':0<7}"[:7]
    try:
        return int(moment.timestamp()) * TICKS_PER_SECOND + int(digits)
    except (OverflowError, ValueError):
        return None


def sortable(text: object) -> str:
    """Return a time of a record in the format whose text order is the order of time; empty if it is not a time."""
    if not isinstance(text, str):
        return ""
    # The two formats that the sandbox writes need no parsing.
    if len(text) == _ZONED and text.endswith("Z"):
        return text
    if len(text) == _UNZONED and text[10] == "T":
        return text + ".0000000Z"
    ticks = parse_ticks(text)
    # All times before 1970 are earlier than any time of the sandbox.
    return "" if ticks is None else format_ticks(max(0, ticks))
