"""Finds the timeline of an order for the page: in Redis only, so that no viewer spends the request budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.admin.accounts import known_accounts
from worker.admin.timeline import NoSuchOrder, TimelineCollector
from worker.clock import SystemClock

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.admin.timeline import Timeline
    from worker.keys import KeySpace


async def find_timeline(redis: Redis, keys: KeySpace, name: str, account: str) -> Timeline:
    """Return the timeline of an order.

    Args:
        redis: The client.
        keys: The keys of all accounts.
        name: Its id, shortId, safeId or externalId.
        account: The account to search; "" for all, in order.

    Raises:
        NoSuchOrder: No such order is known.

    """
    known = await known_accounts(redis, keys)
    if account and account not in known:
        raise NoSuchOrder(f"Unknown account {account!r} in this Redis.")
    errors = []
    for item in [account] if account else known:
        collector = TimelineCollector(redis, keys.of(item), None, now=SystemClock().now())
        try:
            return await collector.collect(name)
        except NoSuchOrder as error:
            errors.append(str(error))
    raise NoSuchOrder(" ".join(errors) or "No worker has used this Redis yet.")
