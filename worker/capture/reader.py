"""Carries out a read: pages are fetched in parallel, dealt with in order, and committed one by one.

A sweep reads every page. Each of its commits moves the cursor behind the page that it commits, so it may end
anywhere, by a signal, a fault or SIGKILL: the next run carries on from the last commit.
A fast read, a window or a head, reads what was modified since the mark, through a filter or a sort that the probe
has seen to hold. It is short, so it starts over when it is interrupted: the mark moves at its end only.
Neither publishes anything twice, whatever it reads again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import redis.exceptions

from worker.capture import absence
from worker.capture.absence import Absences
from worker.capture.detect import (
    PUBLISHED,
    UNWRITTEN,
    Action,
    Change,
    Decoded,
    Observed,
    decide,
    decode,
    newest_of_each,
    observe,
    older_than,
    times_of,
)
from worker.capture.evidence import Seen
from worker.capture.fingerprint import State
from worker.capture.head import HeadPlan, PassPlan
from worker.capture.plans import OVERLAP_MS, Plan, Shown
from worker.capture.run import Outcome
from worker.capture.seek import SeekPlan
from worker.capture.store import Dealt
from worker.capture.sweep import SweepPlan
from worker.clock import rfc3339
from worker.errors import (
    ApiError,
    FilterBroken,
    OrderMeshError,
    RateLimited,
    SortBroken,
    UnreadableAnswer,
)
from worker.logs import get_logger
from worker.ordermesh.pages import split
from worker.shielding import plain_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from worker.capture.fingerprint import FieldNames
    from worker.capture.lease import Lease
    from worker.capture.plans import Ask, Part
    from worker.capture.privacy import RecordPolicy
    from worker.capture.resources import Resource
    from worker.capture.run import Run
    from worker.capture.store import Cursor, Store
    from worker.clock import Clock
    from worker.ordermesh.client import OrderMeshClient
    from worker.queue.pressure import Gate, Load

RECORDS_PER_BUCKET = 48
PAUSE_SECONDS = 5.0
"""Until a resource that is paused is looked at again. It costs a lookup in Redis, and no request."""
_REFUSED = frozenset({400, 404, 405, 410, 414, 422, 501})
"""Answers to a filter that is not taken any more."""
LEAST_BUCKETS, MOST_BUCKETS = 1024, 1 << 20
"""Hashes that keep the states of a resource: small ones, which Redis packs tightly."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a resource is read in this run, whatever the parts of it. It ends early when `stop()` is true.

    `single`: a single record can be read by its id.
    """

    resource: Resource
    page_size: int
    window: int
    interval: float
    ignored: frozenset[str]
    stop: Callable[[], bool]
    gate: Gate
    seconds: float = float("inf")
    single: bool = False
    privacy: RecordPolicy | None = None


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A page that waits for its turn: its records, and those among them whose bytes differ."""

    observed: list[Observed]
    total: int | None
    decoded: list[Decoded]
    times: list[int]


class Reader:
    """One read: a window, a head, a sweep, or the next part of a sweep that was begun."""

    def __init__(
        self,
        reading: Reading,
        part: Part,
        run: Run,
        *,
        store: Store,
        lease: Lease,
        cursor: Cursor,
        fields: FieldNames,
        client: OrderMeshClient,
        clock: Clock,
    ) -> None:
        self._reading, self._part, self._run = reading, part, run
        self._store, self._lease, self._cursor, self._fields = store, lease, cursor, fields
        self._client, self._clock = client, clock
        self._deadline = clock.monotonic() + part.seconds
        resumed = cursor.sweep_started > 0 and not part.is_fast
        self._started_at = cursor.sweep_started if resumed else run.started_at
        clamps = client.profile.list_of(reading.resource.search).past_end == "repeats"
        self._plan = _plan(reading, part, cursor, resumed=resumed, clamps=clamps)
        self.missed = 0
        self.witness: Seen | None = None
        self._buckets = cursor.buckets
        self._newest = cursor.newest
        self._unreadable = cursor.sweep_unreadable if resumed else 0
        self._ready: dict[int, _Prepared | OrderMeshError] = {}
        self._broken: Exception | None = None
        self._arrived = anyio.Event()
        self._log = get_logger(account=run.account, resource=run.resource, run_id=run.run_id)

    async def read(self) -> None:
        """Read to the end, or until `stop()` is true behind a page, or until the consumers have to catch up.

        Raises:
            OrderMeshError: A page cannot be had or read. The pages before it are committed.
            LeaseLost: Another worker has taken over.

        """
        plan = self._plan
        pressed: Load | None = None
        if self._judges_absence and not self._cursor.sweep_started:
            await self._store.begin_sweep()
        with plain_errors():
            async with anyio.create_task_group() as fetching:
                while not plan.done and not self._is_over():
                    self._lease.check()
                    if pressed := await self._reading.gate.pressed(self._run.published):
                        break
                    for step in plan.issue():
                        fetching.start_soon(self._fetch, step, plan.ask(step))
                    await self._deal_with(await self._next())
                fetching.cancel_scope.cancel()
        if plan.done and not plan.unsettled:
            await self._end()
        elif pressed:
            self._run.pause(pressed.cause)
            due_at = self._clock.now() + min(PAUSE_SECONDS, self._reading.interval)
            await self._commit([], page=None, cursor={"due_at": due_at, "paused": pressed.cause})
            self._log.warning("backpressure_on", cause=pressed.cause, **pressed.figures)
        else:
            self._run.cut_short()
            # What does not fit into its time, or moves as often as it is read, would never end: a sweep carries on
            # where it left off.
            too_long = self._part.is_fast and not self._reading.stop()
            again = {"swept_at": 0.0} if too_long else {}
            await self._commit([], page=None, cursor={"due_at": self._clock.now(), **again})

    @property
    def _judges_absence(self) -> bool:
        """Whether a record that this read does not show may be gone."""
        return not self._part.is_fast

    def _is_over(self) -> bool:
        return self._reading.stop() or self._clock.monotonic() >= self._deadline

    def setback(self, error: Exception) -> dict[str, int]:
        """What a failure changes of the cursor.

        After a poll that got no further than the last one the sweep starts over: one bad page would otherwise
        keep those before it from being read ever again. A fast read leaves the cursor of the sweeps alone.
        """
        if self._part.is_fast:
            return {}
        fields = {"sweep_pages": self._plan.expected}
        if _of_one_page(error) and not self._plan.advanced:
            fields |= {"sweep_page": 0, "sweep_started": 0}
        return fields

    async def _next(self) -> _Prepared:
        """The page whose turn it is. What went wrong with a page is raised then, and not before."""
        while self._plan.next_step not in self._ready:
            if self._broken is not None:
                raise self._broken
            await self._arrived.wait()
        page = self._ready.pop(self._plan.next_step)
        if isinstance(page, OrderMeshError):
            raise page
        return page

    async def _fetch(self, step: int, ask: Ask) -> None:
        """Fetch and prepare one page. It does not raise: an error must not cut a commit short."""
        try:
            self._ready[step] = await self._prepare(ask)
        except (OrderMeshError, redis.exceptions.RedisError, OSError) as error:
            if isinstance(error, OrderMeshError) and _of_one_page(error):
                self._ready[step] = error
            else:
                self._broken = self._broken or error
        self._arrived.set()
        self._arrived = anyio.Event()

    async def _prepare(self, ask: Ask) -> _Prepared:
        """Pages are prepared side by side; what is found is checked at commit."""
        resource, part, search = self._reading.resource, self._part, self._reading.resource.search
        since = part.since if ask.since is None else ask.since
        query = dict(part.query)
        if part.since_parameter and since is not None:
            query[part.since_parameter] = rfc3339(since / 1000)
        try:
            body = await self._client.read_page(search, ask.page, part.page_size, self._run.usage, query)
        except ApiError as error:
            if ask.page and str(error.status) == self._client.profile.list_of(search).past_end:
                return _Prepared([], None, [], [])
            if part.is_fast and error.status in _REFUSED:
                raise _refused(search, part, error) from None
            raise
        page = split(search, body, self._client.profile.wrappers(search), page=ask.page)
        self._buckets = self._buckets or buckets_for(page.total)
        times = times_of(resource, page.records) if part.is_fast else []
        if part.since_parameter and since is not None and (older := older_than(times, since)):
            records = "an older record" if older == 1 else f"{older} older records"
            raise FilterBroken(search, f"{part.since_parameter} gave {records}")
        observed = observe(resource, page.records)
        decoded = await self._decode_differing(observed)
        return _Prepared(observed, page.total, decoded, times)

    async def _decode_differing(self, observed: list[Observed]) -> list[Decoded]:
        differing = await self._store.differing(observed, self._buckets, mark=self._judges_absence)
        resource, ignored, privacy = self._reading.resource, self._reading.ignored, self._reading.privacy
        return newest_of_each(
            [decode(resource, observed[at], before, ignored, privacy) for at, before in differing.items()]
        )

    async def _deal_with(self, page: _Prepared) -> None:
        """Commit what changed on the next page and move on."""
        number, decoded = self._plan.next_page, page.decoded
        unreadable = self._unreadable
        while True:
            changes = await self._changes(decoded)
            self._unreadable = unreadable + _unreadable(page, changes)
            to_write = [change for change in changes if change.action not in UNWRITTEN]
            if not to_write or await self._commit(to_write, page=number):
                break
            # A record of this page was committed since it was looked up: with an earlier page that shows it
            # too, or by another run. It is compared anew with what is kept now.
            decoded = await self._decode_differing(page.observed)
        self._account_for(number, page, changes)
        found = [change.modified for change in changes if change.action in PUBLISHED]
        self._plan.dealt_with(Shown([one.key for one in page.observed], page.total, page.times, found))

    async def _changes(self, decoded: list[Decoded]) -> list[Change]:
        shapes = {one.content.names for one in decoded if one.content}
        await self._store.extend_fields(self._fields, list(dict.fromkeys(n for s in shapes for n in s)))
        return [decide(one, self._fields, baseline=self._cursor.baseline) for one in decoded]

    def _account_for(self, number: int, page: _Prepared, changes: list[Change]) -> None:
        self._run.count_page(len(page.observed), changes)
        published = sum(change.action in PUBLISHED for change in changes)
        self._log.debug("page_committed", page=number, records=len(page.observed), events=published)
        now = self._clock.now() * 1000
        # A time in the future must not carry the mark beyond what has been read.
        past = (change.modified for change in changes if change.modified <= now)
        self._newest = max(self._newest, max(past, default=0))
        if not self._part.is_fast:
            self.missed += sum(self._was_due(change) for change in changes)
            self._keep_witness(changes, now)
        for change in changes:
            if change.action is Action.UNREADABLE:
                self._log.error(
                    "record_unreadable",
                    operation=self._reading.resource.search,
                    page=number,
                    reason=change.problem,
                    advice="it stands among the dead letters of the resource; the other records were read",
                )

    def _keep_witness(self, changes: list[Change], now: float) -> None:
        """The latest change that this sweep has found: a filter that is in use must show it."""
        for change in changes:
            latest = self.witness.modified or 0 if self.witness else 0
            if change.action in {Action.CREATED, Action.UPDATED} and latest < change.modified <= now:
                self.witness = Seen(change.observed.identifier, change.modified, unchanged=True)

    def _was_due(self, change: Change) -> bool:
        """Whether a sweep has found what a fast read should have: it changed since the last sweep, and long ago."""
        cursor = self._cursor
        if change.action not in {Action.CREATED, Action.UPDATED} or not cursor.swept_mark:
            return False
        try:
            moved = not change.before or State.unpack(change.before).modified < change.modified
        except ValueError:
            return False  # a state of another hand says nothing
        return moved and cursor.swept_mark < change.modified < cursor.mark - OVERLAP_MS

    async def _commit(
        self,
        changes: Sequence[Change],
        *,
        page: int | None,
        dealt: Dealt | None = None,
        cursor: Mapping[str, str | int | float] = {},
    ) -> bool:
        """Write `changes`; the cursor moves behind `page`. False if a state was another one by now."""
        run = self._run
        if page is None:  # the end of the run: its record goes into the same commit
            ends_here = self._part.concludes or run.outcome is not Outcome.COMPLETE
            record = run.summary(self._clock.monotonic()) if ends_here else {}
            next_page = self._plan.next_page
        else:
            record, next_page = {}, page + 1
        moved: dict[str, str | int | float] = {
            **({} if self._part.is_fast else self._sweep_cursor(next_page)),
            "buckets": self._buckets,
            "last_started": run.started_at,
            "interval": self._reading.interval,
            **cursor,
        }
        return await self._store.commit(
            changes,
            fence=self._lease.fence,
            buckets=self._buckets,
            reason=run.reason,
            observed_at=self._clock.now(),
            where=f"{self._reading.resource.search} page {page}",
            cursor=moved,
            run=record,
            dealt=dealt or Dealt(mark=self._judges_absence),
        )

    def _sweep_cursor(self, next_page: int) -> dict[str, str | int | float]:
        return {
            "sweep_page": next_page,
            "sweep_size": self._part.page_size,
            "sweep_width": self._plan.width,
            "sweep_started": self._started_at,
            "sweep_total": self._plan.total,
            "sweep_unreadable": self._unreadable,
            "newest": self._newest,
        }

    async def _end(self) -> None:
        """The resource has been read to its end."""
        run, now = self._run, self._clock.now()
        # What changed while it was read may have been missed on pages that were read before. None of it is
        # older than the newest record seen, less the time that the reading took.
        passed = max(0.0, now - self._started_at)
        mark = int(min(self._newest, now * 1000) - passed * 1000)
        done: dict[str, str | int | float] = {
            "mark": max(mark, self._cursor.mark, 0),
            "newest": self._newest,
            "unreadable": max(self._unreadable, self._cursor.unreadable if self._part.is_fast else 0),
        }
        if not self._part.is_fast:
            done |= {"sweep_page": 0, "sweep_started": 0}
        if run.unreadable:
            # They are parked now and do not stand in the way of the next read, but this one did not see
            # everything: neither the first read nor freshness is claimed for it.
            await self._commit([], page=None, cursor=done)
            raise UnreadableAnswer(
                self._reading.resource.search,
                f"{run.unreadable} of {run.records} records cannot be read; they stand among the dead letters",
            )
        absences = await self._find_absences()
        run.outcome, run.freshness = Outcome.COMPLETE, now - self._started_at
        if not self._part.is_fast:
            done |= {
                "sweep_pages": self._plan.next_page,
                "baseline": 1,
                "sweep_seconds": now - self._started_at,
                "swept_at": self._started_at,
                "swept_mark": done["mark"],
            }
        if self._judges_absence:
            done |= {"held_back": absences.held_back}
        done |= {
            "fresh_as_of": max(self._started_at, self._cursor.fresh_as_of),
            "last_success": now,
            "due_at": self._started_at + self._reading.interval,
            "failures": 0,
            "error": "",
            "error_code": "",
        }
        while not await self._commit(absences.deleted, page=None, dealt=absences.dealt, cursor=done):
            absences = await self._find_absences()
        run.count(absences.deleted)
        if absences.accepted:
            await self._store.forget_acceptance()

    async def _find_absences(self) -> Absences:
        """What follows for the records that this read did not show."""
        if not self._judges_absence:
            return Absences()
        # The numbers are those of this moment: the read itself has added to them.
        cursor = await self._store.load_cursor()
        found = await absence.find(
            self._store,
            self._reading.resource,
            cursor,
            single=self._reading.single,
            accepted=await self._store.deletes_accepted(),
        )
        self._run.missing = found.missing or found.held_back
        if found.held_back:
            self._log.warning(
                "deletes_held_back",
                missing=found.held_back,
                tracked=cursor.tracked,
                advice="more records than may be deleted at once were not shown; look at OrderMesh, and if they are "
                f"gone: ordersync resync {self._reading.resource.name} --accept-deletes",
            )
        return found


def _plan(
    reading: Reading, part: Part, cursor: Cursor, *, resumed: bool, clamps: bool
) -> SweepPlan | SeekPlan:
    """The plan that says which pages to ask for."""
    search, size = reading.resource.search, part.page_size
    if part.plan is Plan.HEAD:
        return HeadPlan(search, page_size=size, since=part.since or 0, tracked=cursor.tracked, clamps=clamps)
    if part.seeks:
        full = cursor.sweep_width if cursor.sweep_size == size and cursor.sweep_pages > 1 else 0
        return SeekPlan(search, page_size=size, since=part.since or 0, full=full, clamps=clamps)
    if part.plan is Plan.WINDOW:
        return PassPlan(search, page_size=size, window=reading.window, clamps=clamps)
    return SweepPlan(
        search,
        page_size=size,
        window=reading.window,
        start=_resume_at(cursor, size) if resumed else 0,
        # So many pages of another size say nothing of pages of this one.
        expected=cursor.sweep_pages if cursor.sweep_size == size else 0,
        tracked=cursor.tracked,
        total=cursor.sweep_total if resumed else 0,
        clamps=clamps,
    )


def _refused(search: str, part: Part, error: ApiError) -> FilterBroken | SortBroken:
    """The answer to a parameter that is not taken any more: the last one that was found is doubted first."""
    if part.query:
        return SortBroken(search, f"{' and '.join(part.query)} is refused: {error}")
    return FilterBroken(search, f"{part.since_parameter} is refused: {error}")


def _resume_at(cursor: Cursor, page_size: int) -> int:
    """Where a sweep goes on, also with pages of another size: never behind what was committed.

    `sweep_width` is what a page really held, and no page will hold more than is asked for now.
    """
    if page_size == cursor.sweep_size:
        return cursor.sweep_page
    return cursor.sweep_page * cursor.sweep_width // page_size


def _of_one_page(error: Exception) -> bool:
    """Whether it may concern one page alone: the others can still be read."""
    return isinstance(error, UnreadableAnswer | ApiError) and not isinstance(error, RateLimited)


def _unreadable(page: _Prepared, changes: list[Change]) -> int:
    """Records of a page that cannot be read, now or as before."""
    return sum(1 for one in page.observed if one.problem) + sum(
        1
        for change in changes
        if change.action in (Action.UNREADABLE, Action.PARKED) and not change.observed.problem
    )


def buckets_for(total: int | None) -> int:
    """How many buckets keep so many records: a power of two, so that each holds some dozens."""
    buckets = LEAST_BUCKETS
    while buckets < MOST_BUCKETS and total is not None and buckets * RECORDS_PER_BUCKET < total:
        buckets *= 2
    return buckets
