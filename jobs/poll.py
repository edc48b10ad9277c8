"""The job that polls one resource of one account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arq.constants import in_progress_key_prefix

from jobs.queue import IN_PROGRESS_SECONDS
from worker.capture.registry import CAPTURED
from worker.capture.state.run import Outcome
from worker.errors import RedisFull
from worker.services import services_of
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arq.connections import ArqRedis


def job_id(queue: str, account: str, resource: str) -> str:
    """Return the fixed id of the job, so that the queue holds at most one. arq's ids are global."""
    return f"{queue}:poll:{account}:{resource}"


async def poll(
    ctx: Mapping[Any, Any],
    account: str,
    resource: str,
    *,
    follow_ups_only: bool = False,
    traceparent: str = "",
) -> None:
    """Poll one resource, or only its reads by id, in the trace that the tick began.

    Returns nothing: the cursor and the run record hold the outcome.

    arq sets its in-progress mark for the longest timeout of all jobs; after a SIGKILL the job would wait for minutes.
    Here the mark is short and is renewed with the lease. The lease, not the mark, keeps two workers from reading the
    same resource.
    """
    services = services_of(ctx)
    account_services = services.accounts.get(account)
    if account_services is None or resource not in CAPTURED:
        get_logger().error(
            "job_not_for_this_worker", account=account, resource=resource,
            advice="A job names an account or resource that the workers of this queue do not serve. Check the program "
            "that enqueued it, and the accounts of this worker with `ordersync config show`.",
        )  # fmt: skip
        return
    if resource not in account_services.account.intervals:
        if (account, resource) not in services.withdrawn:
            services.withdrawn.add((account, resource))
            get_logger(account=account).info("poll_dropped", resource=resource)
        return
    queue: ArqRedis = ctx["redis"]
    mark = in_progress_key_prefix + ctx["job_id"]

    async def renew_mark() -> None:
        await queue.pexpire(mark, int(IN_PROGRESS_SECONDS * 1000))

    run = await account_services.poller.poll(
        CAPTURED[resource],
        follow_ups_only=follow_ups_only,
        stop=services.stopping,
        on_renew=renew_mark,
        traceparent=traceparent,
    )
    if run.outcome is Outcome.PAUSED or run.error_code == RedisFull.code:
        account_services.retention.request_pass()
