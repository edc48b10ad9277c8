"""The command line. Commands are imported when they are called, so that `--help` is quick."""

from __future__ import annotations

import gc
import importlib
import itertools
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import click

from worker.cli.common import streams
from worker.cli.common.output import complain, complain_of_usage, say
from worker.service import core_dumps

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from click.shell_completion import CompletionItem

COMMANDS = {
    "run": ("worker.cli.run.command", "Run the daemon; --once reads everything once and exits."),
    "sandbox": ("worker.cli.sandbox", "Run a local OrderMesh for tests and experiments."),
    "status": ("worker.cli.status", "Show the health of each resource."),
    "ui": ("worker.cli.ui", "Serve the page that shows the state in a browser."),
    "runs": ("worker.cli.runs", "List the latest runs, or show one in full."),
    "resync": ("worker.cli.resync", "Read records now and publish those that changed."),
    "resyncs": ("worker.cli.resync:resyncs", "List the resyncs; cancel or resume one."),
    "timeline": ("worker.cli.timeline", "Show everything that is known about one order."),
    "history": ("worker.cli.history", "Show who changed what with which command."),
    "coverage": ("worker.cli.coverage", "Show which hours are proven complete."),
    "pause": ("worker.cli.pause:pause", "Stop reading an account or some of its resources."),
    "resume": ("worker.cli.pause:resume", "Resume reading after a pause."),
    "tail": ("worker.cli.tail", "Show events as they are published."),
    "consume": (
        "worker.cli.consume.command",
        "Pass events to a command; acknowledge them when it succeeds.",
    ),
    "forward": ("worker.cli.forward.command", "Send events to an HTTP address, as CloudEvents."),
    "doctor": ("worker.cli.doctor", "Check settings, login, contract, Redis and clocks."),
    "groups": ("worker.cli.groups", "List the consumer groups, or drop one."),
    "dead": ("worker.cli.dead", "List, show, replay or drop dead letters."),
    "erase": ("worker.cli.erase", "Remove what Redis keeps of records, and publish nothing of them again."),
    "replay": ("worker.cli.replay", "Redeliver past events to one group."),
    "health": ("worker.cli.health", "Exit with 0 while a worker is alive and its data is fresh."),
    "contract": ("worker.cli.contract.command", "Show, import and probe the contract of the API."),
    "schema": ("worker.cli.schema", "Print or list the schemas and files that come with the program."),
    "accounts": ("worker.cli.accounts", "Add, list, disable and remove accounts that are kept in Redis."),
    "config": ("worker.cli.config", "Show the settings, with secrets hidden."),
    "completion": ("worker.cli.common.completion", "Print the completion script for a shell."),
}


@contextmanager
def _gone_reader() -> Iterator[None]:
    """End successfully and silently if the reader of the output has closed the pipe (`| head -1`)."""
    try:
        yield
    except BrokenPipeError:
        streams.drop_rest(sys.stdout)
        raise click.exceptions.Exit(0) from None


@contextmanager
def _uncollected() -> Iterator[None]:
    """Import without garbage collection: what is imported stays, so the collector would look at it in vain."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class LazyGroup(click.Group):
    """A group whose commands are listed by name and imported when they are used.

    `table` contains the module and the help of each command; `:name` follows the module if the function is not called
    `command`.
    """

    table: ClassVar[Mapping[str, tuple[str, str]]] = COMMANDS

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        del ctx
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command."""
        del ctx
        if cmd_name not in self.table:
            return None
        module, _, name = self.table[cmd_name][0].partition(":")
        with _uncollected():
            command: click.Command = getattr(importlib.import_module(module), name or "command")
        command.name = cmd_name  # click names it after the function; the site reads the name
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments name; an unknown one gets the nearest name."""
        if args and args[0] not in self.table and not args[0].startswith("-"):
            from ordersync_consumer.resources import nearest  # noqa: PLC0415 - as above

            ctx.fail(f"No such command {args[0]!r}.{nearest(args[0], self.table)}")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the names, without importing the commands, and the options."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - as above

        names = [
            CompletionItem(n, help=text) for n, (_, text) in self.table.items() if n.startswith(incomplete)
        ]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the arguments; `--help` prints the help here."""
        with _gone_reader():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command."""
        if os.environ.get("NO_COLOR"):  # https://no-color.org; click ignores it
            ctx.color = False
        with _gone_reader():
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.table.items()])


def _version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from worker import __version__  # noqa: PLC0415 - reading the metadata takes time

        say(f"ordersync {__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExamples:\n"
    "  ordersync run --sandbox    try it with a local OrderMesh and an embedded Valkey\n"
    "  ordersync tail orders      watch the events in a second terminal\n"
    "  ordersync run              run against the real gateway\n\n"
    "Settings are read from ORDERSYNC_... variables, .env or secret files: ordersync config show.\n\n"
    "Exit codes: 0 success, 1 failure, 2 wrong usage or settings, 3 Redis or the gateway is unreachable.",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version."
)
def cli() -> None:
    """Publish every change of OrderMesh orders to Redis Streams."""


def _check_arguments() -> None:
    """Check that the arguments are valid text, except those after `--`, which belong to another command.

    Raises:
        UsageError: An argument is not valid text.

    """
    for item in itertools.takewhile(lambda each: each != "--", sys.argv[1:]):
        try:
            item.encode()
        except UnicodeEncodeError:
            raise click.UsageError(f"The argument {item!r} is not valid UTF-8.") from None


def main() -> None:
    """Run the command line; every expected error is one sentence on stderr and an exit code."""
    from worker.errors import OrdersyncError  # noqa: PLC0415 - as above

    core_dumps.forbid()
    streams.prepare_streams()
    try:
        _check_arguments()
        status: Any = cli.main(prog_name="ordersync", standalone_mode=False)
    except click.exceptions.Abort:
        status = 130
    except click.ClickException as error:
        complain_of_usage(error)
        status = error.exit_code
    except OrdersyncError as error:
        from worker.telemetry.log import redaction  # noqa: PLC0415 - as above

        complain(f"ordersync: {redaction.text(str(error))}")
        status = error.exit_status
    except OSError as error:
        is_output = streams.is_output_error(error)
        complain(f"ordersync: {f'the output cannot be written: {error.strerror}' if is_output else error}")
        status = 1
    except Exception as error:
        from redis.exceptions import RedisError  # noqa: PLC0415 - as above

        if not isinstance(error, RedisError):
            raise
        from worker.redis.refusals import unusable  # noqa: PLC0415 - as above

        complain(f"ordersync: {unusable('Redis', error)} To find the cause: ordersync doctor.")
        status = 3
    sys.exit(streams.finish_streams(status if isinstance(status, int) else 0))
