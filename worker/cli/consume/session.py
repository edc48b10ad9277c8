"""A consumer of a group in a command: it ends at a signal, and reports what keeps it from working."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import anyio
import redis.exceptions

from ordersync_consumer import Consumer
from ordersync_consumer.cancellation import plain_errors
from ordersync_consumer.redaction import words_of
from worker.cli.common.options import pick_account
from worker.cli.consume.batches import EventFeed
from worker.clock import SystemClock
from worker.config.urls import hide_password
from worker.errors import ConsumerReplaced, RedisUnavailable, SettingsError
from worker.redis.connections import connect, wait_until_up
from worker.redis.running import running_redis_url
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.abc import TaskStatus
    from redis.asyncio import Redis

    from worker.cli.consume.options import GroupOptions
    from worker.config.settings import Settings
    from worker.keys import Keys


async def consume_until_signal(
    settings: Settings,
    options: GroupOptions,
    work: Callable[[EventFeed], Awaitable[None]],
    *,
    exclusive: bool,
) -> None:
    """Join the group, and await `work` with its events. The first signal stops the feed, a second one ends `work`.

    Args:
        settings: Where Redis is.
        options: The group, and how to read it.
        work: Handles the events until there are none.
        exclusive: Have at most one event of an entity handed out at a time.

    Raises:
        SettingsError: Another process consumes under this name.
        RedisUnavailable: Redis cannot be reached at the start, or refuses what a consumer needs.

    """
    feeds: list[EventFeed] = []
    with plain_errors():
        async with anyio.create_task_group() as tasks:
            await tasks.start(_handle_signals, feeds, options.grace, tasks.cancel_scope)
            await _connect_and_consume(settings, options, work, feeds, exclusive=exclusive)
            tasks.cancel_scope.cancel()


async def _handle_signals(
    feeds: list[EventFeed], grace: float, scope: anyio.CancelScope, *, task_status: TaskStatus[None]
) -> None:
    """Stop on the first signal, within `grace` seconds; on the second one, at once."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        await anext(signals)
        for feed in feeds:
            feed.stop()
        if feeds:
            get_logger().info(
                "consume_ending", grace_s=grace, advice="A second signal ends the work immediately."
            )
            with anyio.move_on_after(grace):
                await anext(signals)
        scope.cancel()


async def _connect_and_consume(
    settings: Settings,
    options: GroupOptions,
    work: Callable[[EventFeed], Awaitable[None]],
    feeds: list[EventFeed],
    *,
    exclusive: bool,
) -> None:
    url = running_redis_url(settings)
    client = connect(url)
    try:
        await wait_until_up(client, url, SystemClock(), patience=0)
        account = await pick_account(client, options.account, settings)
        async with _consumer(client, settings.redis.keys.of(account), options) as consumer:
            feed = EventFeed(consumer, exclusive=exclusive)
            feeds.append(feed)
            await work(feed)
    except ConsumerReplaced as error:
        raise SettingsError(
            f"Another process consumes for group {error.group} as {error.name!r}. Give each process its own "
            "--name, and keep it after a restart."
        ) from None
    except (redis.exceptions.RedisError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise RedisUnavailable(f"{hide_password(url)} cannot be used: {words_of(error)}") from None
    finally:
        await client.aclose()


def _consumer(client: Redis, keys: Keys, options: GroupOptions) -> Consumer:
    return Consumer(
        client,
        account=keys.account,
        prefix=keys.prefix,
        group=options.group,
        resources=options.resources,
        name=options.name,
        begin=options.begin,
        batch=options.batch,
        prefetch=options.batch * (options.parallel + 1),
        max_deliveries=options.max_deliveries,
        wait=not options.once,
        log=get_logger(),
    )
