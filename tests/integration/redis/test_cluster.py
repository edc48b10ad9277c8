"""A cluster of six nodes: several accounts, a master killed, a slot moved, and every command."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import redis
import redis.exceptions
from redis.asyncio import RedisCluster

from ordersync_consumer import Consumer, SettingsError, connect, load_functions
from ordersync_consumer.idempotency import RedisOnce
from ordersync_consumer.servers.cluster import at, servers_of
from tests.recorded.scene import Scene
from tests.support.cluster import ACCOUNTS, PASSWORD, Cluster, settings_of
from tests.support.commands import LEAVES, ordersync
from tests.support.deployment.deployed import make_secrets
from tests.support.programs import Program, login_settings, ordersync_process
from tests.support.servers import Server
from tests.support.streams import Writer
from tests.support.tally import tallied
from tests.support.waiting import eventually
from tests.support.webhooks import webhook_receiver
from worker.keys import Keys
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio
ORDERS = 80


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as running:
        yield running


@pytest.fixture
def shop() -> Iterator[SandboxServer]:
    with SandboxServer(orders=ORDERS) as server:
        yield server


async def test_a_master_killed_and_a_slot_moved(
    cluster: Cluster, shop: SandboxServer, own_server: Server, tmp_path: Path
) -> None:
    """Nothing is missing and nothing comes twice, for any account."""
    settings = settings_of(shop, cluster, own_server, tmp_path)
    async with AsyncExitStack() as stack:
        client = connect(cluster.url)
        stack.push_async_callback(client.aclose)
        tallies = [await stack.enter_async_context(tallied(client, name)) for name in ACCOUNTS]

        def is_told() -> bool:
            truth = shop.store.truth()
            return not any(tally.missing(truth) for tally in tallies)

        with Program(tmp_path, **settings) as daemon:
            await eventually(lambda: len(tallies[0].last) >= 20)
            assert len(tallies[0].last) < ORDERS
            await asyncio.to_thread(cluster.fail_over, Keys("north").base)
            shop.store.change(5)
            await eventually(is_told)
            assert (await daemon.logged("redis_went_back"))["account"] == "north"
            await asyncio.to_thread(cluster.move, Keys("delta").base)
            shop.store.change(5)
            await eventually(is_told)
            shop.store.change(5)
            await eventually(is_told)
            assert [tally.twice for tally in tallies] == [[], [], []]
            assert daemon.process.poll() is None
            assert {line["account"] for line in daemon.logs("redis_went_back")} == {"north"}


def test_every_command(own_server: Server, tmp_path: Path) -> None:
    """They find the node of their account; no password is shown; the queue has its own server."""
    with Cluster() as cluster, SandboxServer(orders=6) as shop:  # where no other account is
        examples = Scene(tmp_path, cluster.url, shop, redis__queue_url=own_server.url).play()
    assert {example.line: example.output for example in examples if example.code} == {}
    assert set(LEAVES) <= {example.command for example in examples}
    said = "".join(example.output for example in examples)
    assert PASSWORD not in said
    assert said.count("(events and state): ") == 3  # for each node


def test_a_queue_on_a_cluster(cluster: Cluster, shop: SandboxServer, tmp_path: Path) -> None:
    """Refused in a sentence that says what to set, by the daemon and the doctor; other commands need no queue."""
    settings = login_settings(shop, cluster.url, tmp_path, account="gamma")
    sentence = "The queue of arq cannot be on a cluster, because arq changes keys of several slots at once"
    done = ordersync("run", cwd=tmp_path, **settings)
    assert done.returncode == 2
    assert f"{sentence}. Set ORDERSYNC_REDIS__QUEUE_URL to one server" in done.stderr
    done = ordersync("doctor", cwd=tmp_path, **settings)
    assert done.returncode == 2
    assert sentence in done.stdout
    assert "set ORDERSYNC_REDIS__QUEUE_URL to one server" in done.stdout
    assert ordersync("run", "--once", cwd=tmp_path, **settings).returncode == 0
    done = ordersync("status", cwd=tmp_path, **settings, redis__queue_url=cluster.url)
    assert done.returncode == 2
    assert "arq's queue cannot be on a cluster" in done.stderr
    assert PASSWORD not in done.stderr


def test_a_key_of_another_account(cluster: Cluster) -> None:
    """A client for one account does not follow a node to another account's keys: that is an error of the program."""

    async def main() -> None:
        client = connect(cluster.url)
        try:
            await client.set("{north}:a", 1)
            beta = at(client, "{beta}:")
            with pytest.raises(redis.exceptions.ResponseError, match="MOVED"):
                await beta.get("{north}:a")
            assert await at(beta, "{north}:a").get("{north}:a") == b"1"
            pipe = client.pipeline(transaction=True)
            pipe.get("{north}:a")
            pipe.get("{beta}:a")
            with pytest.raises(redis.exceptions.ResponseError, match="CROSSSLOT"):
                await pipe.execute()
            with pytest.raises(TypeError, match="SCAN concerns one server"):
                await client.scan()
        finally:
            await client.aclose()

    asyncio.run(main())


def test_functions_are_on_every_master(cluster: Cluster) -> None:
    """Also on a node that has become the master, which has replicated them."""

    async def main() -> None:
        client = connect(cluster.url)
        try:
            await load_functions(client)
            assert await load_functions(client) == []
            for server in await servers_of(client):
                assert len(await server.function_list()) > 5  # type: ignore[misc] # awaitable
        finally:
            await client.aclose()

    asyncio.run(main())


async def test_a_program_of_its_own(cluster: Cluster) -> None:
    """A consumer and its effects in Redis with redis-py's client of a cluster. What else takes a client refuses it."""
    account, stream = "shop", Keys("shop").stream("orders")
    theirs = RedisCluster.from_url(cluster.master_of(stream).url)
    ours = connect(cluster.url)
    once = RedisOnce(theirs, group="g", account=account)
    done: list[bool] = []
    await Writer(ours, stream).add(2)
    with pytest.raises(SettingsError, match=r"pass ordersync_consumer.connect\('redis\+cluster://"):
        await load_functions(cast("Any", theirs))
    with pytest.raises(SettingsError, match="The client is not asynchronous"):
        RedisOnce(cast("Any", redis.Redis()), group="g")
    async with once, Consumer(theirs, group="g", resources="orders", account=account, wait=False) as consumer:
        async for delivery in consumer:
            done += [await once.apply(delivery, lambda pipe: pipe.incr("{shop}:count")) for _ in range(2)]
            await delivery.ack()
    assert done == [True, False, True, False]
    assert await ours.get("{shop}:count") == b"2"
    assert (await ours.xpending(stream, "g"))["pending"] == 0
    await ours.aclose()
    await theirs.aclose()


async def test_the_page_and_forwarded_events(
    cluster: Cluster, shop: SandboxServer, own_server: Server, tmp_path: Path
) -> None:
    """`ui` shows an account on a cluster, and `forward` sends its events."""
    settings = login_settings(shop, cluster.url, tmp_path, account="two", redis__queue_url=own_server.url)
    assert ordersync("run", "--once", cwd=tmp_path, **settings).returncode == 0
    with webhook_receiver() as receiver:
        words = ("forward", "--group", "f", "--to", receiver.url, "--once", "orders")
        done = ordersync(*words, cwd=tmp_path, **settings)
        assert done.returncode == 0, done.stderr
        assert len({event["id"] for request in receiver.requests for event in request.events}) == ORDERS
    command = (sys.executable, "-m", "worker.cli", "ui", "--port", "0")
    with Program(tmp_path, *command, **settings) as page:
        await eventually(lambda: "http://" in page.out + page.err)
        found = re.search(r"http://[0-9.:]+", page.out + page.err)
        assert found is not None
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"{found[0]}/")
        assert answer.status_code == 200
        assert "two" in answer.text


async def test_the_users_of_a_deployment(
    cluster: Cluster, shop: SandboxServer, own_server: Server, tmp_path: Path
) -> None:
    """Each may do its work on a cluster, and asks for nothing that it may not."""
    secrets = tmp_path / "secrets"
    make_secrets(secrets, "--sandbox")
    lines = (secrets / "redis" / "users.acl").read_text().splitlines()
    nodes = [node for node in cluster.nodes if cluster.is_up(node)]
    for node in nodes:
        for name, *rights in (line.split()[1:] for line in lines if not line.startswith("user default")):
            cluster.ask(node, "ACL SETUSER", name, *_grouped(rights))
        cluster.ask(node, "ACL LOG", "RESET")

    def settings(user: str) -> dict[str, str]:
        login = (secrets / user / "ORDERSYNC_REDIS__URL").read_text().partition("@")[0].partition("://")[2]
        hosts = cluster.url.partition("@")[2]
        more = {"account": "three", "redis__queue_url": own_server.url}
        return login_settings(shop, f"redis+cluster://{login}@{hosts}", tmp_path / "data", **more)

    with Program(tmp_path, **settings("worker")) as daemon:
        key = Keys("three").stream("orders")
        await eventually(lambda: cluster.ask(cluster.master_of(key), "XLEN", key) == ORDERS)
        for user, *words in (
            ("consumer", "consume", "--group", "g", "--once", "orders", "--", "cat"),
            ("operator", "status"),
            ("operator", "replay", "--group", "g", "orders", "--since", "1h"),
            ("operator", "pause", "orders", "--reason", "a test"),
            ("operator", "resume", "orders"),
        ):
            done = await asyncio.to_thread(ordersync_process, *words, cwd=tmp_path, **settings(user))
            assert done.returncode == 0, (user, words, done.stderr)
        assert daemon.process.poll() is None
    refused = [entry["object"] for node in nodes for entry in cluster.ask(node, "ACL LOG")]
    assert set(refused) <= {"config|get"}  # which the worker can do without


def _grouped(rights: list[str]) -> list[str]:
    """Rights in brackets are one word of ACL SETUSER."""
    words: list[str] = []
    for right in rights:
        if words and words[-1].startswith("(") and not words[-1].endswith(")"):
            words[-1] += f" {right}"
        else:
            words.append(right)
    return words
