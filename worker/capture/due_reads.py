"""What a poll reads by id: what is due of a resource, and the audit logs that are due."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from worker.capture.due import Due
from worker.capture.follow_up import FollowUpReader
from worker.capture.open_records import OpenRecords
from worker.capture.reader import PAUSE_SECONDS
from worker.capture.reading import LEAST_BUCKETS
from worker.capture.run import Outcome
from worker.capture.store import Store
from worker.errors import ContractMismatch

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.capture.contract import KnownContract
    from worker.capture.resources import AuditLog, Resource
    from worker.capture.turn import Turn
    from worker.keys import Keys
    from worker.ordermesh.client import OrderMeshClient
    from worker.ordermesh.findings import Findings


class DueReads:
    """Reads by id, for the resources and audit logs of one account."""

    def __init__(self, redis: Redis, keys: Keys, client: OrderMeshClient, contract: KnownContract) -> None:
        self._redis, self._keys, self._client, self._contract = redis, keys, client, contract

    async def follow_up(self, turn: Turn, seconds: float = float("inf")) -> None:
        """Read what is due of a resource, for so many seconds at most.

        Before the first complete read all of it waits: that reads everything.
        """
        resource = turn.reading.resource
        if not turn.cursor.baseline or not await Due(self._redis, self._keys, resource.name).count():
            return
        findings = await self._contract.ensure(resource, again=False)
        await self._read(turn, findings, turn.cursor.buckets, min(seconds, turn.reading.seconds))
        await turn.look()

    async def logs(self, turn: Turn, log: AuditLog) -> None:
        """Read the audit logs that are due.

        Raises:
            ContractMismatch: The gateway does not answer where the logs should be.

        """
        cursor, run, interval = turn.cursor, turn.run, turn.reading.interval
        findings = await self._contract.ensure(log.parent, again=False)
        if findings.audit.holds is False and log.operation == log.parent.audit:
            raise ContractMismatch(log.operation, log.name, (), findings.audit.why)
        buckets = cursor.buckets or await self._buckets_like(log.parent)
        reader = await self._read(turn, findings, buckets, turn.reading.seconds)
        now = turn.clock.now()
        ended: dict[str, str | int | float] = {"due_at": now, "failures": 0, "error": "", "error_code": ""}
        if run.outcome is Outcome.PARTIAL:
            run.cut_short()
        if run.outcome is Outcome.PAUSED:
            ended = {"due_at": now + min(PAUSE_SECONDS, interval), "paused": reader.pressed}
        elif reader.exhausted:
            run.outcome, run.freshness = Outcome.COMPLETE, now - run.started_at
            ended |= {
                "baseline": 1,
                "fresh_as_of": max(run.started_at, cursor.fresh_as_of),
                "last_success": now,
                "due_at": run.started_at + interval,
            }
        await turn.note(ended, record=run.pages > 0)

    async def _read(self, turn: Turn, findings: Findings, buckets: int, seconds: float) -> FollowUpReader:
        turn.run.add_plan("refresh")
        reader = FollowUpReader(
            turn.captured,
            replace(turn.reading, seconds=seconds),
            turn.run,
            store=turn.store,
            lease=turn.lease,
            cursor=turn.cursor,
            fields=await turn.store.load_fields(),
            client=self._client,
            clock=turn.clock,
            queue=Due(self._redis, self._keys, turn.captured.name),
            open_records=OpenRecords(self._redis, self._keys, turn.captured.name),
            findings=findings,
            buckets=buckets,
        )
        await reader.read()
        return reader

    async def _buckets_like(self, parent: Resource) -> int:
        cursor = await Store(self._redis, self._keys, parent).load_cursor()
        return cursor.buckets or LEAST_BUCKETS
