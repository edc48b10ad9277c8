"""Repeating a call to Redis until it succeeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from ordersync_consumer.backoff import Backoff
from ordersync_consumer.consumer.connection import is_transient
from ordersync_consumer.errors import GroupGone
from ordersync_consumer.server_state import is_of_role

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from ordersync_consumer.clock import Clock
    from ordersync_consumer.log import EventLog

T = TypeVar("T")

REJOINED = (
    "Redis has lost the group. It starts with the oldest event in the stream; the worker publishes the records again. "
    "Find out why Redis lost its data."
)

BACKOFF = Backoff(first=0.2, most=5.0)
"""Between two attempts while Redis is away or full."""


class RetryForever:
    """Repeats a call for as long as it fails with a transient error, and logs that the consumer waits.

    `rejoin`, where it is set, is awaited when the group does not exist. It creates a group that Redis has lost, and
    returns in which resources; None if the group was dropped.
    """

    def __init__(self, client: Redis, clock: Clock, log: EventLog) -> None:
        self._redis, self._clock, self._log = client, clock, log
        self.rejoin: Callable[[], Awaitable[list[str] | None]] | None = None

    async def __call__(self, step: str, call: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `call`, which is repeated until it succeeds. `step` names it in the log.

        Raises:
            redis.exceptions.RedisError: An error that waiting does not mend.
            GroupGone: The group was dropped.

        """
        failures = 0
        while True:
            try:
                return await call()
            except GroupGone:
                resources = await self("join the group again", self.rejoin) if self.rejoin else None
                if resources is None:
                    raise
                self._log.error("consumer_group_recreated", resources=resources, advice=REJOINED)
            except Exception as error:
                if not is_transient(error):
                    raise
                if is_of_role(error):
                    # Its connection is back in the pool of the caller's client, and leads to that server for good.
                    await self._redis.connection_pool.disconnect(inuse_connections=False)
                failures += 1
                await self.pause(step, error, failures)

    async def pause(self, step: str, error: Exception, failures: int) -> None:
        """Wait before the next attempt, longer after each failure.

        Log the first failure, and those after which the wait is longest.
        """
        if failures == 1 or BACKOFF.ceiling(failures) >= BACKOFF.most:
            self._log.warning("consumer_waits_for_redis", step=step, failures=failures, error=str(error))
        await self._clock.sleep(BACKOFF.pause(failures, self._clock))
