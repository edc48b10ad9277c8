"""The layout of an account's keys: which ones this version reads, and how it takes over those of earlier versions.

| layout | differs from the one before |
|---|---|
| 1 | the first one; it knows orders only |
| 2 | the state of a record has its place (4 bytes) |
| 3 | the state of a record has the link to its last event (3 bytes or more) |

Each session checks the layout under the lease of its source before it reads or writes anything else, in this version
and in all earlier ones. So the first session of this version stores its own layout, and ends the sessions that earlier
versions have begun before: they lose their leases, and commit nothing more. Workers of these versions then say that
they cannot use the keys, and write nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ordersync_consumer.resources import RESOURCES
from worker.cancellation import finish
from worker.errors import DataError, LeaseLost
from worker.redis import scripts
from worker.redis.connections import answer
from worker.redis.stored import text_of
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.capture.state.lease import Lease
    from worker.keys import Keys

LAYOUT = "3"
"""Version of the key layout and of the packed states."""
TAKING_OVER = "1-3"
"""The layout of keys whose states have layout 1 and are being rewritten. With the last of them it is 2."""
READABLE = frozenset({"1", TAKING_OVER, "2", LAYOUT})
"""Layouts that a session takes over. States of layout 2 are read as they are, and get a link with their next event."""
REWRITTEN = "orders"
"""The only resource of layout 1."""
RECONCILE = "reconcile"
"""The lease of an account under which its records are compared with audit logs."""
BUCKETS_AT_ONCE = 64
"""Buckets of states that one call rewrites: some thousand records, some milliseconds."""


async def stored_layout(redis: Redis, keys: Keys) -> str:
    """Return the layout of the keys of an account; that of this program if there are none.

    Raises:
        DataError: The keys were written by a version whose layout this one does not know.

    """
    return readable_layout(keys, await answer(redis.get(keys.layout)))


def readable_layout(keys: Keys, stored: bytes | None) -> str:
    """Return the layout of the keys of an account from what is `stored` of it; see `stored_layout`."""
    layout = LAYOUT if stored is None else text_of(stored)
    if layout not in READABLE:
        raise DataError(
            f"the keys of account {keys.account} have layout {layout}, but this version writes layout {LAYOUT}. "
            "Nothing was changed. Run the version that wrote them. Or let all groups read their events, and then "
            f"delete the keys {keys.base}* or set another database in ORDERSYNC_REDIS__URL: every record is then "
            "published again as a snapshot."
        )
    return layout


async def check_current(redis: Redis, keys: Keys) -> None:
    """Check that the keys of an account have the layout of this program, for changes outside of a session.

    Raises:
        DataError: They have another one.

    """
    layout = await stored_layout(redis, keys)
    if layout != LAYOUT:
        raise DataError(
            f"the keys of account {keys.account} have layout {layout}, which a worker of this version takes over with "
            "its first poll. Nothing was changed. Start one (`ordersync run`), and then run this command again."
        )


async def take_over(redis: Redis, keys: Keys, resource: str, lease: Lease, stored: bytes | None) -> bool:
    """Let this version use the keys of an account, in a session that holds the lease of the resource.

    `stored`: what is stored of their layout, as the session has found it under the lease.

    States of layout 1 are rewritten in place, some buckets at a time; the next session continues one that was killed.

    Returns:
        True if that has moved the cursor, so that it has to be loaded again.

    Raises:
        DataError: The keys were written by a version whose layout this one does not know.
        LeaseLost: Another worker has the lease.

    """
    layout = readable_layout(keys, stored)
    if stored is not None and layout == LAYOUT:
        return False
    if is_rewritten := layout in {"1", TAKING_OVER}:
        if resource != REWRITTEN:
            return False
        await _rewrite(redis, keys, lease)
    others = [key for name in (*RESOURCES, RECONCILE) if (key := keys.lease(name)) != lease.key]
    script = scripts.load(redis, "worker.capture", "layout")
    _check(await finish(script(keys=[keys.layout, lease.key, *others], args=[lease.fence, LAYOUT])), lease)
    if stored is not None:
        get_logger(account=keys.account, resource=resource).info(
            "layout_taken_over", stored=layout, layout=LAYOUT
        )
    return is_rewritten


async def _rewrite(redis: Redis, keys: Keys, lease: Lease) -> None:
    script = scripts.load(redis, "worker.capture", "rewrite")
    names = [keys.lease(REWRITTEN), keys.cursor(REWRITTEN), keys.states(REWRITTEN), keys.layout]
    status = b"more"
    while status == b"more":
        lease.check()
        status = await finish(script(keys=names, args=[lease.fence, BUCKETS_AT_ONCE]))
        _check(status, lease)


def _check(status: bytes, lease: Lease) -> None:
    if status == b"fenced":
        raise LeaseLost(lease.resource, lease.fence)
