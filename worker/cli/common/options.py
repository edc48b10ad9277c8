"""Settings and accounts, for several commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ordersync_consumer.resources import nearest
from worker.admin.accounts import accounts_of, accounts_shown
from worker.config import settings
from worker.errors import SettingsError
from worker.telemetry import log as logs

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.config.settings import Settings
    from worker.keys import Keys


def prepare(*, quiet: bool = False) -> Settings:
    """Return the settings after configuring the log. With `quiet`, only warnings are logged."""
    loaded = settings.load()
    logs.configure(loaded.log.format, "warning" if quiet and loaded.log.level == "info" else loaded.log.level)
    return loaded


async def pick_account(redis: Redis, requested: str | None, loaded: Settings) -> str:
    """Return the requested account, the account of the settings, or the only account in Redis.

    Raises:
        SettingsError: The account is unknown, or there are several and none is requested.

    """
    known = await accounts_shown(redis, loaded)
    name = requested or (loaded.account if loaded.account in known or not known else None)
    if name is None and len(known) == 1:
        name = known[0]
    if name is None:
        raise SettingsError(f"There are several accounts. Add --account with one of: {', '.join(known)}.")
    if known and name not in known:
        raise SettingsError(
            f"Unknown account {name!r} in this Redis.{nearest(name, known)} Known accounts: {', '.join(known)}"
        )
    if not known and requested and (served := accounts_of(loaded)) and requested not in served:
        raise SettingsError(
            f"Unknown account {requested!r} in the settings.{nearest(requested, served)} Known accounts: "
            f"{', '.join(served)}"
        )
    return name


async def pick_keys(redis: Redis, requested: str | None, loaded: Settings) -> Keys:
    """Return the keys of the account that `pick_account` returns. Raises its errors."""
    return loaded.redis.keys.of(await pick_account(redis, requested, loaded))
