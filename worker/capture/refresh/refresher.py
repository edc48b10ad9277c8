"""What a poll reads by id: what is due of a resource, and the audit logs that are due."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.capture.context import PAUSE_SECONDS
from worker.capture.refresh.reader import RecordRefresher
from worker.capture.state.buckets import MIN_BUCKETS
from worker.capture.state.run import Outcome
from worker.capture.state.store import StateStore
from worker.errors import ContractMismatch

if TYPE_CHECKING:
    from worker.capture.context import PollSession
    from worker.capture.resources import AuditLog
    from worker.capture.state.cursor import CursorUpdate
    from worker.ordermesh.contract.findings import Capabilities


async def follow_up(session: PollSession, seconds: float = float("inf")) -> None:
    """Read the records of a resource that are due, for so many seconds at most.

    Before the first full scan has ended none is read: the scan reads every record.
    """
    if not session.cursor.baseline or not await session.refresh_queue.count():
        return
    capabilities = await session.context.capabilities.ensure(session.options.resource, again=False)
    await _read(session, capabilities, min(seconds, session.options.seconds))
    await session.load_cursor()


async def read_logs(session: PollSession, log: AuditLog) -> None:
    """Read the audit logs that are due.

    Raises:
        ContractMismatch: The gateway does not answer where the logs should be.

    """
    run, interval = session.run, session.options.interval
    capabilities = await session.context.capabilities.ensure(log.parent, again=False)
    if capabilities.audit.supported is False and log.operation == log.parent.audit:
        raise ContractMismatch(log.operation, log.name, (), capabilities.audit.why)
    session.buckets = session.buckets or await _buckets_like(session, log)
    reader = await _read(session, capabilities, session.options.seconds)
    now = session.clock.now()
    ended: CursorUpdate = {"due_at": now, "failures": 0, "error": "", "error_code": ""}
    if run.outcome is Outcome.PARTIAL:
        run.cut_short()
    if run.outcome is Outcome.PAUSED:
        ended = {"due_at": now + min(PAUSE_SECONDS, interval), "paused": reader.pressed}
    elif reader.exhausted:
        run.outcome, run.freshness = Outcome.COMPLETE, now - run.started_at
        ended |= {
            "baseline": True,
            "fresh_as_of": max(run.started_at, session.cursor.fresh_as_of),
            "last_success": now,
            "due_at": run.started_at + interval,
        }
    await session.update(ended, record=run.pages > 0)


async def _read(session: PollSession, capabilities: Capabilities, seconds: float) -> RecordRefresher:
    session.run.add_plan("refresh")
    reader = RecordRefresher(session, capabilities, seconds)
    await reader.read()
    return reader


async def _buckets_like(session: PollSession, log: AuditLog) -> int:
    """Return as many buckets as the parent of a log has, whose states were never kept before."""
    cursor = await StateStore(session.context.redis, session.context.keys, log.parent).load_cursor()
    return cursor.buckets or MIN_BUCKETS
