"""Reconciliation: verifies with the audit logs of OrderMesh that nothing was missed, and publishes what was.

A pass compares the audit log of every known record with what was published of the record (see `comparison.py`). At its
end everything is verified up to a moment shortly before it began, or open gaps are listed. A pass runs in slices, under
a lease of its own and within its own share of the request budget. It may be stopped or killed anywhere: progress is
stored with each batch, and the next slice continues there.
"""

from __future__ import annotations

import uuid
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import redis.exceptions

from ordersync_consumer.redaction import words_of
from worker.backoff import Backoff
from worker.capture.gate import ResourcePaused
from worker.capture.reconcile.comparison import Window, can_be_proven, obstacle, window_of
from worker.capture.reconcile.progress import (
    LEASE,
    MAX_WAIT_SECONDS,
    Coverage,
    Gap,
    ReconcileCounts,
    ReconcilePass,
    ReconcileProgress,
    is_due,
)
from worker.capture.reconcile.server_clock import ServerClock
from worker.capture.reconcile.verifier import Verifier, VerifyOptions
from worker.capture.session import PollSession
from worker.capture.state.lease import acquire
from worker.capture.state.position import ScanPosition
from worker.capture.state.record_states import StoredRecord, walk
from worker.capture.state.run_history import History
from worker.capture.throttle import Throttle
from worker.clock import rfc3339
from worker.errors import DataError, Forbidden, LeaseHeld, LeaseLost, OrderMeshError, RedisWentBack
from worker.redis.refusals import explain, is_full
from worker.telemetry.log import Repeats, get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from worker.capture.context import AccountContext
    from worker.capture.resources import Resource
    from worker.ordermesh.contract.findings import Capabilities

SLICE_SECONDS = 45.0
MAX_AT_ONCE = 50
"""Records in a batch; fewer where the budget is small, so that a batch takes only some seconds."""
BATCH_SECONDS = 5.0
RETRY_SECONDS = 60.0
"""Seconds until a resource is tried again that cannot be verified yet: it was not read, or not lately; less if the lag
of the settings is less."""
BACKOFF = Backoff(first=30.0, most=MAX_WAIT_SECONDS)
"""Until a pass that failed continues."""
MAX_OPEN = 1000
"""Open records after which a pass is given up: something else is wrong."""
REASON = "reconcile"


@dataclass(slots=True)
class _Slice:
    """One slice of the pass of one resource, until `deadline` (monotonic clock)."""

    session: PollSession
    coverage: Coverage
    progress: ReconcileProgress
    gaps: dict[str, Gap]
    deadline: float

    @property
    def resource(self) -> Resource:
        """The resource."""
        return self.session.options.resource


class Reconciler:
    """Reconciles the resources of one account. Between slices all state is in Redis."""

    def __init__(self, context: AccountContext) -> None:
        account = context.account
        self._context, self._clock, self._settings = context, context.clock, account.reconcile
        self._rate = account.api.requests_per_second * account.reconcile.share
        self._repeats = Repeats()
        self._log = get_logger(account=account.name)

    async def run(
        self,
        resources: Iterable[Resource],
        *,
        stop: Callable[[], bool] = lambda: False,
        slice_seconds: float = SLICE_SECONDS,
    ) -> None:
        """Reconcile the `resources` that are due, the longest due first, for one slice.

        The slice ends after a batch when `stop()` is true or after `slice_seconds`. A failure is recorded and logged.
        Only cancellation is raised.
        """
        deadline = self._clock.monotonic() + slice_seconds
        throttle = Throttle(self._rate, self._clock)
        try:
            async with acquire(
                self._context.redis,
                self._context.keys.lease(LEASE),
                resource=LEASE,
                owner=f"{self._context.worker_id}/{uuid.uuid4().hex[:16]}",
                clock=self._clock,
            ) as lease:
                for resource in await self._due(resources):
                    if stop() or self._clock.monotonic() >= deadline:
                        return
                    session = PollSession(self._context, resource, reason=REASON, stop=stop, lease=LEASE)
                    with session.trace("reconcile"), suppress(ResourcePaused):
                        async with session.open(lease=lease):
                            await self._reconcile(session, throttle, deadline)
        except LeaseHeld as error:
            self._log.debug("reconcile_skipped", reason=str(error))
        except (LeaseLost, RedisWentBack, DataError) as error:
            self._log_failure("", error.code, error)
        except (redis.exceptions.RedisError, OSError) as error:
            self._log_failure("", "redis_full" if is_full(error) else "redis_unavailable", error)

    def _coverage(self, name: str) -> Coverage:
        return Coverage(self._context.redis, self._context.keys, name)

    async def _due(self, resources: Iterable[Resource]) -> list[Resource]:
        """Return the resources that are due now, the longest due first."""
        result: list[tuple[float, int, Resource]] = []
        for resource in resources:
            if resource.name in self._context.account.intervals and can_be_proven(resource):
                progress = await self._coverage(resource.name).load()
                if is_due(
                    progress.due_at, progress.interval, progress.began,
                    every=self._settings.every, now=self._clock.now(),
                ):  # fmt: skip
                    result.append((progress.due_at, len(result), resource))
        return [resource for _, _, resource in sorted(result, key=lambda item: item[:2])]

    async def _reconcile(self, session: PollSession, throttle: Throttle, deadline: float) -> None:
        resource, coverage = session.options.resource, self._coverage(session.source.name)
        current = _Slice(session, coverage, await coverage.load(), await coverage.gaps(), deadline)
        if session.in_doubt or not session.cursor.baseline:
            await self._postpone(current, min(RETRY_SECONDS, self._settings.lag + 1))
            return
        try:
            capabilities = await self._context.capabilities.ensure(resource, again=False)
            why = obstacle(resource, capabilities)
            if why:
                await self._turn_off(current, why)
                return
            if not current.progress.began and not await self._begin(current, throttle):
                return
            await self._slice(current, capabilities, throttle)
        except Forbidden as error:
            await self._turn_off(current, words_of(error))
        except OrderMeshError as error:
            failures = current.progress.failures + 1
            self._log_failure(resource.name, error.code, error)
            wait = BACKOFF.ceiling(failures)
            await self._postpone(
                current, wait, failures=failures, error=words_of(error), error_code=error.code
            )

    async def _postpone(self, current: _Slice, seconds: float, **fields: object) -> None:
        due_at = self._clock.now() + seconds
        more = {"due_at": due_at, "interval": self._settings.every, **fields}
        await current.coverage.update(current.session.lease.fence, more, gaps=current.gaps)

    async def _turn_off(self, current: _Slice, why: str) -> None:
        """Record that nothing can be verified at this gateway, or with this token. It is tried again later."""
        if current.progress.off != why:
            self._log.warning(
                "reconcile_off", reason=why,
                advice="Completeness cannot be verified. Reading and publishing are not affected.",
            )  # fmt: skip
        await self._postpone(current, self._settings.every, off=why, failures=0, error="", error_code="")

    # A pass

    async def _begin(self, current: _Slice, throttle: Throttle) -> bool:
        """Begin a pass, if there is anything to verify by now."""
        now, before = self._clock.now(), current.progress
        seen = walk(
            self._context.redis,
            self._context.keys.states(current.resource.name),
            current.session.cursor.buckets,
            ScanPosition(),
        )
        asked = ServerClock(self._context.client, throttle, current.session.run.usage, self._clock)
        offset = await asked.offset(current.resource, seen, current.session.stop)
        window = window_of(
            before.complete_until,
            server_now=now + offset,
            fresh_as_of=current.session.cursor.newest_as_of + offset,
            lag=self._settings.lag,
        )
        if window.empty:
            await self._postpone(current, min(RETRY_SECONDS, self._settings.lag + 1))
            return False
        current.progress = msgspec.structs.replace(
            before,
            began=now,
            since=window.after,
            until=window.until,
            bucket=0,
            behind="",
            counts=ReconcileCounts(),
        )
        started: dict[str, object] = {
            "began": now, "since": window.after, "until": window.until, "bucket": 0, "behind": "",
            "counts": ReconcileCounts(), "off": "", "checking": {},
        }  # fmt: skip
        if not before.complete_since:
            since = await self._first_seen(window)
            started["complete_since"], current.progress = (
                since,
                msgspec.structs.replace(current.progress, complete_since=since),
            )
        await current.coverage.update(
            current.session.lease.fence,
            {**started, "due_at": now, "interval": self._settings.every},
            gaps=current.gaps,
        )
        return True

    async def _first_seen(self, window: Window) -> int:
        """Return when the oldest run began that is kept (ms): the calendar begins there."""
        oldest = await History(self._context.redis, self._context.keys).oldest()
        return min(window.until, int(oldest * 1000)) if oldest else window.until

    async def _slice(self, current: _Slice, capabilities: Capabilities, throttle: Throttle) -> None:
        progress, name = current.progress, current.resource.name
        logs = f"{current.resource.entity}_audit"
        options = VerifyOptions(
            window=Window(progress.since, progress.until),
            began=progress.began,
            alike=capabilities.single_alike is not False,
            logs=logs if logs in self._context.account.intervals else "",
        )
        verifier = Verifier(
            options,
            current.session,
            throttle=throttle,
            counts=progress.counts,
            gaps=current.gaps,
            checking=dict(progress.checking),
        )
        size = max(1, min(MAX_AT_ONCE, int(self._rate * BATCH_SECONDS)))
        batch: list[StoredRecord] = []
        start = ScanPosition(progress.bucket, progress.behind)
        async with aclosing(
            walk(self._context.redis, self._context.keys.states(name), current.session.cursor.buckets, start)
        ) as records:
            async for record in records:
                if record.is_erased:
                    verifier.counts.erased += 1
                    continue
                batch.append(record)
                if len(batch) < size:
                    continue
                if not await self._verify(current, verifier, batch):
                    return
                batch = []
        if batch and not await self._verify(current, verifier, batch):
            return
        await self._end(current, verifier)

    async def _verify(self, current: _Slice, verifier: Verifier, batch: Sequence[StoredRecord]) -> bool:
        """Verify a batch and store the progress. False if the slice ends here."""
        current.session.lease.check()
        if stop := await current.session.gate.check(current.session.run.published, current.deadline):
            await self._postpone(current, RETRY_SECONDS if stop.message else 0.0)
            return False
        checks = await verifier.check(batch)
        if checks is None:
            return False
        if suspects := verifier.suspects(checks):
            await current.coverage.update(
                current.session.lease.fence,
                {"checking": {**verifier.checking, **suspects}},
                gaps=current.gaps,
            )
        if not await verifier.settle(checks):
            return False
        position = batch[-1].place
        done = {
            "bucket": position.bucket, "behind": position.after, "counts": verifier.counts, "checking": {},
            "failures": 0, "error": "", "error_code": "",
        }  # fmt: skip
        current.progress = msgspec.structs.replace(current.progress, failures=0)
        await current.coverage.update(
            current.session.lease.fence,
            done,
            gaps=current.gaps,
            opened=verifier.opened,
            closed=verifier.closed,
        )
        if sum(not gap.is_absent for gap in current.gaps.values()) > MAX_OPEN:
            await self._end(current, verifier, given_up=True)
            return False
        return True

    async def _end(self, current: _Slice, verifier: Verifier, *, given_up: bool = False) -> None:
        """End the pass: store and log what was verified, and what is open."""
        progress, counts, now = current.progress, verifier.counts, self._clock.now()
        # A record that this pass has not found no longer exists.
        gone = [] if given_up else [name for name, gap in current.gaps.items() if gap.seen != progress.began]
        for name in gone:
            del current.gaps[name]
        proven = not counts.open and not given_up
        ended = ReconcilePass(progress.since, progress.until, progress.began, now, proven, counts)
        fields: dict[str, object] = {
            "began": 0.0, "bucket": 0, "behind": "", "counts": ReconcileCounts(), "checking": {},
            "due_at": max(now, progress.began + self._settings.every), "interval": self._settings.every,
            "error": f"more than {MAX_OPEN} records could not be verified; the pass has ended" if given_up else "",
            "error_code": "" if not given_up else "too_many_open",
        }  # fmt: skip
        if given_up:
            fields["due_at"] = now + self._settings.every
        if proven:
            fields["complete_until"] = progress.until
        await current.coverage.update(
            current.session.lease.fence, fields, gaps=current.gaps, closed=gone, ended=ended
        )
        log = self._log.info if proven else self._log.warning
        log(
            "coverage_proven" if proven else "coverage_open",
            proven_since=rfc3339((progress.since or progress.complete_since) / 1000),
            proven_until=rfc3339(progress.until / 1000),
            records=counts.records,
            verified=counts.verified,
            compared=counts.entries,
            gaps_found=counts.found,
            gaps_healed=counts.healed,
            gaps_open=counts.open,
            absent=counts.absent,
            erased=counts.erased,
            timeless=counts.timeless,
            requests=counts.requests,
            duration_s=round(now - progress.began, 1),
        )

    def _log_failure(self, resource: str, code: str, error: Exception) -> None:
        now = self._clock.monotonic()
        if self._repeats.allow(f"{resource} {code}", now):
            self._log.warning(
                "reconcile_failed", resource=resource or "*", error=explain(error), error_code=code,
                repeated=self._repeats.held_back(f"{resource} {code}"),
            )  # fmt: skip
