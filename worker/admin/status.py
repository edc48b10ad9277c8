"""Collect the status that `ordersync status` shows, from Redis.

There is one row per resource and account, whose schema is published (deploy/status.schema.json). The data of the
account (budget, workers) is repeated in each of its rows, so that a row is complete.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from worker.admin.resyncs import as_row
from worker.capture.health import NOT_POLLED, Health, Verdict, judge
from worker.capture.resync.requests import Resyncs
from worker.capture.state import pauses
from worker.capture.state.cursor import Cursor
from worker.capture.state.pauses import EVERYTHING, Pause, Pauses
from worker.capture.state.run_history import MINUTES, History, Rates
from worker.capture.state.store import check_layout
from worker.clock import is_ahead, rfc3339
from worker.config.resources import RESOURCES
from worker.errors import DataError
from worker.ordermesh.http.budget import BudgetUse, use_of
from ordersync_consumer.dead import DeadLetters
from worker.queue.backpressure import HighWaterMarks, evaluate
from ordersync_consumer.groups import Groups, StreamStatus, idle_seconds, written_at
from worker.redis.clock import RedisClock
from worker.redis.connections import answer
from worker.redis.refusals import explain
from worker.service.presence import Presence

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.config.settings import Settings
    from worker.keys import Keys
    from worker.service.heartbeat import Beat, ResourceBeat

Row = dict[str, Any]


class StatusCollector:
    """Collects the status of every account in a Redis. Repeated calls read only new run records."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis, self._settings, self._clock = redis, settings, RedisClock(redis)
        self._marks = HighWaterMarks(**settings.backpressure.model_dump())
        self._accounts: dict[str, _Account] = {}

    async def rows(self) -> list[Row]:
        """Return a row for each resource that is or was polled."""
        rows = []
        await self._clock.sync()
        for name in sorted(await answer(self._redis.smembers(self._settings.redis.keys.accounts))):
            account = self._accounts.setdefault(
                name.decode(), _Account(self._redis, self._settings.redis.keys.of(name.decode()), self._marks)
            )
            rows += await account.rows(self._clock.now(), set(self._settings.poll.chosen))
        return rows


class _Account:
    def __init__(self, redis: Redis, keys: Keys, marks: HighWaterMarks) -> None:
        self._redis, self._name, self._marks = redis, keys.account, marks
        self._keys = keys
        self._pauses, self._presence = Pauses(redis, self._keys), Presence(redis, self._keys)
        self._groups, self._dead = Groups(redis, self._keys), DeadLetters(redis, self._keys)
        self._rates, self._resyncs = Rates(History(redis, self._keys)), Resyncs(redis, self._keys)

    async def rows(self, now: float, requested: set[str]) -> list[Row]:
        """Return the rows of resources that are polled by the settings or by a live worker, or were polled before."""
        workers = [beat for beat in await self._presence.alive() if not is_ahead(beat.at, now)]
        polled = set[str]().union(*(beat.polled for beat in workers))
        requested |= polled
        async with self._redis.pipeline(transaction=False) as pipe:
            for resource in RESOURCES:
                pipe.hgetall(self._keys.cursor(resource))
            cursors = dict(zip(RESOURCES, await pipe.execute(raise_on_error=False), strict=True))
        reports = {item.resource: item for beat in workers for item in beat.resources if item.unrecorded}
        layout: DataError | None = None
        try:
            await check_layout(self._redis, self._keys)
        except DataError as error:
            layout = error
        resyncs = await self._resyncs.open()
        requested |= {resync.request.resource for resync in resyncs}
        names = [name for name in RESOURCES if name in requested or _was_polled(cursors[name])]
        paused, rates = await self._pauses.all(), await self._rates.poll(now)
        shared = {
            "budget": _budget(await use_of(self._redis, self._keys, now)),
            "workers": [_worker(beat, now) for beat in workers],
        }
        return [
            await self._row(
                name,
                layout or cursors[name],
                pauses.of(paused, name),
                now,
                reports.get(name),
                withdrawn=bool(workers) and name not in polled,
            )
            | {
                "rate": _rate(rates, name),
                "resyncs": [
                    as_row(self._name, resync) for resync in resyncs if resync.request.resource == name
                ],
            }
            | shared
            for name in names
        ]

    async def _row(
        self,
        name: str,
        fields: dict[bytes, bytes] | Exception,
        pause: Pause | None,
        now: float,
        report: ResourceBeat | None,
        *,
        withdrawn: bool,
    ) -> Row:
        """Return the row of a resource; `fields` of its cursor, or why they cannot be read."""
        status = StreamStatus(0, 0.0, 0, 0)
        try:
            status = await self._groups.status(name)
            cursor = _cursor(fields)
            verdict = judge(cursor, now, full=status.full, pause=pause)
        except (DataError, ResponseError) as error:
            cursor, verdict = Cursor(), Verdict(Health.FAILING, explain(error))
        if withdrawn and cursor.last_started:
            verdict = Verdict(Health.WITHDRAWN, NOT_POLLED)
        elif report is not None and verdict.health in {Health.OK, Health.STARTING, Health.DEGRADED}:
            verdict = Verdict(Health(report.health), report.cause)
        dead = await self._dead.summary(name)
        return {
            "account": self._name,
            "resource": name,
            "health": verdict.health.value,
            "cause": verdict.cause,
            "records": cursor.tracked,
            "events": cursor.events,
            "dead": dead.letters,
            "dead_oldest_s": round(max(0.0, now - dead.oldest), 1) if dead.letters else None,
            "paused": _pause(pause),
            "backpressure": self._backpressure(name, status, cursor),
            "unread": status.slowest.unread if status.slowest else None,
            "groups": [await self._group(name, status, index, now) for index in range(len(status.groups))],
            "fresh_s": _age(cursor.fresh_as_of, now),
            "part": cursor.part or None,
            "part_s": _age(cursor.part_as_of, now),
            "stale": cursor.stale,
            "last_success": rfc3339(cursor.last_success) if cursor.last_success else None,
            "failures": cursor.failures,
            "stream": self._keys.stream(name),
        }

    def _backpressure(self, name: str, status: StreamStatus, cursor: Cursor) -> Row:
        report, marks = evaluate(name, status, self._marks, paused=bool(cursor.paused)), self._marks
        return {
            "cause": cursor.paused,
            "entries_share": round(report.unread / marks.entries, 3) if marks.entries else None,
            "bytes_share": round(report.unread_bytes / marks.bytes, 3) if marks.bytes else None,
            "memory_share": round(status.used_memory / status.maxmemory, 3) if status.maxmemory else None,
        }

    async def _group(self, name: str, status: StreamStatus, index: int, now: float) -> Row:
        group = status.groups[index]
        consumers = await self._groups.consumers(name, group.name)
        oldest = group.oldest_pending or group.oldest_unread
        return {
            "group": group.name,
            "unread": group.unread,
            "pending": group.pending,
            "oldest_s": round(max(0.0, now - written_at(oldest)), 1) if oldest else None,
            "idle_s": round(idle_seconds(group, consumers, now), 1),
            "consumers": len(consumers),
        }


def _cursor(fields: dict[bytes, bytes] | Exception) -> Cursor:
    if isinstance(fields, Exception):
        raise fields
    return Cursor.parse(fields)


def _was_polled(fields: dict[bytes, bytes] | Exception) -> bool:
    """True if a poll wrote this cursor: a resync of a resource that is not polled leaves a cursor as well."""
    try:
        return _cursor(fields).last_started > 0
    except (DataError, ResponseError):
        return True


def _age(at: float, now: float) -> float | None:
    """Return the seconds since a time; None if there was none, or if it lies in the future."""
    return round(max(0.0, now - at), 1) if at and not is_ahead(at, now) else None


def _pause(pause: Pause | None) -> Row | None:
    if pause is None:
        return None
    scope = "account" if pause.resource == EVERYTHING else "resource"
    return {"by": pause.by, "reason": pause.reason, "since": rfc3339(pause.at), "scope": scope}


def _rate(rates: dict[str, tuple[list[int], list[int]]], name: str) -> Row:
    records, events = rates.get(name, ([0] * MINUTES, [0] * MINUTES))
    return {"records_per_minute": records, "events_per_minute": events}


def _budget(use: BudgetUse) -> Row:
    return {
        "requests_last_minute": use.requests,
        "requests_per_second": use.rate or None,
        "share": round(use.share, 3) if use.rate else None,
    }


def _worker(beat: Beat, now: float) -> Row:
    return {
        "worker": beat.worker,
        "started": rfc3339(beat.started),
        "heartbeat_s": round(max(0.0, now - beat.at), 1),
        "clock_offset_s": beat.clock_offset,
        "resources": sorted(beat.polled, key=list(RESOURCES).index),
    }
