"""The job that holds what was published of one account against the audit logs of OrderMesh."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arq.constants import in_progress_key_prefix

from jobs.poll import IN_PROGRESS_SECONDS
from worker.capture.reconcile.comparison import can_be_proven
from worker.capture.registry import RESOURCES
from worker.capture.state import pauses
from worker.services import services_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arq.connections import ArqRedis

    from worker.services import AccountServices, Services


def job_id(queue: str, account: str) -> str:
    """The fixed id of the job: there is never more than one of it in the queue. arq's ids are global."""
    return f"{queue}:reconcile:{account}"


async def reconcile(ctx: Mapping[Any, Any], account: str) -> None:
    """One slice. How it went stands in Redis; the tick puts the next one into the queue when it is due."""
    services = services_of(ctx)
    account_services = services.accounts.get(account)
    if account_services is None or not account_services.account.reconcile.every:
        return
    queue: ArqRedis = ctx["redis"]
    mark = in_progress_key_prefix + ctx["job_id"]

    async def renew_mark() -> None:
        await queue.pexpire(mark, int(IN_PROGRESS_SECONDS * 1000))

    requested = [RESOURCES[name] for name in provable(services, account_services)]
    await account_services.reconciler.run(requested, stop=services.stopping, on_renew=renew_mark)


def provable(services: Services, account: AccountServices) -> list[str]:
    """The resources of an account that are read, not paused, and that OrderMesh has audit logs of."""
    paused = services.paused.get(account.account.name, {})
    return [
        name
        for name, resource in RESOURCES.items()
        if name in account.account.intervals and can_be_proven(resource) and not pauses.of(paused, name)
    ]


async def enqueue(services: Services, queue: ArqRedis) -> None:
    """Put a slice into the queue for each account of which something is due."""
    requested = [
        (account_services, name)
        for account_services in services.accounts.values()
        if account_services.account.reconcile.every
        for name in provable(services, account_services)
    ]
    if not requested:
        return
    async with services.redis.pipeline(transaction=False) as pipe:
        for account_services, name in requested:
            pipe.hmget(account_services.keys.reconcile(name), ["due_at", "interval", "began"])
            pipe.hget(account_services.keys.cursor(name), "baseline")
        answers = await pipe.execute(raise_on_error=False)
    now, due = services.clock.now(), set[str]()
    for (account_services, _), fields, baseline in zip(requested, answers[::2], answers[1::2], strict=True):
        # Before the first complete read there is nothing to be proven.
        if isinstance(baseline, Exception) or baseline in {None, b"0"}:
            continue
        if isinstance(fields, Exception):
            fields = (None, None, None)  # noqa: PLW2901 - of another hand: the job says what is wrong with it
        if seconds_until_slice(*fields, requested=account_services.account.reconcile.every, now=now) <= 0:
            due.add(account_services.account.name)
    for account in due:
        # Refused by arq while the same job is queued or running, which is what is wanted.
        await queue.enqueue_job(
            "reconcile", account, _job_id=job_id(services.queue, account), _queue_name=services.queue
        )


def seconds_until_slice(
    due_at: bytes | None, interval: bytes | None, began: bytes | None, *, requested: float, now: float
) -> float:
    """How long the next slice has to wait, by what is noted and the interval that is `wanted` now; 0 or less is due.

    What cannot be read is due: the job says what is wrong with it. So is what lies further ahead than the interval: the
    clock was wrong when it was noted.
    """
    try:
        due, kept, running = float(due_at or 0), float(interval or 0), float(began or 0)
    except ValueError:
        return 0.0
    if kept and not running:
        due += min(0.0, requested - kept)  # a shorter interval counts at once
    wait = due - now
    return wait if wait <= max(requested, 3600.0) else 0.0
