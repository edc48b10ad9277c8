"""The consumer and a Redis that loses groups or answers, restarts, hangs, or is full."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import redis.exceptions

from ordersync_consumer import Backoff, Delivery
from ordersync_consumer.consumer.connection import DedicatedConnection
from tests.support.consuming import Stage, ids
from tests.support.servers import Server
from tests.support.streams import STREAM
from tests.support.waiting import PATIENCE, eventually
from worker.errors import GroupGone
from worker.redis.connections import connect

pytestmark = pytest.mark.anyio


async def test_the_group_is_dropped(stage: Stage) -> None:
    """The consumer ends with an error that says what happened."""
    await stage.add("a")

    async def consume() -> None:
        async with stage.consumer(wait=True) as consumer:
            async for delivery in consumer:
                await delivery.ack()
                await stage.redis.xgroup_destroy(STREAM, "g")

    with pytest.raises(GroupGone, match=r"group g of .*stream:orders no longer exists"):
        await asyncio.wait_for(consume(), PATIENCE)


@pytest.mark.parametrize("loss", ["everything", "everything, and published again", "the stream"])
async def test_redis_loses_the_group(stage: Stage, loss: str) -> None:
    """The consumer creates its group again, from the first entry, and misses nothing that is published after that."""
    await stage.add("a", "b")
    async with stage.consumer(wait=True, begin="$" if loss == "the stream" else "0") as consumer:
        if loss == "the stream":
            await stage.redis.delete(STREAM)
        else:
            await (await anext(consumer)).ack()
            held = await anext(consumer)  # Redis forgets that it was delivered
            await stage.redis.flushall()
        if loss == "everything, and published again":
            entries = await stage.add("b", "c")
        else:
            await eventually(lambda: stage.redis.exists(STREAM))
            entries = await stage.add("b", "c")
        if loss != "the stream":
            await held.ack()
        taken = [await anext(consumer), await anext(consumer)]
        assert [each.entry_id for each in taken] == entries
        for each in taken:
            await each.ack()
    assert await stage.pending() == {}


async def test_redis_loses_everything_while_nothing_is_read(stage: Stage) -> None:
    """The renewal of the lock on the name does not hide that the group is gone."""
    entries = await stage.add(*"abc")
    async with stage.consumer(wait=True, prefetch=1, batch=1) as consumer:
        held = await anext(consumer)  # no capacity is left, so nothing is fetched
        await stage.redis.flushall()
        await eventually(lambda: stage.redis.exists(STREAM))
        assert "g" in {group["name"].decode() for group in await stage.redis.xinfo_groups(STREAM)}
        assert held.entry_id == entries[0]


async def test_a_key_of_another_kind(stage: Stage) -> None:
    """An error that waiting does not mend comes out."""
    await stage.redis.set(STREAM, "x")
    with pytest.raises(redis.exceptions.ResponseError, match="WRONGTYPE"):
        await stage.take(stage.consumer())


@pytest.fixture
def losing(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Commands, in order; each loses the next answer to it, after Redis has done it."""
    commands: list[str] = []
    call = DedicatedConnection.call

    async def loses(self: DedicatedConnection, *words: Any, wait: float = 0.0) -> Any:
        found = await call(self, *words, wait=wait)
        if found and commands and words[0] == commands[0]:
            commands.pop(0)
            await self.close()
            raise redis.exceptions.ConnectionError("the answer is lost")
        return found

    monkeypatch.setattr(DedicatedConnection, "call", loses)
    return commands


async def test_no_entry_is_forgotten(stage: Stage, losing: list[str]) -> None:
    """When the answer to a read is lost, what Redis gave out comes all the same, and before what is newer."""
    entries = await stage.add(*(["a", "b"] * 30))
    losing += ["XREADGROUP", "XREADGROUP", "EVALSHA", "XREADGROUP", "XPENDING"]
    seen: list[str] = []

    async def handle(delivery: Delivery) -> None:
        seen.append(delivery.entry_id)

    async with stage.consumer(batch=10) as consumer:
        await consumer.run(handle, parallel=4)
    assert losing == []
    assert sorted(seen) == sorted(entries)
    assert [each for each in seen if each in entries[::2]] == entries[::2]
    assert [each for each in seen if each in entries[1::2]] == entries[1::2]
    assert await stage.pending() == {}


async def test_no_claim_is_forgotten(stage: Stage, losing: list[str]) -> None:
    """The same when the answer to a claim is lost."""
    entries = await stage.add("a", "b", "c")
    await stage.group()
    await stage.lie_idle("gone", *await stage.read("gone", 2))
    losing += ["EVALSHA"]
    taken = await stage.take(stage.consumer())
    assert losing == []
    assert ids(taken) == entries


async def test_to_acknowledge_without_waiting(stage: Stage, losing: list[str]) -> None:
    """`ack(wait=False)` returns although Redis has not answered; the event is acknowledged all the same."""
    await stage.add("a", "b")
    async with stage.consumer() as consumer:
        losing += ["XACK"]
        async for delivery in consumer:
            await delivery.ack(wait=False)
            assert consumer.statistics().working == 0
    assert losing == []
    assert consumer.statistics().acknowledged == 2
    assert await stage.pending() == {}


def server_pid(server: Server) -> int:
    """The process of a server of the test's own."""
    assert server._process is not None
    return server._process.pid


async def test_redis_restarts(own_server: Server) -> None:
    """A consumer waits while Redis is away, and then goes on; no event is missing."""
    client = connect(own_server.url)
    stage = Stage(client)
    seen: list[str] = []

    async def handle(delivery: Delivery) -> None:
        seen.append(delivery.event.subject)
        if len(seen) == 50:
            await asyncio.to_thread(own_server.stop)
            await asyncio.to_thread(own_server.start)

    await stage.add(*(f"s{number}" for number in range(200)))
    async with stage.consumer(wait=True, batch=20) as consumer, anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: consumer.run(handle, parallel=4))
        await eventually(lambda: len(set(seen)) == 200)
        await eventually(lambda: consumer.statistics().held == 0)
        consumer.stop()
    assert await stage.pending() == {}
    await client.aclose()


async def test_it_waits_for_redis_to_start(own_server: Server) -> None:
    """A consumer that is started before Redis waits for it."""
    client = connect(own_server.url)
    stage = Stage(client)
    await stage.add("a")
    await asyncio.to_thread(own_server.stop)
    consumer = stage.consumer()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(asyncio.to_thread, own_server.start)
        (delivery,) = await stage.take(consumer)
    assert delivery.event.subject == "a"
    await client.aclose()


async def test_redis_hangs_at_the_end(own_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer whose Redis does not answer any more leaves all the same, in bounded time."""
    monkeypatch.setattr("ordersync_consumer.consumer.in_flight.CLOSE_SECONDS", 0.5)
    monkeypatch.setattr("ordersync_consumer.consumer.connection.PATIENCE", 0.5)
    client = connect(own_server.url)
    stage = Stage(client)
    await stage.add("a")
    began = asyncio.get_running_loop().time()
    async with stage.consumer(wait=True) as consumer:
        await anext(consumer)
        os.kill(server_pid(own_server), signal.SIGSTOP)
    assert asyncio.get_running_loop().time() - began < PATIENCE
    os.kill(server_pid(own_server), signal.SIGCONT)
    await client.aclose()


async def test_redis_is_full(stage: Stage) -> None:
    """With no memory left a consumer starts, reads, acknowledges, and keeps what it cannot bury; then it buries it."""
    await stage.add("a", "bad", "b", "c", "bad")
    await stage.group()
    await stage.read("gone", 1)
    await stage.lie_idle("gone", *(await stage.pending()))
    await stage.redis.config_set("maxmemory", 1)
    done: list[str] = []

    async def handle(delivery: Delivery) -> None:
        if delivery.event.subject == "bad":
            raise ValueError("never")
        done.append(delivery.event.subject)

    with pytest.raises(redis.exceptions.OutOfMemoryError):
        await stage.redis.set("x", "y")
    options: dict[str, Any] = {"wait": True, "max_deliveries": 2, "backoff": Backoff(0.1)}
    async with stage.consumer(**options) as consumer, anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: consumer.run(handle, parallel=1))
        await eventually(lambda: sorted(done) == ["a", "b", "c"] and consumer.statistics().failed == 2)
        await eventually(lambda: consumer.statistics().acknowledged == 3)
        assert consumer.statistics().dead == 0
        assert len(await stage.pending()) == 2
        await stage.redis.config_set("maxmemory", 0)
        await eventually(lambda: consumer.statistics().dead == 2)
        consumer.stop()
    assert [letter.event and letter.event.version for letter in await stage.letters()] == [1, 2]
    assert await stage.pending() == {}
