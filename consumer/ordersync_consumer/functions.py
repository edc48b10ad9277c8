"""The functions that consumers and operators call in Redis. A worker loads them; so can any user with the right to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ordersync_consumer import scripts
from ordersync_consumer.servers.cluster import servers_of
from ordersync_consumer.servers.topology import SlotUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

PACKAGE = "ordersync_consumer"
FUNCTIONS = {
    "take": (),
    "hold": (),
    "release": (),
    "bury": (),
    "once": (),
    "replay": ("groups",),
    "unmark": (),
    "reopen": ("groups",),
    "survey": ("needs",),
}
"""The functions of this package, each with the files that its text begins with."""


def function(redis: Redis, name: str) -> scripts.Function:
    """Return a function of this package, to be called with a client."""
    return scripts.Function(redis, PACKAGE, name, FUNCTIONS[name])


async def load_functions(redis: Redis) -> list[str]:
    """Load the functions of this version into the server; return the names of those that it did not have.

    Raises:
        redis.exceptions.ResponseError: The server has no functions, the user may not load them, or Redis is full.

    """
    return await load_everywhere(redis, [(PACKAGE, name, begin) for name, begin in FUNCTIONS.items()])


async def load_everywhere(redis: Redis, functions: Sequence[tuple[str, str, Sequence[str]]]) -> list[str]:
    """Load functions into the server, or into each master of a cluster; return the names of those that one lacked.

    Arguments and errors are those of `scripts.load_functions`.

    Raises:
        SlotUnavailable: A node of the cluster does not answer; the others have the functions.

    """
    loaded: list[str] = []
    away: SlotUnavailable | None = None
    for server in await servers_of(redis):
        try:
            loaded += await scripts.load_functions(server, functions)
        except SlotUnavailable as error:
            away = error
    if away is not None:
        raise away
    return list(dict.fromkeys(loaded))
