"""The functions that consumers and operators call in Redis, so that neither needs the right to send scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ordersync_consumer import functions, scripts

if TYPE_CHECKING:
    from redis.asyncio import Redis

FUNCTIONS = (("worker.queue", "find"), ("worker.queue", "follow"), ("worker.capture", "resync"))
"""Package and name of the functions that operators call, beside those of the consumer kit."""


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
