"""What a poll reads of a list: one part after the other, as the plans say, and what that tells of the gateway."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from ordersync_consumer.redaction import words_of
from worker.capture.failures import Failure, classify
from worker.capture.gate import COMPLETE, ReadResult
from worker.capture.scan.resumption import plan_of, plan_when_resumed, restart_reason
from worker.capture.scan.scanner import Scanner
from worker.capture.scan.strangers import Strangers
from worker.capture.scan.strategy import ScanStep, Strategy, choose_steps, full_scan, scan_interval
from worker.capture.state.cursor import SCAN_OVER
from worker.errors import (
    ChoiceBroken,
    ContinuationRefused,
    FilterBroken,
    OrderMeshError,
    SortBroken,
)
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from worker.capture.resources import Resource
    from worker.capture.session import PollSession
    from worker.capture.state.cursor import CursorUpdate

    Suspicion: TypeAlias = tuple[ScanStep, OrderMeshError]
    """A step that has failed where another may succeed, and how."""


class ScanExecutor:
    """Reads one list in one poll."""

    def __init__(self, session: PollSession) -> None:
        self._session, self._client = session, session.context.client
        self._withdrawals = session.context.capabilities.withdrawals
        self._shown: set[str] = set()
        self._scanner: Scanner | None = None
        self._is_renewed = False
        self._restarts = False
        self._log = get_logger(account=session.run.account)

    def failure_update(self, error: Exception) -> CursorUpdate:
        """What a failure changes of the cursor, by the part that has failed."""
        return self._scanner.failure_update(error) if self._scanner else {}

    async def read(self, *, complete: bool, resume: bool = False) -> ReadResult:
        """Read what the plan says; `complete`: everything in any case, with a scan that begins now, unless `resume`.

        Raises:
            OrderMeshError: A page cannot be had or read. What was read before it is committed.
            LeaseLost: Another worker has taken over.

        """
        session = self._session
        resource = session.options.resource
        capabilities = await session.ensure_capabilities(
            again=not session.cursor.scan.started, doubted=session.cursor.doubts > 0
        )
        # A path that nobody has tried answers 404 for every record, also for one that is there.
        by_id = resource.single is not None and capabilities.single.supported is True
        alike = capabilities.single_alike is not False
        session.options = replace(session.options, single=by_id, single_alike=alike)
        parts = self._choose(complete=complete)
        suspicion: Suspicion | None = None
        result, self._restarts, self._is_renewed = COMPLETE, complete and not resume, False
        strangers = Strangers(session)
        while parts:
            step, *parts = parts
            step = await self._restart_or_resume(step)
            session.run.add_plan(step.strategy)
            scanner = self._scanner = Scanner(session, step, strangers, shown=self._shown)
            try:
                result = await scanner.read()
            except OrderMeshError as error:
                doubt, parts = await self._instead(step, scanner, error, parts)
                suspicion = doubt or suspicion
            else:
                if step.is_fast or step.seeks:
                    self._withdrawals.record_success(resource)
                if not step.is_fast and not scanner.unread:
                    await self._judge(resource, step, scanner, suspicion)
                # A part by status is settled by a full scan, not by the part of another status.
                if result.stop is not None or (result.suspicion and step.strategy is Strategy.OPEN):
                    return result
            if parts:
                await session.load_cursor()
        return result

    async def _instead(
        self, step: ScanStep, scanner: Scanner, error: OrderMeshError, parts: list[ScanStep]
    ) -> tuple[Suspicion | None, list[ScanStep]]:
        """Return what to read in the place of a step that has failed, and whether that doubts the step.

        Raises:
            OrderMeshError: Nothing, so the poll fails.

        """
        if scanner.capped and step.may_seek:
            await self._session.update({**SCAN_OVER, "sweep_since": 0, "capped": scanner.capped})
            return None, [self._scan_by_keyset(scanner, step)]
        if isinstance(error, ContinuationRefused) and not self._is_renewed:
            # It has expired, perhaps: the list is read from its beginning, once in a poll.
            self._is_renewed = True
            await self._begin_anew(step, error)
            return None, [step, *parts]
        if _may_be_the_shortcut(step, classify(error)):
            # What the filter or the sort keeps from being read must not keep the rest from it.
            return (step, error), [ScanStep(Strategy.SWEEP, step.page_size, self._session.seconds)]
        raise error

    async def _begin_anew(self, step: ScanStep, error: ContinuationRefused) -> None:
        if step.is_fast:
            return  # it begins anew each time
        session, scan = self._session, (await self._session.load_cursor()).scan
        self._log.info(
            "full_scan_restarted",
            resource=session.source.name,
            reason=str(error),
            page=scan.page,
            scan_age_s=round(session.clock.now() - scan.started, 1) if scan.started else 0.0,
        )
        await session.update({**SCAN_OVER, "sweep_restarted": True})

    async def _restart_or_resume(self, step: ScanStep) -> ScanStep:
        """Return the step of a full scan with its plan; drop the scan under way if it has to start over, or is to."""
        if step.is_fast:
            return step
        session, scan = self._session, self._session.cursor.scan
        restarts, self._restarts = self._restarts, False
        plan = plan_of(self._client.profile, session.context.account.api.base_url, step, session.options)
        if not scan.started:
            return replace(step, plan=plan)
        now = session.clock.now()
        interval, is_first = session.options.interval, not session.cursor.baseline
        why = restart_reason(scan, plan, step.page_size, now, interval, is_first=is_first)
        if restarts:
            why = "all of the list was requested"
        if not why:
            return replace(step, plan=plan_when_resumed(scan, plan))
        self._log.info(
            "full_scan_restarted",
            resource=session.source.name,
            reason=why,
            page=scan.page,
            scan_age_s=round(now - scan.started, 1),
        )
        # Before the scan clears the bitmap: what an interrupted one has seen must not be judged without it.
        await session.update({**SCAN_OVER, "sweep_restarted": not restarts})
        await session.load_cursor()
        return replace(step, plan=plan)

    def _choose(self, *, complete: bool) -> list[ScanStep]:
        """What to read, in this order, by what is known of the gateway."""
        session = self._session
        return choose_steps(
            self._client.profile.list_of(session.options.resource.search),
            session.cursor,
            session.clock.now(),
            page_size=session.options.page_size,
            interval=session.options.interval,
            seconds=session.seconds,
            complete_every=scan_interval(session.context.account.complete_every, session.options.phase),
            complete=complete,
            scope=session.options.scope,
            single=session.options.single,
        )

    def _scan_by_keyset(self, scanner: Scanner, step: ScanStep) -> ScanStep:
        """A sweep that goes by time, for one that has come to where the server ends every list."""
        self._log.info(
            "result_capped",
            resource=scanner.resource.name,
            records=scanner.capped,
            advice="The server ends this list early. Full scans read it by modification time instead, with the "
            "filter and the sort.",
        )
        listing = self._client.profile.list_of(scanner.resource.search)
        return full_scan(listing, step.page_size, step.seconds, capped=True)

    async def _judge(
        self,
        resource: Resource,
        step: ScanStep,
        scanner: Scanner,
        suspicion: Suspicion | None,
    ) -> None:
        """A sweep that works where a fast read failed, or finds what those left out, speaks against filter or sort."""
        missed, withdrawals = scanner.sanity.missed, self._withdrawals
        if scanner.overruled_total:
            why = f"the list ends after {scanner.sanity.seen} records, and its total is {scanner.overruled_total}"
            await withdrawals.distrust_total(resource, why)
        if suspicion is not None:
            fast, error = suspicion
            if not withdrawals.record_failure(resource, classify(error)):
                return
            if isinstance(error, ChoiceBroken) or fast.strategy is Strategy.OPEN:
                await withdrawals.disable_choices(resource, words_of(error))
            elif isinstance(error, SortBroken) or fast.strategy is Strategy.HEAD:
                await withdrawals.disable_sort(resource, words_of(error), shown=isinstance(error, SortBroken))
            else:
                await withdrawals.disable_filter(
                    resource, words_of(error), shown=isinstance(error, FilterBroken)
                )
        elif missed:
            changes = "a change" if missed == 1 else f"{missed} changes"
            await withdrawals.disable_active(resource, f"it omitted {changes} that a full scan has found")
        elif scanner.sanity.witness is not None:
            await withdrawals.verify_active(resource, scanner.sanity.witness, step.page_size)


def _may_be_the_shortcut(step: ScanStep, failure: Failure) -> bool:
    """Whether a full scan, without filter, sort and choice, may succeed where this step failed."""
    return failure is Failure.SHORTCUT or (failure.is_of_one_request and (step.is_fast or step.seeks))
