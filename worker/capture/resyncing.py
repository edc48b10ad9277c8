"""Carries out resyncs, a slice at a time: a batch of ids or some pages, under the lease of the resource.

A slice is short, gives the lease back and pays for its requests with a share of the budget, so that polls keep their
pace. How far a resync has come stands in the cursor of its resource and moves in the commit that publishes: a forced
event is not published twice, whenever a worker is killed. The resource's own reads go on where they were.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
from structlog.contextvars import bound_contextvars

from worker import tracing
from worker.capture.detect import (
    PUBLISHED,
    UNWRITTEN,
    Change,
    Observed,
    decide,
    decode,
    newest_of_each,
    observe,
    times_of,
)
from worker.capture.reading import buckets_for
from worker.capture.resync import Request, Resync, Resyncs, State
from worker.clock import rfc3339
from worker.errors import ApiError, LeaseHeld, NotFound, OrderMeshError, RateLimited, UnreadableAnswer
from worker.logs import get_logger
from worker.ordermesh.operations import OPERATIONS
from worker.ordermesh.pages import split
from worker.shielding import plain_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from redis.asyncio import Redis

    from worker.capture.contract import KnownContract
    from worker.capture.fingerprint import FieldNames
    from worker.capture.lease import Lease, Renewed
    from worker.capture.poll import Poller
    from worker.capture.resources import Resource
    from worker.capture.store import Cursor
    from worker.capture.turn import Turn
    from worker.clock import Clock
    from worker.keys import Keys
    from worker.ordermesh.client import OrderMeshClient

BATCH = 20
"""Ids that are read and committed together."""
LONGEST_SLICE = 5.0
"""Seconds that a slice holds the lease, at most."""
TRY_AGAIN = 1.0
LONGEST_PAUSE = 60.0
MOST_NAMED = 100
"""Ids under which nothing was found that are remembered by name."""
_NAMES = {"shortId": "short id", "safeId": "safe id", "externalId": "external id"}


@dataclass(slots=True)
class _Found:
    """What one step of a resync has read."""

    observed: list[Observed] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    total: int | None = None
    read: int = 0
    is_last: bool = False


class Resyncer:
    """Works on the resyncs of one account. `share` of `requests_per_second` is theirs at most."""

    def __init__(
        self,
        *,
        redis_client: Redis,
        keys: Keys,
        client: OrderMeshClient,
        contract: KnownContract,
        poller: Poller,
        share: float,
        requests_per_second: float,
        clock: Clock,
    ) -> None:
        self._keys, self._client, self._contract, self._poller = keys, client, contract, poller
        self._rate, self._clock = share * requests_per_second, clock
        self.resyncs = Resyncs(redis_client, keys)
        self._log = get_logger(account=keys.account)

    async def slice(
        self,
        resource: Resource,
        name: str,
        *,
        stop: Callable[[], bool] = lambda: False,
        on_renew: Renewed | None = None,
    ) -> None:
        """Work on one resync for some seconds. What goes wrong is noted in it and tried again; nothing is raised."""
        resync = await self.resyncs.get(name)
        if resync is None or resync.state in {State.DONE, State.CANCELLED}:
            return
        began, now = self._clock.monotonic(), self._clock.now()
        trace = tracing.begin()
        turn = self._poller.turn(resource, reason="resync", trace=trace, stop=stop)
        try:
            if pause := await self._poller.pause_of(resource):
                await self.resyncs.note(name, error=pause, due_at=now + TRY_AGAIN)
                return
            names = {"account": self._keys.account, "resource": resource.name}
            with (
                tracing.span("resync", trace),
                bound_contextvars(**names, run_id=turn.run.run_id, trace_id=trace.trace_id),
            ):
                async with self._poller.lease(turn, on_renew=on_renew) as lease:
                    await self._work(turn, lease, resync)
        except LeaseHeld:
            await self.resyncs.note(name, due_at=now + TRY_AGAIN / 2)
        except OrderMeshError as error:
            wait = min(LONGEST_PAUSE, TRY_AGAIN * 2 ** min(resync.failures, 10))
            if isinstance(error, ApiError) and error.retry_after:
                wait = error.retry_after
            failures = resync.failures + 1
            await self.resyncs.note(name, error=str(error), failures=failures, due_at=now + wait)
            self._log.warning(
                "resync_failed", resource=resource.name, resync=name, error=str(error), error_code=error.code,
                failures=failures, retry_in_s=round(wait, 1),
            )  # fmt: skip
        else:
            # Its requests are paid for before the next slice, without the lease.
            owed = turn.run.usage.requests / self._rate - (self._clock.monotonic() - began)
            await self.resyncs.note(name, failures=0, error="", due_at=self._clock.now() + max(0.0, owed))

    async def preview(self, resource: Resource, request: Request) -> list[Change]:
        """What a resync would publish, without publishing it."""
        request.check()
        turn = self._poller.turn(resource, reason="resync", trace=tracing.begin())
        resync = Resync(id="", request=request, total=len(request.ids))
        cursor, fields = await turn.store.load_cursor(), await turn.store.load_fields()
        changes: list[Change] = []
        while True:
            found = await self._read(turn, resync)
            changes += [
                change
                for change in await self._decide(turn, found, cursor, fields, force=request.force)
                if change.action in PUBLISHED
            ]
            self._count(resync, found)
            if found.is_last:
                return changes

    async def _work(self, turn: Turn, lease: Lease, resync: Resync) -> None:
        reading, run, store = turn.reading, turn.run, turn.store
        await store.check_layout()
        resync.position = int(await store.mark_of(_mark(resync.id)) or resync.position)
        if resync.state is State.WAITING:
            await self.resyncs.note(resync.id, state=State.RUNNING.value)
        deadline = self._clock.monotonic() + min(LONGEST_SLICE, max(1.0, reading.interval / 2))
        while not reading.stop() and self._clock.monotonic() < deadline:
            lease.check()
            if await reading.gate.pressed(run.published):
                return
            now = await self.resyncs.get(resync.id)
            if now is None or now.state is State.CANCELLED:
                return
            requests = run.usage.requests
            found = await self._read(turn, resync)
            await self._commit(turn, lease, resync, found)
            resync.requests += run.usage.requests - requests
            await self._note(resync)
            if found.is_last:
                await store.drop_mark(_mark(resync.id))
                await self.resyncs.end(resync.id, State.DONE, self._clock.now())
                self._log.info(
                    "resync_done", resource=run.resource, resync=resync.id, records=resync.read,
                    published=resync.published, unchanged=resync.unchanged, not_found=resync.missed,
                    requests=resync.requests, duration_s=round(self._clock.now() - resync.at, 1),
                )  # fmt: skip
                return
            if run.usage.requests / self._rate > LONGEST_SLICE:
                return

    async def _note(self, resync: Resync) -> None:
        await self.resyncs.note(
            resync.id,
            position=resync.position,
            total=resync.total,
            read=resync.read,
            published=resync.published,
            unchanged=resync.unchanged,
            requests=resync.requests,
            missing=resync.missing,
            missed=resync.missed,
        )

    async def _commit(self, turn: Turn, lease: Lease, resync: Resync, found: _Found) -> None:
        """Publish what was found, and move on in the same step."""
        store = turn.store
        cursor, fields = await store.load_cursor(), await store.load_fields()
        buckets = cursor.buckets or buckets_for(found.total)
        before = resync.position
        self._count(resync, found)
        while True:
            cursor = await store.load_cursor()
            changes = await self._decide(turn, found, cursor, fields, force=resync.request.force)
            to_write = [change for change in changes if change.action not in UNWRITTEN]
            done = await store.commit(
                to_write,
                fence=lease.fence,
                buckets=buckets,
                reason=turn.run.reason,
                observed_at=self._clock.now(),
                where=f"resync {resync.id}, from {before}",
                cursor={"buckets": buckets, _mark(resync.id): resync.position},
            )
            if done:
                break
        turn.run.count(changes)
        published = sum(change.action in PUBLISHED for change in changes)
        resync.published += published
        resync.unchanged += len(found.observed) - published

    async def _decide(
        self, turn: Turn, found: _Found, cursor: Cursor, fields: FieldNames, *, force: bool
    ) -> list[Change]:
        store, reading = turn.store, turn.reading
        if not cursor.buckets:
            differing = dict.fromkeys(range(len(found.observed)), b"")
        else:
            differing = await store.differing(found.observed, cursor.buckets, every=force)
        decoded = newest_of_each(
            [
                decode(reading.resource, found.observed[at], before, reading.ignored, reading.privacy)
                for at, before in differing.items()
            ]
        )
        names = [name for one in decoded if one.content for name in one.content.names]
        await store.extend_fields(fields, list(dict.fromkeys(names)))
        return [decide(one, fields, baseline=cursor.baseline, force=force) for one in decoded]

    def _count(self, resync: Resync, found: _Found) -> None:
        resync.read += found.read
        resync.missed += len(found.missing)
        resync.missing = (*resync.missing, *found.missing)[:MOST_NAMED]
        if found.total and not resync.request.ids:
            resync.total = found.total
        resync.position += BATCH if resync.request.ids else 1

    # Reading

    async def _read(self, turn: Turn, resync: Resync) -> _Found:
        await self._contract.ensure(turn.reading.resource, again=False)
        if resync.request.ids:
            return await self._read_ids(turn, resync)
        return await self._read_page(turn, resync)

    async def _read_page(self, turn: Turn, resync: Resync) -> _Found:
        reading, resource, request = turn.reading, turn.reading.resource, resync.request
        search, number = resource.search, resync.position
        listing = self._client.profile.list_of(search)
        size = min(reading.page_size, listing.largest_page or reading.page_size)
        since, until = request.window
        query = {}
        if since and listing.since_parameter:
            query = {listing.since_parameter: rfc3339(since / 1000)}
        try:
            body = await self._client.read_page(search, number, size, turn.run.usage, query)
        except ApiError as error:
            if number and str(error.status) == listing.past_end:
                return _Found(is_last=True)
            raise
        page = split(search, body, self._client.profile.wrappers(search), page=number)
        times = times_of(resource, page.records)
        wanted = [
            record
            for record, time in zip(page.records, times, strict=True)
            # One that does not say when it was modified is in every window.
            if request.all or not time or since <= time <= until
        ]
        ids = frozenset(one.key for one in observe(resource, page.records))
        repeated = listing.past_end == "repeats" and ids == turn.last_ids
        turn.last_ids = ids
        behind = page.total is not None and page.total > 0 and (number + 1) * len(page.records) >= page.total
        is_last = not page.records or repeated or (behind and len(page.records) < size)
        return _Found(observe(resource, wanted), [], page.total, len(page.records), is_last)

    async def _read_ids(self, turn: Turn, resync: Resync) -> _Found:
        batch = resync.request.ids[resync.position : resync.position + BATCH]
        found, failures = _Found(read=len(batch)), list[OrderMeshError]()
        limit = anyio.CapacityLimiter(max(1, turn.reading.window))

        async def one(wanted: str) -> None:
            async with limit:
                if failures:
                    return
                try:
                    record = await self._find(turn, wanted.strip())
                except OrderMeshError as error:
                    failures.append(error)
                else:
                    if record is None:
                        found.missing.append(wanted)
                    else:
                        found.observed += observe(turn.reading.resource, [record])

        with plain_errors():
            async with anyio.create_task_group() as tasks:
                for wanted in batch:
                    tasks.start_soon(one, wanted)
        if failures:
            raise failures[0]
        found.is_last = resync.position + BATCH >= len(resync.request.ids)
        return found

    async def _find(self, turn: Turn, wanted: str) -> msgspec.Raw | None:
        """The record that has this id, or is otherwise called so; None if there is none."""
        resource = turn.reading.resource
        if resource.single is not None:
            record = await self._single(resource.single, wanted, turn)
            if record is not None and _value(record, resource.id_field) == wanted:
                return record
        if resource.by_safe_id is not None:
            record = await self._single(resource.by_safe_id, wanted, turn)
            if record is not None and _value(record, "safeId") == wanted:
                return record
        names = [name for name in (*_NAMES, resource.id_field) if name in OPERATIONS[resource.search].query]
        for name in names:
            if (record := await self._search(resource, name, wanted, turn)) is not None:
                return record
        return None

    async def _single(self, key: str, wanted: str, turn: Turn) -> msgspec.Raw | None:
        (name,) = OPERATIONS[key].path_parameters
        try:
            reply = await self._client.call(key, path={name: wanted}, usage=turn.run.usage)
            return msgspec.Raw(reply.record)
        except (NotFound, UnreadableAnswer):
            return None
        except ApiError as error:
            if error.status in {400, 422}:  # it is no id of this kind
                return None
            raise

    async def _search(self, resource: Resource, name: str, wanted: str, turn: Turn) -> msgspec.Raw | None:
        """The record of which field `name` is `wanted`. A server that ignores the filter gives others, or it."""
        query = {name: wanted}
        try:
            body = await self._client.read_page(resource.search, 0, 10, turn.run.usage, query)
            page = split(resource.search, body, self._client.profile.wrappers(resource.search), page=0)
        except UnreadableAnswer:
            return None
        except ApiError as error:
            if isinstance(error, RateLimited) or error.status >= 500:
                raise
            return None
        return next((each for each in page.records if _value(each, name) == wanted), None)


def _mark(name: str) -> str:
    """The field of the cursor in which it stands how far a resync has come."""
    return f"resync_{name}"


def _value(record: msgspec.Raw, name: str) -> str:
    try:
        fields: Mapping[str, Any] = msgspec.json.decode(record)
    except (msgspec.DecodeError, RecursionError):
        return ""
    return str(fields.get(name, "")) if isinstance(fields, dict) else ""


def told(changes: Sequence[Change]) -> list[dict[str, Any]]:
    """What would be published, for people and machines."""
    return [
        {
            "id": change.observed.identifier,
            "action": change.action.value,
            "version": change.version,
            "changed": list(change.changed),
        }
        for change in changes
    ]
