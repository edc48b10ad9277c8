"""Parameters of several commands: types that offer values to the shell, and `--account`.

A type offers accounts and groups from Redis, and nothing after an error, which would only disturb typing. Libraries are
imported when the shell requests completions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ordersync_consumer.client import answer
from worker.admin.accounts import is_account
from worker.redis.stored import text_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from click.shell_completion import CompletionItem
    from redis.asyncio import Redis

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


class Integer(click.IntRange):
    """A whole number of a range; click calls it an `integer range` in the help, and in the message on another word."""

    name = "integer"


class Number(click.FloatRange):
    """A number of a range."""

    name = "number"


def _resources() -> Iterable[str]:
    from worker.config.resources import RESOURCES  # noqa: PLC0415 - see the top

    return RESOURCES


def _from_redis(read: Callable[[Redis, KeySpace, str], Awaitable[Iterable[str]]]) -> Iterable[str]:
    """Return the result of `read`, called with a client, the keys and the account of the settings."""
    try:
        import asyncio  # noqa: PLC0415 - see the top

        from worker.config import settings  # noqa: PLC0415 - see the top
        from worker.redis.connections import connect  # noqa: PLC0415 - see the top
        from worker.redis.running import running_redis_url  # noqa: PLC0415 - see the top

        loaded = settings.load()
        url = running_redis_url(loaded)

        async def ask() -> Iterable[str]:
            client = connect(url)
            try:
                async with asyncio.timeout(TIMEOUT):
                    return await read(client, loaded.redis.keys, loaded.account)
            finally:
                await client.aclose()

        return asyncio.run(ask())
    except Exception:  # noqa: BLE001 - see the top
        return []


async def _accounts(redis: Redis, keys: KeySpace, _account: str) -> Iterable[str]:
    members: Any = await answer(redis.smembers(keys.accounts))
    return sorted(name for name in map(text_of, members) if is_account(name))


async def _groups(redis: Redis, keys: KeySpace, account: str) -> Iterable[str]:
    """Return the groups of the account of the settings if Redis knows it, otherwise those of all accounts."""
    known = await _accounts(redis, keys, account)
    groups: set[str] = set()
    for name in [account] if account in known else known:
        for key in map(keys.of(name).stream, _resources()):
            if await redis.exists(key):
                entries: Any = await redis.xinfo_groups(key)
                groups |= {group["name"].decode("utf-8", "replace") for group in entries}
    return sorted(groups)


def needs(option: str, given: bool, other: str, other_given: bool) -> None:
    """Refuse an option that has no effect without another one.

    Raises:
        UsageError: It was given without the other one.

    """
    if given and not other_given:
        raise click.UsageError(f"{option} has no effect without {other}. Add {other}, or leave out {option}.")


def excludes(option: str, given: bool, other: str, other_given: bool) -> None:
    """Refuse an option that has no effect beside another one.

    Raises:
        UsageError: Both were given.

    """
    if given and other_given:
        raise click.UsageError(f"{option} has no effect with {other}. Leave out one of them.")


def is_given(name: str) -> bool:
    """Whether the parameter of the current command was typed, and is not the default."""
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


RESOURCE = Offered(_resources)
ACCOUNT = Offered(lambda: _from_redis(_accounts))
GROUP = Offered(lambda: _from_redis(_groups))

account_option = click.option("--account", type=ACCOUNT, help="Account; needed if there are several.")
