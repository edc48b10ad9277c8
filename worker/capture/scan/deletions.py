"""Records that a full scan did not find: deleted, or missed while pages moved.

A record counts as deleted when a full scan did not find it and OrderMesh then answers twice that it does not exist;
where the gateway is not known to answer reads of one record by its id, when two full scans in a row did not find it. A
scan after which more than a share of all records would be deleted is held back, until a person accepts it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from worker.capture.records.diff import Change, decide_deleted
from worker.capture.state import refresh_queue as due
from worker.capture.state.commit import NOTHING, RefreshResult
from worker.capture.state.cursor import CursorUpdate
from worker.capture.state.refresh_queue import CONFIRMATIONS
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from worker.capture.context import PollSession
    from worker.capture.resources import Resource
    from worker.capture.state.cursor import Cursor
    from worker.capture.state.store import StateStore, UnseenRecords

MAX_DELETED = 0.02
"""The share of all records that one full scan may find deleted."""


@dataclass(frozen=True, slots=True)
class Deletions:
    """What follows from a full scan for the records that it did not find.

    Attributes:
        deleted: Records that are deleted.
        refresh: What the commit notes: ids to read, or not to read any more.
        missing: Records that were not found, and will be checked.
        held_back: Records, at least, that were not found, where these are more than may be deleted; else 0.
        accepted: A person has accepted the deletions of this scan, and they have been believed.
        counted: Numbers of records to correct in the cursor.

    """

    deleted: tuple[Change, ...] = ()
    refresh: RefreshResult = NOTHING
    missing: int = 0
    held_back: int = 0
    accepted: bool = False
    counted: CursorUpdate = field(default_factory=CursorUpdate)


def max_deleted(tracked: int) -> int:
    """Return how many of so many records may be deleted without a person's consent: 2 %, and always one."""
    return max(1, int(tracked * MAX_DELETED))


async def find_deletions(session: PollSession, cursor: Cursor, *, accepted: bool) -> Deletions:
    """Return what follows for the records that the full scan which has just ended did not show; log if it is held back.

    Args:
        session: The session of the scan.
        cursor: The cursor as it is now: the scan itself has added to its numbers.
        accepted: A person has accepted that as many are deleted as it may be.

    """
    resource, run = session.options.resource, session.run
    cursor = replace(cursor, buckets=session.buckets)
    result = await _find(session.store, resource, cursor, single=session.options.single, accepted=accepted)
    run.missing = result.missing or result.held_back
    if result.held_back:
        get_logger(account=run.account, resource=run.resource, run_id=run.run_id).warning(
            "deletes_held_back",
            missing=result.held_back,
            tracked=cursor.tracked,
            advice="The full scan did not return more known records than may be deleted at once. Check them "
            f"in OrderMesh. If they are gone, run: ordersync resync {resource.name} --accept-deletes",
        )
    return result


async def _find(
    store: StateStore, resource: Resource, cursor: Cursor, *, single: bool, accepted: bool
) -> Deletions:
    """As `find_deletions`. `single`: the gateway is known to answer reads of one record by its id."""
    seen, before = await store.shown(), await store.all_absent()
    if seen == cursor.tracked:
        return Deletions(refresh=RefreshResult(present=list(before)), accepted=accepted)
    # The cursor, which counts the records, may have been deleted: it is not believed against what was seen.
    limit = max(seen, cursor.tracked)
    result = await store.missing(cursor.buckets, limit if accepted else max_deleted(limit))
    missing, counted = result.identifiers, _counted(result, cursor)
    if not accepted and len(missing) > max_deleted(result.tracked):
        # Which records it did find is not known, so no record has been missing in two scans in a row.
        dealt = NOTHING if single else RefreshResult(present=list(before))
        return Deletions(refresh=dealt, held_back=len(missing), counted=counted)
    names = set(missing)
    shown = [identifier for identifier in before if identifier not in names]
    if single:
        new = [identifier for identifier in missing if identifier not in before]
        # A record that waits for its second check keeps its time, however soon the next full scan ends.
        waiting = await store.waiting([due.record(each) for each in missing if each in before])
        later = {member: 0.0 for item in missing if (member := due.record(item)) not in waiting}
        dealt = RefreshResult(later=later, absent=dict.fromkeys(new, 0), present=shown)
        return Deletions(refresh=dealt, missing=len(missing), accepted=accepted, counted=counted)
    deleted, absent = [], dict[str, int]()
    for identifier in missing:
        times = before.get(identifier, 0) + 1
        change = None
        if times >= CONFIRMATIONS:
            change = decide_deleted(resource, identifier, await store.state_of(identifier, cursor.buckets))
        if change is not None:
            deleted.append(change)
            shown.append(identifier)
        else:
            absent[identifier] = times
    dealt = RefreshResult(absent=absent, present=shown)
    if "tracked" in counted:
        counted["tracked"] -= len(deleted)
    # Accepted deletions need the second scan as well.
    over = accepted and not absent
    return Deletions(tuple(deleted), dealt, missing=len(missing), accepted=over, counted=counted)


def _counted(result: UnseenRecords, cursor: Cursor) -> CursorUpdate:
    counted: CursorUpdate = {}
    if result.tracked != cursor.tracked:
        counted["tracked"] = result.tracked
    if result.places > cursor.places:
        counted["places"] = result.places
    return counted
