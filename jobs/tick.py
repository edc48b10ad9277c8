"""The tick: once a second, enqueue the polls, reconciliations and retention passes that are due.

arq drops a cron job that a deploy interrupts, and does not run one that was missed. So the tick does no work itself: it
computes what is due from the cursors, and one poll catches up with everything that was missed. A paused resource is not
enqueued; it is due as soon as it is resumed.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from jobs import reconcile, retain
from jobs.poll import job_id
from jobs.resync import slice_id
from worker.capture.registry import CAPTURED
from worker.capture.state import pauses
from worker.clock import rfc3339
from worker.keys import RESYNC_QUEUE
from worker.redis.connections import is_full
from worker.services import services_of
from worker.telemetry import tracing
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arq.connections import ArqRedis

    from worker.capture.state.pauses import Pause
    from worker.services import Services

TICK_SECONDS = 1.0
MAX_WAIT = 86_400.0


async def tick(ctx: Mapping[Any, Any]) -> None:
    """Enqueue what is due before the next tick; each poll starts at its due time.

    When Redis is full there is no room for a job: the worker logs that, and the next tick tries again.
    """
    services = services_of(ctx)
    if services.stopping():
        return
    try:
        await _enqueue(services, ctx["redis"])
        await reconcile.enqueue(services, ctx["redis"])
    except ResponseError as error:
        if not is_full(error):
            raise


async def _enqueue(services: Services, queue: ArqRedis) -> None:
    for account in services.accounts.values():
        if account.retention.due():
            name = account.account.name
            await queue.enqueue_job(
                "retain", name, _job_id=retain.job_id(services.queue, name), _queue_name=services.queue
            )
    await _enqueue_resyncs(services, queue)
    requested = [
        (account_services, name)
        for account_services in services.accounts.values()
        for name in account_services.account.intervals
        if name in CAPTURED
    ]
    async with services.redis.pipeline(transaction=False) as pipe:
        for account in services.accounts.values():
            pipe.hgetall(account.keys.paused)
        for account, name in requested:
            pipe.hmget(account.keys.cursor(name), ["due_at", "interval", "failures", "baseline", "paused"])
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
    for (account, name), cursor, first in zip(requested, result[::2], result[1::2], strict=True):
        if pauses.of(services.paused.get(account.account.name, {}), name):
            continue
        due_at, interval, failures, *ready = (None,) * 5 if isinstance(cursor, Exception) else cursor
        wait = seconds_until_due(
            due_at, interval, failures, requested=account.account.intervals[name], now=now
        )
        follow_ups = follow_ups_due(first, *ready, now=now) and failures in {None, b"0"}
        if wait < TICK_SECONDS or follow_ups:
            only: dict[str, Any] = {"follow_ups_only": True} if wait >= TICK_SECONDS else {}
            wait = 0.0 if follow_ups else max(0.0, wait)
            await _enqueue_poll(services.queue, queue, account.account.name, name, at=now + wait, **only)


async def _enqueue_poll(
    name: str, queue: ArqRedis, account: str, resource: str, *, at: float, **only: Any
) -> None:
    """Enqueue a poll, and begin its trace."""
    trace, began = tracing.begin(), time.time_ns()
    # arq refuses the job while the same one is queued or running, as intended.
    job = await queue.enqueue_job(
        "poll",
        account,
        resource,
        _job_id=job_id(name, account, resource),
        _queue_name=name,
        _defer_until=datetime.fromtimestamp(at, UTC),
        traceparent=trace.traceparent,
        **only,
    )
    if job is not None:
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
            log.info("polling_resumed", resource=resource, paused_s=round(services.clock.now() - pause.at, 1))
    services.paused[account] = result


async def _enqueue_resyncs(services: Services, queue: ArqRedis) -> None:
    """Enqueue a slice of each resync that has not ended."""
    now = services.clock.now()
    for account in services.accounts.values():
        for name, resource, due_at in await account.resyncer.resyncs.due(now + TICK_SECONDS):
            await queue.enqueue_job(
                "resync_slice",
                account.account.name,
                resource,
                name,
                _job_id=slice_id(account.account.name, name),
                _queue_name=RESYNC_QUEUE,
                _defer_by=max(0.0, due_at - now),
            )


def follow_ups_due(first: object, baseline: bytes | None, paused: bytes | None, *, now: float) -> bool:
    """True if the refresh queue, of which `first` is the first entry, has a read that is due now.

    Reads by id wait until the first full scan has ended, and while polling is paused.
    """
    if not isinstance(first, list) or not first or paused or baseline in {None, b"0"}:
        return False
    return float(first[0][1]) <= now


def seconds_until_due(
    due_at: bytes | None, interval: bytes | None, failures: bytes | None, *, requested: float, now: float
) -> float:
    """Return the seconds until a poll is due; 0 or less if it is due now.

    Args:
        due_at: Field of the cursor.
        interval: Field of the cursor: the interval when `due_at` was written.
        failures: Field of the cursor: failed polls in a row.
        requested: The interval of the settings, in seconds.
        now: The current time, in seconds since 1970.

    An unreadable cursor is due: the poll reports what is wrong with it. A due time further ahead than any interval is
    due as well: the clock was wrong when it was written.
    """
    try:
        due, kept = float(due_at or 0), float(interval or 0)
    except ValueError:
        return 0.0
    if kept and failures in {None, b"0"}:
        due += min(0.0, requested - kept)  # a shorter interval counts at once
    wait = due - now
    return wait if wait <= MAX_WAIT else 0.0
