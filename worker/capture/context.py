"""What the reads of an account share, and the session of one read: its lease, its cursor, its commits."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from structlog.contextvars import bound_contextvars

from worker.capture.gate import ReadGate, ResourcePaused, StopCause
from worker.capture.records.diff import MAX_RECORD, observe
from worker.capture.records.history import History
from worker.capture.records.payload import PayloadOptions, payload_of
from worker.capture.records.scope import EVERYTHING, scope_of
from worker.capture.resources import AuditLog, Resource
from worker.capture.state.commit import Checkpoint, Commit
from worker.capture.state.cursor import Cursor
from worker.capture.state.given_out import GivenOut
from worker.capture.state.lease import acquire
from worker.capture.state.loss_check import LossCheck
from worker.capture.state.open_records import OpenRecords
from worker.capture.state.pauses import Pauses
from worker.capture.state.refresh_queue import RefreshQueue
from worker.capture.state.run import Outcome, Run, time_by_server
from worker.capture.state.source import claim_source
from worker.capture.state.store import StateStore
from worker.errors import LeaseLost
from worker.telemetry import tracing
from worker.telemetry.log import Repeats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    import msgspec
    from redis.asyncio import Redis

    from worker.capture.gate import ReadResult, Stop
    from worker.capture.probe.registry import CapabilityRegistry
    from worker.capture.records.audit import AuditDelta
    from worker.capture.records.diff import Change, RawRecord
    from worker.capture.records.fields import FieldIndex
    from worker.capture.records.privacy import RecordPolicy
    from worker.capture.records.scope import RecordScope
    from worker.capture.resources import Captured
    from worker.capture.state.cursor import CursorUpdate
    from worker.capture.state.lease import Lease, Renewed
    from worker.clock import SharedClock
    from worker.config.sections import Account
    from worker.keys import Keys
    from worker.ordermesh.client import OrderMeshClient
    from worker.queue.backpressure import Backpressure
    from worker.telemetry.tracing import Span

HELD_BACK_SECONDS = 600.0
"""Between two log lines about the same deletions that are held back."""
PAUSE_SECONDS = 5.0
"""Until a resource that is paused is looked at again. It costs a lookup in Redis, and no request."""


@dataclass(slots=True)
class AccountContext:
    """What all reads of one account share: its settings, the services they use, and what was given out so far."""

    account: Account
    redis: Redis
    client: OrderMeshClient
    capabilities: CapabilityRegistry
    backpressure: Backpressure
    clock: SharedClock
    worker_id: str
    given_out: GivenOut = field(default_factory=GivenOut)
    held_back: Repeats = field(init=False, default_factory=partial(Repeats, HELD_BACK_SECONDS))
    keys: Keys = field(init=False)
    pauses: Pauses = field(init=False)
    _payloads: dict[str, PayloadOptions] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.keys = self.account.keys.of(self.account.name)
        self.pauses = Pauses(self.redis, self.keys)

    def payload(self, name: str) -> PayloadOptions:
        """Return how records of a source go into events."""
        if name not in self._payloads:
            self._payloads[name] = payload_of(name, self.account.privacy, self.account.events)
        return self._payloads[name]

    def scope(self, source: Captured) -> RecordScope:
        """Return which records of a source are published."""
        if isinstance(source, AuditLog):
            return EVERYTHING
        interest = self.account.interest
        return scope_of(
            source,
            merchants=interest.merchants,
            statuses=interest.statuses.get(source.name, ()),
            final=interest.final_statuses.get(source.name, ()),
        )


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How a source is read, whoever reads it.

    `resource`: the list that is read, or that the audit log belongs to. `scope`: which of its records are published.
    `single`: it was seen that a single record can be read by its id; `single_alike`: it then has the fields that the
    list shows. `confirm_after`: seconds between the two answers that a record does not exist, after which it is
    deleted. `history`: which records of the past are not published.
    """

    resource: Resource
    scope: RecordScope
    page_size: int
    window: int
    interval: float
    ignored: frozenset[str]
    confirm_after: float
    single: bool = False
    single_alike: bool = True
    privacy: RecordPolicy | None = None
    history: History = History()  # noqa: RUF009 - immutable
    max_record_bytes: int = MAX_RECORD


class PollSession:
    """One read of one source: how it is read, under which lease, and the counts of its run.

    Attributes:
        source: The resource, or the audit log, that is read.
        run: The counts of the run, which is a span of the trace of `traceparent`, or of a new one.
        gate: Says between two pages whether the read may go on.
        stop: True when the worker is to end.
        seconds: How long each part of the read may take.
        cursor: The copy that was loaded last.
        buckets: Number of hashes that keep the states of the source; 0 for one that was never read, until the
            reader knows how many it takes.

    """

    def __init__(
        self,
        context: AccountContext,
        source: Captured,
        *,
        reason: str,
        stop: Callable[[], bool] = lambda: False,
        seconds: float = float("inf"),
        traceparent: str = "",
        lease: str = "",
    ) -> None:
        account, clock = context.account, context.clock
        if isinstance(source, Resource):
            # A source that is not polled is not followed up.
            polled = tuple(item for item in source.follow_ups if item.target in account.intervals)
            source = replace(source, follow_ups=polled)
        self.context, self.source, self.clock = context, source, clock
        self._trace = tracing.begin(traceparent)
        self.run = Run(
            self._trace.span_id, account.name, source.name, "", reason, clock.monotonic(), clock.now()
        )
        self.run.trace_id = self._trace.trace_id
        payload = context.payload(source.name)
        hidden = payload.privacy.hidden if payload.privacy else frozenset[str]()
        self.options = ReadOptions(
            resource=source.parent if isinstance(source, AuditLog) else source,
            scope=context.scope(source),
            page_size=account.api.page_size,
            window=account.api.max_concurrency,
            interval=account.intervals.get(source.name, 0.0),
            ignored=hidden.union(account.ignore_fields.get(source.name, ())),
            confirm_after=account.confirm_deletes,
            max_record_bytes=account.api.max_record_bytes,
            privacy=payload.privacy,
            history=History(since=account.since, silent=account.snapshot == "silent"),
        )
        self.stop, self.seconds = stop, seconds
        self.gate = ReadGate(source.name, context.backpressure.gate(source.name), context.pauses, stop, clock)
        numbers = context.given_out.of(context.keys, source.name)
        self.store = StateStore(context.redis, context.keys, source, payload, lease=lease, numbers=numbers)
        self._losses = LossCheck(context.redis, context.keys, source, numbers, self.store)
        self.open_records = OpenRecords(context.redis, context.keys, source.name)
        self.refresh_queue = RefreshQueue(context.redis, context.keys, source.name)
        self.cursor, self.buckets = Cursor(), 0
        self._lease: Lease | None = None
        self._fields: FieldIndex | None = None
        self._begun: CursorUpdate = {}
        self._has_committed = self._has_counted = False

    @property
    def lease(self) -> Lease:
        """The lease under which the session commits."""
        if self._lease is None:
            raise ValueError("the session is not open: it has no lease")
        return self._lease

    @contextmanager
    def trace(self, name: str) -> Iterator[Span]:
        """Make the block the span of the run, and name the run in each line that the block logs."""
        names = {"resource": self.source.name, "run_id": self.run.run_id, "trace_id": self.run.trace_id}
        with (
            tracing.span(name, self._trace, **names) as span,
            bound_contextvars(account=self.run.account, **names),
        ):
            yield span

    @asynccontextmanager
    async def open(
        self, *, on_renew: Renewed | None = None, lease: Lease | None = None
    ) -> AsyncIterator[None]:
        """Hold the lease of the source while the block runs, with the cursor loaded.

        `on_renew` is awaited with each renewal. `lease`: one that the caller holds, under which the session commits.

        Raises:
            ResourcePaused: A person has paused the source.
            LeaseHeld: Another worker reads it.
            DataError: The keys in Redis were written by another version, or come from another gateway.

        """
        context = self.context
        if stop := await self.gate.check_pause():
            raise ResourcePaused(stop)
        held = (
            nullcontext(lease)
            if lease is not None
            else acquire(
                context.redis,
                context.keys.lease(self.source.name),
                resource=self.source.name,
                owner=f"{context.worker_id}/{self.run.run_id}",
                clock=self.clock,
                on_renew=partial(self._renewed, on_renew),
            )
        )
        async with held as self._lease:
            await self.store.check_layout()
            await claim_source(context.redis, context.keys, context.account.api)
            await self.load_cursor()
            if await self._losses.check(self.cursor, self.run.started_at):
                await self.load_cursor()
            yield

    def observe(self, records: Sequence[msgspec.Raw]) -> list[RawRecord]:
        """Return records of the resource, as served, with their ids and fingerprints."""
        options = self.options
        return observe(options.resource, records, options.scope, options.max_record_bytes, options.ignored)

    def begin(self) -> None:
        """Let commits record that a poll has begun: the first one, or the next renewal of the lease, does so."""
        self._begun = {
            "last_started": self.run.started_at,
            "interval": self.options.interval,
            "complete_every": self.context.account.complete_every,
        }

    async def _renewed(self, on_renew: Renewed | None) -> None:
        if on_renew is not None:
            await on_renew()
        if self._begun and not self._has_committed:
            with suppress(LeaseLost):  # the read finds out for itself
                await self.update({})

    def end(self, result: ReadResult) -> None:
        """Set the outcome of the run.

        A read that is stopped, and waits for nothing, keeps the error of the read before it in the same run.
        """
        run, stop = self.run, result.stop
        if stop is None and result.suspicion:
            run.end(Outcome.SUSPICIOUS, "suspicious", result.suspicion)
        elif stop is None:
            run.end(Outcome.COMPLETE)
        elif stop.cause is StopCause.UNPROVEN:
            run.end(Outcome.PARTIAL, stop.cause.value, stop.why)
        elif stop.message:
            run.end(Outcome.PAUSED, stop.cause.value, stop.message)
        else:
            run.outcome = Outcome.STOPPED if stop.cause is StopCause.STOPPED else Outcome.PARTIAL

    def stop_fields(self, stop: Stop) -> CursorUpdate:
        """Return when the next poll is due after a read that was stopped, and what it waits for."""
        now = self.clock.now()
        if stop.report is None:
            return {"due_at": now}
        return {"due_at": now + min(PAUSE_SECONDS, self.options.interval), "paused": stop.report.cause}

    @property
    def first_scan_at(self) -> int:
        """When the first full scan began, by the clock of the server (milliseconds since 1970); else this run."""
        began = self.cursor.scan.started or self.run.started_at
        offset = self.run.usage.clock_offset or 0.0
        return self.cursor.first_scan_at or int(time_by_server(began, offset) * 1000)

    async def load_cursor(self) -> Cursor:
        """Load the cursor."""
        self.cursor = await self.store.load_cursor()
        self.buckets = self.cursor.buckets or self.buckets
        return self.cursor

    async def check_states(self) -> None:
        """Notice, once in a session, if Redis has lost states of records, since a record seems to be new."""
        cursor = self.cursor
        if self._has_counted or not cursor.baseline:
            return
        self._has_counted = True
        known_until = max(1, int((cursor.fresh_as_of + (self.run.usage.clock_offset or 0.0)) * 1000))
        if await self._losses.check_states(cursor, self.run.started_at, known_until=known_until):
            await self.load_cursor()

    async def load_fields(self) -> FieldIndex:
        """Return the field names that have a place. They are loaded once."""
        if self._fields is None:
            self._fields = await self.store.load_fields()
        return self._fields

    async def past_of_logs(self) -> int:
        """Return the time before which entries of audit logs are not published (milliseconds since 1970; 0: none)."""
        history, source = self.options.history, self.source
        if not history.silent or not isinstance(source, AuditLog):
            return history.since
        records = StateStore(self.context.redis, self.context.keys, source.parent)
        return history.before((await records.load_cursor()).first_scan_at)

    async def update(self, fields: CursorUpdate, *, record: bool = False) -> None:
        """Write fields of the cursor, and the record of the run if it has ended."""
        await self.commit(Checkpoint(fields), record=record)

    async def commit(
        self,
        checkpoint: Checkpoint,
        *,
        changes: Sequence[Change] = (),
        recorded: Sequence[AuditDelta] = (),
        letters: Sequence[Change] = (),
        where: str = "",
        record: bool = False,
    ) -> bool:
        """Publish, and move to the checkpoint, in one commit; with the record of the run if it has ended.

        False if nothing was written, since another run has committed one of these records since it was looked up.

        Raises:
            LeaseLost: Another worker has taken over; nothing was written.
            RedisWentBack: Redis has lost what was committed before; nothing was written.

        """
        moved: CursorUpdate = {**self._begun, **checkpoint.cursor}
        if self.buckets != self.cursor.buckets:
            moved["buckets"] = self.buckets
        done = await self.store.commit(
            Commit(
                fence=self.lease.fence,
                buckets=self.buckets,
                generation=self.cursor.generation,
                reason=self.run.reason,
                observed_at=self.clock.now(),
                where=where,
                changes=changes,
                recorded=recorded,
                letters=letters,
                cursor=moved,
                bookmarks=checkpoint.bookmarks,
                refresh=checkpoint.refresh,
                run=self.run.summary(self.clock.monotonic()) if record else {},
            )
        )
        self._has_committed |= done
        return done
