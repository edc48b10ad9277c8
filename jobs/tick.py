"""The tick: enqueue the polls, reconciliations, resyncs and retention passes that are due.

It does no work itself: it computes what is due from the cursors, and one poll catches up with everything that was
missed. A paused resource is not enqueued; it is due as soon as it is resumed.

Every worker has a tick of its own, which waits by the monotonic clock. arq's cron is not used: it computes its next run
from the wall clock, and after that is put back it runs nothing until the clock has caught up.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import anyio
from redis.exceptions import ResponseError

from jobs import reconcile, retain
from jobs.poll import job_id
from jobs.queue import enqueue
from jobs.resync import slice_id
from worker.capture.failures import MAX_REQUESTED_PAUSE
from worker.capture.registry import CAPTURED
from worker.capture.state import pauses
from worker.capture.state.put_back import PutBack
from worker.clock import is_ahead, rfc3339
from worker.redis.refusals import is_full
from worker.services import services_of
from worker.telemetry import tracing
from worker.telemetry.log import Repeats, get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from arq.connections import ArqRedis

    from worker.capture.state.pauses import Pause
    from worker.services import AccountServices, Services

TICK_SECONDS = 1.0
"""Seconds between two ticks, at most."""
MIN_TICK_SECONDS = 0.02
NOISE_SECONDS = 1.0
"""By so much a due time may exceed the longest wait: two measurements of one clock differ a little."""


async def keep_ticking(ctx: Mapping[Any, Any], beat: Callable[[], None]) -> None:
    """Tick until cancelled: at least each second, and at each due time. `beat` is called after each tick.

    Raises:
        RedisError, OSError: Redis does not answer; the daemon starts the workers again.

    """
    log, repeats = get_logger(), Repeats()
    while True:
        wait = TICK_SECONDS
        try:
            wait = await tick(ctx)
        except ResponseError as error:
            if repeats.allow("tick_failed", time.monotonic()):
                log.exception(
                    "tick_failed", error=str(error), repeated=repeats.held_back("tick_failed"),
                    advice="A key of this program has a wrong type, or the Redis user lacks a permission. Run "
                    "`ordersync doctor`.",
                )  # fmt: skip
        beat()
        await anyio.sleep(max(MIN_TICK_SECONDS, wait))


async def tick(ctx: Mapping[Any, Any]) -> float:
    """Enqueue what is due now; return the seconds until more is due, at most `TICK_SECONDS`.

    When Redis is full there is no room for a job: the worker logs that, and the next tick tries again.
    """
    services = services_of(ctx)
    if services.stopping():
        return TICK_SECONDS
    try:
        await services.clock.sync()
        await _follow_clock(services)
        await _enqueue_retention(services, ctx["redis"])
        waits = [await _enqueue_polls(services, ctx["redis"]), await _enqueue_resyncs(services, ctx["redis"])]
        await reconcile.enqueue_due(services, ctx["redis"])
    except ResponseError as error:
        if not is_full(error):
            raise
        return TICK_SECONDS
    return min(waits)


async def _follow_clock(services: Services) -> None:
    """Move the reads by id that wait, if the clock of Redis was put back."""
    for account in services.accounts.values():
        if seconds := await PutBack(services.redis, account.keys).follow(_polled(account)):
            get_logger(account=account.account.name).info("reads_brought_forward", moved_s=round(-seconds, 1))


def _polled(account: AccountServices) -> list[str]:
    return [name for name in account.account.intervals if name in CAPTURED]


async def _enqueue_retention(services: Services, queue: ArqRedis) -> None:
    now = services.clock.now()
    for account in services.accounts.values():
        if account.retention.due():
            name = account.account.name
            await enqueue(queue, services.queue, retain.job_id(services.queue, name), "retain", name, now=now)


async def _enqueue_polls(services: Services, queue: ArqRedis) -> float:
    """Enqueue the polls that are due. Return the seconds until the next one is, at most a tick."""
    requested = [(account, name) for account in services.accounts.values() for name in _polled(account)]
    async with services.redis.pipeline(transaction=False) as pipe:
        for account in services.accounts.values():
            pipe.hgetall(account.keys.paused)
        for account, name in requested:
            pipe.hmget(
                account.keys.cursor(name),
                ["due_at", "interval", "failures", "last_started", "baseline", "paused"],
            )
            pipe.zrange(account.keys.refresh_queue(name), 0, 0, withscores=True)
        answers = await pipe.execute(raise_on_error=False)
    now, paused, result = (
        services.clock.now(),
        answers[: len(services.accounts)],
        answers[len(services.accounts) :],
    )
    for name, pauses_of in zip(services.accounts, paused, strict=True):
        if not isinstance(pauses_of, Exception):
            record_pauses(services, name, pauses.parse(pauses_of))
    next_due = TICK_SECONDS
    for (account, name), cursor, first in zip(requested, result[::2], result[1::2], strict=True):
        if pauses.of(services.paused.get(account.account.name, {}), name):
            continue
        due_at, interval, failures, began, *ready = (None,) * 6 if isinstance(cursor, Exception) else cursor
        wait = seconds_until_due(
            due_at, interval, failures, began, requested=account.account.intervals[name], now=now
        )
        read_in = float("inf")
        if failures in {None, b"0"}:
            read_in = seconds_until_follow_ups(first, *ready, now=now)
        if min(wait, read_in) <= 0:
            only = {"follow_ups_only": True} if wait > 0 else {}
            await _enqueue_poll(services.queue, queue, account.account.name, name, now=now, **only)
        next_due = min([next_due, *(seconds for seconds in (wait, read_in) if seconds > 0)])
    return next_due


async def _enqueue_poll(
    name: str, queue: ArqRedis, account: str, resource: str, *, now: float, **only: Any
) -> None:
    """Enqueue a poll, and begin its trace."""
    trace, began = tracing.begin(), time.time_ns()
    enqueued = await enqueue(
        queue, name, job_id(name, account, resource), "poll", account, resource, now=now,
        traceparent=trace.traceparent, **only,
    )  # fmt: skip
    if enqueued:
        tracing.record("tick", trace, began, account=account, resource=resource)


def record_pauses(services: Services, account: str, result: dict[str, Pause]) -> None:
    """Store the pauses of an account, and log those that began or ended since the last tick."""
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
    services.paused[account] = result


async def _enqueue_resyncs(services: Services, queue: ArqRedis) -> float:
    """Enqueue a slice of each resync that is due. Return the seconds until the next one is, at most a tick."""
    now, next_due = services.clock.now(), TICK_SECONDS
    for account in services.accounts.values():
        for name, resource, wait in await account.resyncer.resyncs.due(now):
            if wait > 0:
                next_due = min(next_due, wait)
                continue
            account_name = account.account.name
            await enqueue(
                queue, services.keys.resync_queue, slice_id(account_name, name), "resync_slice", account_name, resource,
                name, now=now,
            )  # fmt: skip
    return next_due


def seconds_until_follow_ups(
    first: object, baseline: bytes | None, paused: bytes | None, *, now: float
) -> float:
    """Return the seconds until a read of the refresh queue is due, of which `first` is the first entry.

    Infinity if there is none: reads by id wait until the first full scan has ended, and while polling is paused.
    """
    if not isinstance(first, list) or not first or paused or baseline in {None, b"0"}:
        return float("inf")
    return float(first[0][1]) - now


def seconds_until_due(
    due_at: bytes | None,
    interval: bytes | None,
    failures: bytes | None,
    began: bytes | None = None,
    *,
    requested: float,
    now: float,
) -> float:
    """Return the seconds until a poll is due; 0 or less if it is due now.

    Args:
        due_at: Field of the cursor.
        interval: Field of the cursor: the interval when `due_at` was written.
        failures: Field of the cursor: failed polls in a row.
        began: Field of the cursor: when the last poll began.
        requested: The interval of the settings, in seconds.
        now: The current time, in seconds since 1970.

    An unreadable cursor is due: the poll reports what is wrong with it. So is one whose last poll began in the future,
    or whose due time is further ahead than any poll waits: the clock was put back since it was written.
    """
    try:
        due, kept, last = float(due_at or 0), float(interval or 0), float(began or 0)
    except ValueError:
        return 0.0
    succeeded = failures in {None, b"0"}
    if kept and succeeded:
        due += min(0.0, requested - kept)  # a shorter interval counts at once
    wait = due - now
    longest = requested if succeeded else max(requested, MAX_REQUESTED_PAUSE)
    return wait if wait <= longest + NOISE_SECONDS and not is_ahead(last, now) else 0.0
