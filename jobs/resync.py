"""The jobs of resyncs: one that another program may ask for, and the slices in which they are done.

They have a queue of their own, so that polls keep their pace. With arq, from any Python program:

    pool = await arq.create_pool(RedisSettings(...), job_serializer=lambda job: json.dumps(job).encode())
    await pool.enqueue_job(
        "resync", "default", "orders", {"ids": ["O04790082"]}, _queue_name="ordersync:queue:resync"
    )

The dictionary holds `ids`, or `since` and `until`, or `all`, and `force` and `by`, as
`worker.capture.resync.requests.Request`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from arq.constants import in_progress_key_prefix
from arq.worker import Retry

from jobs.poll import IN_PROGRESS_SECONDS
from worker.capture.registry import RESOURCES
from worker.capture.resync.requests import ResyncRequest
from worker.errors import SettingsError
from worker.services import services_of
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arq.connections import ArqRedis

ELSEWHERE_SECONDS = 2.0
"""Until a job is looked at again that another worker, with other accounts, has to do."""


ORPHANED_TRIES = 30
"""Tries after which nobody seems to serve the account of a job."""


def slice_id(account: str, name: str) -> str:
    """The fixed id of the job that works on a resync: there is never more than one of it in the queue."""
    return f"resync:{account}:{name}"


async def resync(ctx: Mapping[Any, Any], account: str, resource: str, request: Mapping[str, Any]) -> None:
    """Note a resync under the id of this job. What cannot be is logged, and nothing is noted."""
    services = services_of(ctx)
    account_services = services.accounts.get(account)
    if account_services is None:
        if ctx.get("job_try") == ORPHANED_TRIES:
            get_logger().error(
                "job_not_for_this_worker", account=account, resource=resource,
                advice="a resync was asked for of an account that no worker has served for a minute; is it written "
                "rightly, and is a worker of it running?",
            )  # fmt: skip
        raise Retry(defer=ELSEWHERE_SECONDS)
    try:
        requested = _read(resource, request)
        await account_services.resyncer.resyncs.create(requested, services.clock.now(), name=ctx["job_id"])
    except (SettingsError, msgspec.ValidationError, TypeError) as error:
        get_logger(account=account).error(
            "resync_refused", resource=resource, job=ctx["job_id"], error=str(error),
            advice="the request is not one; see the docstring of jobs/resync.py",
        )  # fmt: skip


def _read(resource: str, request: Mapping[str, Any]) -> ResyncRequest:
    if resource not in RESOURCES:
        raise SettingsError(f"There is no resource {resource!r}. There is: {', '.join(RESOURCES)}")
    return msgspec.convert({**request, "resource": resource}, ResyncRequest)


async def resync_slice(ctx: Mapping[Any, Any], account: str, resource: str, name: str) -> None:
    """Work on a resync for some seconds. The tick puts the next slice into the queue."""
    services = services_of(ctx)
    account_services = services.accounts.get(account)
    if account_services is None or resource not in RESOURCES:
        return  # the tick of a worker that serves the account asks for it again
    queue: ArqRedis = ctx["redis"]
    mark = in_progress_key_prefix + ctx["job_id"]

    async def renew_mark() -> None:
        await queue.pexpire(mark, int(IN_PROGRESS_SECONDS * 1000))

    await account_services.resyncer.slice(
        RESOURCES[resource], name, stop=services.stopping, on_renew=renew_mark
    )
