"""Polls one source: what is read in which order, and what is recorded and logged about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import redis.exceptions

from ordersync_consumer.redaction import words_of
from worker.capture.failures import Failure, classify, retry_delay
from worker.capture.gate import PARTIAL, ReadResult, ResourcePaused, Stop, StopCause, end_run
from worker.capture.health import UnrecordedFailure
from worker.capture.refresh.refresher import follow_up, read_logs
from worker.capture.resources import AuditLog
from worker.capture.scan.executor import ScanExecutor
from worker.capture.scan.strategy import MIN_STEP_SECONDS
from worker.capture.session import PollSession
from worker.capture.state.run import Outcome
from worker.errors import (
    ContractMismatch,
    DataError,
    Forbidden,
    LeaseHeld,
    LeaseLost,
    OrdersyncError,
    RedisFull,
    RedisUnavailable,
    RedisWentBack,
)
from worker.queue.backpressure import StreamGlance
from worker.redis.refusals import explain, is_full, refusal_of
from worker.telemetry.log import Repeats, get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.capture.context import AccountContext
    from worker.capture.resources import Captured
    from worker.capture.state.cursor import CursorUpdate
    from worker.capture.state.run import Run
    from worker.queue.backpressure import PressureReport

SLICE_SECONDS = 45.0
"""A read that takes longer is a chain of polls, so that no job in the queue is long."""
_NOT_RECORDED = (LeaseLost, RedisWentBack, DataError, redis.exceptions.RedisError, OSError)
"""After these errors the cursor cannot be written, or not by this worker."""
_CODES_NOT_RECORDED = frozenset({DataError.code, RedisUnavailable.code, RedisFull.code})


class Poller:
    """Polls the sources of one account. Between polls all state is in Redis."""

    def __init__(self, context: AccountContext) -> None:
        self.context, self._settled = context, set[str]()
        self.unrecorded: dict[str, UnrecordedFailure] = {}
        """Sources whose last poll failed and could not write that to the cursor."""
        self._repeats = Repeats()
        self._log = get_logger(account=context.account.name)

    async def poll(
        self,
        source: Captured,
        *,
        reason: str = "poll",
        complete: bool = False,
        resume: bool = False,
        follow_ups_only: bool = False,
        scheduled: bool = False,
        backlog: bool = True,
        stop: Callable[[], bool] = lambda: False,
        yields: Callable[[], bool] = lambda: False,
        slice_seconds: float = SLICE_SECONDS,
        traceparent: str = "",
    ) -> Run:
        """Read one source and commit what changed; log the summary of the run.

        Records that are due are read by their id first. Then the list is read: newer changes alone where the gateway
        can filter or sort by modification, and all of it from time to time. Audit logs are read by id only.

        The poll ends early after a page when `stop()` is true, after `slice_seconds`, when a person pauses the source,
        or when consumers, or Redis, have to catch up; the next poll continues there. The outcome of the run says so.
        A failure is recorded in the cursor and in the outcome. Only cancellation is raised.

        Args:
            source: The resource, or the audit logs, to read.
            reason: Why it is read; goes into each event.
            complete: Read all of the list, with a full scan that begins now: one that is under way is dropped.
            resume: With `complete`, resume the full scan that is under way, such as one of the same command.
            follow_ups_only: Read only the records that are due by id.
            scheduled: Likewise if the list is not due by its cursor.
            backlog: Read the audit logs of records of the past as well, if these are wanted.
            stop: True when the worker is to end.
            yields: True when the poll is to give up its place, as if its time were over.
            slice_seconds: How long each part of the poll may take.
            traceparent: The trace to which the run belongs; without one it begins a trace.

        """
        session = PollSession(
            self.context, source, reason=reason, stop=stop, yields=yields, seconds=slice_seconds,
            traceparent=traceparent,
        )  # fmt: skip
        run = session.run
        with session.trace("poll") as span:
            try:
                async with session.open():
                    only = follow_ups_only or (scheduled and not session.is_due)
                    await self._poll(
                        session, complete=complete, resume=resume, follow_ups_only=only, backlog=backlog
                    )
            except ResourcePaused as paused:
                end_run(session.run, ReadResult(paused.stop))
            except LeaseHeld as error:
                run.end(Outcome.HELD, error.code, words_of(error))
            except _NOT_RECORDED as error:
                _fail(run, error)
            self._note_unrecorded(run)
            self._log_summary(run)
            span.attributes |= run.summary(self.context.clock.monotonic())
        return run

    def _note_unrecorded(self, run: Run) -> None:
        before = self.unrecorded.get(run.resource)
        if run.outcome is Outcome.FAILED and run.error_code in _CODES_NOT_RECORDED:
            failures = before.failures + 1 if before else 1
            self.unrecorded[run.resource] = UnrecordedFailure(failures, run.error, run.error_code)
        elif before and run.outcome is not Outcome.HELD:
            del self.unrecorded[run.resource]

    async def _poll(
        self, session: PollSession, *, complete: bool, resume: bool, follow_ups_only: bool, backlog: bool
    ) -> None:
        if session.source.name not in self._settled:
            await session.store.settle(session.buckets)
            self._settled.add(session.source.name)
        if stop := await self._begin(session, complete=complete):
            end_run(session.run, ReadResult(stop))
            return
        scans, failures = ScanExecutor(session), session.cursor.failures
        try:
            result = await self._read(
                session,
                scans,
                complete=complete,
                resume=resume,
                follow_ups_only=follow_ups_only,
                backlog=backlog,
            )
        except Exception as error:
            # When Redis is full there may still be room for the cursor, if not for a page.
            failure = RedisFull() if is_full(error) else error
            if isinstance(failure, (LeaseHeld, *_NOT_RECORDED)):
                raise
            if not isinstance(failure, OrdersyncError):
                self._log.exception(
                    "poll_crashed",
                    resource=session.source.name,
                    advice="This is a defect of ordersync. Report it with this traceback.",
                )
            if isinstance(error, Forbidden):
                await self.context.capabilities.record_forbidden(session.options.resource, error)
            if _contradicts_contract(error, session, failures):
                await self.context.capabilities.mark_stale(session.options.resource)
            await self._record_failure(session, failure, failures, scans.failure_update(error))
            return
        end_run(session.run, result)
        if result.stop and result.stop.report:
            self._log_backpressure(session, result.stop.report)

    async def _record_failure(
        self, session: PollSession, error: Exception, failures: int, fields: CursorUpdate
    ) -> None:
        run = session.run
        run.fail(error.code if isinstance(error, OrdersyncError) else "internal", error)
        failed: CursorUpdate = {
            **fields,
            "failures": failures + 1,
            "failing_since": session.cursor.failing_since if failures else self.context.clock.now(),
            "error": run.error,
            "error_code": run.error_code,
            "due_at": self.context.clock.now() + retry_delay(error, failures),
        }
        await session.update(failed, record=True, last=True)

    async def _read(
        self,
        session: PollSession,
        scans: ScanExecutor,
        *,
        complete: bool,
        resume: bool,
        follow_ups_only: bool,
        backlog: bool,
    ) -> ReadResult:
        if isinstance(session.source, AuditLog):
            return await read_logs(session, session.source, backlog=backlog)
        if follow_ups_only:
            result = await follow_up(session) or PARTIAL
            end_run(session.run, result)
            await session.update({}, record=True, last=True)
            return result
        return await self._read_all(session, scans, complete=complete, resume=resume)

    async def _read_all(
        self, session: PollSession, scans: ScanExecutor, *, complete: bool, resume: bool
    ) -> ReadResult:
        """Read what is due by id, and the list; after a full scan also what the scan has made due."""
        result = await follow_up(session, MIN_STEP_SECONDS)
        if result is not None and result.stop and result.stop.cause is not StopCause.OUT_OF_TIME:
            end_run(session.run, result)
            await session.update(session.stop_fields(result.stop), record=True, last=True)
            return result
        result = await scans.read(complete=complete, resume=resume)
        if complete and result.is_complete:
            await session.load_cursor()
            result = await follow_up(session) or result
        return result

    async def _begin(self, session: PollSession, *, complete: bool) -> Stop | None:
        """Return why the poll must end before it reads: consumers, or Redis, have to catch up first."""
        cursor = session.cursor
        glance = session.opening.glance if session.opening else StreamGlance()
        report = await session.gate.check_backpressure(glance, paused=bool(cursor.paused))
        stop = Stop(StopCause.BACKPRESSURE, report=report) if report.cause else None
        session.begin(ends_with_commit=not complete)  # a complete one reads on after its scan
        if stop:
            await session.update(session.stop_fields(stop), last=True)
        elif cursor.paused:
            await session.update({"paused": ""})
        if stop and not cursor.paused:
            self._log_backpressure(session, report)
        elif cursor.paused and not stop:
            self._log.info("backpressure_off", resource=session.source.name, **report.figures)
        return stop

    def _log_backpressure(self, session: PollSession, report: PressureReport) -> None:
        self._log.warning(
            "backpressure_on", resource=session.source.name, cause=report.cause, **report.figures
        )

    def _log_summary(self, run: Run) -> None:
        """Log the summary of a run. The same failure is logged once a minute, with the number of repetitions."""
        now = self.context.clock.monotonic()
        fields = {name: value for name, value in run.summary(now).items() if name != "account"}
        if run.outcome is Outcome.HELD or (run.outcome is Outcome.PAUSED and not run.pages):
            self._log.debug("poll_skipped", **fields)
        elif run.outcome is Outcome.SUSPICIOUS:
            if self._repeats.allow(f"{run.resource} {run.error_code}", now):
                repeated = self._repeats.held_back(f"{run.resource} {run.error_code}")
                self._log.warning(
                    "run_suspicious",
                    **fields,
                    repeated=repeated,
                    advice="This read is not used to detect deletions or to report freshness. The next poll reads "
                    "again.",
                )
        elif run.outcome is Outcome.FAILED:
            if self._repeats.allow(f"{run.resource} {run.error_code}", now):
                repeated = self._repeats.held_back(f"{run.resource} {run.error_code}")
                self._log.error("poll_failed", **fields, repeated=repeated)
        else:
            self._repeats.forget_all(run.resource)
            self._log.info("poll_done", **fields)


def _contradicts_contract(error: Exception, session: PollSession, failures: int) -> bool:
    """Return True if the list has to be probed again: it is gone, or its pages repeatedly cannot be read."""
    if isinstance(session.source, AuditLog):
        return isinstance(error, ContractMismatch)
    if getattr(error, "operation", None) != session.options.resource.search:
        return False
    failure = classify(error)
    return failure is Failure.LIST_GONE or (failure is Failure.PAGE and failures > 0)


def _fail(run: Run, error: Exception) -> None:
    """End a run that can write nothing more."""
    failure = error
    if isinstance(error, redis.exceptions.RedisError | OSError):
        refusal = refusal_of(error)
        if str(error).startswith("DATA") or (refusal and refusal.code == "WRONGTYPE"):
            failure = DataError(f"{explain(error)} Nothing was changed.")
        else:
            failure = RedisFull() if is_full(error) else RedisUnavailable(explain(error))
    run.fail(failure.code if isinstance(failure, OrdersyncError) else RedisUnavailable.code, failure)
