"""One poll of one resource: lease, cursor, plan, and what is noted when it fails."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import redis.exceptions
from structlog.contextvars import bound_contextvars

from worker.capture.context import PAUSE_SECONDS, PollContext, ReadOptions
from worker.capture.failures import Failure, classify, retry_delay
from worker.capture.records.payload import AS_SERVED, PayloadOptions
from worker.capture.records.scope import EVERYTHING, RecordScope
from worker.capture.refresh.refresher import Refresher
from worker.capture.resources import AuditLog, Resource
from worker.capture.scan.executor import ScanExecutor
from worker.capture.scan.strategy import MIN_STEP_SECONDS
from worker.capture.state.lease import Lease, Renewed, acquire
from worker.capture.state.open_records import OpenRecords
from worker.capture.state.pauses import Pauses, ReadGate
from worker.capture.state.run import Outcome, Run
from worker.capture.state.store import StateStore
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
from worker.telemetry import tracing
from worker.telemetry.log import Repeats, get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from redis.asyncio import Redis

    from worker.capture.probe.registry import CapabilityRegistry
    from worker.capture.resources import Captured
    from worker.capture.state.cursor import CursorUpdate
    from worker.clock import Clock
    from worker.keys import Keys
    from worker.ordermesh.client import OrderMeshClient
    from worker.queue.streams.backpressure import Backpressure
    from worker.telemetry.tracing import Trace

SLICE_SECONDS = 45.0
"""A poll that takes longer is a chain of slices, so that no job of arq's is a long one."""
_NOT_RECORDED = (LeaseLost, DataError, redis.exceptions.RedisError, OSError)
"""What keeps the cursor from being written now, or by this worker."""


class Poller:
    """Polls the resources of one account. Stateless between polls: all that matters is in Redis."""

    def __init__(
        self,
        *,
        redis_client: Redis,
        keys: Keys,
        client: OrderMeshClient,
        contract: CapabilityRegistry,
        backpressure: Backpressure,
        page_size: int,
        max_concurrency: int,
        intervals: Mapping[str, float],
        ignore_fields: Mapping[str, Sequence[str]],
        complete_every: float,
        worker_id: str,
        clock: Clock,
        payloads: Mapping[str, PayloadOptions] | None = None,
        scopes: Mapping[str, RecordScope] | None = None,
    ) -> None:
        self._redis, self._keys, self._client, self._contract = redis_client, keys, client, contract
        self._page_size, self._window = page_size, max_concurrency
        self._intervals, self._ignore_fields = intervals, ignore_fields
        self._complete_every, self._pressure = complete_every, backpressure
        self._pauses = Pauses(redis_client, keys)
        self._worker_id, self._clock = worker_id, clock
        self._payloads, self._settled = payloads or {}, set[str]()
        self._scopes = scopes or {}
        self._due_reads = Refresher(redis_client, keys, client, contract)
        self._repeats = Repeats()
        self._log = get_logger(account=keys.account)

    async def poll(
        self,
        captured: Captured,
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
        trace = tracing.begin(traceparent)
        context = self.context(captured, reason=reason, trace=trace, stop=stop, seconds=slice_seconds)
        run = context.run
        names = {"resource": run.resource, "run_id": run.run_id, "trace_id": run.trace_id}
        with tracing.span("poll", trace) as seen, bound_contextvars(account=run.account, **names):
            await self._poll(
                context, complete=complete, follow_ups_only=follow_ups_only, stop=stop, on_renew=on_renew
            )
            seen.attributes |= run.summary(self._clock.monotonic())
        return run

    async def _poll(
        self,
        context: PollContext,
        *,
        complete: bool,
        follow_ups_only: bool,
        stop: Callable[[], bool],
        on_renew: Renewed | None,
    ) -> None:
        run = context.run
        try:
            if paused_by := await self.pause_of(context.captured):
                run.paused_by = paused_by
                run.cut_short()
                self._log_summary(run)
                return
            async with self.lease(context, on_renew=on_renew) as lease:
                await context.begin(lease)
                await self._read(context, complete=complete, follow_ups_only=follow_ups_only)
        except LeaseHeld as error:
            run.outcome, run.error_code, run.error = Outcome.HELD, error.code, str(error)
        except (LeaseLost, DataError) as error:
            run.fail(error.code, error)
        except (redis.exceptions.RedisError, OSError) as error:
            if "WRONGTYPE" in str(error) or str(error).startswith("DATA"):
                run.fail(DataError.code, _foreign_key(error))
            elif is_full(error):
                run.fail(RedisFull.code, RedisFull())
            else:
                run.fail(RedisUnavailable.code, error)
        if run.outcome is Outcome.PARTIAL and stop():
            run.outcome = Outcome.STOPPED
        self._log_summary(run)

    def context(
        self,
        captured: Captured,
        *,
        reason: str,
        trace: Trace,
        stop: Callable[[], bool] = lambda: False,
        seconds: float = float("inf"),
    ) -> PollContext:
        """All that a read of a resource needs beside its lease. The run is the span of `trace`."""
        if isinstance(captured, Resource):
            # What nobody polls is not followed up.
            requested = tuple(item for item in captured.follow_ups if item.target in self._intervals)
            captured = replace(captured, follow_ups=requested)
        began, started_at = self._clock.monotonic(), self._clock.now()
        run = Run(trace.span_id, self._keys.account, captured.name, "", reason, began, started_at)
        run.trace_id = trace.trace_id
        payload = self._payloads.get(captured.name, AS_SERVED)
        hidden = payload.privacy.hidden if payload.privacy else frozenset[str]()
        options = ReadOptions(
            resource=_list_of(captured),
            scope=self._scopes.get(captured.name, EVERYTHING),
            page_size=self._page_size,
            window=self._window,
            interval=self._intervals.get(captured.name, 0.0),
            ignored=hidden.union(self._ignore_fields.get(captured.name, ())),
            stop=lambda: stop() or bool(run.paused_by),
            seconds=seconds,
            gate=ReadGate(self._pressure, self._pauses, run),
            privacy=payload.privacy,
        )
        store = StateStore(self._redis, self._keys, captured, payload)
        return PollContext(captured, options, run, store, self._clock)

    def lease(
        self, context: PollContext, *, on_renew: Renewed | None = None
    ) -> AbstractAsyncContextManager[Lease]:
        """Hold the lease of what is read."""
        return acquire(
            self._redis,
            self._keys.lease(context.captured.name),
            resource=context.captured.name,
            owner=f"{self._worker_id}/{context.run.run_id}",
            clock=self._clock,
            on_renew=on_renew,
        )

    async def pause_of(self, captured: Captured) -> str:
        """Why a person has paused it, in words, "" if nobody has."""
        pause = await self._pauses.of(captured.name)
        return pause.description if pause else ""

    async def _read(self, context: PollContext, *, complete: bool, follow_ups_only: bool) -> None:
        captured, run, cursor = context.captured, context.run, context.cursor
        if captured.name not in self._settled:
            await context.store.settle(cursor.buckets)
            self._settled.add(captured.name)
        if not await self._begin(context):
            return
        listed = ScanExecutor(
            context,
            self._client,
            self._contract,
            open_records=OpenRecords(self._redis, self._keys, captured.name),
            complete_every=self._complete_every,
        )
        try:
            if isinstance(captured, AuditLog):
                await self._due_reads.read_logs(context, captured)
            elif follow_ups_only:
                await self._due_reads.follow_up(context)
                await context.update({}, record=True)
            else:
                await self._read_all(context, listed, complete=complete)
        except Exception as error:
            # When Redis is full there may still be room for the cursor, if not for a page.
            failure = RedisFull() if is_full(error) else error
            if isinstance(failure, _NOT_RECORDED):
                raise
            code = failure.code if isinstance(failure, OrdersyncError) else "internal"
            run.fail(code, failure)
            if code == "internal":
                self._log.exception(
                    "poll_crashed",
                    resource=run.resource,
                    advice="This is a defect of ordersync. Report it with this traceback.",
                )
            if _contradicts_contract(error, captured, cursor.failures):
                await self._contract.mark_stale(context.options.resource)
            failed: CursorUpdate = {
                **listed.failure_update(error),
                "failures": cursor.failures + 1,
                "error": run.error,
                "error_code": run.error_code,
                "due_at": self._clock.now() + retry_delay(failure, cursor.failures),
            }
            await context.update(failed, record=True)

    async def _read_all(self, context: PollContext, listed: ScanExecutor, *, complete: bool) -> None:
        """What is due by id, and the list; after a complete read also what that has made due."""
        run = context.run
        await self._due_reads.follow_up(context, MIN_STEP_SECONDS)
        if run.outcome is Outcome.PAUSED:
            return
        run.outcome = Outcome.PARTIAL
        await listed.read(complete=complete)
        if complete and run.outcome is Outcome.COMPLETE:
            await context.load_cursor()
            await self._due_reads.follow_up(context)

    async def _begin(self, context: PollContext) -> bool:
        """Note that the poll has begun. False if it must pause: consumers, or Redis, have to catch up first."""
        run, options, cursor = context.run, context.options, context.cursor
        load = await options.gate.check_now(paused=bool(cursor.paused))
        started: CursorUpdate = {
            "last_started": run.started_at,
            "interval": options.interval,
            "paused": load.cause,
        }
        if load.cause:
            run.pause(load.cause)
            started["due_at"] = self._clock.now() + min(PAUSE_SECONDS, options.interval)
        await context.update(started)
        if load.cause and not cursor.paused:
            self._log.warning("backpressure_on", resource=run.resource, cause=load.cause, **load.figures)
        elif cursor.paused and not load.cause:
            self._log.info("backpressure_off", resource=run.resource, **load.figures)
        return not load.cause

    def _log_summary(self, run: Run) -> None:
        """The summary line. The same failure is told once a minute, with the number of those in between."""
        now = self._clock.monotonic()
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


def _list_of(captured: Captured) -> Resource:
    """The list that is read, or that an audit log belongs to."""
    return captured.parent if isinstance(captured, AuditLog) else captured


def _contradicts_contract(error: Exception, captured: Captured, failures: int) -> bool:
    """Whether the list should be looked for and at anew: it is gone, or is served in another way again and again."""
    if isinstance(captured, AuditLog):
        return isinstance(error, ContractMismatch)
    if getattr(error, "operation", None) != captured.search:
        return False
    failure = classify(error)
    return failure is Failure.LIST_GONE or (failure is Failure.PAGE and failures > 0)


def _foreign_key(error: Exception) -> DataError:
    return DataError(
        f"a key of the account contains a value that this program did not write: {error}. Nothing was changed. "
        "Restore the old value, or delete the key if you know what it is."
    )
