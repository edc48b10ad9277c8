"""The session of one read: its lease, its cursor, its commits."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import msgspec
import redis.exceptions

from worker.capture.gate import ReadGate, ResourcePaused, paused
from worker.capture.lanes import FIELDS, list_is_due
from worker.capture.resources import Resource
from worker.capture.state.commit import Checkpoint, Commit
from worker.capture.state.cursor import Cursor
from worker.capture.state.known_bytes import KnownRecords
from worker.capture.state.layout import take_over
from worker.capture.state.lease import Lease, hold
from worker.capture.state.loss_check import LossCheck
from worker.capture.state.open_records import OpenRecords
from worker.capture.state.opening import Opener
from worker.capture.state.pauses import Pause
from worker.capture.state.refresh_queue import RefreshBatch, RefreshQueue
from worker.capture.state.run import Run, time_by_server
from worker.capture.state.run_history import History as RunHistory
from worker.capture.state.source import claim_source
from worker.capture.state.store import StateStore
from worker.capture.state.wait_note import WaitNote
from worker.errors import LeaseLost
from worker.ordermesh.http.waits import noted_in
from worker.telemetry import tracing
from worker.telemetry.library import structlog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence

    from worker.capture.context import AccountContext
    from worker.capture.gate import Stop
    from worker.capture.records.audit import AuditDelta
    from worker.capture.records.diff import Change
    from worker.capture.records.fields import FieldIndex
    from worker.capture.resources import Captured
    from worker.capture.state.commit import Packed
    from worker.capture.state.cursor import CursorUpdate
    from worker.capture.state.opening import Opening
    from worker.ordermesh.contract.findings import Capabilities
    from worker.telemetry.tracing import Span

PAUSE_SECONDS = 5.0
"""Until a resource that is paused is looked at again. It costs a lookup in Redis, and no request."""


class PollSession:
    """One read of one source: how it is read, under which lease, and the counts of its run.

    Attributes:
        source: The resource, or the audit log, that is read.
        run: The counts of the run, which is a span of the trace of `traceparent`, or of a new one.
        gate: Says between two pages whether the read may go on.
        stop: True when the worker is to end.
        seconds: How long each part of the read may take.
        cursor: The copy that was loaded last.
        opening: What was found when it was opened.
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
        yields: Callable[[], bool] = lambda: False,
        seconds: float = float("inf"),
        traceparent: str = "",
        lease: str = "",
    ) -> None:
        account, clock = context.account, context.clock
        if isinstance(source, Resource):
            source = msgspec.structs.replace(source, follow_ups=context.follow_ups(source))
        self.context, self.source, self.clock = context, source, clock
        self._trace = tracing.begin(traceparent)
        self.run = Run(
            self._trace.span_id, account.name, source.name, "", reason, clock.monotonic(), clock.now()
        )
        self.run.trace_id = self._trace.trace_id
        self.options = context.options(source)
        self.stop, self.seconds = stop, seconds
        backpressure = context.backpressure.gate(source.name)
        self.gate = ReadGate(source.name, backpressure, context.pauses, stop, clock, yields=yields)
        numbers = self._numbers = context.given_out.of(context.keys, source.name)
        self.store = StateStore(
            context.redis,
            context.keys,
            source,
            context.payload(source.name),
            lease=lease,
            numbers=numbers,
            known=context.known,
            replicas=account.replicas,
        )
        self._opener = Opener(context.redis, context.keys, source)
        self.opening: Opening | None = None
        self._contract: Mapping[bytes, bytes] | None = None
        self._losses = LossCheck(context.redis, context.keys, source, numbers, self.store)
        self.open_records = OpenRecords(context.redis, context.keys, source.name)
        self.refresh_queue = RefreshQueue(context.redis, context.keys, source.name)
        self.cursor, self.buckets = Cursor(), 0
        self._wait = WaitNote(context.client, clock)
        self._lease: Lease | None = None
        self._fields: FieldIndex | None = None
        self._begun: CursorUpdate = {}
        self._has_committed = self._has_counted = self._is_reloaded = False
        self._ends_with_commit = False
        self._committing = anyio.Lock(fast_acquire=True)
        """One commit at a time: the lease names the last one alone, by which a commit that is sent again is known."""

    @property
    def is_due(self) -> bool:
        """Whether the list is due by the cursor, and not only what is to be read of it by id."""
        return list_is_due(self.cursor, requested=self.options.interval, now=self.clock.now())

    @property
    def found(self) -> Opening | None:
        """What the session has found when it was opened, while it has committed nothing since; else None."""
        return None if self._has_committed else self.opening

    @property
    def lease(self) -> Lease:
        """The lease under which the session commits."""
        if self._lease is None:
            raise ValueError("the session is not open: it has no lease")
        return self._lease

    @property
    def in_doubt(self) -> bool:
        """Whether a session under the lease of the source has to find out first whether Redis has lost something."""
        return self._losses.is_called_for(self.cursor)

    @contextmanager
    def trace(self, name: str) -> Iterator[Span]:
        """Make the block the span of the run, and name the run in each line that the block logs."""
        names = {"resource": self.source.name, "run_id": self.run.run_id, "trace_id": self.run.trace_id}
        with (
            tracing.span(name, self._trace, **names) as span,
            structlog.contextvars.bound_contextvars(account=self.run.account, **names),
            noted_in(self._wait.waits),
        ):
            yield span

    @asynccontextmanager
    async def open(self, *, lease: Lease | None = None) -> AsyncIterator[None]:
        """Hold the lease of the source while the block runs, with the cursor loaded.

        `lease`: another one, which the caller holds and under which the session commits, beside polls of the source.

        Raises:
            ResourcePaused: A person has paused the source.
            LeaseHeld: Another worker reads it.
            DataError: The keys in Redis were written by another version, or come from another gateway.

        """
        context, keys, name = self.context, self.context.keys, self.source.name
        owner = f"{context.worker_id}/{self.run.run_id}" if lease is None else ""
        known = self._numbers.sequence
        found = await self._open(owner)
        acquired = Lease(context.redis, keys.lease(name), resource=name, owner=owner, fence=found.fence)
        held = nullcontext(lease) if lease is not None else hold(acquired, self.clock, self._renewed)
        try:
            async with held as self._lease:
                moved = await take_over(context.redis, keys, name, self._lease, found.layout)
                await claim_source(context.redis, keys, context.account.api, found.source)
                if moved:
                    await self.load_cursor()
                else:
                    self._take_cursor(Cursor.parse(found.cursor, keys.cursor(name)))
                # Under the lease of others, polls commit beside it. Whether anything is lost is theirs to find out.
                if lease is None and await self._losses.check(self.cursor, found, known, self.run.started_at):
                    await self.load_cursor()
                yield
        finally:
            if found.permits and not self.run.usage.requests:
                await self._give_permit_back()

    async def _open(self, owner: str) -> Opening:
        """Acquire the lease for `owner`, unless that is "", and take note of what was found with it."""
        context, clock = self.context, self.clock
        # Who reads under another lease has requests of its own share of the budget.
        budget, looks = context.client.budget, context.backpressure.needs_memory
        permit = budget.request if owner else None
        before = clock.monotonic()
        found = await self._opener.open(owner, memory=looks, permit=permit)
        if isinstance(found, Pause):
            raise ResourcePaused(paused(found))
        clock.note(float(found.at), before, clock.monotonic())
        if found.sharing:
            budget.note(found.permits, found.sharing)
        found = replace(found, glance=context.backpressure.with_memory(found.glance, is_new=looks))
        self.opening, self._contract = found, found.contract
        return found

    async def _give_permit_back(self) -> None:
        """Give the permit back of a read that has sent no request. One that cannot be given back is lost."""
        with suppress(redis.exceptions.RedisError, OSError):
            await self.context.client.budget.give_back()

    async def known_records(self, *, learn: bool) -> KnownRecords | None:
        """Return what this process knows of the records; None if it knows nothing.

        `learn`: for a full scan, which learns first what there is.
        """
        context, keys, name = self.context, self.context.keys, self.source.name
        known = KnownRecords(context.redis, keys.states(name), keys.cursor(name), context.known)
        if learn:
            await known.learn(self.cursor, self.store.count_lost)
        return known if learn or known.is_held else None

    def begin(self, *, ends_with_commit: bool) -> None:
        """Let commits record that a poll has begun: the first one, or the next renewal of the lease, does so.

        `ends_with_commit`: its last commit may release the lease.
        """
        self._ends_with_commit = ends_with_commit
        self._begun = {
            "last_started": self.run.started_at,
            "interval": self.options.interval,
            "complete_every": self.context.account.complete_every,
        }

    async def _renewed(self) -> None:
        if self._committing.locked():
            return  # that commit says it as well
        if (self._begun and not self._has_committed) or self._wait.changes():
            with suppress(LeaseLost):  # the read finds out for itself
                await self.update({})

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
        self._is_reloaded = True
        self._take_cursor(await self.store.load_cursor())
        return self.cursor

    def _take_cursor(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self._wait.load(cursor)
        self.buckets = cursor.buckets or self.buckets

    async def ensure_capabilities(self, *, again: bool, doubted: bool = False) -> Capabilities:
        """Return what is known of the list, from what was found first; see `CapabilityRegistry.ensure`."""
        stored, self._contract = self._contract, None
        return await self.context.capabilities.ensure(
            self.options.resource, again=again, doubted=doubted, stored=stored
        )

    async def fetch_due(self, limit: int, longest: float) -> RefreshBatch:
        """Return what is due to be read by its id; see `RefreshQueue.fetch`."""
        if self.found is not None and not self.found.due:
            return RefreshBatch(self.found.at, ())
        return await self.refresh_queue.fetch(limit, longest)

    async def deletes_accepted(self) -> bool:
        """Return whether a person has accepted that this full scan may delete any number of records."""
        return self.found.accepts_deletes if self.found else await self.store.deletes_accepted()

    async def all_absent(self) -> dict[str, int]:
        """Return the records that a full scan did not return; see `StateStore.all_absent`."""
        return {} if self.found and not self.found.absent else await self.store.all_absent()

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

    async def update(self, fields: CursorUpdate, *, record: bool = False, last: bool = False) -> None:
        """Write fields of the cursor, and the record of the run if it has ended; `last` as for `commit`."""
        await self.commit(Checkpoint(fields), record=record, last=last)

    async def commit(
        self,
        checkpoint: Checkpoint,
        *,
        changes: Sequence[Change] = (),
        recorded: Sequence[AuditDelta] = (),
        letters: Sequence[Change] = (),
        where: str = "",
        record: bool = False,
        packed: Packed | None = None,
        as_of: Cursor | None = None,
        opened: Collection[str] = (),
        last: bool = False,
    ) -> bool:
        """Publish, and move to the checkpoint, in one commit; with the record of the run if it has ended.

        `packed`: the result of `pack` for these changes, if it is there already. `as_of`, `opened`: as in `Commit`.
        `last`: nothing follows that needs the lease, so the commit may release it.

        False if nothing was written, since another run has committed one of these records since it was looked up.

        Raises:
            LeaseLost: Another worker has taken over; nothing was written.
            RedisWentBack: Redis has lost what was committed before; nothing was written.

        """
        async with self._committing:
            wait = self._wait.changes()
            moved: CursorUpdate = {**self._begun, **wait, **checkpoint.cursor}
            if self.buckets != self.cursor.buckets:
                moved["buckets"] = self.buckets
            release = last and self._ends_with_commit
            commit = Commit(
                fence=self.lease.fence,
                buckets=self.buckets,
                generation=self.cursor.generation,
                first_scan_at=0 if self.cursor.baseline else self.first_scan_at,
                after_loss=bool(self.cursor.lost_at or self.cursor.lost_before),
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
                packed=packed,
                as_of=as_of,
                opened=opened,
                release=release,
            )
            try:
                done = await self.store.commit(commit)
            except LeaseLost:
                # It may have been written: its answer was lost, and it came again after a commit of another worker.
                done = release and record and commit.is_progress and await self._is_recorded()
                if not done:
                    raise
            else:
                if done and release and commit.is_progress:
                    self.run.left = self._left(moved)
            self._has_committed |= done
            self.lease.is_released |= done and release and commit.is_progress
            if done:
                self._wait.note(wait)
            return done

    def _left(self, moved: CursorUpdate) -> tuple[bytes | None, ...] | None:
        """Return what the only commit of a session has left of the cursor, for `Run.left`; None if it is not."""
        found = self.found
        if found is None or found.due or self._is_reloaded or self.open_records.has_queued:
            return None
        fields = dict(found.cursor)
        for name, value in moved.items():
            fields[name.encode()] = str(int(value) if isinstance(value, bool) else value).encode()
        return tuple(fields.get(name.encode()) for name in FIELDS)

    async def _is_recorded(self) -> bool:
        """Return whether the record of the run is among the newest ones, so that its last commit was written."""
        return await RunHistory(self.context.redis, self.context.keys).contains(self.run.run_id)

    def pack(self, changes: Sequence[Change]) -> Packed | None:
        """Return what a commit will write of these changes; None if that depends on the commits before it."""
        commit = Commit(
            fence=0,
            buckets=self.buckets,
            reason=self.run.reason,
            observed_at=self.clock.now(),
            changes=changes,
        )
        return self.store.pack(commit)
