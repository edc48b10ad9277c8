"""Carries out a read: pages are fetched in parallel, dealt with in order, and committed one by one.

A sweep reads every page. Each of its commits moves the cursor behind the page that it commits, so it may end
anywhere, by a signal, a fault or SIGKILL: the next run carries on from the last commit.
A fast read, a window or a head, reads what was modified since the mark, through a filter or a sort that the probe
has seen to hold. It is short, so it starts over when it is interrupted: the mark moves at its end only.
Neither publishes anything twice, whatever it reads again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import redis.exceptions

from worker.cancellation import plain_errors
from worker.capture.failures import classify
from worker.capture.gate import COMPLETE, ReadResult, Stop, StopCause
from worker.capture.records.diff import PUBLISHED, Action
from worker.capture.scan import deletions as absence
from worker.capture.scan.conclusion import NO_STATUSES_YET, ScanResult, checkpoint, conclude, merge_statuses
from worker.capture.scan.deletions import Deletions
from worker.capture.scan.pages import FetchedPage, PageFetcher
from worker.capture.scan.paginators import fast_paginator, full_scan_paginator
from worker.capture.scan.sanity import SanityCheck, server_time
from worker.capture.scan.strategy import PageSummary, Strategy
from worker.capture.state.commit import Checkpoint, RefreshResult
from worker.capture.writer import RecordWriter
from worker.errors import (
    OrderMeshError,
    UnreadableAnswer,
)
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.capture.context import PollSession
    from worker.capture.records.diff import Change
    from worker.capture.resources import Resource
    from worker.capture.scan.strategy import PageRequest, ScanStep
    from worker.capture.state.cursor import Cursor, CursorUpdate
    from worker.capture.writer import Written


class Scanner:
    """One read: a window, a head, a sweep, or the next part of a sweep that was begun."""

    def __init__(self, session: PollSession, step: ScanStep) -> None:
        self._session, self._options, self._step, self._run = session, session.options, step, session.run
        self._store, self._clock, self._recorded = session.store, session.clock, set[str]()
        self._deadline = session.clock.monotonic() + step.seconds
        cursor = session.cursor
        self._resumed = resumed = cursor.scan.started > 0 and not step.is_fast
        self._started_at = cursor.scan.started if resumed else self._run.started_at
        self._statuses_before = cursor.scan.statuses if resumed else NO_STATUSES_YET
        listing = session.context.client.profile.list_of(self.resource.search)
        search, window = self.resource.search, self._options.window
        self._full_scan = (
            None
            if step.is_fast
            else full_scan_paginator(search, step, cursor, window=window, listing=listing)
        )
        self._plan = self._full_scan or fast_paginator(search, step, cursor, window=window, listing=listing)
        self.sanity = SanityCheck(
            cursor, fast=step.is_fast, resumed=resumed, partial=step.strategy is Strategy.OPEN
        )
        self._writer = RecordWriter(session, is_scan=True, mark=self._judges_absence)
        self._pages = PageFetcher(session, step, self._writer)
        self._unreadable = cursor.scan.unreadable if resumed else 0
        self._ready: dict[int, FetchedPage | OrderMeshError] = {}
        self._broken: Exception | None = None
        self._arrived = anyio.Event()
        self._log = get_logger(
            account=self._run.account, resource=self._run.resource, run_id=self._run.run_id
        )

    async def read(self) -> ReadResult:
        """Read to the end, or until the gate stops the read after a page.

        Raises:
            OrderMeshError: A page cannot be had or read. The pages before it are committed.
            LeaseLost: Another worker has taken over.

        """
        plan, step = self._plan, self._step
        stop: Stop | None = None
        if self._judges_absence and not self._session.cursor.scan.started:
            await self._store.begin_sweep()
        with plain_errors():
            async with anyio.create_task_group() as fetching:
                while not plan.done:
                    self._session.lease.check()
                    if stop := await self._session.gate.check(self._run.published, self._deadline):
                        break
                    for number in plan.issue():
                        fetching.start_soon(self._fetch, number, plan.ask(number))
                    await self._publish_page(await self._next())
                fetching.cancel_scope.cancel()
        if plan.done and self.capped and step.may_seek:
            raise UnreadableAnswer(
                self.resource.search,
                f"the list ends after {self.capped} records, probably because the server limits its length",
                page=plan.next_page,
            )
        if plan.done and not plan.unsettled:
            return await self._end()
        stop = stop or Stop(StopCause.OUT_OF_TIME)  # its pages move as often as they are read
        fields = self._session.stop_fields(stop)
        if step.is_fast and stop.cause is StopCause.OUT_OF_TIME:
            # It starts over each time, so it might never end. A full scan goes on where it was.
            fields["swept_at"] = 0.0
        result = ReadResult(stop)
        await self._commit(fields, result)
        return result

    @property
    def resource(self) -> Resource:
        """What is read."""
        return self._options.resource

    @property
    def shown(self) -> set[str]:
        """Ids of the open records that a part which looks at statuses has shown."""
        return self._pages.shown

    @property
    def capped(self) -> int:
        """Records after which the server ends the list, or may have; 0 where nothing says so."""
        return self._full_scan.capped if self._full_scan else 0

    @property
    def _judges_absence(self) -> bool:
        """Whether a record that this read does not show may be gone."""
        return not self._step.is_fast

    def failure_update(self, error: Exception) -> CursorUpdate:
        """What a failure changes of the cursor.

        After a poll that got no further than the last one the sweep starts over: one bad page would otherwise
        keep those before it from being read ever again. A fast read leaves the cursor of the sweeps alone.
        """
        if self._full_scan is None:
            return {}
        fields: CursorUpdate = {"sweep_pages": self._full_scan.expected}
        if classify(error).is_of_one_request and not self._full_scan.advanced:
            fields |= {"sweep_page": 0, "sweep_started": 0}
        return fields

    async def _next(self) -> FetchedPage:
        """The page whose turn it is. What went wrong with a page is raised then, and not before."""
        while self._plan.next_step not in self._ready:
            if self._broken is not None:
                raise self._broken
            await self._arrived.wait()
        page = self._ready.pop(self._plan.next_step)
        if isinstance(page, OrderMeshError):
            raise page
        return page

    async def _fetch(self, step: int, ask: PageRequest) -> None:
        """Fetch and prepare one page. It does not raise: an error must not cut a commit short."""
        try:
            self._ready[step] = await self._pages.fetch(ask)
        except (OrderMeshError, redis.exceptions.RedisError, OSError) as error:
            if isinstance(error, OrderMeshError) and classify(error).is_of_one_request:
                self._ready[step] = error
            else:
                self._broken = self._broken or error
        self._arrived.set()
        self._arrived = anyio.Event()

    async def _publish_page(self, page: FetchedPage) -> None:
        """Commit what changed on the next page and move on."""
        number, unreadable = self._plan.next_page, self._unreadable

        def move(written: Written) -> Checkpoint | None:
            self._unreadable = unreadable + _unreadable(page, written.changes)
            return self._checkpoint(number + 1) if written.pending else None

        if page.decoded:
            await self._record_open()
        written = await self._writer.write(
            page.observed,
            where=f"{self.resource.search} page {number}",
            checkpoint=move,
            decoded=page.decoded,
        )
        self._record_page(number, page, written.changes)
        result = [change.modified for change in written.published]
        self._plan.accept(PageSummary([one.key for one in page.observed], page.total, page.times, result))
        if self._full_scan is not None and self._full_scan.records is not None:
            self.sanity.seen = self._full_scan.records  # without a page that came again

    def _record_page(self, number: int, page: FetchedPage, changes: list[Change]) -> None:
        self._run.count_page(len(page.observed), changes)
        published = sum(change.action in PUBLISHED for change in changes)
        self._log.debug("page_committed", page=number, records=len(page.observed), events=published)
        now = server_time(self._clock.now(), self._run.usage.clock_offset or 0.0)
        self.sanity.observe(len(page.observed), page.times, changes, now * 1000)
        self._run.latest = max(self._run.latest, self.sanity.latest)
        for change in changes:
            if change.action is Action.UNREADABLE:
                self._log.error(
                    "record_unreadable",
                    operation=self._options.resource.search,
                    page=number,
                    reason=change.problem,
                    advice="The record was stored as a dead letter; the other records were read. To see it: "
                    "ordersync dead list.",
                )

    async def _commit(
        self,
        cursor: CursorUpdate,
        result: ReadResult | None,
        *,
        changes: Sequence[Change] = (),
        refresh: RefreshResult | None = None,
    ) -> bool:
        """Write how the step has ended, and the run record where that ends the run; without a result it fails.

        False if a state is no longer the one that was looked up.
        """
        if result is not None:
            self._session.end(result)
        ends_here = result is not None and (self._step.concludes or result.stop is not None)
        if changes or self._step.learns:
            await self._record_open()
        checkpoint = self._checkpoint(self._plan.next_page, cursor, refresh)
        return await self._session.commit(
            checkpoint, changes=changes, where=self.resource.search, record=ends_here
        )

    async def _record_open(self) -> None:
        """Record which of the shown records are open, before the commit that publishes them or moves the scan on.

        The read may fail or be stopped after that commit, and the next one may find them in a final status.
        """
        new = self.shown - self._recorded
        await self._session.open_records.add(new)
        self._recorded |= new

    def _checkpoint(
        self, next_page: int, cursor: CursorUpdate | None = None, refresh: RefreshResult | None = None
    ) -> Checkpoint:
        """Return what a commit moves: how far a full scan has come (other reads start over), and `cursor`."""
        moved: CursorUpdate = cursor or {}
        if self._full_scan is not None:
            moved = {
                **self._full_scan.cursor_fields(next_page),
                **checkpoint(self._step, self._result()),
                **moved,
            }
        return Checkpoint(moved, refresh=refresh or RefreshResult(mark=self._judges_absence))

    def _result(self) -> ScanResult:
        """Return what has been read so far."""
        run, step = self._run, self._step
        return ScanResult(
            started_at=self._started_at,
            run_started_at=run.started_at,
            interval=self._options.interval,
            seen=self.sanity.seen,
            changed=self.sanity.changed,
            newest=self.sanity.newest,
            unreadable=self._unreadable,
            complete=not run.unreadable,
            pages=self._full_scan.pages if self._full_scan else None,
            statuses=merge_statuses(self._statuses_before, self._pages.statuses) if step.learns else "",
            clock_offset=run.usage.clock_offset or 0.0,
            bare=run.bare,
        )

    async def _end(self) -> ReadResult:
        """Commit what follows from a step that has been read to its end."""
        run, now = self._run, self._clock.now()
        if not self._step.claims and not run.unreadable:
            return COMPLETE
        known = await self._current_cursor()
        # What a person has accepted of the next full scan is believed whatever the scan has shown.
        accepted = self._judges_absence and await self._store.deletes_accepted()
        anomaly = "" if accepted else self.sanity.find_anomaly(known)
        ended = ReadResult(suspicion=anomaly)
        believed = not anomaly and not run.unreadable
        if believed:
            run.freshness = now - self._started_at
        elif anomaly:
            run.bare = run.bare or (self._step.is_fast and not self.sanity.seen)
        while True:
            absences = await self._find_absences(known, accepted=accepted) if believed else Deletions()
            result = replace(self._result(), anomaly=anomaly, held_back=absences.held_back)
            fields: CursorUpdate = {**conclude(self._step, result, known, now), **absences.counted}
            if await self._commit(
                fields,
                ended if believed or anomaly else None,
                changes=absences.deleted,
                refresh=absences.refresh,
            ):
                break
            known = await self._current_cursor()
        if run.unreadable and not anomaly:
            raise UnreadableAnswer(
                self._options.resource.search,
                f"{run.unreadable} of {run.records} records cannot be read; they are stored as dead letters",
            )
        run.count(absences.deleted)
        if absences.accepted:
            await self._store.forget_acceptance()
        return ended

    async def _current_cursor(self) -> Cursor:
        """Return the cursor with the counts of records as they are now, where the read concludes from them.

        A full scan has added to them itself.
        """
        return await self._session.load_cursor() if self._judges_absence else self._session.cursor

    async def _find_absences(self, cursor: Cursor, *, accepted: bool) -> Deletions:
        """What follows for the records that this read did not show."""
        if not self._judges_absence:
            return Deletions()
        result = await absence.find(
            self._store,
            self._options.resource,
            replace(cursor, buckets=self._session.buckets),
            single=self._options.single,
            accepted=accepted,
        )
        self._run.missing = result.missing or result.held_back
        if result.held_back:
            self._log.warning(
                "deletes_held_back",
                missing=result.held_back,
                tracked=cursor.tracked,
                advice="The full scan did not return more known records than may be deleted at once. Check them "
                f"in OrderMesh. If they are gone, run: ordersync resync {self._options.resource.name} "
                "--accept-deletes",
            )
        return result


def _unreadable(page: FetchedPage, changes: list[Change]) -> int:
    """Records of a page that cannot be read, now or as before."""
    return sum(1 for one in page.observed if one.problem) + sum(
        1
        for change in changes
        if change.action in (Action.UNREADABLE, Action.PARKED) and not change.observed.problem
    )
