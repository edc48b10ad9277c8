"""Three sentinels, a master and a replica: the daemon, consumers and commands follow a failover."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from ordersync_consumer import connect
from tests.recorded.scene import Scene
from tests.support.commands import LEAVES, ordersync
from tests.support.programs import Program, login_settings
from tests.support.sentinels import NAME, PASSWORD, SENTINEL_PASSWORD, Sentinels
from tests.support.servers import Server
from tests.support.tally import tallied
from tests.support.waiting import eventually
from worker.keys import Keys
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio

ORDERS = 120
SLOW = {"api__page_size": "10", "api__max_concurrency": "1", "api__requests_per_second": "40"}
"""A full scan of all orders takes half a second."""


@pytest.fixture
def sentinels() -> Iterator[Sentinels]:
    with Sentinels() as running:
        yield running


@pytest.fixture
def shop() -> Iterator[SandboxServer]:
    with SandboxServer(orders=ORDERS) as server:
        yield server


def test_every_command(sentinels: Sentinels, tmp_path: Path) -> None:
    """They find the master by the address of the sentinels, and no password is shown."""
    with SandboxServer(orders=6) as shop:
        examples = Scene(tmp_path, sentinels.url, shop).play()
    assert {example.line: example.output for example in examples if example.code} == {}
    assert set(LEAVES) <= {example.command for example in examples}
    said = "".join(example.output for example in examples)
    assert PASSWORD not in said
    assert SENTINEL_PASSWORD not in said


WRONG = [
    # The part of the address, what takes its place, and what is said.
    (f"/{NAME}/", "/other/", "knows no master of this name"),
    (f"sentinel_password={SENTINEL_PASSWORD}", "", "Authentication required"),
    (f":{PASSWORD}@", ":wrong-words-of-all@", "refuses the user name or the password"),
]


@pytest.mark.parametrize("wrong", WRONG)
def test_addresses_that_lead_to_no_master(
    sentinels: Sentinels, shop: SandboxServer, tmp_path: Path, wrong: tuple[str, str, str]
) -> None:
    """Exit 3 with what the sentinels said."""
    old, new, words = wrong
    url = sentinels.url.replace(old, new)
    assert url != sentinels.url
    settings = login_settings(shop, url, tmp_path)
    for command in ("doctor", "status"):
        done = ordersync(command, cwd=tmp_path, **settings)
        assert done.returncode == 3
        assert words in done.stdout + done.stderr
        assert "wrong-words-of-all" not in done.stdout + done.stderr


async def test_commits_that_replicas_must_have(
    sentinels: Sentinels, shop: SandboxServer, tmp_path: Path
) -> None:
    """A poll fails while too few replicas confirm its commit; no event of it comes twice when they do."""
    more = {"redis__wait_replicas": "1", "redis__wait_timeout": "1"}
    settings = login_settings(shop, sentinels.url, tmp_path, **more)
    replica = next(server for server in sentinels.servers if server is not sentinels.master)
    client = connect(sentinels.url)
    async with tallied(client) as tally:
        with Program(tmp_path, **settings) as daemon:
            await eventually(lambda: not tally.missing(shop.store.truth()))
            assert daemon.logs("poll_failed") == []
            replica.freeze()
            shop.store.change(3)
            line = await daemon.logged("poll_failed")
            assert line["error"].startswith(
                "too few replicas have the last commit (UNCONFIRMED 0 of 1 replicas"
            )
            assert "ORDERSYNC_REDIS__WAIT_REPLICAS" in line["error"]
            replica.thaw()
            shop.store.change(3)
            await eventually(lambda: not tally.missing(shop.store.truth()))
            assert tally.twice == []
    await client.aclose()


async def test_an_erasure_that_replicas_must_have(
    sentinels: Sentinels, shop: SandboxServer, tmp_path: Path
) -> None:
    """It fails while too few replicas have it, since a failover would bring the record back; then it stays erased."""
    more = {"redis__wait_replicas": "1", "redis__wait_timeout": "1", "account": "erased"}
    settings = login_settings(shop, sentinels.url, tmp_path, **more)
    order, stream = shop.store.ids()[0], Keys("erased").stream("orders")
    assert ordersync("run", "--once", cwd=tmp_path, **settings).returncode == 0
    master = sentinels.master
    replica = next(server for server in sentinels.servers if server is not master)
    replica.freeze()
    done = ordersync("erase", order, "--yes", cwd=tmp_path, **settings)
    assert done.returncode == 3, done.stdout
    assert "too few replicas have the last commit (UNCONFIRMED 0 of 1 replicas" in done.stderr
    replica.thaw()
    assert not names(master, stream, order)
    await eventually(lambda: ordersync("erase", order, "--yes", cwd=tmp_path, **settings).returncode == 0)
    await asyncio.to_thread(sentinels.fail_over)
    assert sentinels.master is replica
    assert not names(replica, stream, order)


def names(server: Server, stream: str, order: str) -> bool:
    """True if the stream of a server has an event of an order that says more than that it is erased."""
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        entries = client.xrange(stream)
    return any(fields["subject"] == order and not fields["type"].endswith(".erased") for _, fields in entries)


async def test_what_a_failover_loses(sentinels: Sentinels, shop: SandboxServer, tmp_path: Path) -> None:
    """A replica that lags lacks the last commits: the worker notices, says so, and publishes them again."""
    settings = login_settings(shop, sentinels.url, tmp_path, poll__complete_every="2")
    client = connect(sentinels.url)
    async with tallied(client) as tally:
        with Program(tmp_path, **settings) as daemon:
            await eventually(lambda: not tally.missing(shop.store.truth()))
            master = sentinels.master
            replica = next(server for server in sentinels.servers if server is not master)
            replica.freeze()
            with redis.Redis.from_url(master.url) as own:
                own.execute_command("CLIENT KILL TYPE replica")  # what is on the way is not lost
            shop.store.change(5)
            await eventually(lambda: not tally.missing(shop.store.truth()))
            master.stop(kill=True)
            replica.thaw()
            line = await daemon.logged("redis_went_back")
            assert (line["events"], line["in_doubt"]) == (5, False)
            shop.store.change(5)
            await eventually(lambda: not tally.missing(shop.store.truth()))
            assert len(tally.twice) <= 5  # what was lost, and no more
    await client.aclose()


async def test_a_master_killed_in_a_scan(sentinels: Sentinels, shop: SandboxServer, tmp_path: Path) -> None:
    """Nothing is missing and nothing comes twice. The log says that a failover may have lost something."""
    settings = login_settings(shop, sentinels.url, tmp_path, **SLOW, poll__complete_every="3")
    client = connect(sentinels.url)
    async with tallied(client) as tally:
        with Program(tmp_path, **settings) as daemon:
            await eventually(lambda: len(tally.last) >= 20)
            assert len(tally.last) < ORDERS
            await asyncio.to_thread(sentinels.fail_over)
            shop.store.change(5)
            await eventually(lambda: not tally.missing(shop.store.truth()))
            line = await daemon.logged("redis_went_back")
            assert line["in_doubt"]
            assert line["cause"] == "Redis failed over to a replica, which may lack the last events"
            shop.store.change(5)
            await eventually(lambda: not tally.missing(shop.store.truth()))
            assert (tally.twice, daemon.process.poll()) == ([], None)
            done = ordersync("status", "--json", cwd=tmp_path, **settings)
    await client.aclose()
    assert done.returncode == 0, done.stderr
