"""Carries out one step of a poll: fetches pages in parallel, and commits them one by one, in order.

A full scan reads every page. Each of its commits moves the cursor past the page that it commits, so it may end
anywhere, by a signal, a fault or SIGKILL: the next run resumes after the last commit.
A fast read, a window or a list with the newest first, reads what was modified since the mark, through a filter or a
sort that the gateway honours. It is short, so it starts over after an interruption: the mark moves at its end only.
Neither publishes an event twice, whatever it reads again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import msgspec

from worker.cancellation import plain_errors
from worker.capture.failures import may_be_of_one_page
from worker.capture.gate import COMPLETE, PARTIAL, UNPROVEN, ReadResult, Stop, StopCause, end_run
from worker.capture.records.actions import Action
from worker.capture.scan.conclusion import checkpoint, conclude, fail
from worker.capture.scan.judgement import Judgement
from worker.capture.scan.pages import PageFetcher, PageQueue
from worker.capture.scan.paginators import fast_paginator, full_scan_paginator
from worker.capture.scan.progress import ScanProgress, count_unreadable
from worker.capture.scan.strangers import Evidence
from worker.capture.scan.strategy import PageSummary
from worker.capture.scan.unreadable_pages import PageSplitter, SplitPage
from worker.capture.state.commit import Checkpoint, RefreshResult
from worker.capture.state.run import Covered
from worker.capture.writer import RecordWriter
from worker.errors import OrderMeshError, ResponseTooLarge, UnreadableAnswer
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.capture.records.diff import Change
    from worker.capture.resources import Resource
    from worker.capture.scan.conclusion import ScanResult
    from worker.capture.scan.pages import FetchedPage
    from worker.capture.scan.paginators import FullScanPaginator, Paginator
    from worker.capture.scan.strangers import Strangers
    from worker.capture.scan.strategy import ScanStep
    from worker.capture.session import PollSession
    from worker.capture.state.cursor import Cursor, CursorUpdate
    from worker.capture.written import Written

CLOCK_SECONDS = 2.0
"""A full scan that ends goes by a comparison of the clock that is not older: that of its opening, if it was short."""


class Scanner:
    """One step: a window, a list with the newest first, open records, or a full scan or the next part of it.

    `shown`: ids of the open records that the steps of this poll have shown, each a status; this one adds its own.
    """

    def __init__(self, session: PollSession, step: ScanStep, strangers: Strangers, shown: set[str]) -> None:
        self._session, self._options, self._step, self._run = session, session.options, step, session.run
        self._store, self._clock, self._open = session.store, session.clock, session.open_records
        self._strangers, self._shown = strangers, shown
        self._deadline = session.clock.monotonic() + step.seconds
        search, window, cursor = self.resource.search, self._options.window, session.cursor
        listing = session.context.client.profile.list_of(search)
        self._full_scan: FullScanPaginator | None = None
        if not step.is_fast:
            self._full_scan = full_scan_paginator(search, step, cursor, window=window, listing=listing)
        self._paginator: Paginator = self._full_scan or fast_paginator(
            search, step, cursor, window=window, listing=listing
        )
        self._progress = ScanProgress(step, cursor, self._run, self._options, self._clock.now())
        self.sanity = self._progress.sanity
        self._scan = 0.0 if self._full_scan is None else self._progress.started_at
        self._writer = RecordWriter(session, is_scan=True, scan=self._scan)
        self._fetcher = PageFetcher(session, step, self._writer)
        self._failed_page: int | None = None
        self._is_lost = False  # no record of the last page could be read
        self._log = get_logger(
            account=self._run.account, resource=self._run.resource, run_id=self._run.run_id
        )

    async def read(self) -> ReadResult:
        """Read to the end, or until the gate stops the read after a page.

        Raises:
            OrderMeshError: A page cannot be fetched or read. The pages before it are committed.
            LeaseLost: Another worker has taken over.

        """
        paginator, step = self._paginator, self._step
        stop: Stop | None = None
        if self._full_scan is not None and not self._session.cursor.scan.started:
            await self._store.begin_sweep()
        session = self._session
        self._fetcher.known = await session.known_records(learn=self._full_scan is not None)
        with plain_errors():
            async with anyio.create_task_group() as fetching:
                pages = PageQueue(self._fetcher, paginator, fetching)
                while not paginator.done:
                    self._session.lease.check()
                    if stop := await self._session.gate.check(self._run.published, self._deadline):
                        break
                    self._check_length()
                    await self._publish_page(await self._next_page(pages))
                fetching.cancel_scope.cancel()
        if paginator.done and self.capped and step.may_seek:
            raise UnreadableAnswer(
                self.resource.search,
                f"the list ends after {self.capped} records, probably because the server limits its length",
                page=paginator.next_page,
            )
        if paginator.done and not paginator.unsettled:
            self._shown |= self._fetcher.shown
            if self._full_scan is not None:  # it may have taken hours, in which the clock was put back
                await self._clock.sync(within=CLOCK_SECONDS)
            return await self._end()
        # Its pages may have moved as often as they were read.
        return await self._stop(stop or Stop(StopCause.OUT_OF_TIME))

    def _check_length(self) -> None:
        """Check that the list may have another page.

        Raises:
            ResponseTooLarge: It has as many pages as the settings permit: it has no end.

        """
        most, paginator = self._options.max_scan_pages, self._paginator
        if paginator.next_page >= most:
            raise ResponseTooLarge(
                self.resource.search,
                f"{most} pages, so it may have no end. If it is as long, raise ORDERSYNC_API__MAX_SCAN_PAGES or "
                "ORDERSYNC_API__PAGE_SIZE",
                page=paginator.next_page,
                what="the list",
            )

    async def _stop(self, stop: Stop) -> ReadResult:
        """Commit that the read ends here for now."""
        fields = self._session.stop_fields(stop)
        if self._step.is_fast and stop.cause is StopCause.OUT_OF_TIME:
            # It starts over each time, so it might never end. A full scan resumes where it was.
            fields["swept_at"] = 0.0
        await self._commit(fields, result := ReadResult(stop))
        return result

    @property
    def resource(self) -> Resource:
        """What is read."""
        return self._options.resource

    @property
    def capped(self) -> int:
        """Records after which the server ends the list, or may have; 0 where nothing says so."""
        return self._full_scan.capped if self._full_scan else 0

    @property
    def overruled_total(self) -> int:
        """The total that this full scan has found not to be that of the list; 0 where it has not."""
        return self._full_scan.overruled if self._full_scan else 0

    def failure_update(self, error: Exception) -> CursorUpdate:
        """Return what a failure changes of the cursor. It keeps its full scan, unless that has failed."""
        if self._full_scan is None:
            return {}
        if self._failed_page is None:
            return fail(self._full_scan, error)
        # It is resumed here, and read in parts if it fails again.
        kept: CursorUpdate = {**self._checkpoint(self._failed_page).cursor}
        return {**kept, "sweep_failed": self._failed_page + 1}

    async def _next_page(self, pages: PageQueue) -> SplitPage:
        """Return the next page; one that has failed before, or of which a part is known to fail, in parts.

        Raises:
            OrderMeshError: It cannot be read, and it may be the first time, or the gateway that fails.

        """
        try:
            return SplitPage(await pages.next(), ())
        except OrderMeshError as error:
            scan, cursor, number = self._full_scan, self._session.cursor, self._paginator.next_page
            if scan is None or not scan.width or not may_be_of_one_page(error):
                raise
            width, total = scan.width, scan.total
            is_beyond = number * width >= total if total is not None else self._is_lost
            if is_beyond:
                raise  # behind the end of the list a server may answer anything
            self._failed_page = number
            if not cursor.unread and not cursor.scan.failed:
                raise
            splitter = PageSplitter(self._fetcher.fetch)
            page = await splitter.read(number, width, error, control=0 if number else 1, total=total)
            self._failed_page = None
            self._is_lost = not page.page.count
            return page

    async def _publish_page(self, split: SplitPage) -> None:
        """Commit what changed on the next page, unless it has to be withheld, and move on."""
        page = split.page
        self._progress.holes += split.holes
        if self._paginator.next_page == 0:
            self._progress.discovery = self._progress.discovery.at_first_page(page.total, page.count)
        if await self._strangers.judge(page) is Evidence.OURS:
            found = await self._write_page(page)
        else:
            found = []
            self._progress.withhold(page)
        summary = PageSummary(page.identities, page.total, page.times, found, page.after, split.unread)
        self._paginator.accept(summary)
        if self._full_scan is not None and self._full_scan.records is not None:
            self.sanity.seen = self._full_scan.records  # without a page that came again

    async def _write_page(self, page: FetchedPage) -> list[int]:
        """Commit what changed on the next page; return the times of these changes, as in `PageSummary`."""
        number, unreadable = self._paginator.next_page, self._progress.unreadable
        before = self._progress.discovery

        def move(written: Written) -> Checkpoint | None:
            self._progress.discover(before, written.changes)
            self._progress.unreadable = unreadable + count_unreadable(page, written.changes)
            if not written.pending:
                return None
            return self._checkpoint(number + 1, after=page.after, count=page.count)

        if page.decoded:
            await self._open.add(self._fetcher.shown)
        written = await self._writer.write(
            page.observed,
            where=f"{self.resource.search} page {number}",
            checkpoint=move,
            decoded=page.decoded,
            prepared=page.prepared,
        )
        self._progress.observe(page, written.changes, self._clock.now())
        self._log_page(number, page, written)
        return [change.modified for change in written.published]

    def _log_page(self, number: int, page: FetchedPage, written: Written) -> None:
        events = len(written.published)
        self._log.debug("page_committed", page=number, records=page.count, events=events)
        for change in written.of(Action.UNREADABLE):
            self._log.error(
                "record_unreadable",
                operation=self.resource.search,
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
        letters: Sequence[Change] = (),
        refresh: RefreshResult | None = None,
        as_of: Cursor | None = None,
        follows: bool = False,
    ) -> bool:
        """Write how the step has ended, and the run record where that ends the run; without a result it fails.

        False if a state, or the cursor, is no longer as it was looked up. `follows`: what follows needs the lease.
        """
        if result is not None:
            end_run(self._run, result)
        ends_here = result is not None and (self._step.concludes or result.stop is not None)
        opened = self._open.new(self._fetcher.shown) if changes or self._step.learns else set[str]()
        after = self._paginator.ask(self._paginator.next_step).after
        checkpoint = self._checkpoint(self._paginator.next_page, cursor, refresh, after=after)
        done = await self._session.commit(
            checkpoint,
            changes=changes,
            letters=letters,
            where=self.resource.search,
            record=ends_here,
            as_of=as_of,
            opened=opened,
            # Until the filter has been judged, no other worker is to read by it.
            last=ends_here and not (follows or self._progress.sanity.tests_filter),
        )
        self._open.note_added(opened if done else ())
        return done

    def _checkpoint(
        self,
        next_page: int,
        cursor: CursorUpdate | None = None,
        refresh: RefreshResult | None = None,
        *,
        after: str = "",
        count: int = 0,
    ) -> Checkpoint:
        """Return what a commit moves: how far a full scan has come (other reads start over), and `cursor`."""
        moved: CursorUpdate = cursor or {}
        if self._full_scan is not None:
            moved = {
                **self._full_scan.cursor_fields(next_page, after, count=count),
                **checkpoint(self._step, self._result()),
                **moved,
            }
        return Checkpoint(moved, refresh=refresh or RefreshResult(scan=self._scan))

    def _result(self) -> ScanResult:
        pages = self._full_scan.pages if self._full_scan else None
        moved = self._full_scan.moved if self._full_scan else False
        now = self._clock.now()
        clock_moved = self._run.clock_moved(now, self._clock.monotonic())
        return self._progress.result(pages, self._fetcher.statuses, now, moved=moved, clock_moved=clock_moved)

    async def _end(self) -> ReadResult:
        """Commit what follows from a step that has been read to its end."""
        run, now = self._run, self._clock.now()
        if not self._step.claims and not run.unreadable and not self._progress.withheld:
            return COMPLETE
        evidence = Judgement(
            self._session,
            self._step,
            self._progress,
            self._full_scan,
            self._strangers,
            deadline=self._deadline,
        )
        known, is_likely = await self._load_cursor(), await evidence.is_likely()
        # What a person has accepted of the next full scan is believed whatever the scan has shown.
        accepted = self._full_scan is not None and await self._session.deletes_accepted()
        anomaly = "" if accepted else await evidence.find_anomaly(known, self._shown)
        unread = self._progress.unread
        ended = None if run.unreadable and not anomaly else ReadResult(suspicion=anomaly or unread)
        if anomaly:
            run.bare = run.bare or (self._step.covers is Covered.NEWER and not self.sanity.seen)
        is_believed = ended == COMPLETE
        while True:
            absences = await evidence.absences(
                known,
                is_believed=is_believed,
                doubted=bool(anomaly or unread) and not is_likely,
                accepted=accepted,
            )
            if absences.stop is not None:
                return await self._stop(absences.stop)
            result = replace(absences.describe(self._result(), anomaly), is_likely=is_likely)
            result = replace(result, proven=accepted or evidence.is_proven(known, result))
            if is_believed:
                ended = COMPLETE if result.proven else UNPROVEN
                ended = PARTIAL if absences.moved else ended
                run.freshness = now - result.started_at if ended.is_complete else None
                run.covered = self._step.covers if ended.is_complete else Covered.NOTHING
            after = self._confirm_after
            fields: CursorUpdate = {
                **conclude(self._step, result, known, now, confirm_after=after),
                **absences.counted,
            }
            refresh = absences.refresh
            if is_believed and self._full_scan is not None and known.stale:
                refresh = msgspec.structs.replace(refresh, settled=await self._store.stale_but_in(self._scan))
            dead = [] if anomaly else evidence.letters(known)
            if await self._commit(
                fields,
                ended,
                changes=absences.deleted,
                letters=dead,
                refresh=refresh,
                as_of=known if self._full_scan and self._session.found else None,
                follows=absences.accepted,
            ):
                break
            known = await self._session.load_cursor()
        if ended is None:
            raise UnreadableAnswer(
                self.resource.search,
                f"{run.unreadable} of {run.records} records cannot be read; they are stored as dead letters",
            )
        run.count(absences.deleted)
        if absences.accepted:
            await self._store.forget_acceptance()
        return ended

    @property
    def _confirm_after(self) -> float:
        """Seconds after which a second empty list confirms a first one, by a clock that has run steadily meanwhile."""
        after = self._options.confirm_after
        return after if self._clock.steady_for() >= after else float("inf")

    @property
    def unread(self) -> str:
        """Which records of the list the server does not serve, in words."""
        return self._progress.unread

    async def _load_cursor(self) -> Cursor:
        """Return the cursor that the end of the step goes by.

        A full scan has itself added to its counts of records, unless it has committed nothing. If somebody else has,
        the last commit finds that out.
        """
        session = self._session
        return session.cursor if self._full_scan is None or session.found else await session.load_cursor()
