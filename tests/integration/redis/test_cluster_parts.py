"""A part of a cluster is away: the accounts of the other parts go on, and those of this one when it is back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from ordersync_consumer import connect, load_functions
from ordersync_consumer.servers.cluster import at
from ordersync_consumer.servers.topology import SlotUnavailable
from tests.support.cluster import ACCOUNTS, Cluster, settings_of
from tests.support.programs import Program, ordersync_process
from tests.support.servers import Server
from tests.support.tally import Tally, tallied
from tests.support.waiting import eventually
from worker.keys import Keys
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio

ORDERS = 80


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(whole=False) as running:
        yield running


@pytest.fixture
def shop() -> Iterator[SandboxServer]:
    with SandboxServer(orders=ORDERS) as server:
        yield server


def is_told(shop: SandboxServer, tallies: Mapping[str, Tally], *accounts: str) -> bool:
    """Return whether the consumers of these accounts were told what is true."""
    truth = shop.store.truth()
    return not any(tallies[name].missing(truth) for name in accounts)


@pytest.mark.slow
@pytest.mark.parametrize("lost", ACCOUNTS)
async def test_the_accounts_of_other_nodes_go_on(
    cluster: Cluster, shop: SandboxServer, own_server: Server, tmp_path: Path, lost: str
) -> None:
    """One third of the slots has no node, with keys of an account, and with those that accounts share."""
    settings = settings_of(shop, cluster, own_server, tmp_path)
    async with AsyncExitStack() as stack:
        client = connect(cluster.url)
        stack.push_async_callback(client.aclose)
        tallies = {name: await stack.enter_async_context(tallied(client, name)) for name in ACCOUNTS}
        told = partial(is_told, shop, tallies)
        with Program(tmp_path, **settings) as daemon:
            await eventually(lambda: told(*ACCOUNTS))
            away = await asyncio.to_thread(cluster.take_away, Keys(lost).base)
            others = [name for name in ACCOUNTS if name != lost]
            for _ in range(3):
                shop.store.change(5)
                await eventually(lambda: told(*others))
            assert not told(lost)
            line = await daemon.logged("slot_unavailable")
            assert line["accounts"] == [lost]
            assert line["node"] == f"127.0.0.1:{away[-1].port}"
            started = len(daemon.logs("worker_started"))

            done = await asyncio.to_thread(ordersync_process, "status", "--json", cwd=tmp_path, **settings)
            assert done.returncode == 0, done.stderr
            rows = {row["account"]: row for row in json.loads(done.stdout) if row["resource"] == "orders"}
            assert {name: rows[name]["health"] for name in ACCOUNTS} == {
                name: "failing" if name == lost else "ok" for name in ACCOUNTS
            }
            assert f"127.0.0.1:{away[-1].port}" in rows[lost]["cause"]

            for node in reversed(away):
                await asyncio.to_thread(node.start)
            await eventually(lambda: told(*ACCOUNTS))
            await daemon.logged("slot_available")
            assert [tally.twice for tally in tallies.values()] == [[], [], []]
            assert (started, daemon.logs("queue_lost"), daemon.logs("worker_failed")) == (1, [], [])
            assert daemon.process.poll() is None


@pytest.mark.slow
async def test_a_worker_that_starts_meanwhile(
    cluster: Cluster, shop: SandboxServer, own_server: Server, tmp_path: Path
) -> None:
    """It serves the accounts of the other nodes at once, and the rest when the node is back."""
    settings = settings_of(shop, cluster, own_server, tmp_path)
    async with AsyncExitStack() as stack:
        client = connect(cluster.url)
        stack.push_async_callback(client.aclose)
        away = await asyncio.to_thread(cluster.take_away, Keys("beta").base)
        tallies = {name: await stack.enter_async_context(tallied(client, name)) for name in ACCOUNTS}
        truth = shop.store.truth()
        with Program(tmp_path, **settings) as daemon:
            await eventually(lambda: not any(tallies[name].missing(truth) for name in ("north", "delta")))
            assert tallies["beta"].last == {}
            with pytest.raises(SlotUnavailable):
                await load_functions(client)
            up = [at(client, Keys(name).base) for name in ("north", "delta")]
            assert all([await server.function_list() for server in up])  # type: ignore[misc] # awaitable
            done = await asyncio.to_thread(
                ordersync_process, "doctor", "--timeout", "600", cwd=tmp_path, **settings
            )
            assert done.returncode == 3
            assert f"node 127.0.0.1:{away[-1].port} of redis+cluster://" in done.stdout
            for node in reversed(away):
                await asyncio.to_thread(node.start)
            await eventually(lambda: not tallies["beta"].missing(truth))
            assert [tally.twice for tally in tallies.values()] == [[], [], []]
            assert len(daemon.logs("worker_started")) == 1


@pytest.mark.slow
async def test_a_node_that_does_not_answer(
    cluster: Cluster, shop: SandboxServer, own_server: Server, tmp_path: Path
) -> None:
    """Connections to it hang; the accounts of the other nodes do not wait for them, nor for a free connection."""
    settings = settings_of(shop, cluster, own_server, tmp_path)
    async with AsyncExitStack() as stack:
        client = connect(cluster.url, max_connections=4)
        stack.push_async_callback(client.aclose)
        tallies = {name: await stack.enter_async_context(tallied(client, name)) for name in ACCOUNTS}
        told = partial(is_told, shop, tallies)
        with Program(tmp_path, **settings) as daemon:
            await eventually(lambda: told(*ACCOUNTS))
            hung = await asyncio.to_thread(cluster.freeze, Keys("delta").base)
            line = await daemon.logged("slot_unavailable")
            assert line["accounts"] == ["delta"]
            for _ in range(3):
                shop.store.change(5)
                await eventually(lambda: told("north", "beta"))
            assert not told("delta")
            calls = [client.exists(Keys("delta").layout) for _ in range(20)]
            answers = await asyncio.gather(*calls, client.exists(Keys("beta").layout), return_exceptions=True)
            assert {type(each) for each in answers[:-1]} == {SlotUnavailable}
            assert answers[-1] == 1
            for node in hung:
                node.thaw()
            await eventually(lambda: told(*ACCOUNTS))
            assert [tally.twice for tally in tallies.values()] == [[], [], []]
            assert (len(daemon.logs("worker_started")), daemon.logs("worker_failed")) == (1, [])
