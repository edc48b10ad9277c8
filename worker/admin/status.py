"""Collect the status that `ordersync status` shows, from Redis.

There is one row per resource and account, whose schema is published (deploy/status.schema.json). The data of the
account (budget, workers) is repeated in each of its rows, so that a row is complete.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from redis.exceptions import ResponseError

from ordersync_consumer.dead import DeadLetters
from ordersync_consumer.groups import Group, Groups, id_before, idle_seconds, written_at
from ordersync_consumer.servers.topology import SlotUnavailable
from worker.accounts.store import AccountStore
from worker.admin.accounts import accounts_shown
from worker.admin.operator_log import OperatorLog
from worker.admin.resyncs import as_row
from worker.admin.status_row import ResourceFacts, Row, rate_of, row_of, shared_of
from worker.admin.survey import MANY, Survey, survey
from worker.capture.causes import Cause
from worker.capture.health import NEVER_POLLED, NOT_POLLED, Health, Verdict, judge
from worker.capture.resync.requests import Resyncs
from worker.capture.state import pauses
from worker.capture.state.cursor import Cursor
from worker.capture.state.layout import stored_layout
from worker.capture.state.pauses import Pause, Pauses
from worker.capture.state.refresh_queue import RefreshQueue
from worker.capture.state.run_history import History, Rates
from worker.clock import is_ahead, rfc3339
from worker.config.resources import RESOURCES
from worker.errors import DataError, RedisUnavailable
from worker.ordermesh.contract.findings import withdrawn_in
from worker.ordermesh.http.budget import BudgetUse, use_of
from worker.queue.backpressure import HighWaterMarks
from worker.queue.expiry import ExpiredLetters, LetterExpiry
from worker.queue.lateness import late_groups, lateness
from worker.redis.clock import RedisClock
from worker.redis.refusals import explain, writes_refused
from worker.redis.stored import number_of
from worker.service.presence import Presence

if TYPE_CHECKING:
    from collections.abc import Iterable

    from redis.asyncio import Redis

    from worker.config.settings import Settings
    from worker.keys import Keys
    from worker.ordermesh.contract.findings import Withdrawn
    from worker.service.heartbeat import ResourceBeat

__all__ = ["Row", "StatusCollector"]

SURVEY_SECONDS = 15.0
"""Seconds for which a survey of very many accounts is shown."""
CHANGES = 3
"""Entries of the operator log in a row."""


class StatusCollector:
    """Collects the status of every account in a Redis. Repeated calls read only new run records."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis, self._settings, self._clock = redis, settings, RedisClock(redis)
        self._marks = HighWaterMarks(**settings.backpressure.model_dump())
        self._late_after = settings.groups.late_after
        self._accounts: dict[str, _Account] = {}
        self.survey: Survey | None = None
        """How all accounts are, if there are too many to show each of them; as of the last `rows`."""
        self._surveyed_at = 0.0
        self.idle: dict[str, str] = {}
        """The accounts in Redis that are not polled because a person wants that, and who that was, in words."""
        self._store, self._revision = AccountStore(redis, settings.redis.keys), 0

    async def rows(self) -> list[Row]:
        """Return a row for each resource that is or was polled; of more than 20 accounts, of those that look worst.

        `survey` says how the others are.
        """
        names = await self._polled()
        if len(names) <= MANY:
            self.survey = None
            return await self.rows_of(names)
        await self._clock.sync()
        now = self._clock.now()
        if self.survey is None or not 0 <= now - self._surveyed_at < SURVEY_SECONDS:
            self.survey = await survey(self._redis, self._settings.redis.keys, names, now)
            self._surveyed_at = now
        return await self.rows_of(self.survey.worst)

    async def all_rows(self) -> list[Row]:
        """Return a row for each resource of every account, which takes long if there are thousands."""
        return await self.rows_of(await self._polled())

    async def _polled(self) -> list[str]:
        """Return the accounts without those that a person has disabled or removed, which `idle` names."""
        names, store = await accounts_shown(self._redis, self._settings), self._store
        try:
            if (revision := await store.revision()) != self._revision:
                self.idle, self._revision = await store.idle(), revision
        except SlotUnavailable:
            pass
        except ResponseError:
            self.idle = {}  # the Redis user has the rights of an earlier version
        return [name for name in names if name not in self.idle]

    async def rows_of(self, names: Iterable[str]) -> list[Row]:
        """Return a row for each resource of these accounts that is or was polled.

        An account whose node of a cluster does not answer has rows that say so.
        """
        rows = []
        await self._clock.sync()
        refused = await writes_refused(self._redis)
        for name in names:
            account = self._accounts.setdefault(
                name, _Account(self._redis, self._settings.redis.keys.of(name), self._marks, self._late_after)
            )
            poll = self._settings.poll
            are_set = bool(poll.model_fields_set & {"intervals", "preset"})
            now, chosen = self._clock.now(), set(poll.chosen)
            try:
                rows += await account.rows(now, chosen, are_set=are_set, refused=refused)
            except SlotUnavailable as error:
                rows += account.rows_while_away(now, chosen, explain(error))
        return rows


class _Account:
    def __init__(self, redis: Redis, keys: Keys, marks: HighWaterMarks, late_after: float) -> None:
        self._redis, self._name, self._marks = redis, keys.account, marks
        self._late_after = late_after
        self._keys = keys
        self._pauses, self._presence = Pauses(redis, self._keys), Presence(redis, self._keys)
        self._groups, self._dead = Groups(redis, self._keys), DeadLetters(redis, self._keys)
        self._expiry = LetterExpiry(redis, self._keys)
        self._operators = OperatorLog(redis, self._keys)
        self._last: list[Row] = []
        self._rates, self._resyncs = Rates(History(redis, self._keys)), Resyncs(redis, self._keys)

    async def rows(self, now: float, requested: set[str], *, are_set: bool, refused: str) -> list[Row]:
        """Return the rows of resources that a live worker polls or that were polled before.

        `requested`: those that the settings name, or else the defaults, whose rows stand for an account of which
        nothing is known yet. `refused`: why Redis refuses writes although it has memory; "" if it does not.
        """
        workers = [beat for beat in await self._presence.alive() if not is_ahead(beat.at, now)]
        polled = set[str]().union(*(beat.polled for beat in workers))
        async with self._redis.pipeline(transaction=False) as pipe:
            for resource in RESOURCES:
                pipe.hgetall(self._keys.cursor(resource))
                pipe.hget(self._keys.reconcile(resource), "complete_until")
            pipe.hgetall(self._keys.contract)
            *found, findings = await pipe.execute(raise_on_error=False)
        cursors = {
            name: _cursor(fields, self._keys.cursor(name))
            for name, fields in zip(RESOURCES, found[::2], strict=True)
        }
        proven, expired = dict(zip(RESOURCES, found[1::2], strict=True)), await self._expiry.expired()
        findings = {} if isinstance(findings, Exception) else findings
        reports = {item.resource: item for beat in workers for item in beat.resources if item.unrecorded}
        layout: DataError | None = None
        try:
            await stored_layout(self._redis, self._keys)
        except DataError as error:
            layout = error
        resyncs = await self._resyncs.open()
        known = polled | {name for name in RESOURCES if _was_polled(cursors[name])}
        known = known | requested if are_set else known or requested
        known |= {resync.request.resource for resync in resyncs}
        names = [name for name in RESOURCES if name in known]
        paused, rates = await self._pauses.all(), await self._rates.poll(now)
        use = await use_of(self._redis, self._keys, now)
        shared = shared_of(use, workers, await self._changes(), now)
        self._last = [
            await self._row(
                name,
                layout or cursors[name],
                pauses.of(paused, name),
                now,
                reports.get(name),
                unused=withdrawn_in(findings.get(name.encode())),
                withdrawn=bool(workers) and name not in polled,
                refused=refused,
                proven_until=_proven_until(proven[name]),
                expired=expired.get(name, ExpiredLetters(0, 0.0)),
            )
            | {
                "rate": rate_of(rates, name),
                "resyncs": [
                    as_row(self._name, resync) for resync in resyncs if resync.request.resource == name
                ],
            }
            | shared
            for name in names
        ]
        return self._last

    def rows_while_away(self, now: float, requested: set[str], why: str) -> list[Row]:
        """Return the rows of an account of which Redis cannot be asked: the last ones, or empty ones, as failing."""
        verdict = Verdict(Health.FAILING, why, RedisUnavailable.code)
        shown = {"health": verdict.health.value, "cause": verdict.cause, "cause_code": verdict.code}
        if self._last:
            return [row | shown for row in self._last]
        nothing = {"rate": rate_of({}, ""), "resyncs": []} | shared_of(BudgetUse(0, 0.0, 0), (), (), now)
        return [
            row_of(self._keys, name, ResourceFacts(), verdict, marks=self._marks, now=now) | nothing
            for name in RESOURCES
            if name in requested
        ]

    async def _changes(self) -> list[Row]:
        """Return the last changes by commands; none if they cannot be read, which `ordersync doctor` explains."""
        try:
            return [entry.as_json() for entry in await self._operators.latest(CHANGES)]
        except ResponseError:
            return []

    async def _row(
        self,
        name: str,
        cursor: Cursor | DataError | ResponseError,
        pause: Pause | None,
        now: float,
        report: ResourceBeat | None,
        *,
        unused: tuple[Withdrawn, ...],
        withdrawn: bool,
        refused: str,
        proven_until: str | None,
        expired: ExpiredLetters,
    ) -> Row:
        """Return the row of a resource.

        Args:
            name: The resource.
            cursor: Its cursor, or why it cannot be read.
            pause: Its pause.
            now: The current time.
            report: What only a worker knows of it.
            unused: What its gateway honoured once and honours no longer.
            withdrawn: No worker polls it.
            refused: Why Redis refuses writes although it has memory; "" if it does not.
            proven_until: Up to when it is proven complete; None for nothing.
            expired: Its dead letters that have expired.

        """
        facts = ResourceFacts(
            pause=pause, unused=unused, refused=refused, proven_until=proven_until, expired=expired
        )
        try:
            facts.status = await self._groups.status(name)
            facts.due = await RefreshQueue(self._redis, self._keys, name).backlog(now)
            if isinstance(cursor, Exception):
                raise cursor
            facts.cursor = cursor
            late = await late_groups(self._groups, name, facts.status, now, self._late_after)
            verdict = judge(
                facts.cursor,
                now,
                full=facts.status.full,
                pause=pause,
                late=late[0].cause if late else "",
                withdrawn=unused,
                refused=refused,
            )
        except (DataError, ResponseError) as error:
            facts.cursor, verdict = Cursor(), Verdict(Health.FAILING, explain(error), Cause.UNUSABLE_KEYS)
        if withdrawn and facts.cursor.last_started:
            verdict = Verdict(Health.WITHDRAWN, NOT_POLLED, Cause.WITHDRAWN)
        elif withdrawn and verdict.health is Health.STARTING:
            verdict = Verdict(Health.STARTING, NEVER_POLLED, Cause.WITHDRAWN)
        elif report is not None and verdict.health in {Health.OK, Health.STARTING, Health.DEGRADED}:
            verdict = Verdict(Health(report.health), report.cause, report.code)
        facts.dead = await self._dead.summary(name)
        facts.groups = [await self._group(name, group, now) for group in facts.status.groups]
        return row_of(self._keys, name, facts, verdict, marks=self._marks, now=now)

    async def _group(self, name: str, group: Group, now: float) -> Row:
        consumers = await self._groups.consumers(name, group.name)
        oldest = group.oldest_pending or group.oldest_unread
        return {
            "group": group.name,
            "unread": group.unread,
            "pending": group.pending,
            "oldest_s": round(max(0.0, now - written_at(oldest)), 1) if oldest else None,
            "idle_s": round(idle_seconds(group, consumers, now), 1),
            "late": lateness(name, group, consumers, now, self._late_after) is not None,
            "acknowledged": _acknowledged(group),
            "consumers": len(consumers),
        }


def _cursor(fields: dict[bytes, bytes] | Exception, key: str) -> Cursor | DataError | ResponseError:
    """Return the cursor with these fields, or why it cannot be read."""
    if isinstance(fields, ResponseError):
        return fields
    if isinstance(fields, Exception):
        raise fields
    try:
        return Cursor.parse(fields, key)
    except DataError as error:
        return error


def _proven_until(value: bytes | Exception | None) -> str | None:
    """Return up to when a resource is proven complete, by a field of its proof; None for nothing."""
    if isinstance(value, Exception):  # a key of a wrong type stops the proof, and no poll
        return None
    until = number_of(value)
    return rfc3339(until / 1000) if until > 0 else None


def _was_polled(cursor: Cursor | DataError | ResponseError) -> bool:
    """True if a poll wrote this cursor: a resync of a resource that is not polled leaves a cursor as well."""
    return isinstance(cursor, Exception) or cursor.last_started > 0


def _acknowledged(group: Group) -> str | None:
    """Return the time up to which the group needs no event any more; None if it has acknowledged nothing."""
    first, last = group.oldest_pending, group.delivered
    try:
        until = written_at(id_before(first) if first else last)
    except ValueError:
        return None
    return rfc3339(until) if until else None
