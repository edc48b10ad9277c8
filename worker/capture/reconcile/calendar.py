"""What is proven hour by hour, out of what is kept of the passes. No I/O."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from worker.capture.reconcile.progress import Gap, ReconcilePass, ReconcileProgress

HOUR_MS = 3_600_000


class Hour(StrEnum):
    """What is known of an hour of one resource. The first that applies counts."""

    OPEN = "open"
    """An audit log tells of a change in it that is not known to be published."""
    HEALED = "healed"
    """Proven; something of it had been missed, and was published by reconciliation or later."""
    VERIFIED = "verified"
    """Proven: all that audit logs tell of it is published."""
    DOWN = "down"
    """Not proven, and nothing was read in it: no worker ran, or somebody had paused it."""
    UNPROVEN = "unproven"
    """Not yet proven."""
    BEFORE = "before"
    """Before the first run that is known of, or still to come."""


class Day(msgspec.Struct, frozen=True):
    """The 24 hours of one day (UTC), which is counted since 1970."""

    day: int
    hours: tuple[Hour, ...]


def calendar(
    progress: ReconcileProgress,
    gaps: Iterable[Gap],
    passes: Sequence[ReconcilePass],
    *,
    active: Collection[int],
    known_since: int,
    now: int,
    days: int,
) -> list[Day]:
    """The last `days`, the latest last. Hours are counted since 1970.

    `active`: those in which a run has ended; `known_since`: that of the oldest run that is kept, 0 if there is none;
    `now`: the present one.
    """
    open_hours = {gap.at // HOUR_MS for gap in gaps if gap.at and not gap.is_absent}
    healed = {hour for item in passes for hour in item.counts.healed_at}
    first = progress.complete_since // HOUR_MS if progress.complete_since else now + 1

    def judge(hour: int) -> Hour:
        if hour in open_hours:
            return Hour.OPEN
        proven = first <= hour and (hour + 1) * HOUR_MS <= progress.complete_until
        if proven or hour in healed:
            return Hour.HEALED if hour in healed else Hour.VERIFIED
        started = min(first, known_since or first)
        if hour < started or hour > now:
            return Hour.BEFORE
        return Hour.UNPROVEN if hour in active or hour == now or hour < known_since else Hour.DOWN

    last = now // 24
    return [
        Day(day, tuple(judge(hour) for hour in range(day * 24, day * 24 + 24)))
        for day in range(last - days + 1, last + 1)
    ]
