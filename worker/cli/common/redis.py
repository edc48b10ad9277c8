"""What commands share that look into Redis, or change something there, and end."""

from __future__ import annotations

import re
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import click
import redis.exceptions

from worker.app import running_redis_url
from worker.clock import parse_time
from worker.config.sections import RESOURCES
from worker.config.settings import hide_password
from worker.errors import RedisUnavailable, SettingsError
from worker.redis.connections import connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from worker.config.settings import Settings

_SPAN = re.compile(r"([0-9]{1,9})\s*(s|min|h|d)")
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}


@asynccontextmanager
async def client_of(settings: Settings) -> AsyncIterator[Redis]:
    """The server of a worker, while the block runs.

    Raises:
        RedisUnavailable: It does not answer, or refuses what is asked of it.

    """
    url = running_redis_url(settings)
    client = connect(url)
    try:
        yield client
    except (redis.exceptions.RedisError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise RedisUnavailable(
            f"{hide_password(url)} cannot be used: {error}. To find the cause: ordersync doctor."
        ) from None
    finally:
        await client.aclose()


def check_resource(resource: str | None) -> None:
    """Refuse the name of a resource that there is none of."""
    if resource is not None and resource not in RESOURCES:
        raise SettingsError(f"Unknown resource {resource!r}. Known resources: {', '.join(RESOURCES)}")


def ask_back(question: str, *, yes: bool) -> None:
    """Ask before something is removed for good; not with `yes`.

    Raises:
        SettingsError: Nobody can be asked.

    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise SettingsError(
            "Not a terminal, so no confirmation is possible. Nothing was removed; pass --yes to confirm."
        )
    click.confirm(question, abort=True)


def moment(text: str | None, name: str, now: float) -> float | None:
    """Seconds since 1970 of a time (RFC 3339, UTC where it names no zone) or of a span before now: `2h`, `30min`.

    Raises:
        SettingsError: It is neither.

    """
    if text is None:
        return None
    span = _SPAN.fullmatch(text.strip())
    if span is not None:
        return now - int(span[1]) * _SECONDS[span[2]]
    parsed = parse_time(text.strip())
    if parsed is None:
        raise SettingsError(
            f"{name}: {text!r} is neither a time (2026-03-02T10:00:00Z) nor an age (30min, 2h, 3d)."
        )
    return parsed / 1000
