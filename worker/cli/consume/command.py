"""`ordersync consume`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import click

from worker.cli.common.options import prepare
from worker.cli.common.params import Integer, account_option
from worker.cli.consume import options as shared
from worker.cli.consume.batches import EventFeed, FailureThrottle, feed_batches
from worker.cli.consume.process import Command, check_startable
from worker.cli.consume.session import consume_until_signal
from worker.cli.consume.stay import LongRunningCommand
from worker.config.settings import environment_without_secrets
from worker.errors import CommandFails
from worker.service.loop import run_async


class _WithCommand(click.Command):
    """Does not parse the arguments after `--`: they are the command to run."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        index = args.index("--") if "--" in args else len(args)
        ctx.meta["argv"] = tuple(args[index + 1 :])
        return super().parse_args(ctx, args[:index])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "-- CMD [ARG]..."]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumeOptions(shared.GroupOptions):
    """The options of the command line; `command` describes them."""

    run: Command
    stay: bool


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
    "\b\nExit codes: 0 ended by a signal, or --once with no events left; 1 the group was dropped, or with --once\n"
    "  CMD fails for every event;\n"
    "  2 wrong usage (no CMD, CMD cannot be started, unknown resource, name used by another process);\n"
    "  3 Redis is unreachable at the start.",
)
@shared.resources_argument
@shared.group_option
@shared.consumer_option
@click.option(
    "--batch",
    type=Integer(1),
    default=100,
    show_default=True,
    help="Largest number of events that CMD gets at a time.",
)
@shared.parallel_option(help="Number of CMDs that run at the same time.")
@shared.max_deliveries_option("attempts")
@shared.begin_option
@click.option("--stay", is_flag=True, help="Keep CMD running; it answers each event with a line.")
@shared.once_option
@shared.grace_option(help="Seconds that CMD has to finish when `consume` stops.")
@click.option(
    "--pass-env",
    metavar="NAME",
    multiple=True,
    help="Pass a variable with a secret of ordersync to CMD. Without it, CMD gets none.",
)
@account_option
@click.pass_context
def command(ctx: click.Context, /, *, pass_env: tuple[str, ...], **options: Any) -> None:
    """Pass the events of RESOURCEs (orders) to CMD, as JSON lines on its standard input.

    CMD is started for each batch. If it reads its whole input and exits with 0, the batch is acknowledged. Otherwise
    its events are retried one at a time: those that succeed are acknowledged, a failing event is retried with growing
    pauses while later events of the same entity wait, and after --max-deliveries attempts it becomes a dead letter
    with the exit code and the last lines of standard error. If ten different events in a row fail, attempts slow down,
    or with --once the command ends.

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
    check_startable(argv)
    settings = prepare()
    run = Command(argv, environment_without_secrets(passed=pass_env))
    requested = ConsumeOptions(run=run, **options)
    run_async(
        lambda: consume_until_signal(
            settings,
            requested,
            lambda feed: _work(feed, requested),
            exclusive=requested.stay or requested.parallel > 1,
        )
    )


async def _work(feed: EventFeed, requested: ConsumeOptions) -> None:
    throttle = FailureThrottle(feed.stopping, give_up=feed.stop if requested.once else None)
    async with anyio.create_task_group() as tasks:
        for _ in range(requested.parallel):
            if requested.stay:
                long_running = LongRunningCommand(
                    feed, requested.run, limit=requested.batch, throttle=throttle, grace=requested.grace
                )
                tasks.start_soon(long_running.run)
            else:
                tasks.start_soon(feed_batches, feed, requested.run, requested.batch, throttle)
    if requested.once and throttle.everything_fails:
        raise CommandFails(Path(requested.run.argv[0]).name)
