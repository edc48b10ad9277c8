"""Times of the sandbox: moments that never stand still, and every form in which the API writes or takes them.

The order service writes seven digits of a second and a zone (`2026-02-27T22:29:29.4914307Z`), the shipment
service whole seconds without a zone (`2022-04-03T12:00:00`), read as UTC.
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
    """Moments in ticks of 100 ns, each later than the one before; the caller holds the sandbox's lock.

    Args:
        clock: Nanoseconds since 1970; a clock that stands still or goes back does not matter.
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._last = 0

    def next(self) -> int:
        """The present moment, or one tick after the last one given out."""
        self._last = max(self._clock() // 100, self._last + 1)
        return self._last

    def reach(self, ticks: int) -> None:
        """Makes every further moment later than this one."""
        self._last = max(self._last, ticks)


def format_unzoned(ticks: int) -> str:
    """A time as the shipment service writes it: `2022-04-03T12:00:00`."""
    return format_ticks(ticks)[:_UNZONED]


def unzoned(text: object) -> str | None:
    """A time of the order service as the shipment service writes it; None where there is none."""
    return sortable(text)[:_UNZONED] or None


def parse_ticks(text: str) -> int | None:
    """The moment that an ISO 8601 text means, UTC where it names no zone; None when it is no time."""
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
    """A time of a record in the one form in which times compare as text; empty when it is no time."""
    if not isinstance(text, str):
        return ""
    # The two forms that the sandbox writes itself need no reading.
    if len(text) == _ZONED and text.endswith("Z"):
        return text
    if len(text) == _UNZONED and text[10] == "T":
        return text + ".0000000Z"
    ticks = parse_ticks(text)
    # What lies before 1970 lies before everything here.
    return "" if ticks is None else format_ticks(max(0, ticks))
