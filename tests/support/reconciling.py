"""Passes of the reconciler, begun when a test says so."""

from __future__ import annotations

from typing import Any

from tests.support.waiting import eventually
from tests.support.worker import Bench
from worker.capture.reconcile.progress import Coverage, ReconcileProgress
from worker.capture.registry import ORDERS
from worker.capture.resources import Resource
from worker.config.sections import ReconcileSettings
from worker.redis.connections import answer

SOON = ReconcileSettings(lag=0)
ORDERS_ALONE = {"orders": 1.0}
HIDDEN = "SHIPPED IN SECRET"


def coverage(b: Bench, resource: str = "orders") -> Coverage:
    """Return what is proven of a resource."""
    return Coverage(b.redis, b.account.keys, resource)


async def be_due(b: Bench, resource: str = "orders") -> None:
    """Let the next slice begin now."""
    await answer(b.redis.hset(b.account.keys.reconcile(resource), "due_at", "0"))


async def one_pass(b: Bench, resource: Resource = ORDERS, **options: Any) -> ReconcileProgress:
    """Poll, and let passes begin until one has ended whose window ends behind this moment; the server's clock ticks."""
    now = b.services.clock.now() * 1000
    kept = coverage(b, resource.name)

    async def ended() -> ReconcileProgress | None:
        await b.account.poller.poll(resource)
        await be_due(b, resource.name)
        await b.account.reconciler.run([resource], **options)
        passes = await kept.passes()
        return await kept.load() if passes and passes[-1].until >= now else None

    found = await eventually(ended)
    assert isinstance(found, ReconcileProgress)
    return found


async def total(b: Bench, name: str, resource: str = "orders") -> int:
    """A count, over all passes."""
    return sum(getattr(each.counts, name) for each in await coverage(b, resource).passes())


def asked(b: Bench, operation: str) -> int:
    """Requests for an operation so far."""
    return b.sandbox.requests.count(operation)
