"""Records that a full scan did not find: deleted, or missed while pages moved.

Each of them is asked for by its id before anything is concluded; of very many only some are. One that is there is
drift: it is published if it has changed, and the scan is not believed to have read everything. One that does not exist
is deleted once OrderMesh has answered so twice, minutes apart. Where the gateway is not known to answer reads of one
record by its id, two full scans in a row, minutes apart, must not have found it.

A scan after which very many would be deleted, or that has missed many which are there, speaks against the contract with
the gateway: it is probed, and the list is read again. If as many are still gone, they are held back until a person
accepts it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec

from worker.capture.records.diff import Change, decide_deleted
from worker.capture.scan.missing import ask
from worker.capture.state import refresh_queue as due
from worker.capture.state.commit import NOTHING, RefreshResult
from worker.capture.state.cursor import CursorUpdate
from worker.capture.state.refresh_queue import CONFIRMATIONS
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.capture.gate import Stop
    from worker.capture.scan.conclusion import ScanResult
    from worker.capture.session import PollSession
    from worker.capture.state.cursor import Cursor
    from worker.capture.state.store import UnseenRecords

MAX_DELETED = 0.02
"""The share of all records that one full scan may find deleted."""
FEW, FEW_UNPROVEN = 50, 5
"""As many may be deleted whatever their share, up to half of all: where each answers that it does not exist, and where
no record can be read by its id."""
MAX_ASKED = 500
"""Missing records that are all asked for by id; of more than this, and than may be deleted, a sample is."""
SAMPLE = 100
MANY_MOVED = 20
"""Missing records that are there: more than this speak against the contract at once."""


@dataclass(frozen=True, slots=True)
class Deletions:
    """What follows from a full scan for the records that it did not find.

    Attributes:
        deleted: Records that are deleted.
        refresh: What the commit notes: ids to read, or not to read any more.
        missing: Records that were not found, and are not known to be there.
        moved: Records that were not found are there, or may be: the scan is not believed to have read everything.
        held_back: Records that were not found, where these are more than may be deleted; else 0.
        doubts: As in the cursor.
        probe: The contract with the gateway is to be probed, and the list to be read again, before more is concluded.
        unanswered: Missing records whose read by id was refused, or has to wait.
        accepted: A person has accepted the deletions of this scan, and they have been believed.
        counted: Numbers of records to correct in the cursor.
        stop: The read must end before all records were asked for.

    """

    deleted: tuple[Change, ...] = ()
    refresh: RefreshResult = NOTHING
    missing: int = 0
    moved: bool = False
    held_back: int = 0
    doubts: int = 0
    probe: bool = False
    unanswered: int = 0
    accepted: bool = False
    counted: CursorUpdate = field(default_factory=CursorUpdate)
    stop: Stop | None = None

    @property
    def again(self) -> bool:
        """Whether the list is to be read again at once: it speaks against itself for the first time, or is probed."""
        return self.probe or (self.moved and self.doubts == 1)

    def describe(self, result: ScanResult, anomaly: str) -> ScanResult:
        """Return the result of the scan with what follows for these records, and with what speaks against it."""
        return replace(
            result,
            anomaly=anomaly,
            moved=self.moved,
            missing=self.missing,
            held_back=self.held_back,
            doubts=self.doubts,
            again=self.again,
            unanswered=self.unanswered,
        )


def max_deleted(tracked: int, few: int = FEW) -> int:
    """Return how many of so many records may be deleted without a person's consent: 2 %, or `few` up to half of all."""
    return max(1, int(tracked * MAX_DELETED), min(few, (tracked + 1) // 2))


def weigh(before: int, *, drift: int, many: bool) -> int:
    """Return the doubts after a full scan, as in the cursor.

    Args:
        before: The doubts before it.
        drift: Records that it missed, and that are there, or may be.
        many: It missed more records than may be deleted.

    """
    if not drift and not many:
        return 0
    return before + (2 if many or drift > MANY_MOVED else 1)


def unbelieved(cursor: Cursor) -> Deletions:
    """Return what follows from a full scan whose evidence speaks against it: the contract may have changed."""
    doubts = weigh(cursor.doubts, drift=0, many=True)
    return Deletions(doubts=doubts, probe=cursor.doubts < 2 <= doubts)


async def find_deletions(
    session: PollSession, cursor: Cursor, *, accepted: bool, scan: float, deadline: float
) -> Deletions:
    """Return what follows for the records that the full scan which has just ended did not show; log if it is held back.

    Args:
        session: The session of the scan.
        cursor: The cursor as it is now: the scan itself has added to its numbers.
        accepted: A person has accepted that as many are deleted as it may be.
        scan: When the full scan began (seconds since 1970).
        deadline: When the time of the scan is over, by the monotonic clock.

    Raises:
        OrderMeshError: The gateway became unavailable while records were asked for.
        LeaseLost: Another worker has taken over.

    """
    run, resource = session.run, session.options.resource.name
    result = await _find(
        session,
        msgspec.structs.replace(cursor, buckets=session.buckets),
        accepted=accepted,
        scan=scan,
        deadline=deadline,
    )
    if result.stop is not None:
        return result
    run.missing = result.missing
    said, now = session.context.held_back, session.clock.monotonic()
    if not result.held_back:
        said.forget_all(resource)
    elif said.allow(resource, now):
        get_logger(account=run.account, resource=run.resource, run_id=run.run_id).warning(
            "deletes_held_back",
            missing=result.held_back,
            tracked=cursor.tracked,
            repeated=said.held_back(resource),
            advice="The full scan did not find more known records than may be deleted at once, also after the "
            "contract was probed again. First run: ordersync contract probe. If it shows what you expect of the "
            f"gateway, look for some of the records in OrderMesh. Only if they are gone, run: ordersync resync "
            f"{resource} --accept-deletes",
        )
    return result


async def _find(
    session: PollSession, cursor: Cursor, *, accepted: bool, scan: float, deadline: float
) -> Deletions:
    store, single = session.store, session.options.single
    seen, before = await store.shown(), await session.all_absent()
    if seen == cursor.tracked and not cursor.scan.drift:
        nothing: CursorUpdate = {"accepted_deletes": 0}
        return Deletions(refresh=RefreshResult(present=list(before)), accepted=accepted, counted=nothing)
    # The cursor, which counts the records, may have been deleted: it is not believed against what was seen.
    known = max(seen, cursor.tracked)
    limit = max_deleted(known, FEW if single else FEW_UNPROVEN) + cursor.accepted_deletes
    unseen = await store.missing(cursor.buckets, known if accepted else max(limit, MAX_ASKED))
    limit = max_deleted(unseen.tracked, FEW if single else FEW_UNPROVEN) + cursor.accepted_deletes
    if single:
        return await _judge(
            session, cursor, unseen, before, limit=limit, accepted=accepted, scan=scan, deadline=deadline
        )
    return await _judge_unproven(session, cursor, unseen, before, limit=limit, accepted=accepted)


async def _judge(
    session: PollSession,
    cursor: Cursor,
    unseen: UnseenRecords,
    before: Mapping[str, int],
    *,
    limit: int,
    accepted: bool,
    scan: float,
    deadline: float,
) -> Deletions:
    """Conclude where records can be read by their id: ask for those that have not answered yet."""
    names = unseen.identifiers
    if not accepted and unseen.count > max(limit, MAX_ASKED):
        names = names[:SAMPLE]  # they come in the order of a hash
    # A record whose read was refused is asked for again by the refresh queue, which waits longer and longer.
    waiting = await session.store.waiting([due.record(each) for each in names])
    open_ones = [each for each in names if not before.get(each) and due.record(each) not in waiting]
    asked = await ask(session, open_ones[:MAX_ASKED], scan=scan, deadline=deadline)
    if asked.stop is not None:
        return Deletions(stop=asked.stop)
    counted = _counted(unseen, cursor)
    missing, drift = unseen.count - len(asked.found), cursor.scan.drift + len(asked.found)
    many = not accepted and missing > limit
    # They are confirmed later, and until then each full scan misses them again.
    counted["accepted_deletes"] = missing if accepted else min(missing, cursor.accepted_deletes)
    doubts = 0 if accepted else weigh(cursor.doubts, drift=drift, many=many)
    probe = cursor.doubts < 2 <= doubts
    there, unseen_names = set(asked.found), set(unseen.identifiers)
    answered = {each for each in names if before.get(each)} | set(asked.gone)
    unanswered = [each for each in names if each not in answered | there]
    # When each is read again. One that waits in the refresh queue keeps its time, however soon the next full scan ends.
    first = {due.record(each): session.options.confirm_after for each in asked.gone}
    later = {
        member: first.get(member, 0.0)
        for each in names
        if each not in there and (member := due.record(each)) not in waiting
    }
    return Deletions(
        refresh=RefreshResult(
            later={} if many else later,
            absent=dict.fromkeys((each for each in unanswered if each not in before), 0),
            present=[each for each in before if each not in unseen_names] + asked.found,
        ),
        missing=missing,
        moved=drift > 0 or probe,
        held_back=missing if many and cursor.doubts >= 2 else 0,
        doubts=doubts,
        probe=probe,
        unanswered=len(unanswered),
        accepted=accepted,
        counted=counted,
    )


async def _judge_unproven(
    session: PollSession,
    cursor: Cursor,
    unseen: UnseenRecords,
    before: Mapping[str, int],
    *,
    limit: int,
    accepted: bool,
) -> Deletions:
    """Conclude where no record can be read by its id: two full scans, minutes apart, must have missed the same ones.

    Meanwhile a record waits in the refresh queue, which then requests the second full scan.
    """
    resource, counted = session.options.resource, _counted(unseen, cursor)
    names, many = set(unseen.identifiers), not accepted and unseen.count > limit
    # The list may have moved, so it is read again at once: what is missing for the first time may be there.
    new = sum(each not in before for each in names)
    doubts = 0 if accepted else weigh(cursor.doubts, drift=new, many=many)
    probe = cursor.doubts < 2 <= doubts
    judged = Deletions(
        missing=unseen.count,
        moved=probe or (new > 0 and not many),
        doubts=doubts,
        probe=probe,
        counted=counted,
    )
    shown = [each for each in before if each not in names]
    if many:
        # No record has been missing in two scans in a row.
        dealt = RefreshResult(present=list(before))
        return replace(judged, refresh=dealt, held_back=unseen.count if cursor.doubts >= 2 else 0)
    waiting = await session.store.waiting([due.record(each) for each in names])
    deleted, absent, later = list[Change](), dict[str, int](), dict[str, float]()
    # Where the clock has jumped ahead, the time between the two scans may not be up yet.
    is_early = session.clock.steady_for() < session.options.confirm_after
    for identifier in unseen.identifiers:
        member, times = due.record(identifier), before.get(identifier, 0)
        if accepted or (member not in waiting and not (times and is_early)):
            times += 1
        change = None
        if times >= CONFIRMATIONS:
            before_it = await session.store.state_of(identifier, cursor.buckets)
            change = decide_deleted(resource, identifier, before_it)
        if change is not None:
            deleted.append(change)
            shown.append(identifier)
            continue
        absent[identifier] = times
        if member not in waiting:
            later[member] = session.options.confirm_after
    if "tracked" in counted:
        counted["tracked"] -= len(deleted)
    return replace(
        judged,
        deleted=tuple(deleted),
        refresh=RefreshResult(later=later, absent=absent, present=shown),
        # Accepted deletions need the second scan as well.
        accepted=accepted and not absent,
    )


def _counted(unseen: UnseenRecords, cursor: Cursor) -> CursorUpdate:
    counted: CursorUpdate = {}
    if unseen.tracked != cursor.tracked:
        counted["tracked"] = unseen.tracked
    if unseen.places > cursor.places:
        counted["places"] = unseen.places
    return counted
