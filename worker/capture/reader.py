"""Carries out a sweep: pages are fetched in parallel, dealt with in order, and committed one by one.

Every commit moves the cursor behind the page that it commits. A sweep may therefore end anywhere, by a
signal, a fault or SIGKILL: the next run carries on from the last commit and publishes nothing twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import redis.exceptions

from worker.capture.detect import (
    UNWRITTEN,
    Action,
    Change,
    Decoded,
    Observed,
    decide,
    decode,
    newest_of_each,
    observe,
)
from worker.capture.run import Outcome
from worker.capture.sweep import SweepPlan
from worker.errors import ApiError, OrderMeshError, RateLimited, UnreadableAnswer
from worker.logs import get_logger
from worker.ordermesh.pages import split
from worker.shielding import plain_errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.capture.fingerprint import FieldNames
    from worker.capture.lease import Lease
    from worker.capture.resources import Resource
    from worker.capture.run import Run
    from worker.capture.store import Cursor, Store
    from worker.clock import Clock
    from worker.ordermesh.client import OrderMeshClient
    from worker.ordermesh.profile import ContractProfile

RECORDS_PER_BUCKET = 48
LEAST_BUCKETS, MOST_BUCKETS = 1024, 1 << 20
"""Hashes that keep the states of a resource: small ones, which Redis packs tightly."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a resource is read in this run."""

    resource: Resource
    page_size: int
    window: int
    interval: float
    ignored: frozenset[str]
    stop: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A page that waits for its turn: its records, and those among them whose bytes differ."""

    observed: list[Observed]
    total: int | None
    decoded: list[Decoded]


class SweepReader:
    """One sweep, or the next part of one that was begun."""

    def __init__(
        self,
        reading: Reading,
        run: Run,
        *,
        store: Store,
        lease: Lease,
        cursor: Cursor,
        fields: FieldNames,
        client: OrderMeshClient,
        profile: ContractProfile,
        clock: Clock,
    ) -> None:
        self._reading, self._run = reading, run
        self._store, self._lease, self._cursor, self._fields = store, lease, cursor, fields
        self._client, self._profile, self._clock = client, profile, clock
        resumed = cursor.sweep_started > 0
        self._started_at = cursor.sweep_started if resumed else run.started_at
        self._plan = SweepPlan(
            reading.resource.search,
            page_size=reading.page_size,
            window=reading.window,
            start=_resume_at(cursor, reading.page_size) if resumed else 0,
            # So many pages of another size say nothing of pages of this one.
            expected=cursor.sweep_pages if cursor.sweep_size == reading.page_size else 0,
            tracked=cursor.tracked,
            total=cursor.sweep_total if resumed else 0,
        )
        self._buckets = cursor.buckets
        self._newest = cursor.newest
        self._unreadable = cursor.sweep_unreadable if resumed else 0
        self._ready: dict[int, _Prepared | OrderMeshError] = {}
        self._broken: Exception | None = None
        self._arrived = anyio.Event()
        self._log = get_logger(account=run.account, resource=run.resource, run_id=run.run_id)

    async def read(self) -> None:
        """Read to the end, or until `stop()` is true behind a page.

        Raises:
            OrderMeshError: A page cannot be had or read. The pages before it are committed.
            LeaseLost: Another worker has taken over.

        """
        plan = self._plan
        with plain_errors():
            async with anyio.create_task_group() as fetching:
                while not plan.done and not self._reading.stop():
                    self._lease.check()
                    for number in plan.issue():
                        fetching.start_soon(self._fetch, number)
                    await self._deal_with(await self._next())
                fetching.cancel_scope.cancel()
        if plan.done:
            await self._end()
        else:
            self._run.outcome = Outcome.PARTIAL
            await self._commit([], page=None, due_at=self._clock.now())

    def setback(self, error: Exception) -> dict[str, int]:
        """What a failure changes of the cursor.

        After a poll that got no further than the last one the sweep starts over: one bad page would otherwise
        keep those before it from being read ever again.
        """
        fields = {"sweep_pages": self._plan.expected}
        if _of_one_page(error) and not self._plan.advanced:
            fields |= {"sweep_page": 0, "sweep_started": 0}
        return fields

    async def _next(self) -> _Prepared:
        """The page whose turn it is. What went wrong with a page is raised then, and not before."""
        while self._plan.next_page not in self._ready:
            if self._broken is not None:
                raise self._broken
            await self._arrived.wait()
        page = self._ready.pop(self._plan.next_page)
        if isinstance(page, OrderMeshError):
            raise page
        return page

    async def _fetch(self, number: int) -> None:
        """Fetch and prepare one page. It does not raise: an error must not cut a commit short."""
        try:
            self._ready[number] = await self._prepare(number)
        except (OrderMeshError, redis.exceptions.RedisError, OSError) as error:
            if isinstance(error, OrderMeshError) and _of_one_page(error):
                self._ready[number] = error
            else:
                self._broken = self._broken or error
        self._arrived.set()
        self._arrived = anyio.Event()

    async def _prepare(self, number: int) -> _Prepared:
        """Pages are prepared side by side; what is found is checked at commit."""
        reading, search = self._reading, self._reading.resource.search
        body = await self._client.read_page(search, number, reading.page_size, self._run.usage)
        page = split(search, body, self._profile.wrappers[search], page=number)
        self._buckets = self._buckets or _buckets_for(page.total)
        observed = observe(reading.resource, page.records)
        decoded = await self._decode_differing(observed)
        return _Prepared(observed, page.total, decoded)

    async def _decode_differing(self, observed: list[Observed]) -> list[Decoded]:
        differing = await self._store.differing(observed, self._buckets)
        resource, ignored = self._reading.resource, self._reading.ignored
        return newest_of_each(
            [decode(resource, observed[at], before, ignored) for at, before in differing.items()]
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
        self._plan.dealt_with(len(page.observed), page.total, frozenset([one.key for one in page.observed]))

    async def _changes(self, decoded: list[Decoded]) -> list[Change]:
        shapes = {one.content.names for one in decoded if one.content}
        await self._store.extend_fields(self._fields, list(dict.fromkeys(n for s in shapes for n in s)))
        return [decide(one, self._fields, baseline=self._cursor.baseline) for one in decoded]

    def _account_for(self, number: int, page: _Prepared, changes: list[Change]) -> None:
        self._run.count_page(len(page.observed), changes)
        self._newest = max(self._newest, max((change.modified for change in changes), default=0))
        for change in changes:
            if change.action is Action.UNREADABLE:
                self._log.error(
                    "record_unreadable",
                    operation=self._reading.resource.search,
                    page=number,
                    reason=change.problem,
                    advice="it stands among the dead letters of the resource; the other records were read",
                )

    async def _commit(
        self,
        changes: list[Change],
        *,
        page: int | None,
        **cursor: str | float,
    ) -> bool:
        """Write `changes`; the cursor moves behind `page`. False if a state was another one by now."""
        run = self._run
        if page is None:  # the end of the run: its record goes into the same commit
            record = run.summary(self._clock.monotonic())
            next_page = self._plan.next_page
        else:
            record, next_page = {}, page + 1
        moved: dict[str, str | int | float] = {
            "sweep_page": next_page,
            "sweep_size": self._reading.page_size,
            "sweep_width": self._plan.width,
            "sweep_started": self._started_at,
            "sweep_total": self._plan.total,
            "sweep_unreadable": self._unreadable,
            "buckets": self._buckets,
            "newest": self._newest,
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
        )

    async def _end(self) -> None:
        """The resource has been read to its end."""
        run = self._run
        if run.unreadable:
            # They are parked now and do not stand in the way of the next sweep, but this one did not see
            # everything: neither the first read nor freshness is claimed for it.
            await self._commit([], page=None, sweep_page=0, sweep_started=0, unreadable=self._unreadable)
            raise UnreadableAnswer(
                self._reading.resource.search,
                f"{run.unreadable} of {run.records} records cannot be read; they stand among the dead letters",
            )
        now = self._clock.now()
        run.outcome, run.freshness = Outcome.COMPLETE, now - self._started_at
        await self._commit(
            [],
            page=None,
            sweep_page=0,
            sweep_started=0,
            sweep_pages=self._plan.next_page,
            baseline=1,
            sweep_seconds=now - self._started_at,
            fresh_as_of=self._started_at,
            last_success=now,
            due_at=self._started_at + self._reading.interval,
            failures=0,
            unreadable=self._unreadable,
            error="",
            error_code="",
        )


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


def _buckets_for(total: int | None) -> int:
    """A power of two, so that a bucket holds some dozens of records."""
    buckets = LEAST_BUCKETS
    while buckets < MOST_BUCKETS and total is not None and buckets * RECORDS_PER_BUCKET < total:
        buckets *= 2
    return buckets
