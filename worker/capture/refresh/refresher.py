"""What a poll reads by id: what is due of a resource, and the audit logs that are due."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.capture.gate import ReadResult, end_run
from worker.capture.lanes import next_poll
from worker.capture.refresh.backlog import AuditBacklog
from worker.capture.refresh.reader import RecordRefresher
from worker.capture.state.buckets import MIN_BUCKETS
from worker.capture.state.cursor import BACKLOG_DONE, Cursor, fresh_after
from worker.capture.state.run import Covered
from worker.capture.state.store import StateStore
from worker.capture.throttle import Throttle
from worker.errors import ContractMismatch

if TYPE_CHECKING:
    from worker.capture.resources import AuditLog
    from worker.capture.session import PollSession
    from worker.capture.state.cursor import CursorUpdate
    from worker.ordermesh.contract.findings import Capabilities

BACKLOG_SHARE = 0.5
"""The part of the request budget that audit logs of the past may take: other reads always find the rest."""


async def follow_up(session: PollSession, seconds: float = float("inf")) -> ReadResult | None:
    """Read the records of a resource that are due, for so many seconds at most; None if none is due.

    Before the first full scan has ended all of them wait: the scan reads every record.
    """
    if not session.cursor.baseline or (session.found and not session.found.due):
        return None
    if not await session.refresh_queue.count():
        return None
    capabilities = await session.ensure_capabilities(again=False)
    result = await _read(session, capabilities, min(seconds, session.seconds))
    await session.load_cursor()
    return result


async def read_logs(session: PollSession, log: AuditLog, *, backlog: bool) -> ReadResult:
    """Read the audit logs that are due, and with `backlog` in the rest of the time those of the past, if wanted.

    Raises:
        ContractMismatch: The gateway does not answer where the logs should be.

    """
    run, began = session.run, session.clock.monotonic()
    capabilities = await session.ensure_capabilities(again=False)
    if capabilities.audit.supported is False and log.operation == log.parent.audit:
        raise ContractMismatch(log.operation, log.name, (), capabilities.audit.why)
    parent = await _parent_of(session, log)
    session.buckets = session.buckets or parent.buckets or MIN_BUCKETS
    run.add_plan("refresh")
    reader = RecordRefresher(session, capabilities, session.seconds)
    result = await reader.read()
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
            "due_at": next_poll(started_at, session.options.interval, session.options.phase),
            "follows": parent.interval,
        }
        if result.is_complete:
            unread_since = await _unread_since(session, started_at, refused=bool(reader.refusal))
            # An entry is known of only once its record was seen to have changed.
            as_of = min(started_at, parent.newest_as_of, unread_since or started_at)
            why = reader.refusal or session.cursor.unread_why if unread_since else ""
            ended |= {"unread_since": unread_since, "unread_why": why, "last_success": now}
            if as_of:
                ended |= fresh_after(Covered.CHANGED, as_of)
            if await _wants_backlog(session, parent) and backlog:
                await session.update(ended)
                ended = await _read_backlog(session, log, parent, capabilities, began)
                result = ReadResult(suspicion=await _why_cut(session, log))
                ended |= {"suspicious": result.suspicion}
            run.freshness = session.clock.now() - as_of if as_of else None
            run.covered = Covered.CHANGED
    end_run(run, result)
    await session.update(ended, record=run.pages > 0, last=True)
    return result


async def _parent_of(session: PollSession, log: AuditLog) -> Cursor:
    """Return the cursor of the resource whose audit logs are read."""
    keys = session.context.keys
    if session.found is not None:
        return Cursor.parse(session.found.parent, keys.cursor(log.parent.name))
    return await StateStore(session.context.redis, keys, log.parent).load_cursor()


async def _unread_since(session: PollSession, started_at: float, *, refused: bool) -> float:
    """Return since when an audit log that is due cannot be read, in seconds since 1970; 0 for none."""
    before = session.cursor.unread_since
    if not refused and (not before or not await session.refresh_queue.count()):
        return 0.0
    return before or session.cursor.part_as_of or started_at


async def _wants_backlog(session: PollSession, parent: Cursor) -> bool:
    """Whether logs of the past are to be read: the first full scan of their records has to end before."""
    # Where the past is not published, no entry of it would be.
    if session.context.account.audit_history != "all" or session.options.history.silent:
        if (
            session.cursor.backlog
        ):  # records of the past that are found now are not followed up: it has to begin anew
            await session.update({"backlog": "", "backlog_began": 0.0})
        return False
    return parent.baseline and session.cursor.backlog != BACKLOG_DONE


async def _read_backlog(
    session: PollSession, log: AuditLog, parent: Cursor, capabilities: Capabilities, began: float
) -> CursorUpdate:
    """Read logs of the past in the rest of the time; return when the next poll is due."""
    if not session.cursor.backlog_began:
        await session.update({"backlog_began": session.clock.now(), "backlog_buckets": parent.buckets})
    left = session.seconds - (session.clock.monotonic() - began)
    throttle = Throttle(session.context.account.api.requests_per_second * BACKLOG_SHARE, session.clock)
    reader = RecordRefresher(session, capabilities, left)
    result = await reader.read_backlog(AuditBacklog(session, log, parent.buckets), throttle)
    # Logs that a change makes due are polled at their time, however much of the past is left.
    return session.stop_fields(result.stop) if result.stop is not None and result.stop.report else {}


async def _why_cut(session: PollSession, log: AuditLog) -> str:
    """Return why the read is not complete; "" where every log was read to its end."""
    count, why = (0, "") if session.found and not session.found.cut else await session.refresh_queue.cut()
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
