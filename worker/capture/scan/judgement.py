"""What speaks for and against a step that has been read to its end, before anything is concluded from it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from worker.capture.scan.deletions import FEW_UNPROVEN, Deletions, find_deletions, max_deleted, unbelieved
from worker.capture.scan.resumption import MIXED, MIXED_PARTS
from worker.capture.scan.strategy import Strategy
from worker.capture.scan.unreadable_pages import letters as dead_letters

if TYPE_CHECKING:
    from worker.capture.records.diff import Change
    from worker.capture.scan.conclusion import ScanResult
    from worker.capture.scan.paginators import FullScanPaginator
    from worker.capture.scan.progress import ScanProgress
    from worker.capture.scan.strangers import Strangers
    from worker.capture.scan.strategy import ScanStep
    from worker.capture.session import PollSession
    from worker.capture.state.cursor import Cursor


class Judgement:
    """The evidence of one step, whose pages have all been committed.

    Args:
        session: The session of the poll.
        step: The step.
        progress: What its pages have shown.
        full_scan: Its paginator, if it is a full scan.
        strangers: What speaks for the records that were withheld.
        deadline: When its time is over, by the monotonic clock.

    """

    def __init__(
        self,
        session: PollSession,
        step: ScanStep,
        progress: ScanProgress,
        full_scan: FullScanPaginator | None,
        strangers: Strangers,
        *,
        deadline: float,
    ) -> None:
        self._session, self._step, self._progress, self._full_scan = session, step, progress, full_scan
        self._strangers, self._deadline = strangers, deadline
        self._resource = session.options.resource

    def is_proven(self, known: Cursor, result: ScanResult) -> bool:
        """Whether no record is unknown that existed when the first full scan began; the first scans have to show it."""
        scan = self._full_scan
        if scan is None or (known.baseline and not known.unclean_scans):
            return True
        if scan.pages is None or (scan.pages <= 1 and result.seen < self._step.page_size):
            return True  # no record can have moved from one page to another
        return result.discovery.is_proof(
            known,
            seen=result.seen,
            again=scan.again,
            is_still=result.is_still,
            believes_total=not scan.overruled,
            missing=result.missing,
        )

    def letters(self, known: Cursor) -> list[Change]:
        """Return the dead letters of what could not be read, unless the last full scan has written as many."""
        holes = self._progress.holes
        if sum(hole.records for hole in holes) <= known.unread_records:
            return []
        return dead_letters(holes, self._resource.search, self._step.page_size)

    async def find_anomaly(self, known: Cursor, shown: set[str]) -> str:
        """Return what speaks against the read; make the records due that have left the open statuses.

        `shown`: the open records that the steps of this poll have shown, as in `Scanner`.
        """
        if self._progress.withheld:
            return (
                f"{self._progress.withheld} records were not published: none of them is known, and nothing says "
                "that they are of this account"
            )
        if self._step.strategy is Strategy.OPEN:
            # Shown twice in a row, with a complete read in between, it is believed.
            believe = bool(known.suspicious)
            if self._session.run.unreadable:
                return ""
            return await self._session.open_records.replace(shown, believe=believe)
        return MIXED_PARTS if self._step.plan == MIXED else self._progress.sanity.find_anomaly(known)

    async def is_likely(self) -> bool:
        """Whether all else speaks for the records that were withheld: the known ones were shown as well."""
        if not self._progress.withheld or self._strangers.are_refuted:
            return False
        if self._full_scan is None:
            return self._strangers.met
        unseen = await self._session.store.missing(self._session.buckets, 0)
        return unseen.count <= max_deleted(unseen.tracked, FEW_UNPROVEN)

    async def absences(self, known: Cursor, *, is_believed: bool, doubted: bool, accepted: bool) -> Deletions:
        """Return what follows for records that a full scan did not show; of any other read nothing follows."""
        if self._full_scan is None or self._session.run.unreadable or self._step.plan == MIXED:
            return Deletions(doubts=known.doubts)
        if self._progress.holes:  # what they hide is not missing
            # Where the first record is among them, the pages may be numbered otherwise now.
            first = min(self._progress.holes).first == 0
            absences = unbelieved(known) if first else Deletions(doubts=known.doubts)
            absences = replace(absences, held_back=known.held_back, unanswered=known.unanswered)
        elif is_believed:
            session, deadline = self._session, self._deadline
            absences = await find_deletions(
                session, known, accepted=accepted, scan=self._progress.started_at, deadline=deadline
            )
        else:
            absences = unbelieved(known) if doubted else Deletions(doubts=known.doubts)
        if absences.probe:
            await self._session.context.capabilities.mark_stale(self._resource)
        return absences
