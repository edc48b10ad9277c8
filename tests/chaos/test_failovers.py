"""Failovers and moved slots, one after the other, while two daemons poll and consumers read."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ordersync_consumer import connect
from tests.support.cluster import Cluster
from tests.support.programs import Program, login_settings
from tests.support.sentinels import Sentinels
from tests.support.servers import Server
from tests.support.tally import tallied
from tests.support.waiting import eventually
from worker.keys import Keys
from worker.sandbox import CLIENT_ID, CLIENT_SECRET, SandboxServer

pytestmark = [pytest.mark.anyio, pytest.mark.long]

ACCOUNTS = ("north", "delta", "beta")
ORDERS = 400
TURNS = 3


@pytest.fixture
def shop() -> Iterator[SandboxServer]:
    with SandboxServer(orders=ORDERS) as server:
        yield server


def settings_of(shop: SandboxServer, url: str, folder: Path, **more: str) -> dict[str, str]:
    """The settings of a daemon with three accounts, whose full scans take some seconds and follow one another."""
    folder.mkdir()
    file = folder / "accounts.toml"
    file.write_text(
        "".join(
            f'[accounts.{name}.api]\nbase_url = "{shop.url}"\nclient_id = "{CLIENT_ID}"\n'
            f'client_secret = "{CLIENT_SECRET}"\npage_size = 20\nmax_concurrency = 1\nrequests_per_second = 20\n'
            for name in ACCOUNTS
        )
    )
    file.chmod(0o600)
    settings = login_settings(shop, url, folder, accounts_file=str(file), poll__complete_every="2", **more)
    return {name: value for name, value in settings.items() if not name.startswith("api__")}


async def keep_changing(shop: SandboxServer) -> None:
    while True:
        shop.store.change(3)
        await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def at_work(shop: SandboxServer, url: str, folder: Path, **more: str) -> AsyncIterator[None]:
    """Two daemons serve the same accounts, a consumer reads each, and orders change all the time.

    At the end nothing is missing, and what came twice was lost by a failover, as the log says.
    """
    async with contextlib.AsyncExitStack() as stack:
        client = connect(url)
        stack.push_async_callback(client.aclose)
        tallies = [await stack.enter_async_context(tallied(client, name)) for name in ACCOUNTS]
        daemons = []
        for name in ("one", "two"):
            settings = settings_of(shop, url, folder / name, **more)
            daemons.append(stack.enter_context(Program(folder / name, **settings)))
        changing = asyncio.ensure_future(keep_changing(shop))
        try:
            await eventually(lambda: all(len(tally.last) > 20 for tally in tallies))
            yield
        finally:
            changing.cancel()
            await asyncio.wait([changing])
        truth = shop.store.truth()
        await eventually(lambda: not any(tally.missing(truth) for tally in tallies))
        logged = [line for daemon in daemons for line in daemon.logs("redis_went_back")]
        twice, lost = sum(len(tally.twice) for tally in tallies), sum(line["events"] for line in logged)
        logging.getLogger(__name__).warning(
            "missing 0, twice %d, lost by failovers %d, events %d, redelivered %d, new generations %d",
            twice,
            lost,
            sum(tally.taken for tally in tallies),
            sum(tally.redelivered for tally in tallies),
            len(logged),
        )
        assert twice <= lost
        assert [daemon.process.poll() for daemon in daemons] == [None, None]


async def test_masters_killed_one_after_the_other(shop: SandboxServer, tmp_path: Path) -> None:
    """The sentinels name another one each time; the old one comes back as a replica."""
    with Sentinels() as sentinels:
        async with at_work(shop, sentinels.url, tmp_path):
            for _ in range(TURNS):
                old = sentinels.master
                await asyncio.to_thread(sentinels.fail_over)
                await asyncio.to_thread(sentinels.rejoin, old)
                await asyncio.sleep(3)  # for what is under way meanwhile


async def test_nodes_killed_and_slots_moved(shop: SandboxServer, own_server: Server, tmp_path: Path) -> None:
    """Each account loses its master, and its slot is moved, key by key."""
    with Cluster() as cluster:
        async with at_work(shop, cluster.url, tmp_path, redis__queue_url=own_server.url):
            for account in ACCOUNTS:
                base = Keys(account).base
                old = cluster.master_of(base)
                await asyncio.to_thread(cluster.fail_over, base)
                await asyncio.to_thread(old.start)
                await asyncio.sleep(3)
                await asyncio.to_thread(cluster.move, base, pause=0.05)
                await asyncio.sleep(3)
