"""Retention of the orders."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis

from ordersync_consumer.groups import RetentionLimits
from tests.support.streams import KEYS
from worker.clock import SystemClock
from worker.queue.retention import Retention

DAY = 86_400.0


def retention(client: Redis, kept: RetentionLimits | None = None, **options: Any) -> Retention:
    """Retention of the orders alone."""
    defaults: dict[str, Any] = {
        "limits": {"orders": kept or RetentionLimits()},
        "declared": {},
        "late_after": 7 * DAY,
    }
    return Retention(redis_client=client, keys=KEYS, clock=SystemClock(), **defaults | options)


async def trim(client: Redis, *, step: int = 5000, **limits: Any) -> int:
    """Trim the orders to the end; how many entries went."""
    removed, done = await retention(client, step=step).trim("orders", RetentionLimits(**limits))
    assert done
    return removed
