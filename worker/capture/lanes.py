"""The classes of work, and when which work of a resource is due. No I/O.

Each class has a schedule and places of its own, so that no class waits behind another: a poll, which takes some
milliseconds, never waits for a full scan of a million orders. The same resource may be in two of them: while a full
scan goes on in the lane of scans, newer changes are read in the lane of polls, at their time.
"""

from __future__ import annotations

import zlib
from enum import StrEnum
from typing import TYPE_CHECKING

from worker.capture.failures import MAX_REQUESTED_PAUSE
from worker.capture.state.cursor import BACKLOG_DONE
from worker.clock import is_ahead

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.capture.state.cursor import Cursor

NOISE_SECONDS = 1.0
"""By so much a due time may exceed the longest wait: two measurements of one clock differ a little."""
FIELDS = (
    "due_at", "interval", "failures", "last_started", "baseline", "paused", "sweep_started", "backlog", "backlog_began",
)  # fmt: skip
"""The fields of the cursor by which `times_of_poll` says what is due."""
_BACKLOG_DONE = BACKLOG_DONE.encode()


class Lane(StrEnum):
    """The classes of work, in falling order of right; the value is the name in the settings, in status and metrics."""

    POLLS = "polls"
    """Reads of newer changes and reads by id, and the first seconds of a full scan."""
    RESYNCS = "resyncs"
    SCANS = "scans"
    """First full scans, and what of a later one takes longer than a poll may."""
    AUDIT = "audit"
    """Audit logs of records of the past."""
    RECONCILE = "reconcile"
    RETENTION = "retention"


SLICE_SECONDS: Mapping[Lane, float] = {
    Lane.POLLS: 5.0,
    Lane.SCANS: 10.0,
    Lane.AUDIT: 20.0,
    Lane.RECONCILE: 20.0,
}
"""Seconds after which work gives up its place; it goes on when the others that wait had theirs."""

Times = dict[Lane, float | None]
"""When work is due in each lane, in seconds since 1970; None: it is not in the lane.

A first scan that never began is due at once. The negative time since which it waits stands for that: the lower, the
newer, so of these the account that was added last comes first, and all of them before what goes on.
"""


def times_of_poll(
    values: Sequence[bytes | None], first: object, *, requested: float, now: float, backlog: bool | None
) -> Times:
    """Return when a source is due in which lane.

    Args:
        values: The `FIELDS` of its cursor. An unreadable cursor is due: the poll reports what is wrong with it.
        first: The first entry of its refresh queue, as `ZRANGE 0 0 WITHSCORES` answers; empty for none.
        requested: The interval of the settings, in seconds.
        now: The current time, in seconds since 1970.
        backlog: Of audit logs: whether those of the past are wanted; None for another source.

    """
    due_at, interval, failures, began, baseline, paused, sweep, position, backlog_began = values
    wait = seconds_until_due(due_at, interval, failures, began, requested=requested, now=now)
    succeeded = failures in {None, b"0"}
    read_in = float("inf")
    if succeeded:
        read_in = seconds_until_follow_ups(first, baseline, paused, now=now)
    soonest = now + min(wait, read_in)
    if backlog is not None:
        goes_on = backlog and position != _BACKLOG_DONE and baseline not in {None, b"0"}
        is_free = succeeded and not paused and _number(backlog_began) > 0
        return {Lane.POLLS: soonest, Lane.AUDIT: (now if is_free else now + wait) if goes_on else None}
    if baseline in {None, b"0"}:
        at = now + wait
        return {Lane.SCANS: -max(at, now) if began is None else at, Lane.POLLS: None}
    if _number(sweep) > 0 and succeeded and not paused:
        newer = min(now + requested, max(now, _number(due_at)) + requested)
        return {Lane.SCANS: now + wait, Lane.POLLS: min(newer, now + read_in)}
    return {Lane.POLLS: soonest, Lane.SCANS: None}


def lane_of(cursor: Cursor) -> Lane:
    """Return the lane of the longest work that a source has to do now."""
    if cursor.backlog and cursor.backlog != BACKLOG_DONE:
        return Lane.AUDIT
    return Lane.SCANS if not cursor.baseline or cursor.scan.started else Lane.POLLS


def phase_of(account: str, source: str) -> float:
    """Return at which part of its interval, from 0 up to 1, a source is polled: by its name, for all workers alike."""
    return zlib.crc32(f"{account}/{source}".encode()) / 2**32


def next_poll(started_at: float, interval: float, phase: float | None) -> float:
    """Return when the poll after one is due that has succeeded, in seconds since 1970.

    Each source has times of its own, one in each interval, so that polls are spread however many sources were read at
    the same time before. The next poll is due at the next of them: an interval after the last one, or sooner.

    Args:
        started_at: When the poll began.
        interval: Seconds between two polls; 0 for a source that is only read when somebody asks for it.
        phase: At which part of the interval the source is polled; None: an interval after the last poll.

    """
    latest = started_at + interval
    if phase is None or not interval:
        return latest
    early = (latest - phase * interval) % interval
    # A poll that began a moment before its time, by a clock that was corrected since, has had this time.
    return latest if interval - early < min(NOISE_SECONDS, interval / 4) else latest - early


def seconds_until_follow_ups(
    first: object, baseline: bytes | None, paused: bytes | None, *, now: float
) -> float:
    """Return the seconds until a read of the refresh queue is due, of which `first` is the first entry.

    Infinity if there is none: reads by id wait until the first full scan has ended, and while polling is paused.
    """
    if not isinstance(first, list) or not first or paused or baseline in {None, b"0"}:
        return float("inf")
    return float(first[0][1]) - now


def seconds_until_due(
    due_at: bytes | None,
    interval: bytes | None,
    failures: bytes | None,
    began: bytes | None = None,
    *,
    requested: float,
    now: float,
) -> float:
    """Return the seconds until a poll is due; 0 or less if it is due now.

    Args:
        due_at: Field of the cursor.
        interval: Field of the cursor: the interval when `due_at` was written.
        failures: Field of the cursor: failed polls in a row.
        began: Field of the cursor: when the last poll began.
        requested: The interval of the settings, in seconds.
        now: The current time, in seconds since 1970.

    An unreadable cursor is due: the poll reports what is wrong with it. So is one whose last poll began in the future,
    or whose due time is further ahead than any poll waits: the clock was put back since it was written.
    """
    try:
        due, kept, last = float(due_at or 0), float(interval or 0), float(began or 0)
    except ValueError:
        return 0.0
    return _wait(due, kept, last, succeeded=failures in {None, b"0"}, requested=requested, now=now)


def list_is_due(cursor: Cursor, *, requested: float, now: float) -> bool:
    """Return True if the list of a source is due, and not only what is to be read of it by id."""
    succeeded = not cursor.failures
    wait = _wait(
        cursor.due_at, cursor.interval, cursor.last_started, succeeded=succeeded, requested=requested, now=now
    )
    return wait <= 0


def _wait(due: float, kept: float, last: float, *, succeeded: bool, requested: float, now: float) -> float:
    if kept and succeeded:
        due += min(0.0, requested - kept)  # a shorter interval counts at once
    wait = due - now
    longest = requested if succeeded else max(requested, MAX_REQUESTED_PAUSE)
    return wait if wait <= longest + NOISE_SECONDS and not is_ahead(last, now) else 0.0


def _number(value: bytes | None) -> float:
    try:
        return float(value or 0)
    except ValueError:
        return 0.0
