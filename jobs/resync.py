"""The jobs of resyncs: the request, which any program may enqueue, and the slices that carry it out.

Requests have a queue of arq of their own. To request a resync with arq, from any Python program:

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
from arq.worker import Retry

from jobs.context import planner_of
from ordersync_consumer.servers.topology import SlotUnavailable
from worker.capture.registry import RESOURCES
from worker.capture.resync.requests import ResyncRequest
from worker.errors import SettingsError
from worker.services import services_of
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping

ELSEWHERE_SECONDS = 2.0
"""Seconds until a job is retried that a worker with other accounts has to do."""


ORPHANED_TRIES = 30
"""Tries, a minute in all, after which no worker seems to serve the account of a job."""


async def resync(ctx: Mapping[Any, Any], account: str, resource: str, request: Mapping[str, Any]) -> None:
    """Store a resync under the id of this job. An invalid request is logged and not stored."""
    services = services_of(ctx)
    account_services = services.account(account)
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
    except SlotUnavailable:
        raise Retry(defer=ELSEWHERE_SECONDS) from None
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
    """Work on a resync for some seconds; then plan its next slice."""
    services = services_of(ctx)
    owned = services.accounts[account]
    await owned.resyncer.slice(RESOURCES[resource], name, stop=services.stopping)
    await planner_of(ctx).resync_ended(owned.account, resource, name)
