"""`ordersync status`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click
import redis.exceptions

from jobs.resources import RESOURCES
from worker.capture.health import Health, Verdict, judge
from worker.capture.store import Cursor, Store
from worker.cli.compose import run_async, running_redis_url
from worker.cli.options import prepare
from worker.clock import SystemClock, rfc3339
from worker.connections import answer, connect
from worker.errors import DataError, RedisUnavailable
from worker.keys import ACCOUNTS, Keys
from worker.settings import Settings, hide_password

if TYPE_CHECKING:
    from redis.asyncio import Redis

_COLOURS = {Health.OK: "green", Health.STARTING: "blue", Health.DEGRADED: "yellow", Health.FAILING: "red"}
_COLUMNS = ("account", "resource", "health", "records", "events", "dead", "fresh", "last success")


@click.command(
    epilog="\b\nExamples:\n  ordersync status\n  ordersync status --json | jq '.[] | select(.health != \"ok\")'"
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(as_json: bool) -> None:
    """Show how each resource of each account stands.

    `fresh` is the age of what is published: everything that changed before then stands in the stream.
    """
    settings = prepare(quiet=True)
    run_async(lambda: _status(settings, as_json=as_json))


async def _status(settings: Settings, *, as_json: bool) -> None:
    url = running_redis_url(settings)
    client = connect(url)
    try:
        rows = [
            await _row(client, account.decode(), name)
            for account in sorted(await answer(client.smembers(ACCOUNTS)))
            for name in RESOURCES
        ]
    except (redis.exceptions.RedisError, OSError) as error:
        raise RedisUnavailable(
            f"{hide_password(url)} cannot be read: {error}. Is the worker still running?"
        ) from None
    finally:
        await client.aclose()
    if as_json:
        click.echo(json.dumps(rows))
        return
    if not rows:
        click.echo("No worker has worked with this Redis yet. Start one: ordersync run")
        return
    _print_table(rows)


async def _row(client: Redis, account: str, name: str) -> dict[str, Any]:
    keys, now = Keys(account), SystemClock().now()
    try:
        cursor = await Store(client, keys, RESOURCES[name]).load_cursor()
        verdict = judge(cursor, now)
    except DataError as error:
        cursor, verdict = Cursor(), Verdict(Health.FAILING, str(error))
    return {
        "account": account,
        "resource": name,
        "health": verdict.health.value,
        "cause": verdict.cause,
        "records": cursor.tracked,
        "events": cursor.sequence,
        "dead": await client.xlen(keys.dead(name)),
        "fresh_s": round(now - cursor.fresh_as_of, 1) if cursor.fresh_as_of else None,
        "last_success": rfc3339(cursor.last_success) if cursor.last_success else None,
        "stream": keys.stream(name),
    }


def _print_table(rows: list[dict[str, Any]]) -> None:
    table = [_COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(_COLUMNS))]
    for line, row in zip(table, [None, *rows], strict=True):
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        if row is not None:
            cells[2] = click.style(cells[2], fg=_COLOURS[Health(row["health"])])
        click.echo("  ".join(cells).rstrip())
    for row in rows:
        if row["cause"]:
            click.echo(f"\n{row['account']}/{row['resource']} is {row['health']}: {row['cause']}")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    fresh = "never" if row["fresh_s"] is None else f"{row['fresh_s']:.0f} s"
    return (
        row["account"], row["resource"], row["health"], str(row["records"]), str(row["events"]),
        str(row["dead"]), fresh, row["last_success"] or "never",
    )  # fmt: skip
