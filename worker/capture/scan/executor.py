"""What a poll reads of a list: one part after the other, as the plans say, and what that tells of the gateway."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from worker.capture.failures import Failure, classify
from worker.capture.scan.conclusion import SCAN_OVER
from worker.capture.scan.scanner import Scanner
from worker.capture.scan.strategy import ScanStep, Strategy, choose_steps, full_scan
from worker.capture.state.run import Outcome
from worker.errors import (
    ChoiceBroken,
    FilterBroken,
    OrderMeshError,
    SortBroken,
)
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from worker.capture.context import PollContext
    from worker.capture.probe.registry import CapabilityRegistry
    from worker.capture.resources import Resource
    from worker.capture.state.cursor import CursorUpdate
    from worker.capture.state.open_records import OpenRecords
    from worker.ordermesh.client import OrderMeshClient


class ScanExecutor:
    """One poll of one list. `complete_every`: seconds between two complete reads, where others can be shorter."""

    def __init__(
        self,
        context: PollContext,
        client: OrderMeshClient,
        contract: CapabilityRegistry,
        *,
        open_records: OpenRecords,
        complete_every: float,
    ) -> None:
        self._turn, self._client, self._contract = context, client, contract
        self._open, self._complete_every = open_records, complete_every
        self._shown: set[str] = set()
        self._reader: Scanner | None = None
        self._log = get_logger(account=context.run.account)

    def failure_update(self, error: Exception) -> CursorUpdate:
        """What a failure changes of the cursor, by the part that has failed."""
        return self._reader.failure_update(error) if self._reader else {}

    async def read(self, *, complete: bool) -> None:
        """Read what the plan says; `complete`: everything, in any case.

        Raises:
            OrderMeshError: A page cannot be had or read. What was read before it is committed.
            LeaseLost: Another worker has taken over.

        """
        context = self._turn
        resource = context.options.resource
        capabilities = await self._contract.ensure(resource, again=not context.cursor.scan.started)
        # A path that nobody has tried answers 404 for every record, also for one that is there.
        by_id = resource.single is not None and capabilities.single.holds is True
        context.options = replace(context.options, single=by_id)
        parts = self._choose(complete=complete)
        suspicion: tuple[ScanStep, OrderMeshError] | None = None
        while parts:
            step, *parts = parts
            context.run.add_plan(step.strategy)
            reader = self._reader = Scanner(context, step, client=self._client, open_records=self._open)
            try:
                await reader.read()
            except OrderMeshError as error:
                if reader.capped and step.may_seek:
                    parts = [self._scan_by_keyset(reader, step)]
                    await context.update({**SCAN_OVER, "sweep_since": 0, "capped": reader.capped})
                elif _may_be_the_shortcut(step, classify(error)):
                    # What the filter or the sort keeps from being read must not keep the rest from it.
                    suspicion = step, error
                    parts = [ScanStep(Strategy.SWEEP, step.page_size, context.options.seconds)]
                else:
                    raise
            else:
                await self._record_closed(step, reader)
                if step.is_fast or step.seeks:
                    self._contract.record_success(resource)
                if not step.is_fast:
                    await self._judge(resource, step, reader, suspicion)
                if context.run.outcome not in {Outcome.COMPLETE, Outcome.SUSPICIOUS}:
                    return
            await context.load_cursor()

    def _choose(self, *, complete: bool) -> list[ScanStep]:
        """What to read, in this order, by what is known of the gateway."""
        context = self._turn
        return choose_steps(
            self._client.profile.list_of(context.options.resource.search),
            context.cursor,
            context.clock.now(),
            page_size=context.options.page_size,
            interval=context.options.interval,
            seconds=context.options.seconds,
            complete_every=self._complete_every,
            complete=complete,
            scope=context.options.scope,
            single=context.options.single,
        )

    async def _record_closed(self, step: ScanStep, reader: Scanner) -> None:
        """Make the records due that have left the open statuses."""
        context = self._turn
        if step.strategy is not Strategy.OPEN or context.run.outcome is not Outcome.COMPLETE:
            return
        self._shown |= reader.shown
        # Said twice in a row, with a complete read in between, it is believed.
        why = (
            await self._open.replace(self._shown, believe=bool(context.cursor.suspicious))
            if step.claims
            else ""
        )
        if why:
            before = context.cursor
            context.run.suspect(why)
            claims: CursorUpdate = {"fresh_as_of": before.fresh_as_of, "last_success": before.last_success}
            await context.update({"suspicious": why, **claims})

    def _scan_by_keyset(self, reader: Scanner, step: ScanStep) -> ScanStep:
        """A sweep that goes by time, for one that has come to where the server ends every list."""
        self._log.info(
            "result_capped",
            resource=reader.resource.name,
            records=reader.capped,
            advice="The server ends this list early. Full scans read it by modification time instead, with the "
            "filter and the sort.",
        )
        listing = self._client.profile.list_of(reader.resource.search)
        return full_scan(listing, step.page_size, step.seconds, capped=True)

    async def _judge(
        self,
        resource: Resource,
        step: ScanStep,
        reader: Scanner,
        suspicion: tuple[ScanStep, OrderMeshError] | None,
    ) -> None:
        """A sweep that works where a fast read failed, or finds what those left out, speaks against filter or sort."""
        missed, contract = reader.sanity.missed, self._contract
        if suspicion is not None:
            fast, error = suspicion
            if not contract.record_failure(resource, classify(error)):
                return
            if isinstance(error, ChoiceBroken) or fast.strategy is Strategy.OPEN:
                await contract.disable_choices(resource, str(error))
            elif isinstance(error, SortBroken) or fast.strategy is Strategy.HEAD:
                await contract.disable_sort(resource, str(error), shown=isinstance(error, SortBroken))
            else:
                await contract.disable_filter(resource, str(error), shown=isinstance(error, FilterBroken))
        elif missed:
            changes = "a change" if missed == 1 else f"{missed} changes"
            await contract.disable_active(resource, f"it omitted {changes} that a full scan has found")
        elif reader.sanity.witness is not None:
            await contract.verify_active(resource, reader.sanity.witness, step.page_size)


def _may_be_the_shortcut(step: ScanStep, failure: Failure) -> bool:
    """Whether a full scan, without filter, sort and choice, may succeed where this step failed."""
    return failure is Failure.SHORTCUT or (failure.is_of_one_request and (step.is_fast or step.seeks))
