"""The health of a resource, computed from its cursor. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from worker.capture.gate import NOT_PROVEN
from worker.clock import is_ahead
from worker.errors import DataError, RedisFull

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.capture.state.cursor import Cursor
    from worker.capture.state.pauses import Pause


class Health(StrEnum):
    """The health of a resource."""

    STARTING = "starting"
    """The first full scan is under way."""
    OK = "ok"
    DEGRADED = "degraded"
    """There is a problem, but the published data is fresh."""
    FAILING = "failing"
    """The published data is older than it should be."""
    PAUSED = "paused"
    """A user has paused the resource; nothing is read until it is resumed."""
    WITHDRAWN = "withdrawn"
    """No worker polls the resource any more, according to its settings."""

    @property
    def alive(self) -> bool:
        """True if a supervisor should leave the worker running."""
        return self is not Health.FAILING


@dataclass(frozen=True, slots=True)
class Verdict:
    """The health, and its cause in a sentence; "" for none."""

    health: Health
    cause: str = ""


@dataclass(frozen=True, slots=True)
class UnrecordedFailure:
    """Polls in a row that failed and could not write that to the cursor; the last error and its code."""

    failures: int
    error: str
    code: str


NOT_POLLED = "the settings of the workers do not poll it any more; add it to ORDERSYNC_POLL__INTERVALS to poll it again"
"""Why a resource is withdrawn."""
MAX_POLL = 330.0
"""Seconds that a poll may take before it is considered stuck; it commits more often than that."""


def judge(
    cursor: Cursor,
    now: float,
    since: float | None = None,
    *,
    full: bool = False,
    pause: Pause | None = None,
    unrecorded: UnrecordedFailure | None = None,
) -> Verdict:
    """Return the health of a resource.

    A worker that catches up after a pause, waits for consumers, or waits for memory in Redis is degraded, not failing:
    restarting it would not help. A paused resource is paused, however old its data is.

    Args:
        cursor: The cursor of the resource.
        now: The current time (seconds since 1970).
        since: When the worker began to poll the resource (seconds since 1970); None if unknown.
        full: Redis is full, which the cursor may not show.
        pause: The pause of the resource, if any.
        unrecorded: A failure that the cursor does not show.

    """
    if pause is not None:
        return Verdict(Health.PAUSED, f"{pause.description}. To continue: ordersync resume")
    if unrecorded is not None:
        failures = cursor.failures + unrecorded.failures
        cursor = replace(cursor, failures=failures, error=unrecorded.error, error_code=unrecorded.code)
    silent = now - (cursor.last_started or since or now)
    lost = silent > max(3 * cursor.interval, MAX_POLL if cursor.last_started else 120.0)
    obstacle = _obstacle(cursor, full=full)
    if obstacle and (full or not lost):
        return Verdict(Health.DEGRADED, obstacle)
    if lost and not cursor.failures:
        return Verdict(
            Health.FAILING, f"no poll was recorded for {silent:.0f} s; check the log of the worker"
        )
    return _judge_reads(cursor, now)


def _obstacle(cursor: Cursor, *, full: bool) -> str:
    """Return the obstacle to polling that the worker cannot remove; "" if there is none."""
    if full:
        return str(RedisFull())
    if cursor.paused:
        return f"polling is paused: {cursor.paused}"
    return cursor.error if cursor.failures and cursor.error_code == RedisFull.code else ""


def _judge_reads(cursor: Cursor, now: float) -> Verdict:
    allowed = max(3 * cursor.interval, 120.0, cursor.interval + 3 * cursor.scan.seconds)
    # What was fresh in the future was so by a clock that has been put back: it says nothing.
    unknown = is_ahead(cursor.newest_as_of, now)
    age = float("inf") if unknown else now - cursor.newest_as_of
    if cursor.failures:
        times = "once" if cursor.failures == 1 else f"{cursor.failures} times in a row"
        cause = f"the poll failed {times}: {cursor.error}"
        if cursor.error_code == DataError.code:  # it does not end by itself
            return Verdict(Health.FAILING, cause)
        return Verdict(Health.DEGRADED if age <= allowed else Health.FAILING, cause)
    if not cursor.baseline and not cursor.lost_at:
        return Verdict(Health.STARTING, _first_scan(cursor))
    cause = next(_problems(cursor), "")
    if not cause and cursor.unclean_scans:
        return Verdict(Health.STARTING if cursor.reads_again else Health.DEGRADED, NOT_PROVEN)
    if unknown:
        cause = (
            "the clock of Redis was put back since the last complete read, so the age of the data is unknown until "
            "the next one"
        )
    elif age > allowed and not cursor.suspicious and not cursor.lost_at and not cursor.unread:
        cause = f"the last complete read is {age:.0f} s old; the next page is {cursor.scan.page + 1}"
    elif not cause and _waits_for_full_scan(cursor, now):
        cause = (
            f"polls read a part of the records, and the last full scan began {now - cursor.fresh_as_of:.0f} s ago; the "
            f"next page of the one under way is {cursor.scan.page + 1}"
        )
    return Verdict(Health.DEGRADED, cause) if cause else Verdict(Health.OK)


def _waits_for_full_scan(cursor: Cursor, now: float) -> bool:
    """Whether the last full scan is older than it may be, where polls read newer changes or open records alone."""
    allowed = 2 * cursor.complete_every + 3 * cursor.scan.seconds
    return bool(cursor.fresh_as_of and cursor.complete_every) and now - cursor.fresh_as_of > allowed


def _first_scan(cursor: Cursor) -> str:
    if cursor.empty_at:
        return "the first full scan found no records; another one, some minutes later, must find none either"
    return f"the first full scan is {f'at page {cursor.scan.page + 1}' if cursor.scan.page else 'about to start'}"


def _problems(cursor: Cursor) -> Iterator[str]:
    """Yield the problems of a resource whose polls succeed, the worst first.

    docs/concepts/health.md says what ends each.
    """
    if cursor.lost_at:
        yield f"{cursor.loss}; until a full scan has ended, published data may be older than it was"
    if cursor.suspicious:
        yield f"the last read is suspect: {cursor.suspicious}"
    if cursor.unread:
        yield f"{cursor.unread}; all other records were read"
    yield from _missing(cursor)
    if cursor.gaps:
        of = "1 record" if cursor.gaps == 1 else f"{cursor.gaps} records"
        yield f"it cannot be proven that every change of {of} was published; run: ordersync coverage"
    if cursor.stale:
        what = "1 record is" if cursor.stale == 1 else f"{cursor.stale} records are"
        yield (
            f"{what} shown with another content and an older time than was published last; the next read by id, or "
            "full scan, decides"
        )
    if cursor.unreadable:
        noun = "record" if cursor.unreadable == 1 else "records"
        yield f"{cursor.unreadable} {noun} cannot be read; run: ordersync dead list"


def _missing(cursor: Cursor) -> Iterator[str]:
    """Yield what the last full scans did not find."""
    if cursor.held_back:
        yield (
            f"the last full scan did not find {cursor.held_back} of {cursor.tracked} known records, too many to "
            "publish as deleted. First run: ordersync contract probe. If it shows what you expect of the gateway, look "
            "for some of the records in OrderMesh. Only if they are gone, run: "
            "ordersync resync RESOURCE --accept-deletes"
        )
    elif cursor.doubts > 1 and not cursor.suspicious and not cursor.unread:
        yield (
            "the last full scans missed known records that are there: the list moves while it is read, or leaves "
            "records out; they were read by id where that is possible. Run: ordersync contract probe"
        )
    if cursor.unanswered:
        noun, what = ("record", "it exists") if cursor.unanswered == 1 else ("records", "they exist")
        yield (
            f"{cursor.unanswered} known {noun} left the list, and the read by id is refused or not answered yet, so it "
            f"is not known whether {what}. The log shows the answer in follow_up_failed; after a 403, let "
            "the login read such records again"
        )
