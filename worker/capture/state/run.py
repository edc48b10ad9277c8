"""A run: the counts and the outcome of one poll. Its summary is one log line and one entry in the stream of runs."""

from __future__ import annotations

from enum import StrEnum
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

import msgspec

from ordersync_consumer.redaction import words_of
from worker.capture.records.actions import Action
from worker.clock import rfc3339
from worker.ordermesh.http.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.capture.records.diff import Change


class Covered(StrEnum):
    """What a run has read, of what may have changed. Its outcome says only that it came to the end of that."""

    ALL = "all"
    """Every record of the list."""
    NEWER = "newer"
    """The records whose modification time is newer than what was read before: no deletions, no times that went back."""
    OPEN = "open"
    """The records in a status that is not final, and those that have left these statuses."""
    CHANGED = "changed"
    """The audit logs of records whose change was read: an entry that changes no record is not among them."""
    NOTHING = "none"
    """It did not come to an end, or has read single records."""


MIN_OFFSET_LOGGED = 2.0
"""Clock offsets below this number of seconds are reported as 0."""
MAX_OFFSET = 86_400.0
"""With a larger offset (seconds), the server's clock is wrong."""


MIN_MOVED = 1.0
"""A difference of fewer seconds between two clocks over one run is noise."""


def time_by_server(now: float, offset: float) -> float:
    """Return the time by the server's clock where ours says `now`, as near as it can be told (seconds since 1970).

    A server that gives whole seconds is not told from ours.
    """
    return now + offset if MIN_OFFSET_LOGGED <= abs(offset) <= MAX_OFFSET else now


class Outcome(StrEnum):
    """How a run ended."""

    COMPLETE = "complete"
    PARTIAL = "partial"
    """Its time slice ended; the next run continues."""
    STOPPED = "stopped"
    """The worker was asked to stop; the next run continues."""
    PAUSED = "paused"
    """Backpressure, after which polling resumes automatically; or a user has paused the resource."""
    SUSPICIOUS = "suspicious"
    """The read reached the end, but its result is suspect. The records that it returned were published."""
    FAILED = "failed"
    HELD = "held"
    """Another worker is reading the resource."""


_READ = ("pages", "records", "unchanged", "outside", "noise", "stale", "unreadable", "parked", "erased")
"""The counts of what was read and not published."""


class Run(msgspec.Struct):
    """The counts of one poll. Times in seconds.

    Attributes:
        began: When the run began, by the monotonic clock.
        started_at: When the run began, since 1970.
        total: The last total that the server reported.
        latest: The newest modification read, in milliseconds since 1970.
        scan_age: Seconds since the full scan began that the run has resumed; None if it resumed none.
        covered: What the run has read to its end.
        bare: The read of newer records returned nothing although at least one record was expected.
        withheld: Values that the privacy policy removed because their fields are not known.
        left: The fields of the cursor by which the schedule goes (`lanes.FIELDS`), as the run has left them, if it has
            committed once and its refresh queue is empty; else None.

    """

    run_id: str
    account: str
    resource: str
    plan: str
    reason: str
    began: float
    started_at: float
    outcome: Outcome = Outcome.PARTIAL
    pages: int = 0
    records: int = 0
    snapshot: int = 0
    created: int = 0
    updated: int = 0
    deleted: int = 0
    recorded: int = 0
    unchanged: int = 0
    outside: int = 0
    silent: int = 0
    noise: int = 0
    stale: int = 0
    unreadable: int = 0
    parked: int = 0
    erased: int = 0
    follow_ups: int = 0
    missing: int = 0
    drift: int = 0
    freshness: float | None = None
    covered: Covered = Covered.NOTHING
    scan_age: float | None = None
    total: int = 0
    latest: int = 0
    bare: bool = False
    withheld: int = 0
    error: str = ""
    error_code: str = ""
    trace_id: str = ""
    usage: Usage = msgspec.field(default_factory=Usage)
    left: tuple[bytes | None, ...] | None = None

    @property
    def published(self) -> int:
        """Events written."""
        return self.snapshot + self.created + self.updated + self.deleted + self.recorded

    def add_plan(self, plan: str) -> None:
        """Add a strategy to `plan`."""
        if plan != "open" or not self.plan.endswith(plan):  # open records are read once per status
            self.plan = f"{self.plan}+{plan}".strip("+")

    def count_page(self, records: int, changes: Iterable[Change]) -> None:
        """Count a committed page."""
        self.pages += 1
        self.records += records
        self.unchanged += max(0, records - self.count(changes))

    def count(self, changes: Iterable[Change]) -> int:
        """Count committed changes by action; return their number."""
        total = 0
        for action, group in groupby(changes, attrgetter("action")):  # nearly always the same
            count = len(list(group))
            setattr(self, action.value, getattr(self, action.value) + count)
            total += count
        return total

    def add(self, other: Run, *, is_part: bool = False) -> None:
        """Add what another run has published and found, its requests and its time, before or after this one.

        `is_part`: the one went on where the other had stopped, so that the records of both are what was read.
        """
        found = (
            *(action.value for action in Action),
            "recorded",
            "silent",
            "follow_ups",
            "drift",
            "withheld",
        )
        for name in found + (_READ if is_part else ()):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.usage.requests += other.usage.requests
        self.usage.retries += other.usage.retries
        self.began, self.started_at = min((self.began, self.started_at), (other.began, other.started_at))

    def end(self, outcome: Outcome, error_code: str = "", error: str = "") -> None:
        """Set how the run has ended."""
        self.outcome, self.error_code, self.error = outcome, error_code, error

    def fail(self, code: str, error: BaseException) -> None:
        """End the run with an error. Committed pages stay."""
        self.end(Outcome.FAILED, code, words_of(error))

    def clock_moved(self, now: float, monotonic: float) -> float:
        """Return the seconds by which the clock was put forward since the run began, less than 0 if it was put back.

        Args:
            now: The current time, in seconds since 1970.
            monotonic: The same, by the monotonic clock.

        """
        moved = (now - self.started_at) - (monotonic - self.began)
        return moved if abs(moved) >= MIN_MOVED else 0.0

    def summary(self, now: float) -> dict[str, str | int | float]:
        """Return the fields of the summary line at `now` (monotonic): counts, cost, time."""
        fields: dict[str, str | int | float] = {
            "run_id": self.run_id,
            "trace_id": self.trace_id,
            "account": self.account,
            "resource": self.resource,
            "plan": self.plan,
            "reason": self.reason,
            "outcome": self.outcome.value,
            "covered": self.covered.value,
            "pages": self.pages,
            "records": self.records,
            **{action.value: getattr(self, action.value) for action in Action},
            "recorded": self.recorded,
            "follow_ups": self.follow_ups,
            "missing": self.missing,
            "drift": self.drift,
            "unchanged": self.unchanged,
            "requests": self.usage.requests,
            "retries": self.usage.retries,
            "budget_wait_s": round(self.usage.budget_wait, 3),
            "duration_s": round(now - self.began, 3),
        }
        if self.total and not self.plan.endswith("open"):  # that is how many records the last status has
            fields["total"] = self.total
        if self.latest:
            fields["newest"] = rfc3339(self.latest / 1000)
        if self.usage.clock_offset is not None:
            # The Date header has whole seconds, and the response may have been delayed.
            significant = abs(self.usage.clock_offset) >= MIN_OFFSET_LOGGED
            fields["clock_offset_s"] = round(self.usage.clock_offset, 1) if significant else 0.0
        if self.freshness is not None:
            fields["freshness_s"] = round(self.freshness, 3)
        if self.scan_age is not None:
            fields["scan_age_s"] = round(self.scan_age, 3)
        if self.withheld:
            fields["withheld"] = self.withheld
        if self.error_code:
            fields["error_code"], fields["error"] = self.error_code, self.error
        return fields
