"""The job that compares what was published for one account with the audit logs of OrderMesh."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobs.context import planner_of
from jobs.planner import provable
from worker.capture.lanes import SLICE_SECONDS, Lane
from worker.capture.registry import RESOURCES
from worker.services import services_of

if TYPE_CHECKING:
    from collections.abc import Mapping


async def reconcile(ctx: Mapping[Any, Any], account: str) -> None:
    """Work on the reconciliation for one slice. Redis holds its progress."""
    services = services_of(ctx)
    owned = services.accounts[account]
    requested = [RESOURCES[name] for name in provable(services, owned.account)]
    if requested:
        await owned.reconciler.run(
            requested, stop=services.stopping, slice_seconds=SLICE_SECONDS[Lane.RECONCILE]
        )
    await planner_of(ctx).reconcile_ended(owned.account)
