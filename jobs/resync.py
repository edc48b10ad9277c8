"""The jobs of resyncs: the request, which any program may enqueue, and the slices that carry it out.

Resyncs have a queue of their own, so that they do not delay polls. To request one with arq, from any Python program:

    pool = await arq.create_pool(RedisSettings(...), job_serializer=lambda job: json.dumps(job).encode())
    await pool.enqueue_job(
        "resync", "default", "orders", {"ids": ["O04790082"]}, _queue_name="ordersync:queue:resync"
    )

The dictionary has the fields `ids`, or `since` and `until`, or `all`, and optionally `force` and `by`; see
`worker.capture.resync.requests.ResyncRequest`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from arq.constants import in_progress_key_prefix
from arq.worker import Retry

from jobs.queue import IN_PROGRESS_SECONDS
from worker.capture.registry import RESOURCES
from worker.capture.resync.requests import ResyncRequest
from worker.errors import SettingsError
from worker.services import services_of
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arq.connections import ArqRedis

ELSEWHERE_SECONDS = 2.0
"""Seconds until a job is retried that a worker with other accounts has to do."""


ORPHANED_TRIES = 30
"""Tries, a minute in all, after which no worker seems to serve the account of a job."""


def slice_id(account: str, name: str) -> str:
    """Return the fixed id of the job that works on a resync, so that the queue holds at most one."""
    return f"resync:{account}:{name}"


async def resync(ctx: Mapping[Any, Any], account: str, resource: str, request: Mapping[str, Any]) -> None:
    """Store a resync under the id of this job. An invalid request is logged and not stored."""
    services = services_of(ctx)
    account_services = services.accounts.get(account)
    if account_services is None:
        if ctx.get("job_try") == ORPHANED_TRIES:
            get_logger().error(
                "job_not_for_this_worker", account=account, resource=resource,
                advice=f"No worker has served account {account} for a minute. Check the account name, and that a "
                "worker for it is running.",
            )  # fmt: skip
        raise Retry(defer=ELSEWHERE_SECONDS)
    try:
        requested = _read(resource, request)
        await account_services.resyncer.resyncs.create(requested, services.clock.now(), name=ctx["job_id"])
    except (SettingsError, msgspec.ValidationError, TypeError) as error:
        get_logger(account=account).error(
            "resync_refused", resource=resource, job=ctx["job_id"], error=str(error),
            advice="The resync request is invalid. Expected fields: ids, or since and until, or all; optional: force, "
            "by.",
        )  # fmt: skip


def _read(resource: str, request: Mapping[str, Any]) -> ResyncRequest:
    if resource not in RESOURCES:
        raise SettingsError(f"Unknown resource {resource!r}. Known resources: {', '.join(RESOURCES)}")
    return msgspec.convert({**request, "resource": resource}, ResyncRequest)


async def resync_slice(ctx: Mapping[Any, Any], account: str, resource: str, name: str) -> None:
    """Work on a resync for some seconds. The tick enqueues the next slice."""
    services = services_of(ctx)
    account_services = services.accounts.get(account)
    if account_services is None or resource not in RESOURCES:
        return  # the tick of a worker that serves the account enqueues it again
    queue: ArqRedis = ctx["redis"]
    mark = in_progress_key_prefix + ctx["job_id"]

    async def renew_mark() -> None:
        await queue.pexpire(mark, int(IN_PROGRESS_SECONDS * 1000))

    await account_services.resyncer.slice(
        RESOURCES[resource], name, stop=services.stopping, on_renew=renew_mark
    )
