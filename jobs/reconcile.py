"""The job that compares what was published for one account with the audit logs of OrderMesh."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arq.constants import in_progress_key_prefix

from jobs.queue import IN_PROGRESS_SECONDS, enqueue
from worker.capture.reconcile.comparison import can_be_proven
from worker.capture.reconcile.progress import is_due
from worker.capture.registry import RESOURCES
from worker.capture.state import pauses
from worker.services import services_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arq.connections import ArqRedis

    from worker.services import AccountServices, Services


def job_id(queue: str, account: str) -> str:
    """Return the fixed id of the job, so that the queue holds at most one. arq's ids are global."""
    return f"{queue}:reconcile:{account}"


async def reconcile(ctx: Mapping[Any, Any], account: str) -> None:
    """Work on the reconciliation for one slice. Redis holds its progress; the tick enqueues the next slice."""
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
    """Return the polled resources of an account that are not paused and have audit logs."""
    paused = services.paused.get(account.account.name, {})
    return [
        name
        for name, resource in RESOURCES.items()
        if name in account.account.intervals and can_be_proven(resource) and not pauses.of(paused, name)
    ]


async def enqueue_due(services: Services, queue: ArqRedis) -> None:
    """Enqueue a slice for each account that has a reconciliation due."""
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
        # There is nothing to verify before the first full scan has ended.
        if isinstance(baseline, Exception) or baseline in {None, b"0"}:
            continue
        every = account_services.account.reconcile.every
        # A key that cannot be read is due: the job reports what is wrong with it.
        if isinstance(fields, Exception) or _is_due(*fields, every=every, now=now):
            due.add(account_services.account.name)
    for account in due:
        await enqueue(queue, services.queue, job_id(services.queue, account), "reconcile", account, now=now)


def _is_due(
    due_at: bytes | None, interval: bytes | None, began: bytes | None, *, every: float, now: float
) -> bool:
    """Return True if a slice is due by these fields of the progress, or if they cannot be read."""
    try:
        return is_due(float(due_at or 0), float(interval or 0), float(began or 0), every=every, now=now)
    except ValueError:
        return True
