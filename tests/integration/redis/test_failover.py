"""A failover behind one address: the old primary lives on as a replica, and keeps its connections."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
import uvloop

from ordersync_consumer import Consumer
from ordersync_consumer.consumer.connection import is_transient
from tests.support.programs import Program, login_settings
from tests.support.proxy import Proxy
from tests.support.servers import Server
from tests.support.streams import fields_of
from tests.support.waiting import eventually
from worker.keys import Keys
from worker.redis.connections import connect
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio

STREAM = Keys("default").stream("orders")


@dataclass
class Pair:
    """Two servers, of which one is the primary, behind one address."""

    first: Server
    second: Server
    proxy: Proxy

    @property
    def url(self) -> str:
        """The address that clients know."""
        return f"redis://{self.proxy.address}/0"

    def fail_over(self) -> None:
        """Make the second server the primary, and the first one its replica. No connection is cut."""
        with redis.Redis.from_url(self.first.url) as old, redis.Redis.from_url(self.second.url) as new:
            new.replicaof("NO", "ONE")
            old.replicaof("127.0.0.1", self.second.port)
        self.proxy.point_at(self.second.port)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    servers = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        servers.append(Server(folder))
        servers[-1].start()
    first, second = servers
    try:
        with redis.Redis.from_url(second.url) as client:
            client.replicaof("127.0.0.1", first.port)
        with Proxy("127.0.0.1", first.port) as proxy:
            yield Pair(first, second, proxy)
    finally:
        for server in servers:
            server.stop(kill=True)


async def replicated(client: Any, entries: int) -> bool:
    return int(await client.xlen(STREAM)) >= entries


async def test_the_daemon_follows_a_failover(pair: Pair, sandbox: SandboxServer, tmp_path: Path) -> None:
    """Every command is refused by what is a replica now, until the connection is made anew."""
    with Program(tmp_path, **login_settings(sandbox, pair.url, tmp_path)) as daemon:
        client = redis.asyncio.Redis.from_url(pair.second.url)
        await eventually(lambda: replicated(client, 50))
        pair.fail_over()
        sandbox.store.change(3)
        await eventually(lambda: replicated(client, 53))
        entries = await client.xrange(STREAM)
        await client.aclose()
        assert len({fields[b"id"] for _, fields in entries}) == len(entries) == 53
        assert daemon.process.poll() is None


async def test_each_kind_of_call_connects_anew(pair: Pair) -> None:
    """A command, a pipeline, a transaction and a script, each on a connection that was made before the failover."""
    client = connect(pair.url)
    script = client.register_script("return redis.call('SET', KEYS[1], ARGV[1])")

    async def command() -> None:
        await client.set("command", 1)

    async def pipeline(*, transaction: bool) -> None:
        async with client.pipeline(transaction=transaction) as pipe:
            pipe.get("other")
            pipe.set(f"transaction={transaction}", 1)
            await pipe.execute()

    async def by_script() -> None:
        await script(keys=["script"], args=[1])

    calls = [command, lambda: pipeline(transaction=False), lambda: pipeline(transaction=True), by_script]
    for call in calls:
        await call()
        pair.fail_over()
        await call()
        pair.first, pair.second = pair.second, pair.first
    await client.aclose()


@contextlib.asynccontextmanager
async def consuming(client: Any, seen: list[str]) -> AsyncIterator[None]:
    async def work() -> None:
        async with Consumer(client, group="warehouse", resources="orders", name="w-1", block=0.2) as consumer:
            async for delivery in consumer:
                seen.append(delivery.event.subject)
                await delivery.ack()

    task = asyncio.ensure_future(work())
    try:
        yield
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.wait([task])


def _as_many(seen: list[str], number: int) -> bool:
    return len(seen) >= number


async def test_a_consumer_follows_a_failover(pair: Pair) -> None:
    """Also with a client of its own program, which knows nothing of it."""
    client = redis.asyncio.Redis.from_url(pair.url)
    seen: list[str] = []
    await client.xadd(STREAM, fields_of(1, b'{"id":"a"}', "orders") | {"subject": "a"})
    async with consuming(client, seen):
        await eventually(lambda: seen == ["a"])
        pair.fail_over()
        other = redis.asyncio.Redis.from_url(pair.second.url)
        await other.xadd(STREAM, fields_of(2, b'{"id":"b"}', "orders") | {"subject": "b"})
        await eventually(lambda: seen == ["a", "b"])
        await eventually(lambda: _none_pending(other))
        await other.aclose()
    await client.aclose()


async def _none_pending(client: Any) -> bool:
    return int((await client.xpending(STREAM, "warehouse"))["pending"]) == 0


def test_a_reset_under_uvloop_is_a_lost_connection(tmp_path: Path, own_server: Server) -> None:
    """RuntimeError comes where asyncio raises OSError: a consumer waits and goes on, as does our own client."""

    async def main() -> None:
        with Proxy("127.0.0.1", own_server.port) as proxy:
            url = f"redis://{proxy.address}/0"
            ours, theirs, seen = connect(url), redis.asyncio.Redis.from_url(url), list[str]()
            async with consuming(theirs, seen):
                for number in range(1, 9):
                    fields: Any = fields_of(number)
                    await ours.xadd(STREAM, fields)
                    await eventually(partial(_as_many, seen, number))
                    proxy.cut()
            await ours.aclose()
            await theirs.aclose()

    uvloop.run(main())


@pytest.mark.parametrize(
    "message",
    [
        "READONLY You can't write against a read only replica.",
        "Error running script (call to f_1): @user_script:1: -READONLY You can't write against a read only replica.",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "NOREPLICAS Not enough good replicas to write.",
        "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
        "CLUSTERDOWN The cluster is down",
        "BUSY Redis is busy running a script.",
        "MISCONF Errors writing to the AOF file: No space left on device",
    ],
)
def test_what_a_server_says_of_its_state_is_no_answer_for_good(message: str) -> None:
    """A consumer waits, and asks again."""
    assert is_transient(redis.exceptions.ResponseError(message))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed"),
            True,
        ),
        (RuntimeError("a bug"), False),
    ],
)
def test_which_runtime_errors_are_lost_connections(error: Exception, expected: bool) -> None:
    """Those of a transport that is closed."""
    assert is_transient(error) is expected
