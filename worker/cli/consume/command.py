"""`ordersync consume`."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
import click
import redis.exceptions

from worker.redis.running import running_redis_url
from worker.service.loop import run_async
from worker.cancellation import plain_errors
from worker.cli.common.options import pick_account, prepare
from worker.cli.common.params import GROUP, RESOURCE, account_option
from worker.cli.consume.batches import CommandFeed, FailureThrottle, feed_batches
from worker.cli.consume.process import Command, check_startable
from worker.cli.consume.stay import LongRunningCommand
from worker.clock import SystemClock
from worker.config.resources import RESOURCES
from worker.config.settings import environment_without_secrets, hide_password
from worker.errors import ConsumerReplaced, RedisUnavailable, SettingsError
from ordersync_consumer import Consumer
from worker.redis.connections import connect, wait_until_up
from worker.telemetry.log import get_logger, redaction

if TYPE_CHECKING:
    from anyio.abc import TaskStatus
    from redis.asyncio import Redis

    from worker.config.settings import Settings
    from worker.keys import Keys

MAX_PAUSE = 30.0
"""Seconds between two attempts at most while every event fails. With --once there are no pauses, so that it ends."""


class _WithCommand(click.Command):
    """Does not parse the arguments after `--`: they are the command to run."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        index = args.index("--") if "--" in args else len(args)
        ctx.meta["argv"] = tuple(args[index + 1 :])
        return super().parse_args(ctx, args[:index])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "-- CMD [ARG]..."]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumeOptions:
    """The options of the command line; `command` describes them."""

    run: Command
    resources: tuple[str, ...]
    group: str
    name: str | None
    batch: int
    parallel: int
    max_deliveries: int
    begin: str
    stay: bool
    once: bool
    grace: float
    account: str | None


@click.command(
    cls=_WithCommand,
    epilog="\b\nExamples:\n"
    "  ordersync consume --group warehouse orders -- ./book-in\n"
    "  ordersync consume --group audit orders shipments -- sh -c 'cat >> events.jsonl'\n"
    "  ordersync consume --group search --stay --batch 20 orders -- node index.mjs\n"
    "  ordersync consume --group warehouse --once -- jq -r .subject\n\n"
    "\b\nA line:\n"
    '  {"resource": "orders", "entry": "1772448067513-0", "attempt": 1, "replayed": false,\n'
    '   "specversion": "1.0", "id": ..., "type": ..., "subject": ..., "changed": [...], "data": {...}}\n\n'
    "\b\nExit codes: 0 ended by a signal, or --once with no events left; 1 the group was dropped;\n"
    "  2 wrong usage (no CMD, CMD cannot be started, unknown resource, name used by another process);\n"
    "  3 Redis is unreachable at the start.",
)
@click.argument("resources", type=RESOURCE, metavar="[RESOURCE]...", nargs=-1)
@click.option(
    "--group",
    "-g",
    type=GROUP,
    required=True,
    help="Consumer group. Receives every event once. Created if it does not exist.",
)
@click.option(
    "--name",
    help="Name of this consumer: unique in the group, and the same after a restart.  [default: the host]",
)
@click.option(
    "--batch",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Largest number of events that CMD gets at a time.",
)
@click.option(
    "--parallel",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Number of CMDs that run at the same time.",
)
@click.option(
    "--max-deliveries",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Number of attempts before an event becomes a dead letter.",
)
@click.option(
    "--from",
    "begin",
    type=click.Choice(["0", "$"]),
    default="0",
    show_default=True,
    help="Where a new group starts: the oldest event in the stream, or the next new one.",
)
@click.option("--stay", is_flag=True, help="Keep CMD running; it answers each event with a line.")
@click.option("--once", "--no-wait", is_flag=True, help="Exit when no events are left.")
@click.option(
    "--grace",
    type=click.FloatRange(0),
    default=20.0,
    show_default=True,
    help="Seconds that CMD has to finish when `consume` stops.",
)
@click.option(
    "--pass-env",
    metavar="NAME",
    multiple=True,
    help="Pass a variable with a secret of ordersync to CMD. Without it, CMD gets none.",
)
@account_option
@click.pass_context
def command(
    ctx: click.Context, /, *, resources: tuple[str, ...], pass_env: tuple[str, ...], **options: Any
) -> None:
    """Pass the events of RESOURCEs (orders) to CMD, as JSON lines on its standard input.

    CMD is started for each batch. If it reads its whole input and exits with 0, the batch is acknowledged. Otherwise
    its events are retried one at a time: those that succeed are acknowledged, a failing event is retried with growing
    pauses while later events of the same entity wait, and after --max-deliveries attempts it becomes a dead letter
    with the exit code and the last lines of standard error.

    With --stay, CMD keeps running and answers each event with a line on standard output, in any order: `ok ENTRY` or
    `fail ENTRY reason`. It must flush each line. CMD has at most --batch unanswered events, never two of one entity.
    Any other line is an error, and CMD is stopped. When CMD exits it is started again, and unanswered events are
    retried one at a time. At the end of its input, CMD answers its remaining events and exits.

    CMD gets the environment of this process, without the variables that contain secrets of ordersync.

    On SIGTERM or Ctrl-C, CMD finishes its current events; all others are returned to the group immediately. A second
    signal also stops CMD. An event may be delivered twice, with the same `id`.
    """
    argv: tuple[str, ...] = ctx.meta["argv"]
    if not argv:
        raise click.UsageError(
            "The command is missing. Write it after --, for example: -- sh -c 'cat >> events.jsonl'"
        )
    for resource in resources:
        if resource not in RESOURCES:
            raise SettingsError(f"Unknown resource {resource!r}. Known resources: {', '.join(RESOURCES)}")
    check_startable(argv)
    settings = prepare()
    run = Command(argv, environment_without_secrets(passed=pass_env))
    requested = ConsumeOptions(run=run, resources=resources or ("orders",), **options)
    run_async(lambda: _run_until_signal(settings, requested))


async def _run_until_signal(settings: Settings, requested: ConsumeOptions) -> None:
    feeds: list[CommandFeed] = []
    with plain_errors():
        async with anyio.create_task_group() as tasks:
            await tasks.start(_handle_signals, feeds, requested.grace, tasks.cancel_scope)
            await _connect_and_consume(settings, requested, feeds)
            tasks.cancel_scope.cancel()


async def _handle_signals(
    feeds: list[CommandFeed], grace: float, scope: anyio.CancelScope, *, task_status: TaskStatus[None]
) -> None:
    """Stop on the first signal, within `grace` seconds; on the second one, at once."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        await anext(signals)
        for feed in feeds:
            feed.stop()
        if feeds:
            get_logger().info(
                "consume_ending", grace_s=grace, advice="A second signal ends the command immediately."
            )
            with anyio.move_on_after(grace):
                await anext(signals)
        scope.cancel()


async def _connect_and_consume(
    settings: Settings, requested: ConsumeOptions, feeds: list[CommandFeed]
) -> None:
    url = running_redis_url(settings)
    redaction.add(urlsplit(url).password)
    client = connect(url)
    try:
        await wait_until_up(client, url, SystemClock(), patience=0)
        account = await pick_account(client, requested.account, settings)
        await _consume(client, settings.redis.keys.of(account), requested, feeds)
    except ConsumerReplaced as error:
        raise SettingsError(
            f"Another process consumes for group {error.group} as {error.name!r}. Give each process its own "
            "--name, and keep it after a restart."
        ) from None
    except (redis.exceptions.RedisError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise RedisUnavailable(f"{hide_password(url)} cannot be used: {error}") from None
    finally:
        await client.aclose()


async def _consume(client: Redis, keys: Keys, requested: ConsumeOptions, feeds: list[CommandFeed]) -> None:
    consumer = Consumer(
        client,
        account=keys.account,
        prefix=keys.prefix,
        group=requested.group,
        resources=requested.resources,
        name=requested.name,
        begin=requested.begin,
        batch=requested.batch,
        prefetch=requested.batch * (requested.parallel + 1),
        max_deliveries=requested.max_deliveries,
        wait=not requested.once,
    )
    async with consumer:
        feed = CommandFeed(consumer, exclusive=requested.stay or requested.parallel > 1)
        feeds.append(feed)
        throttle = FailureThrottle(feed.stopping, 0 if requested.once else MAX_PAUSE)
        async with anyio.create_task_group() as tasks:
            for _ in range(requested.parallel):
                if requested.stay:
                    long_running = LongRunningCommand(
                        feed, requested.run, limit=requested.batch, throttle=throttle, grace=requested.grace
                    )
                    tasks.start_soon(long_running.run)
                else:
                    tasks.start_soon(feed_batches, feed, requested.run, requested.batch, throttle)
