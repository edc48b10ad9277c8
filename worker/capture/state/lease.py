"""The lease on a resource: one worker reads it at a time, and another one takes over within seconds if it dies.

The heartbeat renews the lease. A worker that was frozen until its lease expired cannot commit, whatever its clock
says: the commit script compares the fencing number.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import redis.exceptions

from worker.cancellation import finish, plain_errors
from worker.capture.state.replicas import run_confirmed
from worker.errors import LeaseHeld, LeaseLost
from worker.redis import scripts
from worker.redis.stored import text_of
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.commands.core import AsyncScript

    from worker.clock import Clock
    from worker.config.sections import Replicas

LEASE_SECONDS = 8.0
RENEW_SECONDS = 2.0

Renewed = Callable[[], Awaitable[None]]


class Lease:
    """A held lease. `key`: its key in Redis; `fence`: the fencing number, which is part of every commit."""

    def __init__(self, redis: Redis, key: str, *, resource: str, owner: str, fence: int) -> None:
        self._script, self.key, self.resource = _script(redis), key, resource
        self.owner, self.fence = owner, fence
        self.is_released = False
        """The last commit has released it."""
        self._lost = False

    def check(self) -> None:
        """Check the lease between reads, so that nothing is read that cannot be committed.

        Raises:
            LeaseLost: The last heartbeat found that the lease is lost.

        """
        if self._lost:
            raise LeaseLost(self.resource, self.fence)

    async def renew(self) -> None:
        """Extend the lease by `LEASE_SECONDS`."""
        fence, _, _ = await self._script(keys=[self.key], args=["renew", self.owner, milliseconds()])
        self._lost = fence != self.fence

    async def confirm(self, client: Redis, replicas: Replicas) -> None:
        """Renew the lease, and wait until replicas have that, and so everything that Redis has written before.

        Raises:
            ConnectionError: Too few replicas have confirmed in time.
            LeaseLost: Another owner holds it, or a failover has lost it.

        """
        args = ["renew", self.owner, milliseconds()]
        fence, _, _ = await finish(run_confirmed(client, self._script, [self.key], args, replicas))
        self._lost = fence != self.fence
        self.check()

    async def release(self) -> None:
        """Release the lease, so that the next worker need not wait until it expires."""
        await self._script(keys=[self.key], args=["release", self.owner, 0])


@asynccontextmanager
async def acquire(
    redis_client: Redis, key: str, *, resource: str, owner: str, clock: Clock, on_renew: Renewed | None = None
) -> AsyncIterator[Lease]:
    """Hold the lease while the block runs.

    Args:
        redis_client: The client.
        key: The key of the lease.
        resource: The resource, for errors and the log.
        owner: Name of the holder; it must be unique to the block.
        clock: The clock of the heartbeat.
        on_renew: Awaited after each renewal.

    Raises:
        LeaseHeld: Another owner holds the lease.

    """
    fence, other, left = await finish(
        _script(redis_client)(keys=[key], args=["acquire", owner, milliseconds()])
    )
    if not fence:
        raise LeaseHeld(resource, text_of(other), left / 1000)
    lease = Lease(redis_client, key, resource=resource, owner=owner, fence=fence)
    async with hold(lease, clock, on_renew):
        yield lease


@asynccontextmanager
async def hold(lease: Lease, clock: Clock, on_renew: Renewed | None = None) -> AsyncIterator[Lease]:
    """Renew an acquired lease while the block runs, then release it, unless a commit has; see `acquire`."""
    try:
        with plain_errors():
            async with anyio.create_task_group() as heartbeat:
                heartbeat.start_soon(_beat, lease, clock, on_renew)
                yield lease
                heartbeat.cancel_scope.cancel()
    finally:
        if not lease.is_released:
            try:
                await finish(lease.release())
            except (redis.exceptions.RedisError, OSError) as error:
                get_logger().debug("lease_not_released", resource=lease.resource, error=str(error))


def milliseconds() -> int:
    """Return for how long a lease is given, in milliseconds."""
    return int(LEASE_SECONDS * 1000)


def _script(redis_client: Redis) -> AsyncScript:
    return scripts.load(redis_client, "worker.capture", "lease", begin=("leases",))


async def _beat(lease: Lease, clock: Clock, on_renew: Renewed | None) -> None:
    while True:
        await clock.sleep(RENEW_SECONDS)
        try:
            await lease.renew()
            if on_renew is not None:
                await on_renew()
        except (redis.exceptions.RedisError, OSError) as error:
            # Redis is unreachable for the moment. If the lease expires meanwhile, the fence prevents the commit.
            get_logger().debug("lease_not_renewed", fence=lease.fence, error=str(error))
