"""What a poll reads of a list: one part after the other, as the plans say, and what that tells of the gateway."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from worker.capture.plans import Part, Plan, choose, sweep_of
from worker.capture.reader import SWEEP_OVER, Reader
from worker.capture.run import Outcome
from worker.errors import (
    ApiError,
    ChoiceBroken,
    FilterBroken,
    OrderMeshError,
    RateLimited,
    SortBroken,
    UnreadableAnswer,
)
from worker.logs import get_logger

if TYPE_CHECKING:
    from worker.capture.contract import KnownContract
    from worker.capture.open_records import OpenRecords
    from worker.capture.resources import Resource
    from worker.capture.turn import Turn
    from worker.ordermesh.client import OrderMeshClient


class ListRead:
    """One poll of one list. `complete_every`: seconds between two complete reads, where others can be shorter."""

    def __init__(
        self,
        turn: Turn,
        client: OrderMeshClient,
        contract: KnownContract,
        *,
        open_records: OpenRecords,
        complete_every: float,
    ) -> None:
        self._turn, self._client, self._contract = turn, client, contract
        self._open, self._complete_every = open_records, complete_every
        self._shown: set[str] = set()
        self._reader: Reader | None = None
        self._log = get_logger(account=turn.run.account)

    def setback(self, error: Exception) -> dict[str, int]:
        """What a failure changes of the cursor, by the part that has failed."""
        return self._reader.setback(error) if self._reader else {}

    async def read(self, *, complete: bool) -> None:
        """Read what the plan says; `complete`: everything, in any case.

        Raises:
            OrderMeshError: A page cannot be had or read. What was read before it is committed.
            LeaseLost: Another worker has taken over.

        """
        turn = self._turn
        resource = turn.reading.resource
        findings = await self._contract.ensure(resource, again=not turn.cursor.sweep_started)
        # A path that nobody has tried answers 404 for every record, also for one that is there.
        by_id = resource.single is not None and findings.single.holds is True
        turn.reading = replace(turn.reading, single=by_id)
        parts = self._choose(complete=complete)
        suspicion: tuple[Part, OrderMeshError] | None = None
        while parts:
            part, *parts = parts
            turn.run.add_plan(part.plan)
            reader = self._reader = Reader(
                turn.reading,
                part,
                turn.run,
                store=turn.store,
                lease=turn.lease,
                cursor=turn.cursor,
                fields=await turn.store.load_fields(),
                client=self._client,
                clock=turn.clock,
                open_records=self._open,
            )
            try:
                await reader.read()
            except (ChoiceBroken, FilterBroken, SortBroken, ApiError, UnreadableAnswer) as error:
                if reader.capped and part.may_seek:
                    parts = [self._seek_instead(reader, part)]
                    await turn.note({**SWEEP_OVER, "sweep_since": 0, "capped": reader.capped})
                elif _may_be_the_shortcut(part, error):
                    # What the filter or the sort keeps from being read must not keep the rest from it.
                    suspicion = part, error
                    parts = [Part(Plan.SWEEP, part.page_size, turn.reading.seconds)]
                else:
                    raise
            else:
                await self._note_closed(part, reader)
                if part.is_fast or part.seeks:
                    self._contract.note_success(resource)
                if not part.is_fast:
                    await self._judge(resource, part, reader, suspicion)
                if turn.run.outcome not in {Outcome.COMPLETE, Outcome.SUSPICIOUS}:
                    return
            await turn.look()

    def _choose(self, *, complete: bool) -> list[Part]:
        """What to read, in this order, by what is known of the gateway."""
        turn = self._turn
        return choose(
            self._client.profile.list_of(turn.reading.resource.search),
            turn.cursor,
            turn.clock.now(),
            page_size=turn.reading.page_size,
            interval=turn.reading.interval,
            seconds=turn.reading.seconds,
            complete_every=self._complete_every,
            complete=complete,
            interest=turn.reading.resource.interest,
            single=turn.reading.single,
        )

    async def _note_closed(self, part: Part, reader: Reader) -> None:
        """Have those read that are open no more."""
        turn = self._turn
        if part.plan is not Plan.OPEN or turn.run.outcome is not Outcome.COMPLETE:
            return
        self._shown |= reader.shown
        # Said twice in a row, with a complete read in between, it is believed.
        why = (
            await self._open.replace(self._shown, believe=bool(turn.cursor.suspicious)) if part.claims else ""
        )
        if why:
            before = turn.cursor
            turn.run.suspect(why)
            claims = {"fresh_as_of": before.fresh_as_of, "last_success": before.last_success}
            await turn.note({"suspicious": why, **claims})

    def _seek_instead(self, reader: Reader, part: Part) -> Part:
        """A sweep that goes by time, for one that has come to where the server ends every list."""
        self._log.info(
            "result_capped",
            resource=reader.resource.name,
            records=reader.capped,
            advice="it is read from time to time instead, through the filter and the sort by modification",
        )
        listing = self._client.profile.list_of(reader.resource.search)
        return sweep_of(listing, part.page_size, part.seconds, capped=True)

    async def _judge(
        self, resource: Resource, part: Part, reader: Reader, suspicion: tuple[Part, OrderMeshError] | None
    ) -> None:
        """A sweep that works where a fast read failed, or finds what those left out, speaks against filter or sort."""
        missed, contract = reader.sight.missed, self._contract
        if suspicion is not None:
            fast, error = suspicion
            if not contract.note_failure(resource, error):
                return
            if isinstance(error, ChoiceBroken) or fast.plan is Plan.OPEN:
                await contract.withdraw_choices(resource, str(error))
            elif isinstance(error, SortBroken) or fast.plan is Plan.HEAD:
                await contract.withdraw_sort(resource, str(error), shown=isinstance(error, SortBroken))
            else:
                await contract.withdraw_filter(resource, str(error), shown=isinstance(error, FilterBroken))
        elif missed:
            changes = "a change" if missed == 1 else f"{missed} changes"
            await contract.withdraw_in_use(resource, f"it left out {changes} that a complete read has found")
        elif reader.sight.witness is not None:
            await contract.try_in_use(resource, reader.sight.witness, part.page_size)


def _may_be_the_shortcut(part: Part, error: OrderMeshError) -> bool:
    """Whether a read of everything, without filter and sort, may succeed where this one failed."""
    if isinstance(error, ChoiceBroken):
        return True
    if not (part.is_fast or part.seeks) or isinstance(error, RateLimited):
        return False
    return not (isinstance(error, UnreadableAnswer) and error.page is None)
