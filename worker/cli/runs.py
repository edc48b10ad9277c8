"""`ordersync runs`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from worker.capture.state.run_history import History, RunRecord
from worker.cli.common.options import pick_keys, prepare
from worker.cli.common.output import say, say_json, say_lines, styled
from worker.cli.common.params import RESOURCE, Integer, account_option
from worker.cli.common.redis import check_resource, moment, reader_of
from worker.cli.render.tables import columns
from worker.clock import SystemClock, rfc3339
from worker.errors import OrdersyncError
from worker.service.loop import run_async

if TYPE_CHECKING:
    from collections.abc import Sequence

    from click.shell_completion import CompletionItem

    from worker.config.settings import Settings

_COLUMNS = (
    "ended", "run", "resource", "plan", "reason", "outcome", "covered", "pages", "records", "events", "requests",
    "took", "error",
)  # fmt: skip
_MAX_ERROR = 80


class NoSuchRun(OrdersyncError):
    """No run record has this id."""

    code = "no_such_run"


class _RunsGroup(click.Group):
    """A group that runs `list` by default, so that `runs orders` is possible."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert `list`: `runs orders --failed` means `runs list orders --failed`."""
        if ctx.resilient_parsing and not args:
            return super().parse_args(ctx, args)  # the shell requests completions
        words = [word for word in args if not word.startswith("-")]
        wants_help = any(word in {"--help", "-h"} for word in args)
        if not (words and words[0] in self.commands) and not (wants_help and not words):
            args = ["list", *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands, or the completions of `runs list`."""
        listing = self.commands["list"]
        offered = super().shell_complete(ctx, incomplete)
        return [
            *offered,
            *listing.params[0].shell_complete(ctx, incomplete),
            *listing.shell_complete(ctx, incomplete),
        ]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, including those of the default command `list`."""
        records = [item.get_help_record(ctx) for item in self.commands["list"].params]
        with formatter.section("Options of the list"):
            formatter.write_dl([record for record in records if record is not None])
        super().format_options(ctx, formatter)


@click.group(
    cls=_RunsGroup,
    name="runs",
    epilog="\b\nExamples:\n  ordersync runs\n  ordersync runs orders --failed --since 2h\n"
    "  ordersync runs --limit 1000 --json | jq '.[] | select(.retries > 0)'\n  ordersync runs show e8fcbc43135a4fcb",
)
def command() -> None:
    """List polls and other reads, the latest first: `ordersync runs [RESOURCE] [OPTIONS]`.

    The last 10,000 runs of an account are kept.
    """


@command.command(
    name="list",
    epilog="\b\nExamples:\n  ordersync runs list orders --failed --since 2h\n"
    "  ordersync runs list --json | jq '.[] | select(.retries > 0)'",
)
@click.argument("resource", type=RESOURCE, required=False)
@click.option("--failed", is_flag=True, help="Only runs that failed or were suspicious.")
@click.option("--limit", "-n", type=Integer(1), default=20, show_default=True, help="Largest number of runs.")
@click.option(
    "--since", metavar="TIME", help="Only runs that ended since then: a time, or an age such as 2h."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with all fields of each run.")
@account_option
def list_runs(
    *, resource: str | None, failed: bool, limit: int, since: str | None, as_json: bool, account: str | None
) -> None:
    """List the runs of one RESOURCE, or of all, the latest first."""
    check_resource(resource)
    start = moment(since, "--since", SystemClock().now()) or 0.0
    settings = prepare(quiet=True)

    async def main() -> None:
        runs: list[RunRecord] = []
        async with reader_of(settings) as client:
            history = History(client, await pick_keys(client, account, settings))
            async for run in history.newest_first(since=start):
                if resource in (None, run.text("resource")) and (run.failed or not failed):
                    runs.append(run)
                    if len(runs) == limit:
                        break
        if as_json:
            say_json([run.as_json() for run in runs])
        elif runs:
            _print(runs)
        else:
            say("No runs match." if resource or failed or since else "There are no runs yet.")

    run_async(main)


@command.command(
    epilog="\b\nExamples:\n  ordersync runs show e8fcbc43135a4fcb\n"
    "  ordersync runs show e8fcbc43135a4fcb --json | jq .freshness_s"
)
@click.argument("run_id")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@account_option
def show(*, run_id: str, as_json: bool, account: str | None) -> None:
    """Show one run in full. RUN_ID: the id from the log, or its first characters."""
    settings = prepare(quiet=True)
    run = run_async(lambda: _find(settings, run_id, account))
    facts = run.as_json()
    if as_json:
        say_json(facts)
    else:
        say_lines(columns([(name, str(value)) for name, value in facts.items()]))


async def _find(settings: Settings, run_id: str, account: str | None) -> RunRecord:
    result: dict[str, RunRecord] = {}
    async with reader_of(settings) as client:
        async for run in History(client, await pick_keys(client, account, settings)).newest_first():
            if run.text("run_id").startswith(run_id):
                result.setdefault(run.text("run_id"), run)
            if run.text("run_id") == run_id:
                return run
    if not result:
        raise NoSuchRun(
            f"Unknown run {run_id!r}. The last 10,000 runs of an account are kept, without polls that were skipped "
            "because of a pause or another worker. To list them: ordersync runs."
        )
    if len(result) > 1:
        raise NoSuchRun(f"{len(result)} runs begin with {run_id!r}: {', '.join(list(result)[:5])}")
    return next(iter(result.values()))


def _print(runs: Sequence[RunRecord]) -> None:
    head, *lines = columns([_COLUMNS, *(_cells(run) for run in runs)])
    rows = zip(lines, runs, strict=True)
    say_lines([head, *((styled(line, "red" if run.failed else None),) for line, run in rows)])


def _cells(run: RunRecord) -> tuple[str, ...]:
    error = run.text("error")
    if len(error) > _MAX_ERROR:
        error = f"{error[: _MAX_ERROR - 3]}..."
    return (
        rfc3339(run.ended_at), run.text("run_id"), run.text("resource"), run.text("plan") or "-", run.text("reason"),
        run.text("outcome"), run.text("covered") or "-", run.text("pages"), run.text("records"),
        str(run.events), run.text("requests"), f"{run.number('duration_s'):.1f} s", error,
    )  # fmt: skip
