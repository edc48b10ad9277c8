"""How a resource stands, judged from its cursor. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.capture.store import Cursor


class Health(StrEnum):
    """One word for a resource."""

    STARTING = "starting"
    """The first read is under way."""
    OK = "ok"
    DEGRADED = "degraded"
    """Something is wrong, but what is published is fresh."""
    FAILING = "failing"
    """What is published is older than it should be."""

    @property
    def alive(self) -> bool:
        """Whether a supervisor should leave the worker running."""
        return self is not Health.FAILING


@dataclass(frozen=True, slots=True)
class Verdict:
    """The word, and the cause in a sentence."""

    health: Health
    cause: str = ""


def judge(cursor: Cursor, now: float) -> Verdict:
    """How a resource stands at `now` (seconds since 1970)."""
    allowed = max(3 * cursor.interval, 120.0)
    if cursor.failures:
        fresh = now - cursor.fresh_as_of <= allowed
        times = "once" if cursor.failures == 1 else f"{cursor.failures} times in a row"
        cause = f"the poll failed {times}: {cursor.error}"
        return Verdict(Health.DEGRADED if fresh else Health.FAILING, cause)
    if cursor.last_started and now - cursor.last_started > allowed:
        return Verdict(Health.FAILING, f"no poll was started for {now - cursor.last_started:.0f} s")
    if not cursor.baseline:
        at = f"at page {cursor.sweep_page + 1}" if cursor.sweep_page else "about to begin"
        return Verdict(Health.STARTING, f"the first read is {at}")
    if cursor.unreadable:
        noun = "record" if cursor.unreadable == 1 else "records"
        return Verdict(
            Health.DEGRADED,
            f"{cursor.unreadable} {noun} cannot be read; see the dead letters of the resource",
        )
    return Verdict(Health.OK)
