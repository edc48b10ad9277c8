"""Parameters of several commands: types that offer values to the shell, and `--account`.

A type offers accounts and groups from Redis, and nothing after an error, which would only disturb typing. Libraries are
imported when the shell requests completions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from click.shell_completion import CompletionItem
    from redis import Redis

    from worker.keys import KeySpace

TIMEOUT = 0.5
"""Seconds that Redis may take while the user waits for the shell."""


class Offered(click.types.StringParamType):
    """Text for which the shell offers the values that `offer` returns."""

    def __init__(self, offer: Callable[[], Iterable[str]]) -> None:
        self._offer = offer

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the values that begin like `incomplete`."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - see the top

        del ctx, param
        return [CompletionItem(value) for value in self._offer() if value.startswith(incomplete)]


def _resources() -> Iterable[str]:
    from worker.config.resources import RESOURCES  # noqa: PLC0415 - see the top

    return RESOURCES


def _from_redis(read: Callable[[Redis, KeySpace, str], Iterable[str]]) -> Iterable[str]:
    """Return the result of `read`, called with a client, the keys and the account of the settings."""
    try:
        import redis  # noqa: PLC0415 - see the top

        from worker.redis.running import running_redis_url  # noqa: PLC0415 - see the top
        from worker.config import settings  # noqa: PLC0415 - see the top
        from worker.redis.connections import check_host_name  # noqa: PLC0415 - see the top

        loaded = settings.load()
        pool = redis.ConnectionPool.from_url(
            running_redis_url(loaded), socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT
        )
        check_host_name(pool)
        with redis.Redis.from_pool(pool) as client:
            return read(client, loaded.redis.keys, loaded.account)
    except Exception:  # noqa: BLE001 - see the top
        return []


def _accounts(redis: Redis, keys: KeySpace, _account: str) -> Iterable[str]:
    members: Any = redis.smembers(keys.accounts)
    return sorted(name.decode() for name in members)


def _groups(redis: Redis, keys: KeySpace, account: str) -> Iterable[str]:
    """Return the groups of the account of the settings if Redis knows it, otherwise those of all accounts."""
    known = _accounts(redis, keys, account)
    groups: set[str] = set()
    for name in [account] if account in known else known:
        for key in map(keys.of(name).stream, _resources()):
            if redis.exists(key):
                entries: Any = redis.xinfo_groups(key)
                groups |= {group["name"].decode("utf-8", "replace") for group in entries}
    return sorted(groups)


RESOURCE = Offered(_resources)
ACCOUNT = Offered(lambda: _from_redis(_accounts))
GROUP = Offered(lambda: _from_redis(_groups))

account_option = click.option("--account", type=ACCOUNT, help="Account; needed if there are several.")
