"""The command line. Commands are imported when they are called, so that `--help` is quick."""

from __future__ import annotations

import importlib
import itertools
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import click

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from click.shell_completion import CompletionItem

COMMANDS = {
    "run": ("worker.cli.run.command", "Run the daemon; --once reads everything once."),
    "sandbox": ("worker.cli.sandbox", "Run a local OrderMesh to try things on."),
    "status": ("worker.cli.status", "Show how each resource stands."),
    "runs": ("worker.cli.runs", "Show what polls have done, or one of them whole."),
    "resync": ("worker.cli.resync", "Read records now, and publish what has changed of them."),
    "resyncs": ("worker.cli.resync:resyncs", "Show the resyncs, cancel one, or go on with it."),
    "timeline": ("worker.cli.timeline", "Show all that is known of one order."),
    "coverage": ("worker.cli.coverage", "Show which hours are proven complete."),
    "pause": ("worker.cli.pause:pause", "Stop reading an account, or some of its resources."),
    "resume": ("worker.cli.pause:resume", "Read again what was paused."),
    "tail": ("worker.cli.tail", "Show events as they come."),
    "consume": (
        "worker.cli.consume.command",
        "Hand events to a command, acknowledged when it has taken them.",
    ),
    "doctor": ("worker.cli.doctor", "Look at settings, login, contract, Redis and clocks."),
    "groups": ("worker.cli.groups", "Show the consumer groups, or drop one."),
    "dead": ("worker.cli.dead", "List, show, replay or drop dead letters."),
    "replay": ("worker.cli.replay", "Give past events to one group again."),
    "health": ("worker.cli.health", "Exit 0 while a worker is alive and fresh."),
    "contract": ("worker.cli.contract.command", "Show, import and probe what is believed of the API."),
    "config": ("worker.cli.config", "Show the settings, secrets hidden."),
    "completion": ("worker.cli.common.completion", "Print what a shell needs to complete commands."),
}


@contextmanager
def _gone_reader() -> Iterator[None]:
    """When the reader of our output has gone (`| head -1`) there is nothing more to say, and nothing failed."""
    try:
        yield
    except BrokenPipeError:
        # What is still buffered is written when the interpreter ends, and would fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise click.exceptions.Exit(0) from None


class LazyGroup(click.Group):
    """A group whose commands are known by name and imported on use.

    `table` holds the module of each, with `:name` behind it where it is not called `command`, and its help.
    """

    table: ClassVar[Mapping[str, tuple[str, str]]] = COMMANDS

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the table."""
        del ctx
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command itself."""
        del ctx
        if cmd_name not in self.table:
            return None
        module, _, name = self.table[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name or "command")
        command.name = cmd_name  # click names it after the function; the site reads the name
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The names, without importing any, and the options."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - as above

        names = [
            CompletionItem(n, help=text) for n, (_, text) in self.table.items() if n.startswith(incomplete)
        ]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the arguments; `--help` answers here."""
        with _gone_reader():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command."""
        if os.environ.get("NO_COLOR"):  # https://no-color.org; click does not look at it
            ctx.color = False
        with _gone_reader():
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing any."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.table.items()])


def _version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from worker import __version__  # noqa: PLC0415 - reading the metadata takes time

        click.echo(f"ordersync {__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExamples:\n"
    "  ordersync run --sandbox    try it: a local OrderMesh, an embedded Valkey, the daemon\n"
    "  ordersync tail orders      watch events, in a second terminal\n"
    "  ordersync run              the daemon against the real gateway\n\n"
    "Settings come from ORDERSYNC_... variables, .env or secret files: ordersync config show.\n\n"
    "Exit codes: 0 done, 1 failed, 2 wrong use or settings, 3 cannot reach what it needs.",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version."
)
def cli() -> None:
    """Keep other systems in step with OrderMesh orders."""


def _check_arguments() -> None:
    """Bytes that are no text cannot be an id or a name. What stands behind `--` is a command of somebody else.

    Raises:
        UsageError: An argument is none.

    """
    for item in itertools.takewhile(lambda each: each != "--", sys.argv[1:]):
        try:
            item.encode()
        except UnicodeEncodeError:
            raise click.UsageError(f"The argument {item!r} is no text in UTF-8.") from None


def main() -> None:
    """Run the command line; every expected error is one sentence on stderr and an exit code."""
    from worker.errors import OrdersyncError  # noqa: PLC0415 - as above

    try:
        _check_arguments()
        status: Any = cli.main(prog_name="ordersync", standalone_mode=False)
    except click.exceptions.Abort:
        status = 130
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except OrdersyncError as error:
        from worker.telemetry.log import redaction  # noqa: PLC0415 - as above

        click.echo(f"ordersync: {redaction.text(str(error))}", err=True)
        status = error.exit_status
    except OSError as error:
        click.echo(f"ordersync: the output cannot be written: {error.strerror}", err=True)
        status = 1
    except Exception as error:
        from redis.exceptions import RedisError  # noqa: PLC0415 - as above

        if not isinstance(error, RedisError):
            raise
        click.echo(
            f"ordersync: Redis failed: {str(error).rstrip('.')}. `ordersync doctor` looks into it.", err=True
        )
        status = 3
    sys.exit(status if isinstance(status, int) else 0)
