"""The job that polls one resource of one account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arq.constants import in_progress_key_prefix

from worker.capture.registry import CAPTURED
from worker.capture.state.run import Outcome
from worker.errors import RedisFull
from worker.services import services_of
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arq.connections import ArqRedis

IN_PROGRESS_SECONDS = 8.0
"""How long arq's mark that a job runs outlives the last sign of life of the worker that runs it."""


def job_id(queue: str, account: str, resource: str) -> str:
    """The fixed id of the job: there is never more than one of it in the queue. arq's ids are global."""
    return f"{queue}:poll:{account}:{resource}"


async def poll(
    ctx: Mapping[Any, Any],
    account: str,
    resource: str,
    *,
    follow_ups_only: bool = False,
    traceparent: str = "",
) -> None:
    """Poll one resource, or read only what is due of it by id, in the trace that the tick has begun.

    Nothing is returned: how it went stands in the cursor and in the run record.

    arq sets its in-progress mark for the longest timeout of all jobs, which after SIGKILL would keep this
    one waiting for minutes. The mark is short here and renewed with the lease instead; that two workers
    never read the same resource is the lease's business, not the mark's.
    """
    services = services_of(ctx)
    account_services = services.accounts.get(account)
    if account_services is None or resource not in CAPTURED:
        get_logger().error(
            "job_not_for_this_worker", account=account, resource=resource,
            advice="a job of this queue names an account or resource that its workers do not serve",
        )  # fmt: skip
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
