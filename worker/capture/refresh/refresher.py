"""What a poll reads by id: what is due of a resource, and the audit logs that are due."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.capture.gate import ReadResult
from worker.capture.refresh.reader import RecordRefresher
from worker.capture.state.buckets import MIN_BUCKETS
from worker.capture.state.run import Covered
from worker.capture.state.store import StateStore
from worker.errors import ContractMismatch

if TYPE_CHECKING:
    from worker.capture.context import PollSession
    from worker.capture.resources import AuditLog
    from worker.capture.state.cursor import CursorUpdate
    from worker.ordermesh.contract.findings import Capabilities


async def follow_up(session: PollSession, seconds: float = float("inf")) -> ReadResult | None:
    """Read the records of a resource that are due, for so many seconds at most; None if none is due.

    Before the first full scan has ended all of them wait: the scan reads every record.
    """
    if not session.cursor.baseline or not await session.refresh_queue.count():
        return None
    capabilities = await session.context.capabilities.ensure(session.options.resource, again=False)
    result = await _read(session, capabilities, min(seconds, session.seconds))
    await session.load_cursor()
    return result


async def read_logs(session: PollSession, log: AuditLog) -> ReadResult:
    """Read the audit logs that are due.

    Raises:
        ContractMismatch: The gateway does not answer where the logs should be.

    """
    run = session.run
    capabilities = await session.context.capabilities.ensure(log.parent, again=False)
    if capabilities.audit.supported is False and log.operation == log.parent.audit:
        raise ContractMismatch(log.operation, log.name, (), capabilities.audit.why)
    session.buckets = session.buckets or await _buckets_like(session, log)
    result = await _read(session, capabilities, session.seconds)
    now = session.clock.now()
    ended: CursorUpdate = {}
    if result.stop is not None:
        ended |= session.stop_fields(result.stop)
    if result.stop is None or not result.stop.message:
        ended |= {"failures": 0, "error": "", "error_code": ""}
    if result.is_complete:
        result = ReadResult(suspicion=await _why_cut(session, log))
        started_at = run.started_at + run.clock_moved(now, session.clock.monotonic())
        ended |= {
            "baseline": True,
            "suspicious": result.suspicion,
            "due_at": started_at + session.options.interval,
        }
        if result.is_complete:
            run.freshness = now - started_at
            run.covered = Covered.CHANGED
            ended |= {**session.cursor.fresh_after(run.covered, started_at, now), "last_success": now}
    session.end(result)
    await session.update(ended, record=run.pages > 0)
    return result


async def _why_cut(session: PollSession, log: AuditLog) -> str:
    """Return why the read is not complete; "" where every log was read to its end."""
    count, why = await session.refresh_queue.cut()
    if not count:
        return ""
    logs = "1 audit log" if count == 1 else f"{count} audit logs"
    return (
        f"of {logs} only a part can be read, so entries are missing ({why}); to see how the gateway serves them, run: "
        f"ordersync contract probe {log.parent.name}"
    )


async def _read(session: PollSession, capabilities: Capabilities, seconds: float) -> ReadResult:
    session.run.add_plan("refresh")
    return await RecordRefresher(session, capabilities, seconds).read()


async def _buckets_like(session: PollSession, log: AuditLog) -> int:
    """Return as many buckets as the parent of a log has, whose states were never kept before."""
    cursor = await StateStore(session.context.redis, session.context.keys, log.parent).load_cursor()
    return cursor.buckets or MIN_BUCKETS
