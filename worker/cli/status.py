"""`ordersync status`."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING

import click

from worker.admin.status import Row, StatusCollector
from worker.service.loop import run_async
from worker.cli.common.options import prepare
from worker.cli.common.redis import client_of
from worker.cli.render.status import one_line, screen
from worker.clock import SystemClock, rfc3339
from worker.errors import RedisUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from worker.config.settings import Settings


@click.command(
    epilog="\b\nExamples:\n  ordersync status\n  ordersync status --watch\n"
    "  ordersync status --json | jq '.[] | select(.health != \"ok\")'"
)
@click.option("--watch", "-w", is_flag=True, help="Refresh until Ctrl-C.")
@click.option(
    "--every",
    type=click.FloatRange(0.2, 3600),
    default=2.0,
    show_default=True,
    help="With --watch: seconds between refreshes.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with --watch one line per refresh.")
def command(*, watch: bool, every: float, as_json: bool) -> None:
    """Show the health of each resource of each account (ok, starting, degraded, failing, paused, withdrawn), and why.

    `fresh` is the age of the published data: every change older than this is in the stream. Where polls read a part of
    the records, its age follows: `newer` changes, `open` records, or the audit logs of `changed` records. `dead` is the
    number of dead letters and the age of the oldest, `unread` the number of events that the slowest group has not read.
    The bars show the last 15 minutes (fewer on a narrow terminal), the number next to them the last one.

    When output is not a terminal, --watch prints one line per resource at each refresh. deploy/status.schema.json
    describes the JSON.
    """
    settings = prepare(quiet=True)
    try:
        run_async(
            lambda: _watch(settings, every, as_json=as_json) if watch else _once(settings, as_json=as_json)
        )
    except KeyboardInterrupt:
        sys.exit(0)


async def _once(settings: Settings, *, as_json: bool) -> None:
    async with client_of(settings) as client:
        rows = await StatusCollector(client, settings).rows()
    if as_json:
        click.echo(json.dumps(rows))
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    click.echo("\n".join(screen(rows, width=width)))


async def _watch(settings: Settings, every: float, *, as_json: bool) -> None:
    redraws = not as_json and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    async with aclosing(_snapshots(settings, every)) as snapshots:
        if redraws:
            await _redraw(snapshots)
            return
        async for result in snapshots:
            if isinstance(result, RedisUnavailable):
                click.echo(f"ordersync: {result}", err=True)
            elif as_json:
                click.echo(json.dumps(result))
            else:
                now = rfc3339(SystemClock().now())
                click.echo(
                    "\n".join(f"{now} {line}" for line in (map(one_line, result) if result else screen([])))
                )


async def _snapshots(settings: Settings, every: float) -> AsyncGenerator[list[Row] | RedisUnavailable]:
    """Yield the rows every `every` seconds. The first read must succeed; later errors of Redis are yielded."""
    succeeded = False
    while True:
        try:
            async with client_of(settings) as client:
                collector = StatusCollector(client, settings)
                while True:
                    yield await collector.rows()
                    succeeded = True
                    await asyncio.sleep(every)
        except RedisUnavailable as error:
            if not succeeded:
                raise
            yield error
        await asyncio.sleep(every)


async def _redraw(snapshots: AsyncGenerator[list[Row] | RedisUnavailable]) -> None:
    """Redraw the screen in place for each snapshot; the last screen stays."""
    from rich.console import Console  # noqa: PLC0415 - takes time to import, and only a terminal needs it
    from rich.live import Live  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    lines: list[str] = []
    console = Console(highlight=False)
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            async for result in snapshots:
                if isinstance(result, RedisUnavailable):
                    shown = [*lines, "", click.style(f"Retrying: {result}", fg="red")]
                else:
                    shown = lines = screen(result, width=console.width)
                shown = [f"{rfc3339(SystemClock().now())}  Press Ctrl-C to stop.", "", *shown]
                live.update(Text.from_ansi("\n".join(shown), no_wrap=True, overflow="crop"), refresh=True)
    finally:
        click.echo("\n".join(lines))
