"""`ordersync tail`."""

from __future__ import annotations

import re
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import click
import redis.exceptions

from ordersync_consumer import tail as stream
from ordersync_consumer.groups import id_before
from ordersync_consumer.resources import check_resource
from worker.cli.common.options import pick_keys, prepare
from worker.cli.common.output import say, say_json_text, say_lines
from worker.cli.common.params import RESOURCE, Integer, account_option, is_given
from worker.cli.common.redis import moment, reader_of
from worker.cli.render.events import STATUS, event_line, status_of
from worker.clock import SystemClock
from worker.errors import SettingsError
from worker.queue.search import EventSearch
from worker.service.loop import run_async

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from ordersync_consumer.envelope import Event
    from worker.cli.common.output import Line
    from worker.config.settings import Settings
    from worker.errors import DataError

_ENTRY_ID = re.compile(r"[0-9]{1,19}(-[0-9]{1,19})?")
SEARCHED = 3000
"""Events that are searched for what a record was before, newest first."""
BETWEEN_SEARCHES = 1.0
"""Seconds between two searches while new events come: each costs Redis some milliseconds."""
REMEMBERED = 10_000
"""Records whose status is remembered."""


@click.command(
    epilog="\b\nExamples:\n  ordersync tail\n  ordersync tail orders --json | jq .subject\n"
    "  ordersync tail orders --from 2h --no-follow"
)
@click.argument("resource", type=RESOURCE, default="orders")
@click.option(
    "-n",
    "--last",
    "count",
    type=Integer(0),
    default=10,
    show_default=True,
    help="Start with the last N events.",
)
@click.option(
    "--from",
    "begin",
    metavar="TIME|ID",
    help="Start with the events since a time or an age such as 2h, or after the entry ID; 0 is the beginning.",
)
@click.option("--follow/--no-follow", default=True, help="Wait for new events, or exit.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print whole events as JSON lines, with the record in `data`."
)
@account_option
def command(
    *, resource: str, count: int, begin: str | None, follow: bool, as_json: bool, account: str | None
) -> None:
    """Show the events of RESOURCE (orders) as they are published. Acknowledges nothing; no group is affected.

    A line shows the time of the change, the id and the number of the record, its version, and what changed: of a
    status the old and the new value, if one of the last 3000 events has the old one.
    """
    check_resource(resource)
    if begin is not None and is_given("count"):
        raise click.UsageError("--from and --last say both where to start. Leave out one of them.")
    start = _start_of(begin)
    settings = prepare(quiet=True)
    try:
        run_async(lambda: _tail(settings, resource, count, start, account, follow=follow, as_json=as_json))
    except KeyboardInterrupt:
        sys.exit(0)


def _start_of(begin: str | None) -> str | None:
    """Return the id of the entry after which to start; None if nothing was typed.

    Raises:
        SettingsError: This is no time, no age and no id, or it lies in the future.

    """
    if begin is None or _ENTRY_ID.fullmatch(begin):
        return begin
    now = SystemClock().now()
    at = moment(begin, "--from", now, ids=True) or 0.0
    if at > now:
        raise SettingsError(f"--from: {begin} is in the future. For new events alone: --last 0")
    return id_before(f"{max(1, int(at * 1000))}-0")


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
    # While it waits in a write for whoever reads its output, Ctrl-C could not cancel it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    async with reader_of(settings) as client:
        key = (await pick_keys(client, account, settings)).stream(resource)
        lines = None if as_json else EventLines(client, key)
        if start is None:
            shown, start = await stream.last(client, key, max(count, 1), on_foreign=_leave_out)
            shown = shown if count else []
            if lines is not None:
                await lines.look_up(shown)
            for event in shown:
                await _show(event, lines)
            if start == "0" and count:
                say(
                    f"Redis has no event of {resource} yet.{' Waiting for one ...' if follow else ''}",
                    err=True,
                )
        async for event in stream.follow(client, key, start, wait=follow, on_foreign=_leave_out):
            await _show(event, lines)


def _leave_out(_: str, error: DataError) -> None:
    """Name an entry that is not an event."""
    with suppress(OSError):
        say(f"Left out: {error}", err=True)


async def _show(event: Event, lines: EventLines | None) -> None:
    """Print one line; as JSON with the record as served, where only characters that are not printable are escaped."""
    if lines is None:
        say_json_text(event.json_line().decode("utf-8", "surrogateescape"))
    else:
        say_lines([await lines.line_of(event)])


class EventLines:
    """Makes the lines of events, and knows what status their records had before."""

    def __init__(self, client: Redis, key: str) -> None:
        self._search, self._key = EventSearch(client), key
        self._known: dict[str, tuple[int, dict[str, str]]] = {}
        self._next_search = 0.0

    async def line_of(self, event: Event) -> Line:
        """Return the line of an event."""
        before = self._before(event)
        if before is None and time.monotonic() >= self._next_search:
            await self.look_up([event])
            before = self._before(event)
        self._note(event)
        return event_line(event, before)

    async def look_up(self, events: Sequence[Event]) -> None:
        """Find out the status that the records of these events had before, as far as the stream still has it."""
        wanted = {event.subject: event.version for event in reversed(events) if self._asks(event)}
        if not wanted:
            return
        try:
            result = await self._search.search(self._key, wanted, limit=SEARCHED)
        except redis.exceptions.ResponseError:  # a user who may only read the stream
            self._next_search = float("inf")
            return
        for found in result.events:
            if found.version < wanted[found.subject]:
                self._note(found)
        self._next_search = time.monotonic() + BETWEEN_SEARCHES

    def _asks(self, event: Event) -> bool:
        return not event.previous and any(name in STATUS for name in event.changed)

    def _before(self, event: Event) -> dict[str, str] | None:
        if not self._asks(event):
            return {}
        version, status = self._known.get(event.subject, (0, {}))
        return status if version == event.version - 1 else None

    def _note(self, event: Event) -> None:
        self._known.pop(event.subject, None)
        self._known[event.subject] = event.version, status_of(event)
        if len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
