"""The functions that consumers and operators call in Redis, so that neither needs the right to send scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ordersync_consumer import functions, scripts
from ordersync_consumer.servers.topology import SlotUnavailable

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.clock import Clock

FUNCTIONS = (("worker.queue", "find"), ("worker.queue", "follow"), ("worker.capture", "resync"))
"""Package and name of the functions that operators call, beside those of the consumer kit."""
LOAD_SECONDS = 60.0
"""Until a worker loads them again, into a server that was replaced meanwhile."""


def function(redis: Redis, package: str, name: str) -> scripts.Function:
    """Return one of `FUNCTIONS`, to be called with a client."""
    return scripts.Function(redis, package, name)


async def load_functions(redis: Redis) -> list[str]:
    """Load all functions into the server; return the names of those that it did not have.

    Raises:
        redis.exceptions.ResponseError: The server has no functions, the user may not load them, or Redis is full.

    """
    loaded = await functions.load_functions(redis)
    return loaded + await functions.load_everywhere(
        redis, [(package, name, ()) for package, name in FUNCTIONS]
    )


class FunctionLoader:
    """Loads the functions for all accounts of a process, once in `LOAD_SECONDS`."""

    def __init__(self, redis: Redis, clock: Clock) -> None:
        self._redis, self._clock = redis, clock
        self._loaded_at = -float("inf")

    async def load(self) -> list[str]:
        """Load all functions, unless that was done a moment ago; return the names of those that a server did not have.

        Raises what `load_functions` raises, but for a node of a cluster that does not answer: it is asked again.
        """
        if self._clock.monotonic() - self._loaded_at < LOAD_SECONDS:
            return []
        try:
            loaded = await load_functions(self._redis)
        except SlotUnavailable:
            return []
        self._loaded_at = self._clock.monotonic()
        return loaded
