"""One poll of one resource: lease, cursor, plan, and what is noted when it fails."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import redis.exceptions
from structlog.contextvars import bound_contextvars

from worker import tracing
from worker.capture.due import Due
from worker.capture.follow_up import FollowUpReader
from worker.capture.lease import Lease, Renewed, hold
from worker.capture.pauses import PauseGate, Pauses
from worker.capture.payload import AS_SERVED, Payload
from worker.capture.plans import SHORTEST_PART, Part, Plan, choose, sweep_of
from worker.capture.reader import PAUSE_SECONDS, SWEEP_OVER, Reader
from worker.capture.reading import LEAST_BUCKETS, Reading
from worker.capture.resources import AuditLog, Resource
from worker.capture.run import Outcome, Run
from worker.capture.store import Cursor, Store
from worker.connections import is_full
from worker.errors import (
    ApiError,
    ContractMismatch,
    DataError,
    FilterBroken,
    LeaseHeld,
    LeaseLost,
    LoginRejected,
    NotFound,
    OrderMeshError,
    OrdersyncError,
    RateLimited,
    RedisFull,
    RedisUnavailable,
    SortBroken,
    UnreadableAnswer,
)
from worker.logs import Repeats, get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from redis.asyncio import Redis

    from worker.capture.contract import KnownContract
    from worker.capture.resources import Captured
    from worker.clock import Clock
    from worker.keys import Keys
    from worker.ordermesh.client import OrderMeshClient
    from worker.ordermesh.findings import Findings
    from worker.queue.pressure import Pressure
    from worker.tracing import Trace

FIRST_BACKOFF, LONGEST_BACKOFF = 5.0, 60.0
"""Seconds between two tries of a resource whose polls fail. A refused login waits for the longest at once."""
LONGEST_ASKED_PAUSE = 900.0
"""Seconds. However long a pause the server asks for, a resource is not left alone for longer."""
SLICE_SECONDS = 45.0
"""A poll that takes longer is a chain of slices, so that no job of arq's is a long one."""
_NOT_NOTED = (LeaseLost, DataError, redis.exceptions.RedisError, OSError)
"""What keeps the cursor from being written now, or by this worker."""


@dataclass(slots=True)
class Turn:
    """One read of one resource or kind of audit log. `last_ids`: who was on the last page."""

    captured: Captured
    reading: Reading
    run: Run
    store: Store
    last_ids: frozenset[bytes] = frozenset()


class Poller:
    """Polls the resources of one account. Stateless between polls: all that matters is in Redis."""

    def __init__(
        self,
        *,
        redis_client: Redis,
        keys: Keys,
        client: OrderMeshClient,
        contract: KnownContract,
        pressure: Pressure,
        page_size: int,
        max_concurrency: int,
        intervals: Mapping[str, float],
        ignore_fields: Mapping[str, Sequence[str]],
        complete_every: float,
        worker_id: str,
        clock: Clock,
        payloads: Mapping[str, Payload] | None = None,
    ) -> None:
        self._redis, self._keys, self._client, self._contract = redis_client, keys, client, contract
        self._page_size, self._window = page_size, max_concurrency
        self._intervals, self._ignore_fields = intervals, ignore_fields
        self._complete_every, self._pressure = complete_every, pressure
        self._pauses = Pauses(redis_client, keys)
        self._worker_id, self._clock = worker_id, clock
        self._payloads, self._settled = payloads or {}, set[str]()
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
        turn = self.turn(captured, reason=reason, trace=trace, stop=stop, seconds=slice_seconds)
        run = turn.run
        names = {"resource": run.resource, "run_id": run.run_id, "trace_id": run.trace_id}
        with tracing.span("poll", trace) as seen, bound_contextvars(account=run.account, **names):
            await self._poll(
                turn, complete=complete, follow_ups_only=follow_ups_only, stop=stop, on_renew=on_renew
            )
            seen.attributes |= run.summary(self._clock.monotonic())
        return run

    async def _poll(
        self,
        turn: Turn,
        *,
        complete: bool,
        follow_ups_only: bool,
        stop: Callable[[], bool],
        on_renew: Renewed | None,
    ) -> None:
        captured, reading, run, store = turn.captured, turn.reading, turn.run, turn.store
        try:
            if pause := await self._pauses.of(captured.name):
                run.paused_by = pause.words
                run.cut_short()
                self._tell(run)
                return
            async with self.lease(turn, on_renew=on_renew) as lease:
                await self._read(
                    captured, reading, run, store, lease, complete=complete, follow_ups_only=follow_ups_only
                )
        except LeaseHeld as error:
            run.outcome, run.error_code, run.error = Outcome.HELD, error.code, str(error)
        except (LeaseLost, DataError) as error:
            run.fail(error.code, error)
        except (redis.exceptions.RedisError, OSError) as error:
            if "WRONGTYPE" in str(error) or str(error).startswith("DATA"):
                run.fail(DataError.code, _of_another_hand(error))
            elif is_full(error):
                run.fail(RedisFull.code, RedisFull())
            else:
                run.fail(RedisUnavailable.code, error)
        if run.outcome is Outcome.PARTIAL and stop():
            run.outcome = Outcome.STOPPED
        self._tell(run)

    def turn(
        self,
        captured: Captured,
        *,
        reason: str,
        trace: Trace,
        stop: Callable[[], bool] = lambda: False,
        seconds: float = float("inf"),
    ) -> Turn:
        """All that a read of a resource needs beside its lease. The run is the span of `trace`."""
        if isinstance(captured, Resource):
            # What nobody polls is not followed up.
            wanted = tuple(each for each in captured.follow_ups if each.target in self._intervals)
            captured = replace(captured, follow_ups=wanted)
        began, started_at = self._clock.monotonic(), self._clock.now()
        run = Run(trace.span_id, self._keys.account, captured.name, "", reason, began, started_at)
        run.trace_id = trace.trace_id
        payload = self._payloads.get(captured.name, AS_SERVED)
        hidden = payload.privacy.hidden if payload.privacy else frozenset[str]()
        reading = Reading(
            resource=_list_of(captured),
            page_size=self._page_size,
            window=self._window,
            interval=self._intervals.get(captured.name, 0.0),
            ignored=hidden.union(self._ignore_fields.get(captured.name, ())),
            stop=lambda: stop() or bool(run.paused_by),
            seconds=seconds,
            gate=PauseGate(self._pressure, self._pauses, run),
            privacy=payload.privacy,
        )
        return Turn(captured, reading, run, Store(self._redis, self._keys, captured, payload))

    def lease(self, turn: Turn, *, on_renew: Renewed | None = None) -> AbstractAsyncContextManager[Lease]:
        """Hold the lease of what is read."""
        return hold(
            self._redis,
            self._keys.lease(turn.captured.name),
            resource=turn.captured.name,
            owner=f"{self._worker_id}/{turn.run.run_id}",
            clock=self._clock,
            on_renew=on_renew,
        )

    async def pause_of(self, captured: Captured) -> str:
        """Why a person has paused it, in words, "" if nobody has."""
        pause = await self._pauses.of(captured.name)
        return pause.words if pause else ""

    async def _read(
        self,
        captured: Captured,
        reading: Reading,
        run: Run,
        store: Store,
        lease: Lease,
        *,
        complete: bool,
        follow_ups_only: bool,
    ) -> None:
        await store.check_layout()
        cursor = await store.load_cursor()
        if captured.name not in self._settled:
            await store.settle(cursor.buckets)
            self._settled.add(captured.name)
        if not await self._begin(reading, run, store, lease, cursor):
            return
        readers: list[Reader] = []
        try:
            if isinstance(captured, AuditLog):
                await self._read_logs(captured, reading, run, store=store, lease=lease, cursor=cursor)
            elif follow_ups_only:
                await self._follow_up(reading, run, store, lease, cursor)
                await self._note(store, lease, cursor, run, {}, record=True)
            else:
                await self._read_all(
                    reading, run, store=store, lease=lease, cursor=cursor, complete=complete, readers=readers
                )
        except Exception as error:
            # When Redis is full there may still be room for the cursor, if not for a page.
            failure = RedisFull() if is_full(error) else error
            if isinstance(failure, _NOT_NOTED):
                raise
            code = failure.code if isinstance(failure, OrdersyncError) else "internal"
            run.fail(code, failure)
            if code == "internal":
                self._log.exception("poll_crashed", resource=run.resource, advice="please report this trace")
            if _contradicts_what_is_known(error, captured, cursor.failures):
                await self._contract.doubt(reading.resource)
            failed: dict[str, str | int | float] = {
                **(readers[-1].setback(error) if readers else {}),
                "failures": cursor.failures + 1,
                "error": run.error,
                "error_code": run.error_code,
                "due_at": self._clock.now() + _pause(failure, cursor.failures),
            }
            await self._note(store, lease, cursor, run, failed, record=True)

    async def _read_all(
        self,
        reading: Reading,
        run: Run,
        *,
        store: Store,
        lease: Lease,
        cursor: Cursor,
        complete: bool,
        readers: list[Reader],
    ) -> None:
        """What is due by id, and the list; after a complete read also what that has made due."""
        brief = replace(reading, seconds=min(reading.seconds, SHORTEST_PART))
        if await self._follow_up(brief, run, store, lease, cursor):
            cursor = await store.load_cursor()
        if run.outcome is Outcome.PAUSED:
            return
        run.outcome = Outcome.PARTIAL
        await self._read_parts(
            reading, run, store=store, lease=lease, cursor=cursor, complete=complete, readers=readers
        )
        if complete and run.outcome is Outcome.COMPLETE:
            await self._follow_up(reading, run, store, lease, await store.load_cursor())

    async def _follow_up(
        self, reading: Reading, run: Run, store: Store, lease: Lease, cursor: Cursor
    ) -> bool:
        """Read what is due by id. False if nothing was.

        Before the first complete read all of it waits: that reads everything.
        """
        resource = reading.resource
        if not cursor.baseline or not await self._due(resource).count():
            return False
        findings = await self._contract.ensure(resource, again=False)
        await self._read_due(
            resource,
            reading,
            run,
            store=store,
            lease=lease,
            cursor=cursor,
            findings=findings,
            buckets=cursor.buckets,
        )
        return True

    async def _read_logs(
        self, log: AuditLog, reading: Reading, run: Run, *, store: Store, lease: Lease, cursor: Cursor
    ) -> None:
        """Read the audit logs that are due."""
        findings = await self._contract.ensure(log.parent, again=False)
        if findings.audit.holds is False and log.operation == log.parent.audit:
            raise ContractMismatch(log.operation, log.name, (), findings.audit.why)
        buckets = cursor.buckets or await self._buckets_like(log.parent)
        reader = await self._read_due(
            log, reading, run, store=store, lease=lease, cursor=cursor, findings=findings, buckets=buckets
        )
        now = self._clock.now()
        ended: dict[str, str | int | float] = {"due_at": now, "failures": 0, "error": "", "error_code": ""}
        if run.outcome is Outcome.PARTIAL:
            run.cut_short()
        if run.outcome is Outcome.PAUSED:
            ended = {"due_at": now + min(PAUSE_SECONDS, reading.interval), "paused": reader.pressed}
        elif reader.exhausted:
            run.outcome, run.freshness = Outcome.COMPLETE, now - run.started_at
            ended |= {
                "baseline": 1,
                "fresh_as_of": max(run.started_at, cursor.fresh_as_of),
                "last_success": now,
                "due_at": run.started_at + reading.interval,
            }
        await self._note(store, lease, cursor, run, ended, record=run.pages > 0)

    async def _read_due(
        self,
        captured: Captured,
        reading: Reading,
        run: Run,
        *,
        store: Store,
        lease: Lease,
        cursor: Cursor,
        findings: Findings,
        buckets: int,
    ) -> FollowUpReader:
        run.plan = f"{run.plan}+refresh".strip("+")
        reader = FollowUpReader(
            captured,
            reading,
            run,
            store=store,
            lease=lease,
            cursor=cursor,
            fields=await store.load_fields(),
            client=self._client,
            clock=self._clock,
            queue=self._due(captured),
            findings=findings,
            buckets=buckets,
        )
        await reader.read()
        return reader

    def _due(self, captured: Captured) -> Due:
        return Due(self._redis, self._keys, captured.name)

    async def _buckets_like(self, parent: Resource) -> int:
        cursor = await Store(self._redis, self._keys, parent).load_cursor()
        return cursor.buckets or LEAST_BUCKETS

    async def _read_parts(
        self,
        reading: Reading,
        run: Run,
        *,
        store: Store,
        lease: Lease,
        cursor: Cursor,
        complete: bool,
        readers: list[Reader],
    ) -> None:
        """Read what the plan says, one part after the other; `readers` gets who reads them."""
        resource = reading.resource
        findings = await self._contract.ensure(resource, again=not cursor.sweep_started)
        # A path that nobody has tried answers 404 for every record, also for one that is there.
        by_id = resource.single is not None and findings.single.holds is True
        reading = replace(reading, single=by_id)
        parts = self._choose(reading, cursor, complete=complete)
        suspicion: tuple[Part, OrderMeshError] | None = None
        while parts:
            part, *parts = parts
            run.plan = f"{run.plan}+{part.plan}".strip("+")
            reader = Reader(
                reading,
                part,
                run,
                store=store,
                lease=lease,
                cursor=cursor,
                fields=await store.load_fields(),
                client=self._client,
                clock=self._clock,
            )
            readers.append(reader)
            try:
                await reader.read()
            except (FilterBroken, SortBroken, ApiError, UnreadableAnswer) as error:
                if reader.capped and part.may_seek:
                    parts = [self._seek_instead(reader, part)]
                    over = {**SWEEP_OVER, "sweep_since": 0, "capped": reader.capped}
                    await self._note(store, lease, cursor, run, over)
                    cursor = await store.load_cursor()
                    continue
                if not _may_be_the_shortcut(part, error):
                    raise
                # What the filter or the sort keeps from being read must not keep the rest from it.
                suspicion = part, error
                parts = [Part(Plan.SWEEP, part.page_size, reading.seconds)]
            else:
                if not part.is_fast:
                    await self._judge(reading.resource, part, reader, suspicion)
                if run.outcome not in {Outcome.COMPLETE, Outcome.SUSPICIOUS}:
                    return
            cursor = await store.load_cursor()

    def _seek_instead(self, reader: Reader, part: Part) -> Part:
        """A sweep that goes by time, for one that has come to where the server ends every list."""
        self._log.info(
            "result_capped",
            resource=reader.resource.name,
            records=reader.capped,
            advice="it is read from time to time instead, through the filter and the sort by modification",
        )
        listing = self._client.profile.list_of(reader.resource.search)
        return sweep_of(listing, part.page_size, part.seconds, capped=True)

    async def _judge(
        self, resource: Resource, part: Part, reader: Reader, suspicion: tuple[Part, OrderMeshError] | None
    ) -> None:
        """A sweep that works where a fast read failed, or finds what those left out, speaks against filter or sort."""
        missed, contract = reader.sight.missed, self._contract
        if suspicion is not None:
            fast, error = suspicion
            if isinstance(error, SortBroken) or fast.plan is Plan.HEAD:
                await contract.withdraw_sort(resource, str(error), shown=isinstance(error, SortBroken))
            else:
                await contract.withdraw_filter(resource, str(error), shown=isinstance(error, FilterBroken))
        elif missed:
            changes = "a change" if missed == 1 else f"{missed} changes"
            await contract.withdraw_in_use(resource, f"it left out {changes} that a complete read has found")
        elif reader.sight.witness is not None:
            await contract.try_in_use(resource, reader.sight.witness, part.page_size)

    async def _begin(self, reading: Reading, run: Run, store: Store, lease: Lease, cursor: Cursor) -> bool:
        """Note that the poll has begun. False if it must pause: consumers, or Redis, have to catch up first."""
        load = await reading.gate.look(paused=bool(cursor.paused))
        started: dict[str, str | int | float] = {
            "last_started": run.started_at,
            "interval": reading.interval,
            "paused": load.cause,
        }
        if load.cause:
            run.pause(load.cause)
            started["due_at"] = self._clock.now() + min(PAUSE_SECONDS, reading.interval)
        await self._note(store, lease, cursor, run, started)
        if load.cause and not cursor.paused:
            self._log.warning("backpressure_on", resource=run.resource, cause=load.cause, **load.figures)
        elif cursor.paused and not load.cause:
            self._log.info("backpressure_off", resource=run.resource, **load.figures)
        return not load.cause

    def _choose(self, reading: Reading, cursor: Cursor, *, complete: bool) -> list[Part]:
        """What to read, in this order, by what is known of the gateway."""
        return choose(
            self._client.profile.list_of(reading.resource.search),
            cursor,
            self._clock.now(),
            page_size=reading.page_size,
            interval=reading.interval,
            seconds=reading.seconds,
            complete_every=self._complete_every,
            complete=complete,
        )

    async def _note(
        self,
        store: Store,
        lease: Lease,
        cursor: Cursor,
        run: Run,
        fields: Mapping[str, str | int | float],
        *,
        record: bool = False,
    ) -> None:
        """Write fields of the cursor, and the record of the run if it has ended."""
        await store.commit(
            [],
            fence=lease.fence,
            buckets=cursor.buckets,
            reason=run.reason,
            observed_at=run.started_at,
            where="",
            cursor=fields,
            run=run.summary(self._clock.monotonic()) if record else None,
        )

    def _tell(self, run: Run) -> None:
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
                    advice="nothing is concluded from it; the next poll looks again",
                )
        elif run.outcome is Outcome.FAILED:
            if self._repeats.allow(f"{run.resource} {run.error_code}", now):
                repeated = self._repeats.held_back(f"{run.resource} {run.error_code}")
                self._log.error("poll_failed", **fields, repeated=repeated)
        else:
            self._repeats.forget_all(run.resource)
            self._log.info("poll_done", **fields)


def _may_be_the_shortcut(part: Part, error: OrderMeshError) -> bool:
    """Whether a read of everything, without filter and sort, may succeed where this one failed."""
    if not (part.is_fast or part.seeks) or isinstance(error, RateLimited):
        return False
    return not (isinstance(error, UnreadableAnswer) and error.page is None)


def _list_of(captured: Captured) -> Resource:
    """The list that is read, or that an audit log belongs to."""
    return captured.parent if isinstance(captured, AuditLog) else captured


def _contradicts_what_is_known(error: Exception, captured: Captured, failures: int) -> bool:
    """Whether the list should be looked for and at anew: it is gone, or is served in another way again and again."""
    resource = _list_of(captured)
    if isinstance(captured, AuditLog):
        return isinstance(error, ContractMismatch)
    if isinstance(error, UnreadableAnswer):
        return error.operation == resource.search and error.page is not None and failures > 0
    return isinstance(error, NotFound) and error.operation == resource.search


def _of_another_hand(error: Exception) -> DataError:
    return DataError(
        f"a key of the account is not what this program writes: {error}. Nothing was written; put the old value "
        "back, or delete the key when you know what it is."
    )


def _pause(error: Exception, failures: int) -> float:
    """Seconds until the next try, after `failures` in a row before this one."""
    if isinstance(error, LoginRejected):
        return LONGEST_BACKOFF
    if isinstance(error, RedisFull):
        return FIRST_BACKOFF
    if isinstance(error, ApiError) and error.retry_after:
        return min(error.retry_after, LONGEST_ASKED_PAUSE)
    return min(LONGEST_BACKOFF, FIRST_BACKOFF * (1 << min(failures, 10)))
