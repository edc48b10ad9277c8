"""The server that a command which only looks finds: the one that is set, or that of a running worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.errors import RedisUnavailable
from worker.redis import embedded

if TYPE_CHECKING:
    from worker.config.settings import Settings


def running_redis_url(settings: Settings) -> str:
    """The server for a command that only looks.

    Raises:
        RedisUnavailable: No URL is set, and no embedded server runs.
        SettingsError: Another user could have changed the data folder.

    """
    if (url := settings.redis.address) is not None:
        return url
    running = embedded.find(settings.data_dir)
    if running is None:
        raise RedisUnavailable(
            f"No worker runs with the data folder {settings.data_dir}. Start one with `ordersync run --sandbox` "
            "(or `ordersync run`), or set ORDERSYNC_REDIS__URL to use another server."
        )
    return running.url
