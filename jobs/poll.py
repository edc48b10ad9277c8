"""The job that polls one source of one account, in one of its lanes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from jobs.context import planner_of
from worker.capture.lanes import SLICE_SECONDS, Lane
from worker.capture.registry import CAPTURED
from worker.capture.state.run import Outcome
from worker.errors import RedisFull
from worker.services import services_of
from worker.telemetry import tracing

if TYPE_CHECKING:
    from collections.abc import Mapping

REQUESTED_PASS_SECONDS = 3.0
"""Until the next retention pass while polling waits for free memory."""


async def poll(ctx: Mapping[Any, Any], account: str, resource: str) -> None:
    """Poll one source, or only what is due to be read of it by id; then plan when it is due again.

    Returns nothing: the cursor and the run record hold the outcome. The lease, not the claim of the job, keeps two
    workers from reading the same source.
    """
    services, lane = services_of(ctx), Lane(ctx["lane"])
    owned = services.accounts[account]
    trace, began = tracing.begin(), time.time_ns()
    tracing.record("tick", trace, began, account=account, resource=resource)
    run = await owned.poller.poll(
        CAPTURED[resource],
        scheduled=True,
        backlog=lane is Lane.AUDIT,
        stop=services.stopping,
        yields=ctx["yields"],
        slice_seconds=SLICE_SECONDS[lane],
        traceparent=trace.traceparent,
    )
    if run.outcome is not Outcome.COMPLETE or account in services.unwell:
        services.touched.add(account)
    planner = planner_of(ctx)
    if run.outcome is Outcome.PAUSED or run.error_code == RedisFull.code:
        await planner.request_retention(owned.account, REQUESTED_PASS_SECONDS)
    await planner.poll_ended(lane, owned.account, resource, run)
