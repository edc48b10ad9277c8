"""What follows for the cursor from a read: how far it has come, and what may be concluded at its end. No I/O.

Two rules keep a change from being missed. The mark, where a later read of newer changes begins, never passes what this
read can have missed; and freshness is claimed only where everything was read, and the evidence is believed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from worker.capture.failures import classify
from worker.capture.lanes import next_poll
from worker.capture.scan.discovery import Discovery
from worker.capture.scan.sanity import server_time
from worker.capture.scan.strategy import Strategy
from worker.capture.state.cursor import MAX_UNCLEAN, SCAN_OVER, fresh_after

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.capture.scan.paginators import FullScanPaginator
    from worker.capture.scan.strategy import ScanStep
    from worker.capture.state.cursor import Cursor, CursorUpdate

MAX_STATUSES = 100
"""A field with more values than this is not a status."""
NO_STATUSES_YET = "\n"
"""The statuses of a full scan that has just begun."""


@dataclass(frozen=True, slots=True)
class ScanResult:
    """What a read has shown: a full scan over all its runs, any other in this one. Times in seconds since 1970.

    Attributes:
        started_at: When the read began.
        run_started_at: When this run of it began.
        spent: Seconds for which it was read.
        interval, phase: Seconds between two polls of the resource, and at which part of it they are due.
        seen: Records read.
        changed: Those among them that had changed.
        newest: The latest modification that was read (milliseconds since 1970), never less than the cursor's.
        unreadable: Records that cannot be read.
        withheld: Records that were not published, since nothing says that they are of this account.
        withheld_ids: A sample of them.
        is_likely: All else speaks for the records that were withheld.
        complete: Every record of this run could be read.
        pages: Pages with records; None where a keyset scan has no page numbers.
        statuses: The statuses of the records, as in `FullScanProgress`.
        first_scan_at: As in the cursor.
        began: As in `FullScanProgress`.
        discovery: What the scan has found that nobody knew.
        is_still: It was read in one go, and nothing in the list has moved or changed meanwhile.
        proven: It is evidence that no record is unknown that existed when the first full scan began.
        clock_offset: Seconds by which the server's clock is ahead of ours.
        anomaly: What speaks against the read, in words; empty where nothing does.
        unread: Which records the server does not serve, in words; `unread_records`: how many.
        holes: The same as JSON.
        bare: A read of newer changes in this run was empty, where it should have shown something.
        moved: Known records were not found that are there, or may be: others may have been missed as well.
        missing: Known records that were not found, and are not known to be there.
        held_back: Records that were not found, where these are more than may be deleted at once.
        doubts: How much speaks against the last full scans, as in the cursor.
        again: The list is to be read again at once.
        unanswered: Records that were not found, and whose read by id is refused, or not answered yet.

    """

    started_at: float
    run_started_at: float
    interval: float
    phase: float | None = None
    spent: float = 0.0
    seen: int = 0
    changed: int = 0
    newest: int = 0
    unreadable: int = 0
    withheld: int = 0
    withheld_ids: str = ""
    is_likely: bool = False
    complete: bool = True
    pages: int | None = None
    statuses: str = ""
    first_scan_at: int = 0
    began: int = 0
    discovery: Discovery = field(default_factory=Discovery)
    is_still: bool = True
    proven: bool = True
    clock_offset: float = 0.0
    anomaly: str = ""
    unread: str = ""
    unread_records: int = 0
    holes: str = ""
    bare: bool = False
    moved: bool = False
    missing: int = 0
    held_back: int = 0
    doubts: int = 0
    again: bool = False
    unanswered: int = 0


def checkpoint(step: ScanStep, result: ScanResult) -> CursorUpdate:
    """Return what each commit of a full scan writes, beside how far its paginator has come. Other steps start over."""
    return {
        **result.discovery.fields,
        "sweep_began": result.began,
        "sweep_size": step.page_size,
        "sweep_started": result.started_at,
        "sweep_unreadable": result.unreadable,
        "sweep_withheld": result.withheld,
        "sweep_withheld_ids": result.withheld_ids,
        "sweep_seen": result.seen,
        "sweep_changed": result.changed,
        "sweep_statuses": result.statuses,
        "sweep_plan": step.plan,
        "sweep_unread": result.holes,
        "sweep_spent": round(result.spent, 3),
        "newest": result.newest,
        "first_scan_at": result.first_scan_at,
    }


def conclude(
    step: ScanStep, result: ScanResult, cursor: Cursor, now: float, *, confirm_after: float
) -> CursorUpdate:
    """Return what the end of a read writes, which `result` describes, to the `cursor` as it is then.

    `confirm_after`: seconds after which a second empty list confirms a first one, where no record is known yet.
    """
    if result.anomaly:
        return _suspect(step, result)
    moved = _watermark(step, result, cursor, now)
    if not result.complete:
        # The records are parked now and do not keep the next read from its end, but this one did not see everything.
        return moved
    done: CursorUpdate = {
        **moved,
        "due_at": now if result.again else next_poll(result.started_at, result.interval, result.phase),
        "withheld_ids": "",
        "failures": 0,
        "error": "",
        "error_code": "",
    }
    if not step.is_fast:
        done |= _full_scan(result, cursor, now, mark=moved["mark"])
        done |= _baseline(result, cursor, confirm_after)
    unclean = done.get("unclean_scans", 0)
    if 0 < unclean < MAX_UNCLEAN and not result.unread:
        done["due_at"] = now
    if not (unclean or result.moved or result.unread) and done.get("baseline", True):
        done |= {**fresh_after(step.covers, result.started_at), "last_success": now}
    return done


def fail(paginator: FullScanPaginator, error: Exception) -> CursorUpdate:
    """Return what a full scan writes that has failed.

    Where it got no further than the run before it, it starts over: otherwise one page that cannot be read would keep
    the pages before it from ever being read again.
    """
    fields: CursorUpdate = {"sweep_pages": paginator.expected, "sweep_short": paginator.short}
    if classify(error).is_of_one_request and not paginator.advanced:
        fields |= {"sweep_page": 0, "sweep_started": 0}
    return fields


def merge_statuses(before: str, found: Iterable[str]) -> str:
    """Return the statuses of a scan, each after a line break; empty where it has not looked at all of its records."""
    seen = {*before.split("\n"), *found} - {""}
    if not before or len(seen) > MAX_STATUSES or any("\n" in item for item in seen):
        return ""
    return "\n" + "\n".join(sorted(seen))


def _watermark(step: ScanStep, result: ScanResult, cursor: Cursor, now: float) -> CursorUpdate:
    """Return how far changes have been read."""
    unreadable = max(result.unreadable, cursor.unreadable if step.is_fast else 0)
    if step.strategy is Strategy.OPEN:
        # A record that has changed in another status was not read: a later filter must not begin after that.
        return {"unreadable": unreadable}
    # A change during the read may have been missed on pages that were read before. None of these is older than the
    # newest record read, less the time that the read took.
    passed = max(0.0, now - result.started_at)
    mark = int(min(result.newest, server_time(now, result.clock_offset) * 1000) - passed * 1000)
    moved: CursorUpdate = {
        "mark": cursor.mark if result.moved else max(mark, cursor.mark),
        "newest": result.newest,
        "unreadable": unreadable,
    }
    return moved if step.is_fast else {**moved, **SCAN_OVER}


def _full_scan(result: ScanResult, cursor: Cursor, now: float, *, mark: int) -> CursorUpdate:
    """Return what a full scan settles that is believed."""
    by_page = result.pages is not None
    return {
        "sweep_seconds": now - result.started_at,
        "sweep_pages": cursor.scan.pages if result.pages is None else result.pages,
        "sweep_short": 0,
        "swept_at": 0.0 if result.again else result.started_at,
        "lost_at": cursor.lost_at if result.again else 0.0,
        "lost_before": cursor.lost_before if result.again else 0,
        "swept_mark": mark,
        "swept_records": result.seen,
        "suspect_records": 0,
        "suspicious": "",
        "statuses": result.statuses.strip("\n"),
        "bare": result.newest if result.bare else cursor.bare,
        # Where no more records are known than a list shows, it only looked capped.
        "capped": 0 if by_page or cursor.tracked <= cursor.capped else cursor.capped,
        "held_back": result.held_back,
        "doubts": result.doubts,
        "unanswered": result.unanswered,
        "sweep_failed": 0,
        "unread": result.unread,
        "unread_records": result.unread_records,
    }


def _first_scans(result: ScanResult, cursor: Cursor) -> CursorUpdate:
    """Return what the first full scans settle: which new records existed before them, and whether none is unknown.

    By the records' own clock that is not after the newest record of the first one: if that clock is slow, records that
    are created from now on must not be taken for older ones.
    """
    if not cursor.baseline:
        newest = result.newest or result.first_scan_at
        return {"unclean_scans": int(not result.proven), "first_scan_at": min(result.first_scan_at, newest)}
    if not cursor.unclean_scans or result.proven:
        return {"unclean_scans": 0}
    return {"unclean_scans": min(cursor.unclean_scans + 1, MAX_UNCLEAN)}


def _baseline(result: ScanResult, cursor: Cursor, confirm_after: float) -> CursorUpdate:
    """Return whether new records are `created` from now on.

    An empty list is believed when another one, later, agrees: it may be an outage, after which all records would seem
    to be created.
    """
    if cursor.baseline or result.seen:
        return {"baseline": True, "empty_at": 0.0, **_first_scans(result, cursor)}
    empty_at = cursor.empty_at or result.started_at
    if result.started_at - empty_at < confirm_after:
        return {"baseline": False, "empty_at": empty_at}
    return {"baseline": True, "empty_at": empty_at, **_first_scans(result, cursor)}


def _suspect(step: ScanStep, result: ScanResult) -> CursorUpdate:
    """Return what a read writes whose evidence speaks against it: nothing is concluded from it."""
    fields: CursorUpdate = {
        "suspicious": result.anomaly,
        "withheld_ids": result.withheld_ids if result.is_likely else "",
        "due_at": next_poll(result.run_started_at, result.interval, result.phase),
        "failures": 0,
        "error": "",
        "error_code": "",
    }
    full_scan: CursorUpdate = {"suspect_records": result.seen, "doubts": result.doubts, **SCAN_OVER}
    return fields if step.is_fast else {**fields, **full_scan}
