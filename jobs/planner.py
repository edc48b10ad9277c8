"""Plans: works out from the state of an account when which of its jobs is due, and puts that into the schedule.

All of an account is planned when a worker starts, when a person has changed something of it, and in the slow pass over
all accounts (jobs/tick.py). Otherwise a job is planned when it has ended, together with the jobs that have become due
by what it published.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from jobs.schedule import poll_id, reconcile_id, resync_id, retain_id
from worker.capture.lanes import FIELDS, Lane, Times, phase_of, times_of_poll
from worker.capture.reconcile.comparison import can_be_proven
from worker.capture.reconcile.progress import due_in
from worker.capture.registry import AUDIT_LOGS, CAPTURED, RESOURCES
from worker.capture.resync.requests import Resyncs
from worker.capture.state import pauses
from worker.capture.state.run import Outcome
from worker.clock import rfc3339
from worker.redis.connections import answer
from worker.redis.refusals import is_wrong_value
from worker.telemetry.log import Repeats, get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jobs.schedule import Schedule
    from worker.capture.state.pauses import Pause
    from worker.capture.state.run import Run
    from worker.config.sections import Account
    from worker.keys import Keys
    from worker.services import Services

AT_ONCE = 50
"""Accounts that are planned with one round trip."""
SOON_SECONDS = 2.0
"""A job that is due so soon again is settled at once."""
HELD_SECONDS = 1.0
"""Until a job is tried again whose resource another worker reads, or this one in another lane.

A job that has failed waits for this long at least. The failure itself may not be recorded, as in a full Redis, and then
the cursor says that the job is due at once.
"""
FIRST_RETENTION_SECONDS = 10.0
"""From the start of a worker to the first retention pass. The setting determines the later ones."""
QUIET = 10
"""A retention pass over an account that publishes nothing comes less often: after so many times the setting."""
_RECONCILED = ["due_at", "interval", "began"]

_repeats = Repeats()


def log_failed(error: ResponseError, account: str = "") -> None:
    """Log that Redis has refused what the schedule needs; that of one account once in a while."""
    what = f"tick_failed:{account}"
    if _repeats.allow(what, time.monotonic()):
        log = get_logger(account=account) if account else get_logger()
        log.error(
            "tick_failed", error=str(error), repeated=_repeats.held_back(what),
            advice="A key of this program has a wrong type, or the Redis user lacks a permission. Run "
            "`ordersync doctor`.",
        )  # fmt: skip


def polled(account: Account) -> list[str]:
    """Return the sources of an account that are polled."""
    return [name for name in account.intervals if name in CAPTURED]


def wants_backlog(account: Account, name: str) -> bool | None:
    """Whether audit logs of records of the past are to be read; None for what is no audit log."""
    if name not in AUDIT_LOGS:
        return None
    return account.audit_history == "all" and account.snapshot != "silent"


class Planner:
    """Puts the jobs of accounts into the schedule."""

    def __init__(self, services: Services, schedule: Schedule) -> None:
        self._services, self._redis, self._schedule = services, services.redis, schedule
        self._retention_waits: dict[str, float] = {}
        self._proving = set[tuple[str, str]]()
        self._began = services.clock.monotonic()

    # Whole accounts

    async def is_planned(self) -> bool:
        """Return whether the schedule still has what `plan_all` has put into it; see `Schedule.is_planned`."""
        return await self._schedule.is_planned()

    async def plan_all(self, names: Iterable[str]) -> None:
        """Plan all accounts. The note comes first: if Redis loses both meanwhile, all are planned again."""
        await self._schedule.note_planned(self._services.clock.now())
        await self.plan(names)

    async def plan(self, names: Iterable[str]) -> None:
        """Plan these accounts: what is in the schedule is brought forward, never put off."""
        served, away = self._services.configured, self._services.away
        accounts = [served[name] for name in names if name in served and name not in away]
        for start in range(0, len(accounts), AT_ONCE):
            await self._plan(accounts[start : start + AT_ONCE])

    async def _plan(self, accounts: Sequence[Account]) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            for account in accounts:
                keys = account.keys.of(account.name)
                pipe.hgetall(keys.paused)
                pipe.scard(keys.open_resyncs)
                pipe.exists(keys.retries)
                for name in polled(account):
                    pipe.hmget(keys.cursor(name), list(FIELDS))
                    pipe.zrange(keys.refresh_queue(name), 0, 0, withscores=True)
                for name in _reconciled(account):
                    pipe.hmget(keys.reconcile(name), _RECONCILED)
            answers = iter(await pipe.execute(raise_on_error=False))
        jobs: list[tuple[str, Times]] = []
        for account in accounts:
            paused, resyncs, retries = next(answers), next(answers), next(answers)
            self._record_pauses(account.name, paused)
            cursors = dict[str, Any]()
            for name in polled(account):
                cursors[name] = next(answers)
                jobs.append(
                    (poll_id(account.name, name), self._times(account, name, cursors[name], next(answers)))
                )
            progress = {name: next(answers) for name in _reconciled(account)}
            jobs.append(
                (reconcile_id(account.name), {Lane.RECONCILE: self._reconcile_at(account, progress, cursors)})
            )
            jobs.append(
                (retain_id(account.name), {Lane.RETENTION: self._retain_at(account, asked=retries == 1)})
            )
            if isinstance(resyncs, ResponseError):
                log_failed(resyncs, account.name)
            elif not isinstance(resyncs, Exception) and resyncs:
                jobs += await self._resyncs(account)
        await self._schedule.place(jobs)

    def _record_pauses(self, name: str, found: Any) -> None:
        if isinstance(found, ResponseError):
            log_failed(found, name)
        elif not isinstance(found, Exception):
            record_pauses(self._services, name, pauses.parse(found))

    def _times(self, account: Account, name: str, values: Any, first: Any, *, idle: bool = False) -> Times:
        """Return when a source is due. `idle`: it has just found nothing to read of the past."""
        if pauses.of(self._services.paused.get(account.name, {}), name):
            return {Lane.POLLS: None, Lane.SCANS: None, Lane.AUDIT: None}
        if isinstance(values, Exception):
            values = (None,) * len(FIELDS)
        times = times_of_poll(
            values, first, requested=account.intervals[name], now=self._services.clock.now(),
            backlog=wants_backlog(account, name),
        )  # fmt: skip
        if idle and times.get(Lane.AUDIT) is not None:
            times[Lane.AUDIT] = times[Lane.POLLS]
        return times

    # Jobs that have ended

    async def poll_ended(self, lane: Lane, account: Account, name: str, run: Run) -> None:
        """Plan a source that was polled, and what its changes have made due."""
        job, now = poll_id(account.name, name), self._services.clock.now()
        if run.outcome is Outcome.HELD:
            await self._schedule.settle(lane, job, {lane: now + HELD_SECONDS})
            return
        keys = account.keys.of(account.name)
        if run.outcome is Outcome.PAUSED:  # perhaps by a person, of which nothing was told
            await self.plan([account.name])
        values: Sequence[bytes | None] = run.left or await self._load_fields(keys.cursor(name))
        idle = lane is Lane.AUDIT and not run.pages
        times = self._times(account, name, values, [], idle=idle)
        if run.outcome is Outcome.FAILED:
            times = {each: at if at is None else max(at, now + HELD_SECONDS) for each, at in times.items()}
        elif (times.get(lane) or 0) < 0:  # a first scan that has just had its turn, and could not begin
            times[lane] = now + HELD_SECONDS
        # What has made others due is settled at once: they are planned after it.
        is_asked_for = await self._settle(lane, job, times, patient=run.left is not None)
        if run.left is None or is_asked_for:
            await self._plan_follow_ups(account, name, run, values, times)
        if run.published and self._retention_waits.pop(account.name, 0.0):
            await self._schedule.place(
                [(retain_id(account.name), {Lane.RETENTION: now + account.retention.every})]
            )
        if run.outcome is not Outcome.FAILED:
            await self._plan_proof(account, name, values, after_scan=lane is Lane.SCANS)

    async def _settle(self, lane: Lane, job: str, times: Times, *, patient: bool = True) -> bool:
        """Settle a job; with others, if it is `patient` and nothing of it is due soon. See `Schedule.settle`."""
        soon = self._services.clock.now() + SOON_SECONDS
        patient = patient and all(at is None or at > soon for at in times.values())
        return await self._schedule.settle(lane, job, times, patient=patient)

    async def _load_fields(self, cursor: str) -> Sequence[bytes | None]:
        return await answer(self._redis.hmget(cursor, list(FIELDS)))

    async def _plan_follow_ups(
        self, account: Account, name: str, run: Run, values: Sequence[bytes | None], times: Times
    ) -> None:
        """Plan what is in the refresh queues of a source that was polled, and of those that its changes follow up in.

        After the source was settled: what was added to its queue while its job was claimed was left alone.
        """
        keys, now = account.keys.of(account.name), self._services.clock.now()
        targets = [name, *(_follow_ups(account, name) if run.published else ())]
        async with self._redis.pipeline(transaction=False) as pipe:
            for target in targets:
                pipe.zrange(keys.refresh_queue(target), 0, 0, withscores=True)
            firsts = await pipe.execute(raise_on_error=False)
        if run.outcome is not Outcome.FAILED:  # reads by id wait as well
            await self._bring_forward(account, name, values, firsts[0], times)
        await self._schedule.place(
            [
                (poll_id(account.name, target), {Lane.POLLS: max(now, float(first[0][1]))})
                for target, first in zip(targets[1:], firsts[1:], strict=True)
                if isinstance(first, list) and first
            ]
        )

    async def _plan_proof(
        self, account: Account, name: str, values: Sequence[bytes | None], *, after_scan: bool
    ) -> None:
        """Plan the reconciliation of an account once the first full scans of a source, in whatever lane, have ended."""
        if name not in _reconciled(account):
            return
        source, has_baseline = (account.name, name), values[FIELDS.index("baseline")] not in {None, b"0"}
        if has_baseline and (after_scan or source not in self._proving):
            await self.plan([account.name])
        if has_baseline:
            self._proving.add(source)
        else:
            self._proving.discard(source)

    async def _bring_forward(
        self, account: Account, name: str, values: Sequence[bytes | None], first: Any, times: Times
    ) -> None:
        """Bring a source forward of whose refresh queue something is due before its list."""
        if isinstance(first, list) and first:
            sooner = self._times(account, name, values, first)
            if (sooner[Lane.POLLS] or 0) < (times[Lane.POLLS] or 0):
                await self._schedule.place([(poll_id(account.name, name), {Lane.POLLS: sooner[Lane.POLLS]})])

    async def reconcile_ended(self, account: Account) -> None:
        """Plan the reconciliation of an account, of which a slice has ended."""
        keys, names = account.keys.of(account.name), _reconciled(account)
        async with self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hmget(keys.reconcile(name), _RECONCILED)
                pipe.hmget(keys.cursor(name), list(FIELDS))
            found = await pipe.execute(raise_on_error=False)
        progress, cursors = (
            dict(zip(names, found[::2], strict=True)),
            dict(zip(names, found[1::2], strict=True)),
        )
        at = self._reconcile_at(account, progress, cursors)
        if at is not None:  # the slice may have failed, or another worker may hold the lease
            at = max(at, self._services.clock.now() + HELD_SECONDS)
        await self._settle(Lane.RECONCILE, reconcile_id(account.name), {Lane.RECONCILE: at})

    async def retain_ended(self, account: Account, *, done: bool) -> None:
        """Plan the next retention pass of an account; at once if this one was not `done` with it."""
        wait = self._retention_waits.get(account.name, 0.0)
        every = account.retention.every
        self._retention_waits[account.name] = wait = min(max(every, 2 * wait), QUIET * every) if done else 0.0
        at = self._services.clock.now() + wait
        await self._settle(Lane.RETENTION, retain_id(account.name), {Lane.RETENTION: at})

    async def request_retention(self, account: Account, seconds: float) -> None:
        """Have a retention pass over an account in so many seconds, at the latest."""
        at = self._services.clock.now() + seconds
        await self._schedule.place([(retain_id(account.name), {Lane.RETENTION: at})])

    async def resync_ended(self, account: Account, resource: str, name: str) -> None:
        """Plan the next slice of a resync, if it is not over."""
        job = resync_id(account.name, resource, name)
        times = dict(await self._resyncs(account))
        await self._schedule.settle(Lane.RESYNCS, job, times.get(job, {Lane.RESYNCS: None}))

    # When what is due

    async def _resyncs(self, account: Account) -> list[tuple[str, Times]]:
        now = self._services.clock.now()
        try:
            due = await Resyncs(self._redis, account.keys.of(account.name)).due(now)
        except ResponseError as error:
            if not is_wrong_value(error):
                raise
            log_failed(error, account.name)
            return []
        return [
            (resync_id(account.name, resource, name), {Lane.RESYNCS: now + max(0.0, wait)})
            for name, resource, wait in due
        ]

    def _reconcile_at(
        self, account: Account, progress: dict[str, Any], cursors: dict[str, Any]
    ) -> float | None:
        """Return when a slice of the reconciliation of an account is due; None if nothing can be verified yet."""
        now, found = self._services.clock.now(), list[float]()
        paused = self._services.paused.get(account.name, {})
        for name, values in progress.items():
            cursor = cursors[name]
            # There is nothing to verify before the first full scan has ended.
            if pauses.of(paused, name) or isinstance(cursor, Exception) or cursor[4] in {None, b"0"}:
                continue
            # A key that cannot be read is due: the job reports what is wrong with it.
            every = account.reconcile.every
            found.append(0.0 if isinstance(values, Exception) else due_in(*values, every=every, now=now))
        return now + max(0.0, min(found)) if found else None

    def _retain_at(self, account: Account, *, asked: bool) -> float:
        """Return when a retention pass over an account is due that nobody has planned."""
        now, every = self._services.clock.now(), account.retention.every
        if asked:
            return now
        wait = self._retention_waits.get(account.name)
        if wait is not None:
            return now + wait
        spread = every * phase_of(account.name, "retention") if len(self._services.configured) > 1 else 0.0
        passed = self._services.clock.monotonic() - self._began
        return now + max(0.0, min(every, FIRST_RETENTION_SECONDS) + spread - passed)


def provable(services: Services, account: Account) -> list[str]:
    """Return the polled resources of an account that are not paused and have audit logs."""
    paused = services.paused.get(account.name, {})
    return [name for name in _reconciled(account) if not pauses.of(paused, name)]


def record_pauses(services: Services, account: str, result: dict[str, Pause]) -> None:
    """Store the pauses of an account, and log those that began or ended since it was planned last."""
    log, before = get_logger(account=account), services.paused.get(account, {})
    for resource, pause in result.items():
        if pause != before.get(resource):
            log.warning(
                "polling_paused", resource=resource, by=pause.by, reason=pause.reason, paused_at=rfc3339(pause.at),
                advice="Run `ordersync resume` to poll again.",
            )  # fmt: skip
    for resource, pause in before.items():
        if resource not in result:
            seconds = max(0.0, services.clock.now() - pause.at)
            log.info("polling_resumed", resource=resource, paused_s=round(seconds, 1))
    if result or before:
        services.paused[account] = result


def _reconciled(account: Account) -> list[str]:
    """Return the polled resources of an account that have audit logs, if it is to be reconciled."""
    if not account.reconcile.every:
        return []
    return [
        name for name, resource in RESOURCES.items() if name in account.intervals and can_be_proven(resource)
    ]


def _follow_ups(account: Account, name: str) -> list[str]:
    """Return the sources of which a change of a record of this one makes something due."""
    if name not in RESOURCES:
        return []
    targets = dict.fromkeys(item.target for item in RESOURCES[name].follow_ups)
    return [target for target in targets if target in account.intervals and target != name]


def keys_of(account: Account) -> Keys:
    """Return the keys of an account."""
    return account.keys.of(account.name)
