"""What INFO says about a server that matters to the data of the worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import redis.exceptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redis.asyncio import Redis


async def facts_of(client: Redis) -> Mapping[str, Any]:
    """Return the result of INFO; nothing if the client may not call it."""
    try:
        result: Mapping[str, Any] = await client.info()
    except redis.exceptions.ResponseError:
        return {}
    return result


def run_of(facts: Mapping[str, Any]) -> str:
    """Return the id of this run of the server, which changes with each start; "" if it is unknown."""
    return str(facts.get("run_id", ""))


def evicted(facts: Mapping[str, Any]) -> int:
    """Return how many keys the server has evicted since its start, where it may have been any key; otherwise 0."""
    if str(facts.get("maxmemory_policy", "")).startswith("volatile"):
        return 0
    return int(facts.get("evicted_keys", 0))


def eviction_words(count: int) -> str:
    """Return what follows from evicted keys, in words."""
    keys = "1 key" if count == 1 else f"{count} keys"
    return (
        f"Redis has evicted {keys} since its start, so unread events and states of records may be lost; give it more "
        "memory and run CONFIG SET maxmemory-policy noeviction, then ordersync resync RESOURCE --all --force, then "
        "CONFIG RESETSTAT"
    )
