"""`ordersync ui`."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import click

from worker.admin.overview import OverviewCollector
from worker.cli.common.options import prepare
from worker.cli.common.output import say
from worker.cli.common.params import Integer
from worker.cli.common.redis import client_of
from worker.cli.run.monitoring import USUAL_PORT
from worker.clock import SystemClock
from worker.redis.connections import answer
from worker.service.loop import ended_by_sigterm, run_async
from worker.telemetry.http import serving, serving_near
from worker.web.feed import Feed
from worker.web.routes import Page
from worker.web.search import find_timeline

if TYPE_CHECKING:
    from worker.admin.timeline import Timeline
    from worker.config.settings import Settings

HOST = "127.0.0.1"
DEFAULT_PORT = USUAL_PORT + 1
"""The daemon's own page is commonly on the port before."""


@click.command(epilog="\b\nExamples:\n  ordersync ui\n  ordersync ui --port 8000")
@click.option(
    "--port",
    type=Integer(0, 65535),
    help=f"Port on {HOST}; 0 selects a free one [default: {DEFAULT_PORT}, or a free one if it is taken].",
)
def command(*, port: int | None) -> None:
    """Serve the page that shows the state in a browser, on this machine only, until Ctrl-C.

    Shows what is in the Redis of the settings: health, runs, proven hours, groups, dead letters, workers, resyncs, and
    the timeline of an order. It changes nothing, and shows no field of a record. A daemon with ORDERSYNC_METRICS__PORT
    serves the same page itself.
    """
    settings = prepare(quiet=True)
    try:
        run_async(lambda: ended_by_sigterm(_serve(settings, port)))
    except KeyboardInterrupt:
        sys.exit(0)


async def _serve(settings: Settings, port: int | None) -> None:
    clock = SystemClock()
    async with client_of(settings) as client, AsyncExitStack() as stack:

        async def search(name: str, account: str) -> Timeline:
            return await find_timeline(client, settings.redis.keys, name, account)

        await answer(client.time())  # a server that cannot write refuses PING
        feed = Feed(OverviewCollector(client, settings), clock)
        routes, names = Page(feed, search, clock).routes(), settings.metrics.names
        number = await stack.enter_async_context(
            serving_near(HOST, DEFAULT_PORT, routes, names=names)
            if port is None
            else serving(HOST, port, routes, names=names, setting="--port")
        )
        say(f"The page is at http://{HOST}:{number}/ until Ctrl-C.")
        await feed.sample()
