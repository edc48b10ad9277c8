"""What a poll reads by id: what is due of a resource, and the audit logs that are due."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.capture.context import PAUSE_SECONDS
from worker.capture.refresh.reader import RecordRefresher
from worker.capture.state.buckets import MIN_BUCKETS
from worker.capture.state.open_records import OpenRecords
from worker.capture.state.refresh_queue import RefreshQueue
from worker.capture.state.run import Outcome
from worker.capture.state.store import StateStore
from worker.errors import ContractMismatch

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.capture.context import PollContext
    from worker.capture.probe.registry import CapabilityRegistry
    from worker.capture.resources import AuditLog, Resource
    from worker.capture.state.cursor import CursorUpdate
    from worker.keys import Keys
    from worker.ordermesh.client import OrderMeshClient
    from worker.ordermesh.contract.findings import Capabilities


class Refresher:
    """Reads by id, for the resources and audit logs of one account."""

    def __init__(
        self, redis: Redis, keys: Keys, client: OrderMeshClient, contract: CapabilityRegistry
    ) -> None:
        self._redis, self._keys, self._client, self._contract = redis, keys, client, contract

    async def follow_up(self, context: PollContext, seconds: float = float("inf")) -> None:
        """Read what is due of a resource, for so many seconds at most.

        Before the first complete read all of it waits: that reads everything.
        """
        resource = context.options.resource
        if (
            not context.cursor.baseline
            or not await RefreshQueue(self._redis, self._keys, resource.name).count()
        ):
            return
        capabilities = await self._contract.ensure(resource, again=False)
        await self._read(context, capabilities, min(seconds, context.options.seconds))
        await context.load_cursor()

    async def read_logs(self, context: PollContext, log: AuditLog) -> None:
        """Read the audit logs that are due.

        Raises:
            ContractMismatch: The gateway does not answer where the logs should be.

        """
        cursor, run, interval = context.cursor, context.run, context.options.interval
        capabilities = await self._contract.ensure(log.parent, again=False)
        if capabilities.audit.holds is False and log.operation == log.parent.audit:
            raise ContractMismatch(log.operation, log.name, (), capabilities.audit.why)
        context.buckets = context.buckets or await self._buckets_like(log.parent)
        reader = await self._read(context, capabilities, context.options.seconds)
        now = context.clock.now()
        ended: CursorUpdate = {"due_at": now, "failures": 0, "error": "", "error_code": ""}
        if run.outcome is Outcome.PARTIAL:
            run.cut_short()
        if run.outcome is Outcome.PAUSED:
            ended = {"due_at": now + min(PAUSE_SECONDS, interval), "paused": reader.pressed}
        elif reader.exhausted:
            run.outcome, run.freshness = Outcome.COMPLETE, now - run.started_at
            ended |= {
                "baseline": True,
                "fresh_as_of": max(run.started_at, cursor.fresh_as_of),
                "last_success": now,
                "due_at": run.started_at + interval,
            }
        await context.update(ended, record=run.pages > 0)

    async def _read(
        self, context: PollContext, capabilities: Capabilities, seconds: float
    ) -> RecordRefresher:
        context.run.add_plan("refresh")
        reader = RecordRefresher(
            context,
            client=self._client,
            queue=RefreshQueue(self._redis, self._keys, context.captured.name),
            open_records=OpenRecords(self._redis, self._keys, context.captured.name),
            capabilities=capabilities,
            seconds=seconds,
        )
        await reader.read()
        return reader

    async def _buckets_like(self, parent: Resource) -> int:
        cursor = await StateStore(self._redis, self._keys, parent).load_cursor()
        return cursor.buckets or MIN_BUCKETS
