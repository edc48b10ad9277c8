"""`ordersync tail`."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import click
import redis.exceptions

from worker.redis.running import running_redis_url
from worker.service.loop import run_async
from worker.cli.common.options import pick_keys, prepare
from worker.cli.common.params import RESOURCE, account_option
from worker.config.resources import RESOURCES
from worker.config.settings import Settings, hide_password
from worker.errors import RedisUnavailable, SettingsError
from ordersync_consumer import tail as stream
from worker.redis.connections import connect
from worker.redis.refusals import explain

if TYPE_CHECKING:
    from ordersync_consumer.envelope import Event

_ENTRY_ID = re.compile(r"[0-9]{1,19}(-[0-9]{1,19})?")
_COLOURS = {"snapshot": "blue", "created": "green", "updated": "yellow", "deleted": "red"}


@click.command(
    epilog="\b\nExamples:\n  ordersync tail\n  ordersync tail orders --json | jq .subject\n"
    "  ordersync tail orders --from 0 --no-follow"
)
@click.argument("resource", type=RESOURCE, default="orders")
@click.option(
    "-n",
    "--last",
    "count",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    help="Start with the last N events.",
)
@click.option("--from", "start", help="Start after this entry of the stream; 0 is the beginning.")
@click.option("--follow/--no-follow", default=True, help="Wait for new events, or exit.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print whole events as JSON lines, with the record in `data`."
)
@account_option
def command(
    *, resource: str, count: int, start: str | None, follow: bool, as_json: bool, account: str | None
) -> None:
    """Show the events of RESOURCE (orders) as they are published. Acknowledges nothing; no group is affected."""
    if resource not in RESOURCES:
        raise SettingsError(f"Unknown resource {resource!r}. Known resources: {', '.join(RESOURCES)}")
    if start is not None and not _ENTRY_ID.fullmatch(start):
        raise SettingsError(f"--from: {start!r} is not the id of an entry, such as 1767225600000-0 or 0")
    settings = prepare(quiet=True)
    try:
        run_async(lambda: _tail(settings, resource, count, start, account, follow=follow, as_json=as_json))
    except KeyboardInterrupt:
        sys.exit(0)


async def _tail(
    settings: Settings,
    resource: str,
    count: int,
    start: str | None,
    account: str | None,
    *,
    follow: bool,
    as_json: bool,
) -> None:
    url = running_redis_url(settings)
    client = connect(url)
    show = _show_json if as_json else _show_line
    try:
        key = (await pick_keys(client, account, settings)).stream(resource)
        if start is None:
            events = await stream.last(client, key, max(count, 1))
            start = events[-1].entry_id if events else "0"
            for event in events[-count:] if count else []:
                show(event)
        async for event in stream.follow(client, key, start, wait=follow):
            show(event)
    except (redis.exceptions.RedisError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise RedisUnavailable(
            f"{hide_password(url)} cannot be read: {explain(error).rstrip('.')}. To find the cause: ordersync doctor."
        ) from None
    finally:
        await client.aclose()


def _show_line(event: Event) -> None:
    action = click.style(f"{event.action:<8}", fg=_COLOURS.get(event.action))
    click.echo(f"{event.time}  {action}  {event.subject}  v{event.version}  {', '.join(event.changed)}")


def _show_json(event: Event) -> None:
    """Print one line that contains the record as it was served, not encoded again."""
    click.echo(event.json_line())
