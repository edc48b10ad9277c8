"""The accounts that workers have written down in Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ordersync_consumer.servers.topology import SlotUnavailable
from worker.config.resources import SANDBOX_ACCOUNT
from worker.config.values import account_name
from worker.errors import SettingsError
from worker.redis.connections import answer
from worker.redis.stored import text_of

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.config.settings import Settings
    from worker.keys import KeySpace


async def known_accounts(redis: Redis, keys: KeySpace) -> list[str]:
    """Return the names of the accounts, without those that this program did not write, in order."""
    return sorted(name for name in await _names(redis, keys) if is_account(name))


async def accounts_shown(redis: Redis, settings: Settings) -> list[str]:
    """Return the names of the accounts in Redis; those of the settings while the node that has the list is away.

    Raises:
        SlotUnavailable: It is away, and the settings have none.

    """
    try:
        return await known_accounts(redis, settings.redis.keys)
    except SlotUnavailable:
        if names := accounts_of(settings):
            return sorted(names)
        raise


def accounts_of(settings: Settings) -> list[str]:
    """Return the accounts of the settings; an empty list if the settings have no login."""
    try:
        return [item.name for item in settings.accounts()]
    except SettingsError:
        return []


async def foreign_names(redis: Redis, keys: KeySpace) -> list[str]:
    """Return the members of the set of accounts that no account can have as a name, in order."""
    return sorted(name for name in await _names(redis, keys) if not is_account(name))


def is_account(name: str) -> bool:
    """True if an account may have this name."""
    try:
        return name == SANDBOX_ACCOUNT or bool(account_name(name))
    except ValueError:
        return False


async def _names(redis: Redis, keys: KeySpace) -> list[str]:
    return [text_of(name) for name in await answer(redis.smembers(keys.accounts))]
