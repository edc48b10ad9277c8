"""`ordersync history`."""

from __future__ import annotations

import click

from worker.admin.operator_log import OperatorLog
from worker.cli.common.options import pick_keys, prepare
from worker.cli.common.output import say, say_json, say_lines
from worker.cli.common.params import Integer, account_option
from worker.cli.common.redis import reader_of
from worker.cli.render.tables import columns
from worker.clock import rfc3339
from worker.service.loop import run_async


@click.command(
    epilog="\b\nExamples:\n  ordersync history\n  ordersync history --limit 100 --json | jq '.[].command'"
)
@click.option(
    "--limit", "-n", type=Integer(1), default=20, show_default=True, help="Largest number of changes."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@account_option
def command(*, limit: int, as_json: bool, account: str | None) -> None:
    """Show who changed what with which command, the latest first.

    Lists pauses, resyncs, replays, dropped groups and dead letters, probes, erasures, and reloads of the configuration.
    The last 10,000 of an account are kept.
    """
    settings = prepare(quiet=True)

    async def main() -> None:
        async with reader_of(settings) as client:
            keys = await pick_keys(client, account, settings)
            entries = await OperatorLog(client, keys).latest(limit)
        if as_json:
            say_json([entry.as_json() for entry in entries])
        elif entries:
            rows = [(rfc3339(e.at), e.by, e.redis_user or "-", e.outcome, e.command) for e in entries]
            say_lines(columns([("at", "by", "redis user", "outcome", "command"), *rows]))
        else:
            say(f"No command has changed anything of account {keys.account} yet.")

    run_async(main)
