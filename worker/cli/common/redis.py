"""Code for commands that read or change something in Redis and exit."""

from __future__ import annotations

import re
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import redis.exceptions

from ordersync_consumer import resources
from worker.cli.common.output import ask, complain
from worker.clock import parse_time
from worker.config.resources import RESOURCES
from worker.config.urls import hide_password
from worker.errors import RedisFull, RedisUnavailable, SettingsError
from worker.redis.connections import connect
from worker.redis.refusals import unusable, writes_refused
from worker.redis.running import running_redis_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from ordersync_consumer.groups import Groups
    from worker.config.settings import Settings

_SPAN = re.compile(r"([0-9]{1,9})\s*(s|min|h|d)")
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}


@asynccontextmanager
async def client_of(settings: Settings) -> AsyncIterator[Redis]:
    """Provide a client of the worker's Redis while the block runs.

    Raises:
        RedisUnavailable: Redis does not answer, or refuses a command.

    """
    url = running_redis_url(settings)
    client = connect(url)
    try:
        yield client
    except (redis.exceptions.RedisError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise RedisUnavailable(
            f"{unusable(hide_password(url), error)} To find the cause: ordersync doctor."
        ) from None
    finally:
        await client.aclose()


@asynccontextmanager
async def reader_of(settings: Settings) -> AsyncIterator[Redis]:
    """Provide a client as `client_of` does, for a command that only reads. It says so if Redis refuses writes.

    Such a Redis still answers reads, but what it shows gets older.
    """
    async with client_of(settings) as client:
        await note_refusal(client)
        yield client


async def note_refusal(client: Redis) -> str:
    """Say on stderr why Redis refuses writes, and return it; "" if it does not."""
    refused = await writes_refused(client)
    if not refused:
        try:
            memory = await client.info("memory")
        except redis.exceptions.ResponseError:  # a user who may not ask
            memory = {}
        refused = str(RedisFull()) if 0 < memory.get("maxmemory", 0) < memory.get("used_memory", 0) else ""
    if refused:
        complain(f"ordersync: {refused} What follows may be old.")
    return refused


async def names_of_groups(groups: Groups) -> list[str]:
    """Return the names of all consumer groups of an account."""
    found = {group.name for resource in RESOURCES for group in (await groups.status(resource)).groups}
    return sorted(found)


def check_resource(resource: str | None) -> None:
    """Raise `SettingsError` for an unknown resource."""
    if resource is not None:
        resources.check_resource(resource)


def ask_back(question: str, *, yes: bool) -> None:
    """Ask for confirmation before data is removed permanently, unless `yes` is set.

    Raises:
        SettingsError: Standard input is not a terminal, so no confirmation is possible.

    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise SettingsError(
            "Not a terminal, so no confirmation is possible. Nothing was removed; pass --yes to confirm."
        )
    ask(question)


def moment(text: str | None, name: str, now: float, *, ids: bool = False) -> float | None:
    """Return a time in seconds since 1970, from RFC 3339 (UTC if it has no zone) or an age such as `2h` or `30min`.

    Args:
        text: What was typed; None for nothing.
        name: The option.
        now: The time from which an age counts back, in seconds since 1970.
        ids: The option takes ids of entries as well, which the caller reads; the error names them.

    Raises:
        SettingsError: The text is neither a time nor an age.

    """
    if text is None:
        return None
    span = _SPAN.fullmatch(text.strip())
    if span is not None:
        return now - int(span[1]) * _SECONDS[span[2]]
    parsed = parse_time(text.strip())
    if parsed is None:
        or_id = ", nor the id of an entry (1772448067513-0)" if ids else ""
        raise SettingsError(
            f"{name}: {text!r} is neither a time (2026-03-02T10:00:00Z) nor an age (30min, 2h, 3d){or_id}."
        )
    return parsed / 1000
