"""`ordersync status`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click
import redis.exceptions

from jobs.resources import RESOURCES
from worker.capture.health import Health, Verdict, judge
from worker.capture.pauses import EVERYTHING, Pause, Pauses
from worker.capture.store import Cursor, Store
from worker.cli.compose import run_async, running_redis_url
from worker.cli.options import prepare
from worker.cli.tables import duration, printable
from worker.clock import SystemClock, rfc3339
from worker.connections import answer, connect
from worker.errors import DataError, RedisUnavailable
from worker.keys import ACCOUNTS, Keys
from worker.queue.groups import Groups, written_at
from worker.settings import Settings, hide_password

if TYPE_CHECKING:
    from redis.asyncio import Redis

_COLOURS = {
    Health.OK: "green",
    Health.STARTING: "blue",
    Health.DEGRADED: "yellow",
    Health.FAILING: "red",
    Health.PAUSED: "magenta",
}
_COLUMNS = ("account", "resource", "health", "records", "events", "dead", "unread", "fresh", "last success")


@click.command(
    epilog="\b\nExamples:\n  ordersync status\n  ordersync status --json | jq '.[] | select(.health != \"ok\")'"
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(as_json: bool) -> None:
    """Show how each resource of each account stands.

    `fresh` is the age of what is published: everything that changed before then stands in the stream. `dead` counts
    the dead letters, with the age of the oldest one, and `unread` the events that the slowest group has not read.
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
            if name in settings.poll.intervals or await client.exists(Keys(account.decode()).cursor(name))
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
    survey = await Groups(client, keys).survey(name)
    pause = await Pauses(client, keys).of(name)
    try:
        cursor = await Store(client, keys, RESOURCES[name]).load_cursor()
        verdict = judge(cursor, now, full=survey.full, pause=pause)
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
        "dead_oldest_s": await _oldest_age(client, keys.dead(name), now),
        "paused": _pause(pause),
        "backpressure": cursor.paused,
        "unread": survey.slowest.unread if survey.slowest else None,
        "groups": [
            {"group": group.name, "unread": group.unread, "pending": group.pending} for group in survey.groups
        ],
        "fresh_s": round(now - cursor.fresh_as_of, 1) if cursor.fresh_as_of else None,
        "last_success": rfc3339(cursor.last_success) if cursor.last_success else None,
        "stream": keys.stream(name),
    }


def _pause(pause: Pause | None) -> dict[str, Any] | None:
    if pause is None:
        return None
    scope = "account" if pause.resource == EVERYTHING else "resource"
    return {"by": pause.by, "reason": pause.reason, "since": rfc3339(pause.at), "scope": scope}


async def _oldest_age(client: Redis, stream: str, now: float) -> float | None:
    """Seconds since the first entry was written; None if there is none."""
    first = await client.xrange(stream, count=1)
    return round(max(0.0, now - written_at(first[0][0].decode())), 1) if first else None


def _print_table(rows: list[dict[str, Any]]) -> None:
    table = [_COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(_COLUMNS))]
    for line, row in zip(table, [None, *rows], strict=True):
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        if row is not None:
            cells[2] = click.style(cells[2], fg=_COLOURS[Health(row["health"])])
        click.echo("  ".join(cells).rstrip())
    lines = [
        f"{row['account']}/{row['resource']}: group {printable(group['group'])} has {group['unread']} events to read "
        f"and {group['pending']} pending"
        for row in rows
        for group in row["groups"]
    ]
    click.echo("\n".join(["", *lines] if lines else []), nl=bool(lines))
    for row in rows:
        if row["cause"]:
            click.echo(f"\n{row['account']}/{row['resource']} is {row['health']}: {row['cause']}")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    fresh = "never" if row["fresh_s"] is None else f"{row['fresh_s']:.0f} s"
    oldest = "" if row["dead_oldest_s"] is None else f" ({duration(row['dead_oldest_s'])})"
    unread = "-" if row["unread"] is None else str(row["unread"])
    return (
        row["account"], row["resource"], row["health"], str(row["records"]), str(row["events"]),
        f"{row['dead']}{oldest}", unread, fresh, row["last_success"] or "never",
    )  # fmt: skip
