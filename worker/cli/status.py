"""`ordersync status`."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING

import click
import msgspec
from redis.exceptions import ResponseError

from ordersync_consumer.servers.topology import SlotUnavailable
from worker.accounts.store import AccountStore
from worker.admin.status import Row, StatusCollector
from worker.admin.survey import Survey
from worker.admin.verdict import NO_ROWS
from worker.cli.common.options import pick_account, prepare
from worker.cli.common.output import Line, rendered, say, say_json, say_lines, styled
from worker.cli.common.params import ACCOUNT, Number, is_given, needs
from worker.cli.common.redis import client_of
from worker.cli.render.status import one_line, screen
from worker.clock import SystemClock, rfc3339
from worker.errors import RedisUnavailable
from worker.redis import embedded
from worker.service.loop import run_async

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from redis.asyncio import Redis

    from worker.config.settings import Settings

MAX_REFUSED = 5
"""Accounts that no worker can serve, of which the reason is shown."""


@click.command(
    epilog="\b\nExamples:\n  ordersync status\n  ordersync status --watch\n"
    "  ordersync status --json | jq '.[] | select(.health != \"ok\")'"
)
@click.option("--watch", "-w", is_flag=True, help="Refresh until Ctrl-C.")
@click.option(
    "--every",
    type=Number(0.2, 3600),
    default=2.0,
    show_default=True,
    help="With --watch: seconds between refreshes.",
)
@click.option(
    "--account",
    "accounts",
    type=ACCOUNT,
    multiple=True,
    help="Show this account; may be given several times.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with --watch one line per refresh.")
@click.option("--legend", is_flag=True, help="End with what the health words mean.")
def command(*, watch: bool, every: float, accounts: tuple[str, ...], as_json: bool, legend: bool) -> None:
    """Show the health of each resource of each account (ok, starting, degraded, failing, paused, withdrawn), and why.

    `lane` is the class of the longest work that the resource has to do now: polls, scans (full scans) or audit (audit
    logs of the past). `fresh` is the age of the published data: every change older than this is in the stream. Where
    polls read a part of the records, its age follows: `newer` changes, `open` records, or the audit logs of `changed`
    records. `dead` is the number of dead letters and the age of the oldest, and how many have expired; `unread` the
    number of events that the slowest group has not read.
    The bars show the last 15 minutes (fewer on a narrow terminal), the number next to them the last one. A terminal
    that is too narrow for all columns shows those that matter most.

    Of more than 20 accounts, all are counted and the 20 that look worst are shown; --account shows others, and --json
    prints all of them.

    When output is not a terminal, --watch prints one line per resource at each refresh. deploy/status.schema.json
    describes the JSON.
    """
    needs("--every", is_given("every"), "--watch", watch)
    if legend and (watch or as_json):
        raise click.UsageError(f"--legend cannot be combined with {'--json' if as_json else '--watch'}.")
    settings = prepare(quiet=True)
    try:
        run_async(
            lambda: (
                _watch(settings, every, accounts, as_json=as_json)
                if watch
                else _once(settings, accounts, as_json=as_json, legend=legend)
            )
        )
    except KeyboardInterrupt:
        sys.exit(0)


class _Snapshot(msgspec.Struct, frozen=True):
    """The rows, and how all accounts are if there are too many to show each of them."""

    rows: list[Row]
    survey: Survey | None

    def lines(self, *, width: int | None, legend: bool = False) -> list[Line]:
        """Return what is shown."""
        counts: list[Line] = [*self.survey.lines(), ""] if self.survey is not None else []
        return [*counts, *screen(self.rows, width=width, legend=legend)]


async def _collect(
    client: Redis, collector: StatusCollector, settings: Settings, accounts: Sequence[str], *, every: bool
) -> _Snapshot:
    """Return the rows of the requested accounts; without any, of all of them (`every`), or of those that look worst."""
    if accounts:
        names = [await pick_account(client, name, settings) for name in dict.fromkeys(accounts)]
        return _Snapshot(await collector.rows_of(names), None)
    if every:
        return _Snapshot(await collector.all_rows(), None)
    return _Snapshot(await collector.rows(), collector.survey)


async def _once(settings: Settings, accounts: Sequence[str], *, as_json: bool, legend: bool) -> None:
    async with client_of(settings) as client:
        collector = StatusCollector(client, settings)
        found = await _collect(client, collector, settings, accounts, every=as_json)
        refused = await _problems(client, settings)
    if as_json:
        say_json(found.rows)
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    say_lines(
        [
            *found.lines(width=width, legend=legend),
            *_idle(collector.idle),
            *_refused(refused),
            *_over_tcp(settings),
        ]
    )


async def _problems(client: Redis, settings: Settings) -> dict[str, str]:
    """Return why accounts in Redis cannot be served; none if that cannot be read now, or by this user."""
    try:
        return await AccountStore(client, settings.redis.keys).problems()
    except (ResponseError, SlotUnavailable):
        return {}


def _idle(accounts: Mapping[str, str]) -> list[Line]:
    """Return the lines about accounts that a person has disabled or removed."""
    shown = [f"{name} is not polled: {why}" for name, why in list(accounts.items())[:MAX_REFUSED]]
    more = [f"and {len(accounts) - MAX_REFUSED} more"] if len(accounts) > MAX_REFUSED else []
    return ["", *shown, *more] if shown else []


def _refused(problems: Mapping[str, str]) -> list[Line]:
    """Return the lines about accounts in Redis that no worker can serve."""
    if not problems:
        return []
    shown = [f"{name} is not served: {text}" for name, text in list(problems.items())[:MAX_REFUSED]]
    more = [f"and {len(problems) - MAX_REFUSED} more"] if len(problems) > MAX_REFUSED else []
    return ["", *shown, *more, "To list them: ordersync accounts list"]


def _over_tcp(settings: Settings) -> list[Line]:
    """Return the lines that say where other programs reach the embedded Valkey over TCP; none if they do not."""
    running = None if settings.redis.url else embedded.find(settings.data_dir)
    address = embedded.address_of(settings.data_dir, running.port) if running else ""
    return ["", f"embedded Valkey: {address}"] if address else []


async def _watch(settings: Settings, every: float, accounts: Sequence[str], *, as_json: bool) -> None:
    redraws = not as_json and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    async with aclosing(_snapshots(settings, every, accounts, all_of_them=as_json)) as snapshots:
        if redraws:
            await _redraw(snapshots)
            return
        async for result in snapshots:
            if isinstance(result, RedisUnavailable):
                say(f"ordersync: {result}", err=True)
            elif as_json:
                say_json(result.rows)
            else:
                now = rfc3339(SystemClock().now())
                counts = result.survey.lines()[:1] if result.survey is not None else []
                lines = map(one_line, result.rows) if result.rows else [NO_ROWS]
                say_lines(f"{now} {line}" for line in (*counts, *lines))


async def _snapshots(
    settings: Settings, every: float, accounts: Sequence[str], *, all_of_them: bool
) -> AsyncGenerator[_Snapshot | RedisUnavailable]:
    """Yield the rows every `every` seconds. The first read must succeed; later errors of Redis are yielded."""
    succeeded = False
    while True:
        try:
            async with client_of(settings) as client:
                collector = StatusCollector(client, settings)
                while True:
                    yield await _collect(client, collector, settings, accounts, every=all_of_them)
                    succeeded = True
                    await asyncio.sleep(every)
        except RedisUnavailable as error:
            if not succeeded:
                raise
            yield error
        await asyncio.sleep(every)


async def _redraw(snapshots: AsyncGenerator[_Snapshot | RedisUnavailable]) -> None:
    """Redraw the screen in place for each snapshot; the last screen stays."""
    from rich.console import Console  # noqa: PLC0415 - takes time to import, and only a terminal needs it
    from rich.live import Live  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    lines: list[Line] = []
    console = Console(highlight=False)
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            async for result in snapshots:
                if isinstance(result, RedisUnavailable):
                    shown = [*lines, "", (styled(f"Retrying: {result}", "red"),)]
                else:
                    shown = lines = result.lines(width=console.width)
                shown = [f"{rfc3339(SystemClock().now())}  Press Ctrl-C to stop.", "", *shown]
                live.update(
                    Text.from_ansi("\n".join(map(rendered, shown)), no_wrap=True, overflow="crop"),
                    refresh=True,
                )
    finally:
        say_lines(lines)
