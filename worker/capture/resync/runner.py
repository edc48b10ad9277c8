"""Carries out resyncs, a slice at a time: a batch of ids or some pages, under the lease of the resource.

A slice is short, releases the lease, and pays for its requests with a share of the request budget, so that polls keep
their pace. The progress and the counts of a resync are stored in the cursor of its resource, and move in the commit
that publishes: whenever a worker is killed, no forced event is published twice, and no record is counted twice. Polls
of the resource continue where they were.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import redis.exceptions

from ordersync_consumer.redaction import words_of
from worker.backoff import Backoff
from worker.capture.gate import ResourcePaused
from worker.capture.records.actions import PUBLISHED, Action
from worker.capture.records.fingerprint import RecordState
from worker.capture.resync.reader import ResyncPage, ResyncReader
from worker.capture.resync.requests import MAX_WAIT_SECONDS, OVER, Resync, ResyncRequest, Resyncs, ResyncState
from worker.capture.session import PollSession
from worker.capture.state.buckets import buckets_for
from worker.capture.state.commit import Checkpoint, RefreshResult
from worker.capture.writer import RecordWriter
from worker.capture.written import Keep, Written, accept_all, publish_all
from worker.errors import (
    ApiError,
    DataError,
    LeaseHeld,
    LeaseLost,
    OrderMeshError,
    RedisFull,
    RedisWentBack,
)
from worker.redis.refusals import is_full
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from worker.capture.context import AccountContext
    from worker.capture.records.decoding import DecodedRecord
    from worker.capture.records.diff import Change
    from worker.capture.resources import Resource
    from worker.capture.state.cursor import CursorUpdate
    from worker.capture.state.store import StateStore
    from worker.errors import OrdersyncError

MAX_SLICE = 5.0
"""Seconds that a slice may hold the lease."""
BACKOFF = Backoff(first=1.0, most=60.0)
"""Between two attempts of a resync that fails."""
LEASE_HELD_SECONDS = 0.5
"""Until a resync is retried whose resource another worker reads."""
BACKPRESSURE_SECONDS = 5.0
"""Until a resync is retried that waits for consumers, or for a pause to end."""
MAX_NAMED = 100
"""Ids that were not found of which the names are stored."""


@dataclass(slots=True)
class Preview:
    """What a resync would publish: id, action, version and changed fields of each record; the ids not found."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


class ResyncRunner:
    """Carries out the resyncs of one account, within their share of the request budget."""

    def __init__(self, context: AccountContext) -> None:
        account = context.account
        self._context, self._reader, self._clock = context, ResyncReader(context.client), context.clock
        self._rate = account.resync.share * account.api.requests_per_second
        self.resyncs = Resyncs(context.redis, context.keys)
        self._log = get_logger(account=account.name)

    async def slice(
        self,
        resource: Resource,
        name: str,
        *,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Carry out one resync for some seconds. A failure is recorded in the resync, which is then retried.

        Raises:
            RedisError, OSError: Redis cannot be asked, or is not what it should be.

        """
        resync = await self.resyncs.get(name)
        if resync is None or resync.state in OVER:
            return
        try:
            await self._slice(resource, resync, stop)
        except (redis.exceptions.RedisError, OSError):
            raise
        except Exception as error:
            # Whatever it is, it must not come again each second, and hold up other resyncs.
            said = words_of(error)
            why = said if said == type(error).__name__ else f"{type(error).__name__}: {said}"
            await self._try_again(resync, why, BACKOFF.ceiling(resync.failures + 1))
            raise

    async def _slice(self, resource: Resource, resync: Resync, stop: Callable[[], bool]) -> None:
        name = resync.id
        began, now = self._clock.monotonic(), self._clock.now()
        session = PollSession(self._context, resource, reason="resync", stop=stop)
        try:
            with session.trace("resync"):
                waits_for = await self._hold(session, resync)
        except LeaseHeld:
            await self.resyncs.update(name, due_at=now + LEASE_HELD_SECONDS)
        except (OrderMeshError, LeaseLost, RedisWentBack, DataError) as error:
            await self._failed(resource, resync, error)
        except redis.exceptions.ResponseError as error:
            if is_full(error):
                await self._failed(resource, resync, RedisFull())
            raise
        else:
            if waits_for:
                await self.resyncs.update(name, error=waits_for, due_at=now + BACKPRESSURE_SECONDS)
                return
            # Its requests are paid for before the next slice, without the lease.
            owed = session.run.usage.requests / self._rate - (self._clock.monotonic() - began)
            await self.resyncs.update(name, failures=0, error="", due_at=self._clock.now() + max(0.0, owed))

    async def _failed(self, resource: Resource, resync: Resync, error: OrdersyncError) -> None:
        wait = BACKOFF.ceiling(resync.failures + 1)
        if isinstance(error, ApiError) and error.retry_after:
            wait = min(error.retry_after, MAX_WAIT_SECONDS)
        self._log.warning(
            "resync_failed", resource=resource.name, resync=resync.id, error=str(error), error_code=error.code,
            failures=resync.failures + 1, retry_in_s=round(wait, 1),
        )  # fmt: skip
        if not isinstance(error, RedisFull):  # there is no room for a record of it either
            await self._try_again(resync, words_of(error), wait)

    async def _try_again(self, resync: Resync, why: str, wait: float) -> None:
        due_at = self._clock.now() + wait
        await self.resyncs.update(resync.id, error=why, failures=resync.failures + 1, due_at=due_at)

    async def preview(self, resource: Resource, request: ResyncRequest) -> Preview:
        """Return what a resync would publish now. Nothing is published or stored, and polls keep their pace."""
        request.check()
        session = PollSession(self._context, resource, reason="resync")
        resync = Resync(id="", request=request, total=len(request.ids))
        await session.load_cursor()
        writer = RecordWriter(session)
        rows, preview, began = dict[bytes, dict[str, Any]](), Preview(), self._clock.monotonic()
        keep = _keep(request, rows)
        while True:
            result = await self._read(session, resync)
            written = await writer.preview(result.observed, keep=keep, unchanged=request.force)
            for change in written.published:
                # Pages may move while they are read, and show a record again.
                if change.observed.key not in rows:
                    rows[change.observed.key] = {
                        "id": change.observed.identifier,
                        "action": change.action.value,
                        "version": change.version,
                        "changed": list(change.changed),
                    }
            preview.missing += result.missing
            _count(resync, result)
            if result.is_last:
                preview.rows = list(rows.values())
                return preview
            owed = session.run.usage.requests / self._rate - (self._clock.monotonic() - began)
            await self._clock.sleep(max(0.0, owed))

    async def _hold(self, session: PollSession, resync: Resync) -> str:
        """Work under the lease of the resource. Return why the resync has to wait, or ""."""
        try:
            async with session.open():
                return await self._work(session, resync)
        except ResourcePaused as paused:
            return paused.stop.message

    async def _work(self, session: PollSession, resync: Resync) -> str:
        """Read and publish for the time of a slice. Return why the resync has to wait, or ""."""
        run, store = session.run, session.store
        writer = RecordWriter(session)
        if mark := await store.mark_of(_mark(resync.id)):
            resync.resume_from(mark)
            await self.resyncs.update(resync.id, **msgspec.structs.asdict(resync.progress))
        if resync.state is ResyncState.WAITING:
            await self.resyncs.update(resync.id, state=ResyncState.RUNNING.value)
        deadline = self._clock.monotonic() + min(MAX_SLICE, max(1.0, session.options.interval / 2))
        while not resync.over:
            session.lease.check()
            if stop := await session.gate.check(run.published, deadline):
                return stop.message
            if await self.resyncs.is_over(resync.id):
                return ""
            await self._commit(session, writer, resync)
            await self.resyncs.update(resync.id, **msgspec.structs.asdict(resync.progress))
            if run.usage.requests / self._rate > MAX_SLICE and not resync.over:
                return ""
        await self._finish(store, resync)
        return ""

    async def _finish(self, store: StateStore, resync: Resync) -> None:
        """End a resync. Remove its progress from the cursor, and that of earlier ones whose worker was killed."""
        if await self.resyncs.end(resync.id, ResyncState.DONE, self._clock.now()):
            self._log.info(
                "resync_done", resource=resync.request.resource, resync=resync.id, records=resync.read,
                published=resync.published, unchanged=resync.unchanged, stale=resync.stale,
                unreadable=resync.unreadable, outside=resync.outside, erased=resync.erased, not_found=resync.missed,
                by_id=resync.by_id, passed_over=resync.passed_over,
                requests=resync.requests, duration_s=round(self._clock.now() - resync.at, 1),
            )  # fmt: skip
        for name in await store.marks(_mark("")):
            if await self.resyncs.is_over(name.removeprefix(_mark("")), resumable=False):
                await store.drop_mark(name)
        await self._context.redis.unlink(self._context.keys.resync_shown(resync.id))

    async def _commit(self, session: PollSession, writer: RecordWriter, resync: Resync) -> None:
        """Read a step, publish what was found, and move on in the same commit."""
        run, requests = session.run, session.run.usage.requests
        result = await self._read(session, resync)
        if not session.buckets:
            session.buckets = buckets_for(result.total or await self._reader.total(session))
        shown_in = ""
        if resync.request.all and resync.request.force:
            shown_in = self._context.keys.resync_shown(resync.id)
        before, known, progress = resync.position, frozenset(resync.page), resync.progress

        def checkpoint(written: Written) -> Checkpoint:
            resync.resume_from(progress)
            _count(resync, result)
            _count_written(resync, len(result.observed), written.changes)
            resync.requests += run.usage.requests - requests
            moved: CursorUpdate = {}
            if result.unlike:  # to be had from the list alone
                moved = {"swept_at": 0.0, "due_at": self._clock.now()}
            # The commit marks the records that it writes as shown, and erased ones are not written.
            places = [*result.places, *_places_of_erased(written.changes)] if shown_in else []
            shown = RefreshResult(shown_in=shown_in, places=places)
            return Checkpoint(moved, bookmarks={_mark(resync.id): resync.mark}, refresh=shown)

        written = await writer.write(
            result.observed,
            where=f"resync {resync.id}, from {before}",
            checkpoint=checkpoint,
            keep=_keep(resync.request, known),
            unchanged=resync.request.force,
        )
        resync.failures = 0
        run.count(written.changes)

    async def _read(self, session: PollSession, resync: Resync) -> ResyncPage:
        capabilities = await self._context.capabilities.ensure(session.options.resource, again=False)
        return await self._reader.read(session, resync, capabilities, tracked=session.cursor.tracked)


def _keep(request: ResyncRequest, known: Container[bytes]) -> Callable[[DecodedRecord], Keep]:
    """Return what is done about each record that was read. `known`: keys of the records of the previous page."""
    if request.force:
        return partial(_force, known)
    # What a person names is published as it is. A list may lag behind what was published.
    return accept_all if request.ids else publish_all


def _force(known: Container[bytes], record: DecodedRecord) -> Keep:
    """Publish each record; one of the previous page, which is `known`, only if it has changed since."""
    raw = record.observed.raw
    if record.observed.key not in known:
        return Keep.FORCE
    return Keep.SKIP if record.before[: len(raw)] == raw else Keep.PUBLISH


def _places_of_erased(changes: Sequence[Change]) -> list[int]:
    return [RecordState.unpack(change.after).place for change in changes if change.action is Action.ERASED]


def _count_written(resync: Resync, observed: int, changes: Sequence[Change]) -> None:
    """Count what became of so many records that were observed. Only the same content is unchanged."""
    counts = Counter(change.action for change in changes)
    published = sum(counts[action] for action in PUBLISHED)
    unreadable = counts[Action.UNREADABLE] + counts[Action.PARKED]
    resync.published += published
    resync.stale += counts[Action.STALE]
    resync.unreadable += unreadable
    resync.outside += counts[Action.OUTSIDE]
    resync.erased += counts[Action.ERASED]
    others = counts[Action.STALE] + unreadable + counts[Action.OUTSIDE] + counts[Action.ERASED]
    resync.unchanged += observed - published - others


def _count(resync: Resync, result: ResyncPage) -> None:
    """Count what was found, and move on."""
    request = resync.request
    if result.restarts:
        resync.position, resync.after, resync.page = 0, "", ()
        return
    if resync.id and request.all and request.force and result.is_last and not resync.rest:
        resync.rest = True  # what no page has shown is read by its id
    else:
        resync.over = result.is_last
    resync.read += result.read
    resync.by_id += result.by_id
    resync.passed_over += result.passed_over
    resync.missed += len(result.missing)
    resync.missing = (*resync.missing, *result.missing)[:MAX_NAMED]
    if request.ids:
        resync.position += result.read
        return
    resync.total = result.total or resync.total
    resync.first = resync.first or tuple(result.page)
    resync.position, resync.after = resync.position + 1, result.after
    resync.width = max(resync.width if resync.size == result.size else 0, len(result.page))
    resync.size, resync.page = result.size, tuple(result.page)


def _mark(name: str) -> str:
    """Return the field of the cursor that stores the progress of a resync."""
    return f"resync_{name}"
