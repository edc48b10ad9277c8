"""Collect what the page shows beside the rows of `ordersync status`: runs, proof, dead letters, work, history."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from redis.exceptions import ResponseError

from ordersync_consumer.redaction import words_of
from ordersync_consumer.servers.topology import SlotUnavailable
from worker.admin.accounts import accounts_shown
from worker.admin.coverage import coverage_of, known_resources, provable
from worker.admin.dead_letters import LetterReason, reasons_of
from worker.admin.operator_log import OperatorLog
from worker.admin.run_bars import RunBars
from worker.admin.status import StatusCollector
from worker.capture.reconcile.progress import LEASE
from worker.capture.state.run_history import History
from worker.config.resources import RESOURCES
from worker.errors import DataError
from worker.redis.clock import RedisClock
from worker.redis.stored import number_of, text_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection, Sequence

    from redis.asyncio import Redis

    from worker.admin.coverage import CoverageReport
    from worker.admin.operator_log import OperatorEntry
    from worker.admin.run_bars import Bar
    from worker.admin.status import Row
    from worker.admin.survey import Survey
    from worker.config.settings import Settings
    from worker.keys import Keys

T = TypeVar("T")

SLOW_SECONDS = 10.0
"""Seconds for which coverage, dead letters and history are kept: they cost more to collect, and change rarely."""
DAYS = 7
CHANGES = 15
_FIELDS = ("due_at", "sweep_started", "sweep_page", "sweep_pages")
_LEASE = ("owner", "until")


@dataclass(frozen=True, slots=True)
class Work:
    """What a worker does now: `worker` holds the lease of `resource`, or of the comparison with the audit logs.

    `page`: the next page of the full scan that is under way, 0 for none; `pages`: those of the last one, 0 if unknown.
    """

    worker: str
    resource: str
    page: int = 0
    pages: int = 0

    @property
    def compares(self) -> bool:
        """True if the worker compares the audit logs with what was published."""
        return self.resource == LEASE


@dataclass(frozen=True, slots=True)
class AccountOverview:
    """What is shown of one account.

    Attributes:
        name: Its name.
        bars: The runs of each resource.
        work: What its workers do now.
        due: When the next poll of each resource is due (seconds since 1970).
        limited_until: The gateway permits no request until then (seconds since 1970); 0 if it has not said so.
        coverage: What is proven of each resource that can be proven.
        unprovable: The resources that cannot be proven.
        unreadable: Why parts of this cannot be shown.
        letters: Its dead letters, by reason.
        history: The last changes by operators.

    """

    name: str
    bars: dict[str, list[Bar]] = field(default_factory=dict)
    work: list[Work] = field(default_factory=list)
    due: dict[str, float] = field(default_factory=dict)
    limited_until: float = 0.0
    coverage: list[CoverageReport] = field(default_factory=list)
    unprovable: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    letters: list[LetterReason] = field(default_factory=list)
    history: list[OperatorEntry] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Overview:
    """What is shown of a Redis, as of `at` (seconds since 1970, by the clock of Redis)."""

    at: float
    rows: list[Row]
    accounts: list[AccountOverview] = field(default_factory=list)
    survey: Survey | None = None
    """How all accounts are, if there are too many to show each of them."""


class OverviewCollector:
    """Collects it. Repeated calls read only new run records."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis, self._settings = redis, settings
        self._status, self._clock = StatusCollector(redis, settings), RedisClock(redis)
        self._accounts: dict[str, _Account] = {}

    async def rows(self) -> list[Row]:
        """Return the rows of `ordersync status` only."""
        return await self._status.rows()

    @property
    def survey(self) -> Survey | None:
        """How all accounts are, as of the last rows; None if each of them is shown."""
        return self._status.survey

    async def collect(self) -> Overview:
        """Return everything."""
        rows = await self._status.rows()
        await self._clock.sync()
        now, keys = self._clock.now(), self._settings.redis.keys
        names = [
            name
            for name in await accounts_shown(self._redis, self._settings)
            if name not in self._status.idle
        ]
        if self._status.survey is not None:
            names = self._status.survey.worst
        self._accounts = {
            name: self._accounts.get(name) or _Account(self._redis, keys.of(name)) for name in names
        }
        accounts = []
        for name, account in self._accounts.items():
            shown = [row["resource"] for row in rows if row["account"] == name]
            try:
                accounts.append(await account.collect(now, shown, self._settings.poll.chosen))
            except SlotUnavailable as error:
                accounts.append(AccountOverview(name, unreadable=[words_of(error)]))
        return Overview(now, rows, accounts, self._status.survey)


@dataclass(frozen=True, slots=True)
class _Slow:
    at: float
    coverage: list[CoverageReport]
    unprovable: list[str]
    unreadable: list[str]
    letters: list[LetterReason]
    history: list[OperatorEntry]


class _Account:
    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis, self._keys = redis, keys
        self._bars = RunBars(History(redis, keys))
        self._slow: _Slow | None = None

    async def collect(self, now: float, shown: Sequence[str], polled: Collection[str]) -> AccountOverview:
        unreadable: list[str] = []
        await _part(self._bars.poll(now), None, "the runs", unreadable)
        if self._slow is None or not 0 <= now - self._slow.at < SLOW_SECONDS:
            self._slow = await self._collect_slow(now, polled)
        slow = self._slow
        work, due, limited_until = await self._work(now, shown)
        return AccountOverview(
            name=self._keys.account,
            bars={name: self._bars.of(name, now) for name in shown},
            work=work,
            due=due,
            limited_until=limited_until,
            coverage=slow.coverage,
            unprovable=slow.unprovable,
            unreadable=[*unreadable, *slow.unreadable],
            letters=slow.letters,
            history=slow.history,
        )

    async def _collect_slow(self, now: float, polled: Collection[str]) -> _Slow:
        redis, keys, unreadable = self._redis, self._keys, list[str]()
        known = await _part(known_resources(redis, keys, polled), list(polled), "the cursors", unreadable)
        reports, letters = [], list[LetterReason]()
        for name in filter(provable, known):
            report = coverage_of(redis, keys, name, days=DAYS, now=now)
            if (found := await _part(report, None, f"what is proven of {name}", unreadable)) is not None:
                reports.append(found)
        for name in RESOURCES:
            letters += await _part(
                reasons_of(redis, keys, name), [], f"the dead letters of {name}", unreadable
            )
        changes = OperatorLog(redis, keys).latest(CHANGES)
        history = await _part(changes, [], "the changes by operators", unreadable)
        unprovable = [name for name in known if not provable(name)]
        return _Slow(now, reports, unprovable, unreadable, letters, history)

    async def _work(self, now: float, shown: Sequence[str]) -> tuple[list[Work], dict[str, float], float]:
        """Return what the workers do, when the polls are due, and until when the gateway permits no request."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for name in shown:
                pipe.hmget(self._keys.cursor(name), list(_FIELDS))
            for name in (*shown, LEASE):
                pipe.hmget(self._keys.lease(name), list(_LEASE))
            pipe.hget(self._keys.budget, "exhausted_until")
            *hashes, limit = await pipe.execute(raise_on_error=False)
        cursors = dict(zip(shown, map(_numbers, hashes), strict=False))
        leases = zip((*shown, LEASE), hashes[len(shown) :], strict=True)
        work = []
        for name, lease in leases:
            if isinstance(lease, Exception) or not lease[0] or number_of(lease[1]) / 1000 <= now:
                continue
            worker = text_of(lease[0]).partition("/")[0]
            _, started, page, pages = cursors.get(name, (0.0, 0.0, 0.0, 0.0))
            work.append(Work(worker, name, max(1, int(page)) if started else 0, int(pages)))
        limited = 0.0 if isinstance(limit, Exception) else number_of(limit) / 1000
        due = {name: values[0] for name, values in cursors.items() if values[0]}
        return work, due, limited if limited > now else 0.0


async def _part(reading: Awaitable[T], missing: T, name: str, unreadable: list[str]) -> T:
    """Return what was read. Of what another hand has written nothing is shown but why."""
    try:
        return await reading
    except (DataError, ResponseError) as error:
        unreadable.append(f"{name} cannot be read: {words_of(error)}")
        return missing


def _numbers(values: list[bytes | None] | Exception) -> tuple[float, ...]:
    """Return the numbers of a hash; 0 for those that are missing, and for all if it is no hash."""
    if isinstance(values, Exception):
        return (0.0,) * len(_FIELDS)
    return tuple(number_of(value) for value in values)
