"""The cursor of a resource: where its next poll starts, and how the last ones went. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import msgspec

from worker.capture.state.full_scan import FullScanProgress
from worker.capture.state.run import Covered
from worker.errors import DataError
from worker.redis.stored import MOST, UNREADABLE, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping

BACKLOG_DONE = "done"
"""The position behind the last record whose audit logs of the past are to be read."""
MAX_ATTEMPT = 60.0
"""Seconds after which the attempt of a request that waited has ended, or its worker has."""


class CursorUpdate(TypedDict, total=False):
    """The fields of the cursor that a commit writes; `Cursor` and `FullScanProgress` say what they mean.

    The commit script writes `sequence`, `committed` and `stale`, `renumber.lua` writes `generation`, and reconciliation
    `gaps`.
    """

    accepted_deletes: int
    backlog: str
    backlog_began: float
    backlog_buckets: int
    baseline: bool
    buckets: int
    bare: int
    capped: int
    doubts: int
    due_at: float
    empty_at: float
    error: str
    error_code: str
    failing_since: float
    failures: int
    follows: float
    first_scan_at: int
    fresh_as_of: float
    part_as_of: float
    part: str
    generation: int
    held_back: int
    interval: float
    complete_every: float
    last_started: float
    last_success: float
    loss: str
    lost: int
    lost_at: float
    lost_before: int
    lost_states: int
    mark: int
    newest: int
    paused: str
    places: int
    statuses: str
    suspect_records: int
    suspicious: str
    swept_at: float
    swept_mark: int
    swept_records: int
    tracked: int
    unanswered: int
    withheld_ids: str
    unclean_scans: int
    unread: str
    unread_records: int
    unread_since: float
    unread_why: str
    unreadable: int
    wait: str
    wait_code: str
    wait_since: float
    wait_until: float
    sweep_after: str
    sweep_again: bool
    sweep_began: int
    sweep_changed: int
    sweep_drift: int
    sweep_failed: int
    sweep_found: int
    sweep_known: int
    sweep_listed: int
    sweep_moved: int
    sweep_page: int
    sweep_pages: int
    sweep_plan: str
    sweep_restarted: bool
    sweep_seconds: float
    sweep_seen: int
    sweep_since: int
    sweep_short: int
    sweep_size: int
    sweep_spent: float
    sweep_started: float
    sweep_statuses: str
    sweep_total: int
    sweep_unread: str
    sweep_unreadable: int
    sweep_watch: str
    sweep_width: int
    sweep_withheld: int
    sweep_withheld_ids: str


SCAN_OVER: CursorUpdate = {
    "sweep_page": 0,
    "sweep_started": 0,
    "sweep_seen": 0,
    "sweep_changed": 0,
    "sweep_drift": 0,
    "sweep_began": 0,
    "sweep_listed": 0,
    "sweep_known": 0,
    "sweep_found": 0,
    "sweep_moved": 0,
    "sweep_withheld": 0,
    "sweep_withheld_ids": "",
    "sweep_again": False,
    "sweep_statuses": "",
    "sweep_plan": "",
    "sweep_spent": 0,
    "sweep_restarted": False,
    "sweep_after": "",
    "sweep_watch": "",
    "sweep_unread": "",
}
"""No full scan is under way."""
MAX_UNCLEAN = 3
"""Full scans without evidence, one right after the other, after which the next ones begin when they are due."""


def fresh_after(covered: Covered, started_at: float) -> CursorUpdate:
    """Return how fresh a resource is after a complete read that began at `started_at` (seconds since 1970).

    A later time that the read before has left was written by a clock that has been put back since.
    """
    if covered is Covered.ALL:
        return {"fresh_as_of": started_at}
    return {"part_as_of": started_at, "part": covered.value}


class Cursor(msgspec.Struct, frozen=True):
    """Where the next poll of a resource starts, and how the last ones went. Times in seconds since 1970.

    Attributes:
        baseline: A full scan has ended: new records are published as created, not as snapshots.
        first_scan_at: When the first full scan began, by the clock of the server (milliseconds since 1970): a record
            that was created before then is published as a snapshot, also by a later scan; 0 if that is not known.
        unclean_scans: Full scans that have ended so far, if none of them is evidence that no record is unknown
            (`scan/discovery.py`), at most `MAX_UNCLEAN`; 0 once one was.
        empty_at: When the first full scan of all began, if neither it nor one since has found a record; else 0.
        scan: Progress of the full scan.
        capped: Records after which the server ends every list; 0 where it does not.
        swept_at: When the last full scan began that has ended.
        swept_mark: `mark` at its end.
        swept_records: Records that the last full scan read which was not suspect.
        suspect_records: Records that the last suspect full scan read.
        suspicious: Why the last read is suspect, in words.
        bare: The `newest` after which a window was empty, and a full scan has shown that it may be.
        statuses: The statuses that the last full scan found, one per line.
        buckets: Number of hashes that keep the states of the records.
        sequence: Number of the last event.
        committed: The id of the last commit that has changed a state; "" for none.
        generation: The number above which the sequence and all versions go on since Redis has lost some that were given
            out; 0 if it never did.
        loss: What Redis has lost the last time, in words.
        lost: Events that it has lost at least; 0 if that is not known.
        lost_before: A record that was created before then (milliseconds since 1970, by the clock of the server) was
            known, so that it is not created, though its state is gone; 0 if none is gone since the last full scan.
        lost_states: States of records that Redis has lost in the life of the cursor.
        lost_at: When that was noticed; 0 after a full scan has ended since.
        tracked: Records that are known and not deleted.
        places: Places given to records so far.
        newest: The latest modification that was read (milliseconds since 1970, by the records' own times).
        mark: Every change of a record up to then (likewise) has been read, and a read of newer changes may begin
            there; 0 for none.
        fresh_as_of: Everything that changed before then has been published, but for `stale` records: the last read that
            covers everything began then.
        part_as_of: Likewise of a part: the last read of newer changes, of open records, or of due audit logs.
        part: Which part that is, a `Covered`; "" for none.
        last_success: When the last read ended that was complete.
        last_started: When the last poll began.
        due_at: When the next poll is due.
        interval: Seconds between two polls.
        complete_every: Seconds between two full scans, where polls read a part.
        follows: Of audit logs: seconds between two polls of the records whose changes make the logs due; else 0.
        unread_since: Since when an audit log that is due cannot be read; 0 if each can.
        unread_why: Why the last of them could not be read, in words.
        failures: Polls that have failed in a row.
        failing_since: When the first of them failed.
        wait: Why a request of the poll under way is sent again, in words; "" if none is.
        wait_code: The code of the error for which it is.
        wait_since: When its first attempt failed.
        wait_until: When its next attempt begins.
        unreadable: Records that the last read could not read.
        unread: Which records the last full scan could not get from the server, in words; `unread_records`: how many.
        stale: Records that are shown with another content and an older time than were published last. The commit
            script counts them.
        error: The last failure, in words.
        error_code: Its code.
        paused: Why polling pauses (backpressure), in words.
        doubts: How much speaks against the last full scans in a row: one for a scan that missed records which can be
            read by their id, two for one that missed many; 0 where the last one missed none.
        held_back: Records that the last full scan did not find, where these are more than it may delete at once.
        withheld_ids: A sample of the records that the last read has not published, since their pages show no known
            record, where all else speaks for them: the next read publishes pages that show one of the sample again.
        accepted_deletes: Missing records that a person has accepted to be deleted, and that are not all confirmed yet.
        backlog: How far the audit logs of records of the past have been read: a `ScanPosition` in the states of the
            records as text, or `BACKLOG_DONE`; "" where none was.
        backlog_began: When that began.
        backlog_buckets: The number of hashes that keep the states of the records.
        unanswered: Records that the last full scan did not find, and whose read by id is refused or not answered yet.
        gaps: Records whose audit logs list changes that could not be shown to be published.

    """

    baseline: bool = False
    first_scan_at: int = 0
    unclean_scans: int = 0
    empty_at: float = 0.0
    scan: FullScanProgress = msgspec.field(default_factory=FullScanProgress)
    capped: int = 0
    swept_records: int = 0
    suspect_records: int = 0
    suspicious: str = ""
    bare: int = 0
    statuses: str = ""
    buckets: int = 0
    sequence: int = 0
    committed: str = ""
    generation: int = 0
    loss: str = ""
    lost: int = 0
    lost_at: float = 0.0
    lost_before: int = 0
    lost_states: int = 0
    tracked: int = 0
    places: int = 0
    newest: int = 0
    mark: int = 0
    swept_at: float = 0.0
    swept_mark: int = 0
    fresh_as_of: float = 0.0
    part_as_of: float = 0.0
    part: str = ""
    last_success: float = 0.0
    last_started: float = 0.0
    due_at: float = 0.0
    interval: float = 0.0
    complete_every: float = 0.0
    follows: float = 0.0
    unread_since: float = 0.0
    unread_why: str = ""
    failures: int = 0
    failing_since: float = 0.0
    wait: str = ""
    wait_code: str = ""
    wait_since: float = 0.0
    wait_until: float = 0.0
    unreadable: int = 0
    unread: str = ""
    unread_records: int = 0
    stale: int = 0
    error: str = ""
    error_code: str = ""
    paused: str = ""
    doubts: int = 0
    held_back: int = 0
    accepted_deletes: int = 0
    unanswered: int = 0
    withheld_ids: str = ""
    gaps: int = 0
    backlog: str = ""
    backlog_began: float = 0.0
    backlog_buckets: int = 0

    @property
    def events(self) -> int:
        """The number of events, since Redis has lost some if it did."""
        return self.sequence - self.generation

    @property
    def reads_again(self) -> bool:
        """Whether the next full scan is due at once; until it ends, a new record without a time is a snapshot."""
        return 0 < self.unclean_scans < MAX_UNCLEAN

    def waits(self, now: float) -> bool:
        """Whether OrderMesh makes a poll wait `now` (seconds since 1970): a killed worker does not take that back."""
        return bool(self.wait) and now <= self.wait_until + MAX_ATTEMPT

    @property
    def newest_as_of(self) -> float:
        """When the last complete read began, of everything or of a part."""
        return max(self.fresh_as_of, self.part_as_of)

    @classmethod
    def parse(cls, fields: Mapping[bytes, bytes], key: str = "of the resource") -> Cursor:
        """Return the cursor from the fields of its hash in Redis, which has the name `key`.

        Raises:
            DataError: A value is not one that this program writes.

        """
        try:
            text = {text_of(name): value.decode() for name, value in fields.items()}
            scan = msgspec.convert(text, FullScanProgress, strict=False)
            cursor = msgspec.structs.replace(msgspec.convert(text, cls, strict=False), scan=scan)
            _check_numbers(cursor)
            _check_numbers(scan)
        except (ValueError, *UNREADABLE) as error:
            raise DataError(
                f"the cursor {key} cannot be read: {error}. If it was edited, restore the old value, or delete the "
                "whole key: the worker then counts the records again and reads everything."
            ) from None
        return cursor


_COUNTED = frozenset({"buckets", "generation", "page", "places", "sequence"})
"""Numbers that count or number something, and are never negative."""


def _check_numbers(values: Cursor | FullScanProgress) -> None:
    """Raise `ValueError` if a number is not one that the worker writes."""
    for name in values.__struct_fields__:
        value = getattr(values, name)
        lowest = 0 if name in _COUNTED else -MOST
        if isinstance(value, int | float) and not lowest <= value <= MOST:
            raise ValueError(f"{name} is {value}")
