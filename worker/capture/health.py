"""The health of a resource, computed from its cursor. No I/O."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from worker.capture.causes import Cause
from worker.capture.gate import NOT_PROVEN
from worker.clock import duration, is_ahead
from worker.errors import DataError, RedisFull, RedisUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from worker.capture.state.cursor import Cursor
    from worker.capture.state.pauses import Pause
    from worker.ordermesh.contract.findings import Withdrawn


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


WORST_FIRST = (
    Health.FAILING, Health.DEGRADED, Health.PAUSED, Health.STARTING, Health.WITHDRAWN, Health.OK,
)  # fmt: skip


class Verdict(msgspec.Struct, frozen=True):
    """The health, and its cause: in a sentence, and its name, a `Cause` or the code of an error; "" for none."""

    health: Health
    cause: str = ""
    code: str = ""


class Problem(NamedTuple):
    """A cause, in a sentence and by its name."""

    text: str
    code: str


class UnrecordedFailure(msgspec.Struct, frozen=True):
    """Polls in a row that failed and could not write that to the cursor; the last error and its code."""

    failures: int
    error: str
    code: str


NOT_POLLED = "the settings of the workers do not poll it any more; add it to ORDERSYNC_POLL__INTERVALS to poll it again"
"""Why a resource is withdrawn."""
NEVER_POLLED = "no worker polls it; add it to ORDERSYNC_POLL__INTERVALS to poll it"
"""Why the first full scan of a resource does not begin, which is shown for a resync or because settings name it."""
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
    late: str = "",
    withdrawn: Sequence[Withdrawn] = (),
    refused: str = "",
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
        late: Which consumer group has not read for long, in words; "" for none.
        withdrawn: What the gateway honoured once and honours no longer.
        refused: Why Redis refuses writes although it has memory, in words; "" if it does not.

    """
    if pause is not None:
        return Verdict(Health.PAUSED, f"{pause.description}. To continue: ordersync resume", Cause.PAUSED)
    if unrecorded is not None:
        failures = cursor.failures + unrecorded.failures
        cursor = msgspec.structs.replace(
            cursor, failures=failures, error=unrecorded.error, error_code=unrecorded.code
        )
    if refused:
        return Verdict(Health.FAILING, refused, RedisUnavailable.code)
    silent = now - (cursor.last_started or since or now)
    lost = silent > max(3 * cursor.interval, MAX_POLL if cursor.last_started else 120.0)
    obstacle = _obstacle(cursor, full=full)
    if obstacle and (full or not lost):
        return Verdict(Health.DEGRADED, *obstacle)
    if lost and not cursor.failures:
        text = f"no poll was recorded for {silent:.0f} s; check the log of the worker"
        return Verdict(Health.FAILING, text, Cause.NO_POLL)
    verdict = _judge_reads(cursor, now)
    outside = Problem(late, Cause.GROUP_LATE) if late else None
    if withdrawn and outside is None:
        text = withdrawn_words(withdrawn[0], now, cursor.scan.pages)
        outside = Problem(text, Cause.CAPABILITY_WITHDRAWN)
    return Verdict(Health.DEGRADED, *outside) if outside and verdict.health is Health.OK else verdict


def withdrawn_words(item: Withdrawn, now: float, pages: int) -> str:
    """Return what is not used any more, since when, why, what that costs, and what to type.

    `pages`: those of a full scan; 0 if that is not known.
    """
    cost = f"polls need more requests without it{f', up to {pages} each' if pages else ''}"
    return (
        f"the gateway no longer honours its {item.words}, noticed {duration(max(0.0, now - item.at))} ago: "
        f"{item.why.rstrip('.')}. "
        f"Nothing is missed, but {cost}. To test it again: ordersync contract probe"
    )


def _obstacle(cursor: Cursor, *, full: bool) -> Problem | None:
    """Return the obstacle to polling that the worker cannot remove; None if it can poll."""
    if full:
        return Problem(str(RedisFull()), RedisFull.code)
    if cursor.paused:
        return Problem(f"polling is paused: {cursor.paused}", Cause.BACKPRESSURE)
    if cursor.failures and cursor.error_code == RedisFull.code:
        return Problem(cursor.error, RedisFull.code)
    return None


def _judge_reads(cursor: Cursor, now: float) -> Verdict:
    allowed = max(3 * (cursor.interval + cursor.follows), 120.0, cursor.interval + 3 * cursor.scan.seconds)
    # What was fresh in the future was so by a clock that has been put back: it says nothing.
    unknown = is_ahead(cursor.newest_as_of, now)
    age = float("inf") if unknown else now - cursor.newest_as_of
    if cursor.waits(now):
        # A first read has nothing to be fresh: it may take as long from the first refusal on.
        since = cursor.newest_as_of or cursor.wait_since
        is_fresh = not unknown and now - since <= allowed
        return Verdict(Health.DEGRADED if is_fresh else Health.FAILING, _wait(cursor, now), cursor.wait_code)
    if cursor.failures:
        times = "once" if cursor.failures == 1 else f"{cursor.failures} times in a row"
        cause = f"the poll failed {times}: {cursor.error}"
        if cursor.error_code == DataError.code:  # it does not end by itself
            return Verdict(Health.FAILING, cause, cursor.error_code)
        return Verdict(Health.DEGRADED if age <= allowed else Health.FAILING, cause, cursor.error_code)
    if not cursor.baseline and not cursor.lost_at:
        return Verdict(Health.STARTING, *_first_scan(cursor))
    problem = next(_problems(cursor), None)
    if problem is None and cursor.unclean_scans:
        health = Health.STARTING if cursor.reads_again else Health.DEGRADED
        return Verdict(health, NOT_PROVEN, Cause.UNPROVEN_SCAN)
    if unknown:
        problem = Problem(
            "the clock of Redis was put back since the last complete read, so the age of the data is unknown until "
            "the next one",
            Cause.CLOCK_PUT_BACK,
        )
    elif age > allowed and not cursor.suspicious and not cursor.lost_at and not cursor.unread:
        problem = _too_old(cursor, age)
    elif problem is None and _waits_for_full_scan(cursor, now):
        problem = Problem(
            f"polls read a part of the records, and the last full scan began {now - cursor.fresh_as_of:.0f} s ago; "
            f"{_full_scan(cursor)}",
            Cause.OLD_FULL_SCAN,
        )
    return Verdict(Health.DEGRADED, *problem) if problem else Verdict(Health.OK)


def _too_old(cursor: Cursor, age: float) -> Problem:
    if not cursor.follows:
        last = (
            f"the last complete read is {age:.0f} s old"
            if cursor.newest_as_of
            else "it was never read completely"
        )
        return Problem(f"{last}; {_full_scan(cursor)}", Cause.OLD_READ)
    if cursor.unread_since:
        return Problem(
            f"the worker has failed to read some audit logs for {duration(age)}, and tries again; all others are read"
            f"{f'. The last refusal: {cursor.unread_why}' if cursor.unread_why else ''}",
            Cause.UNREAD_LOGS,
        )
    return Problem(
        f"the records that the audit logs belong to were last read {age:.0f} s ago, so new entries may be unknown",
        Cause.OLD_PARENT_READ,
    )


def _full_scan(cursor: Cursor) -> str:
    if not cursor.scan.started:
        return "no full scan is under way"
    of = f" of about {cursor.scan.pages}" if cursor.scan.pages > cursor.scan.page else ""
    return f"the full scan under way is at page {cursor.scan.page + 1}{of}"


def _wait(cursor: Cursor, now: float) -> str:
    left = cursor.wait_until - now
    when = f"the next try is in {left:.0f} s" if left > 0 else "the next try is under way"
    since = max(0.0, now - cursor.wait_since)
    return f"a request is repeated since {since:.0f} s, and {when}: {cursor.wait.rstrip('.')}"


def _waits_for_full_scan(cursor: Cursor, now: float) -> bool:
    """Whether the last full scan is older than it may be, where polls read newer changes or open records alone."""
    allowed = 2 * cursor.complete_every + 3 * cursor.scan.seconds
    return bool(cursor.fresh_as_of and cursor.complete_every) and now - cursor.fresh_as_of > allowed


def _first_scan(cursor: Cursor) -> Problem:
    if cursor.empty_at:
        text = "the first full scan found no records; another one, some minutes later, must find none either"
        return Problem(text, Cause.EMPTY_FIRST_SCAN)
    text = f"the first full scan is {f'at page {cursor.scan.page + 1}' if cursor.scan.page else 'about to start'}"
    return Problem(text, Cause.FIRST_SCAN)


def _problems(cursor: Cursor) -> Iterator[Problem]:
    """Yield the problems of a resource whose polls succeed, the worst first.

    docs/concepts/health.md says what ends each.
    """
    if cursor.lost_at:
        text = f"{cursor.loss}; until a full scan has ended, published data may be older than it was"
        yield Problem(text, Cause.REDIS_LOST_DATA)
    if cursor.suspicious:
        yield Problem(f"the last read is suspect: {cursor.suspicious}", Cause.SUSPECT_READ)
    if cursor.unread:
        yield Problem(f"{cursor.unread}; all other records were read", Cause.UNREAD_RECORDS)
    yield from _missing(cursor)
    if cursor.gaps:
        of = "1 record" if cursor.gaps == 1 else f"{cursor.gaps} records"
        text = f"it cannot be proven that every change of {of} was published; run: ordersync coverage"
        yield Problem(text, Cause.OPEN_GAPS)
    if cursor.stale:
        what = "1 record is" if cursor.stale == 1 else f"{cursor.stale} records are"
        yield Problem(
            f"{what} shown with another content and no later time than was published last; the next read by id, or "
            "full scan, decides",
            Cause.STALE_RECORDS,
        )
    if cursor.unreadable:
        noun = "record" if cursor.unreadable == 1 else "records"
        text = f"{cursor.unreadable} {noun} cannot be read; run: ordersync dead list"
        yield Problem(text, Cause.UNREADABLE_RECORDS)


def _missing(cursor: Cursor) -> Iterator[Problem]:
    """Yield what the last full scans did not find."""
    if cursor.held_back:
        yield Problem(
            f"the last full scan did not find {cursor.held_back} of {cursor.tracked} known records, too many to "
            "publish as deleted. First run: ordersync contract probe. If it shows what you expect of the gateway, look "
            "for some of the records in OrderMesh. Only if they are gone, run: "
            "ordersync resync RESOURCE --accept-deletes",
            Cause.HELD_BACK_DELETIONS,
        )
    elif cursor.doubts > 1 and not cursor.suspicious and not cursor.unread:
        yield Problem(
            "the last full scans missed known records that are there: the list moves while it is read, or leaves "
            "records out; they were read by id where that is possible. Run: ordersync contract probe",
            Cause.MOVING_LIST,
        )
    if cursor.unanswered:
        noun, what = ("record", "it exists") if cursor.unanswered == 1 else ("records", "they exist")
        yield Problem(
            f"{cursor.unanswered} known {noun} left the list, and the read by id is refused or not answered yet, so it "
            f"is not known whether {what}. The log shows the answer in follow_up_failed; after a 403, let "
            "the login read such records again",
            Cause.UNANSWERED_RECORDS,
        )
