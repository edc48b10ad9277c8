"""How a resource stands, judged from its cursor. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from worker.errors import RedisFull

if TYPE_CHECKING:
    from worker.capture.state.cursor import Cursor
    from worker.capture.state.pauses import Pause


class Health(StrEnum):
    """One word for a resource."""

    STARTING = "starting"
    """The first read is under way."""
    OK = "ok"
    DEGRADED = "degraded"
    """Something is wrong, but what is published is fresh."""
    FAILING = "failing"
    """What is published is older than it should be."""
    PAUSED = "paused"
    """Somebody has paused it, and nothing is read until it is resumed."""

    @property
    def alive(self) -> bool:
        """Whether a supervisor should leave the worker running."""
        return self is not Health.FAILING


@dataclass(frozen=True, slots=True)
class Verdict:
    """The word, and the cause in a sentence."""

    health: Health
    cause: str = ""


MAX_POLL = 330.0
"""Seconds that a poll may go on without being ended; it is committed to more often than that."""


def judge(
    cursor: Cursor,
    now: float,
    since: float | None = None,
    *,
    full: bool = False,
    pause: Pause | None = None,
) -> Verdict:
    """How a resource stands at `now`, for a worker that has been at it `since` (seconds since 1970).

    A worker that catches up after a pause is degraded, not failing: ending it would not help. Nor would it where
    Redis is `full`, which the cursor need not know, or where consumers have to catch up first. What somebody has
    put on `pause` is paused, however old it gets.
    """
    if pause is not None:
        return Verdict(Health.PAUSED, f"{pause.description}. To continue: ordersync resume")
    silent = now - (cursor.last_started or since or now)
    lost = silent > max(3 * cursor.interval, MAX_POLL if cursor.last_started else 120.0)
    waits_for = _what_it_waits_for(cursor, full=full)
    if waits_for and (full or not lost):
        return Verdict(Health.DEGRADED, waits_for)
    if lost and not cursor.failures:
        return Verdict(
            Health.FAILING, f"no poll was recorded for {silent:.0f} s; check the log of the worker"
        )
    return _judge_reads(cursor, now)


def _what_it_waits_for(cursor: Cursor, *, full: bool) -> str:
    """Why it cannot go on, where that is the worker's business no more."""
    if full:
        return str(RedisFull())
    if cursor.paused:
        return f"polling is paused: {cursor.paused}"
    return cursor.error if cursor.failures and cursor.error_code == RedisFull.code else ""


def _judge_reads(cursor: Cursor, now: float) -> Verdict:
    allowed = max(3 * cursor.interval, 120.0, cursor.interval + 3 * cursor.scan.seconds)
    age = now - cursor.fresh_as_of
    if cursor.failures:
        times = "once" if cursor.failures == 1 else f"{cursor.failures} times in a row"
        cause = f"the poll failed {times}: {cursor.error}"
        return Verdict(Health.DEGRADED if age <= allowed else Health.FAILING, cause)
    if not cursor.baseline:
        at = f"at page {cursor.scan.page + 1}" if cursor.scan.page else "about to start"
        return Verdict(Health.STARTING, f"the first full scan is {at}")
    cause = _what_is_wrong(cursor)
    if age > allowed and not cursor.suspicious:
        cause = f"the last complete read is {age:.0f} s old; the next page is {cursor.scan.page + 1}"
    return Verdict(Health.DEGRADED, cause) if cause else Verdict(Health.OK)


def _what_is_wrong(cursor: Cursor) -> str:
    """What is wrong with a resource whose polls go through."""
    if cursor.suspicious:
        return f"the last read is suspect: {cursor.suspicious}"
    if cursor.held_back:
        return (
            f"the last full scan did not return {cursor.held_back} or more known records, too many to publish as "
            "deleted; check them in OrderMesh, and if they are gone, run: ordersync resync --accept-deletes"
        )
    if cursor.gaps:
        of = "1 record" if cursor.gaps == 1 else f"{cursor.gaps} records"
        return f"the audit logs of {of} contain changes that were not published; run: ordersync coverage"
    if cursor.unreadable:
        noun = "record" if cursor.unreadable == 1 else "records"
        return f"{cursor.unreadable} {noun} cannot be read; run: ordersync dead list"
    return ""
