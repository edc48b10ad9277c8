"""One poll of one resource: lease, cursor, plan, and what is noted when it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import redis.exceptions

from worker.capture.context import PollSession
from worker.capture.failures import Failure, classify, retry_delay
from worker.capture.gate import PARTIAL, ReadResult, ResourcePaused, Stop, StopCause
from worker.capture.refresh.refresher import follow_up, read_logs
from worker.capture.resources import AuditLog
from worker.capture.scan.executor import ScanExecutor
from worker.capture.scan.strategy import MIN_STEP_SECONDS
from worker.capture.state.run import Outcome
from worker.errors import (
    ContractMismatch,
    DataError,
    LeaseHeld,
    LeaseLost,
    OrdersyncError,
    RedisFull,
    RedisUnavailable,
)
from worker.redis.connections import is_full
from worker.telemetry.log import Repeats, get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.capture.context import AccountContext
    from worker.capture.resources import Captured
    from worker.capture.state.cursor import CursorUpdate
    from worker.capture.state.lease import Renewed
    from worker.capture.state.run import Run
    from worker.queue.streams.backpressure import PressureReport

SLICE_SECONDS = 45.0
"""A poll that takes longer is a chain of slices, so that no job of arq's is a long one."""
_NOT_RECORDED = (LeaseLost, DataError, redis.exceptions.RedisError, OSError)
"""What keeps the cursor from being written now, or by this worker."""


class Poller:
    """Polls the resources of one account. Stateless between polls: all that matters is in Redis."""

    def __init__(self, context: AccountContext) -> None:
        self.context, self._settled = context, set[str]()
        self._repeats = Repeats()
        self._log = get_logger(account=context.account.name)

    async def poll(
        self,
        source: Captured,
        *,
        reason: str = "poll",
        complete: bool = False,
        follow_ups_only: bool = False,
        stop: Callable[[], bool] = lambda: False,
        slice_seconds: float = SLICE_SECONDS,
        on_renew: Renewed | None = None,
        traceparent: str = "",
    ) -> Run:
        """Read one resource and commit what changed; writes the summary line.

        What is due by id comes first, or is all with `follow_ups_only`; of audit logs it always is.
        What is newer is read alone where the gateway can leave out the rest, and everything once in a while, or
        when `complete` is asked for.
        Ends early, behind the page in hand, when `stop()` is true or after `slice_seconds`: the outcome is
        then `stopped` or `partial`, and the next poll carries on there; `paused` where the consumers, or Redis,
        have to catch up before it does, or somebody has paused the resource. A failure is noted in the cursor
        and told by the outcome; nothing is raised but cancellation.
        The run is a span of the trace of `traceparent`, or of a new one, and every line of the log says which.
        """
        session = PollSession(
            self.context, source, reason=reason, stop=stop, seconds=slice_seconds, traceparent=traceparent
        )
        run = session.run
        with session.trace("poll") as span:
            try:
                async with session.open(on_renew=on_renew):
                    await self._poll(session, complete=complete, follow_ups_only=follow_ups_only)
            except ResourcePaused as paused:
                session.end(ReadResult(paused.stop))
            except LeaseHeld as error:
                run.end(Outcome.HELD, error.code, str(error))
            except _NOT_RECORDED as error:
                _fail(run, error)
            self._log_summary(run)
            span.attributes |= run.summary(self.context.clock.monotonic())
        return run

    async def _poll(self, session: PollSession, *, complete: bool, follow_ups_only: bool) -> None:
        if session.source.name not in self._settled:
            await session.store.settle(session.buckets)
            self._settled.add(session.source.name)
        if stop := await self._begin(session):
            session.end(ReadResult(stop))
            return
        scans, failures = ScanExecutor(session), session.cursor.failures
        try:
            result = await self._read(session, scans, complete=complete, follow_ups_only=follow_ups_only)
        except Exception as error:
            # When Redis is full there may still be room for the cursor, if not for a page.
            failure = RedisFull() if is_full(error) else error
            if isinstance(failure, _NOT_RECORDED):
                raise
            if not isinstance(failure, OrdersyncError):
                self._log.exception(
                    "poll_crashed",
                    resource=session.source.name,
                    advice="This is a defect of ordersync. Report it with this traceback.",
                )
            if _contradicts_contract(error, session, failures):
                await self.context.capabilities.mark_stale(session.options.resource)
            await self._record_failure(session, failure, failures, scans.failure_update(error))
            return
        session.end(result)
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
            "error": run.error,
            "error_code": run.error_code,
            "due_at": self.context.clock.now() + retry_delay(error, failures),
        }
        await session.update(failed, record=True)

    async def _read(
        self, session: PollSession, scans: ScanExecutor, *, complete: bool, follow_ups_only: bool
    ) -> ReadResult:
        if isinstance(session.source, AuditLog):
            return await read_logs(session, session.source)
        if follow_ups_only:
            result = await follow_up(session) or PARTIAL
            session.end(result)
            await session.update({}, record=True)
            return result
        return await self._read_all(session, scans, complete=complete)

    async def _read_all(self, session: PollSession, scans: ScanExecutor, *, complete: bool) -> ReadResult:
        """Read what is due by id, and the list; after a full scan also what the scan has made due."""
        result = await follow_up(session, MIN_STEP_SECONDS)
        if result is not None and result.stop and result.stop.cause is not StopCause.OUT_OF_TIME:
            session.end(result)
            await session.update(session.stop_fields(result.stop), record=True)
            return result
        result = await scans.read(complete=complete)
        if complete and result.is_complete:
            await session.load_cursor()
            result = await follow_up(session) or result
        return result

    async def _begin(self, session: PollSession) -> Stop | None:
        """Return why the poll must end before it reads: consumers, or Redis, have to catch up first."""
        cursor = session.cursor
        report = await session.gate.check_backpressure(paused=bool(cursor.paused))
        stop = Stop(StopCause.BACKPRESSURE, report=report) if report.cause else None
        session.begin()
        if stop:
            await session.update(session.stop_fields(stop))
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
        """The summary line. The same failure is told once a minute, with the number of those in between."""
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
    """Whether the list should be looked for and at anew: it is gone, or is served in another way again and again."""
    if isinstance(session.source, AuditLog):
        return isinstance(error, ContractMismatch)
    if getattr(error, "operation", None) != session.options.resource.search:
        return False
    failure = classify(error)
    return failure is Failure.LIST_GONE or (failure is Failure.PAGE and failures > 0)


def _fail(run: Run, error: Exception) -> None:
    """End a run that can write nothing more."""
    if not isinstance(error, redis.exceptions.RedisError | OSError):
        failure = error
    elif "WRONGTYPE" in str(error) or str(error).startswith("DATA"):
        failure = _foreign_key(error)
    else:
        failure = RedisFull() if is_full(error) else error
    run.fail(failure.code if isinstance(failure, OrdersyncError) else RedisUnavailable.code, failure)


def _foreign_key(error: Exception) -> DataError:
    return DataError(
        f"a key of the account contains a value that this program did not write: {error}. Nothing was changed. "
        "Restore the old value, or delete the key if you know what it is."
    )
