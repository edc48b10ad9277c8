"""The consumer when things go wrong: entries removed, answers lost, Redis away or full, names taken twice."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import redis.exceptions
from redis.asyncio import Redis

from ordersync_consumer import Backoff, Consumer, Delivery, Reject, Trimmed
from ordersync_consumer.consumer.connection import DedicatedConnection
from ordersync_consumer.consumer.dead_letter_writer import DeadLetterWriter
from ordersync_consumer.consumer.retry import RetryForever
from tests.support.consuming import FastClock, Stage, ids
from tests.support.paths import ROOT
from tests.support.programs import program_env
from tests.support.servers import Server
from tests.support.streams import STREAM
from tests.support.waiting import PATIENCE, eventually
from worker.errors import ConsumerReplaced, GroupGone, SettingsError
from worker.redis.connections import connect

pytestmark = pytest.mark.anyio


class Told:
    """Remembers what was told of trimmed entries."""

    def __init__(self) -> None:
        self.entries: list[str] = []

    async def __call__(self, trimmed: Trimmed) -> None:
        """One was trimmed."""
        assert trimmed.resource == "orders"
        self.entries.append(trimmed.entry_id)


# Entries that somebody removed


async def test_its_own_is_gone(stage: Stage) -> None:
    """An entry of its own whose data is gone is told of, acknowledged, and never handed out."""
    entries = await stage.add("a", "b", "c")
    await stage.group()
    await stage.read("c1", 3)
    await stage.redis.xdel(STREAM, entries[1])
    told = Told()
    taken = await stage.take(stage.consumer(on_trimmed=told))
    assert ids(taken) == [entries[0], entries[2]]
    assert told.entries == [entries[1]]
    assert await stage.pending() == {}


async def test_what_another_left_is_gone(stage: Stage) -> None:
    """The same for an entry that is claimed, also when a hard trim has removed it."""
    entries = await stage.add("a", "b", "c")
    await stage.group()
    await stage.lie_idle("gone", *await stage.read("gone", 3))
    await stage.redis.xtrim(STREAM, maxlen=1, approximate=False)
    told = Told()
    consumer = stage.consumer(on_trimmed=told)
    assert ids(await stage.take(consumer)) == entries[2:]
    assert told.entries == entries[:2]
    assert consumer.statistics().trimmed == 2
    assert await stage.pending() == {}


async def test_gone_while_it_is_worked_on(stage: Stage) -> None:
    """An event that was taken is dealt with although its entry is removed meanwhile, also if it fails once."""
    (entry,) = await stage.add("a")
    told, seen = Told(), []

    async def handle(delivery: Delivery) -> None:
        seen.append((delivery.attempt, delivery.event.data))
        if delivery.attempt == 1:
            await stage.redis.xdel(STREAM, entry)
            await asyncio.sleep(0.15)  # the claim is renewed meanwhile, and Redis drops what has no data
            raise ValueError("not now")

    async with stage.consumer(on_trimmed=told, claim_after=5) as consumer:
        await consumer.run(handle)
    assert seen == [(1, b'{"id":"a"}'), (2, b'{"id":"a"}')]
    assert told.entries == []
    assert await stage.pending() == {}


async def test_gone_and_cannot_be_dealt_with(stage: Stage) -> None:
    """Its dead letter is written from what the consumer holds."""
    (entry,) = await stage.add("a", data=b'{"id":"only here"}')

    async def handle(delivery: Delivery) -> None:
        if delivery.attempt == 1:
            await stage.redis.xdel(STREAM, entry)
            await asyncio.sleep(0.15)
        raise ValueError("never")

    async with stage.consumer(max_deliveries=2, claim_after=5) as consumer:
        await consumer.run(handle)
    (letter,) = await stage.letters()
    assert (letter.where, letter.data, letter.attempts) == (entry, b'{"id":"only here"}', 2)
    assert letter.event is not None
    assert letter.event.id == "order:a:1:00000000"


async def test_gone_before_its_letter_is_written(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The letter is written from what the consumer holds as well if the entry is removed after the last attempt."""
    monkeypatch.setattr(DeadLetterWriter, "run", lambda _: anyio.sleep_forever())
    (entry,) = await stage.add("a", data=b'{"id":"only here"}')

    async def handle(delivery: Delivery) -> None:
        raise Reject(delivery.event.subject)

    async with stage.consumer(wait=True, claim_after=5) as consumer, anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: consumer.run(handle))
        await eventually(lambda: consumer.statistics().failed == 1)
        await stage.redis.xdel(STREAM, entry)
        await asyncio.sleep(0.15)  # the claim is renewed meanwhile, and Redis drops what has no data
        consumer.stop()
    (letter,) = await stage.letters()
    assert (letter.where, letter.data) == (entry, b'{"id":"only here"}')


async def test_gone_and_cannot_be_given_back(stage: Stage) -> None:
    """A consumer that ends with events whose entries were removed tells of them: nobody will get them."""
    entries = await stage.add("a", "b", "c")
    told = Told()
    async with stage.consumer(wait=True, on_trimmed=told, claim_after=3600) as consumer:
        await anext(consumer)
        await stage.redis.xdel(STREAM, *entries[:2])
    if await stage.pending() == {
        entries[2]: ("ordersync-returned", 0)
    }:  # Redis from 7.0 drops what has no data
        assert told.entries == entries[:2]
    else:
        assert await stage.take(stage.consumer("c2", on_trimmed=told))
        assert sorted(told.entries) == entries[:2]


async def test_the_callback_fails(stage: Stage) -> None:
    """An error of `on_trimmed`, even one of its network, ends the consumer: nobody would know of the loss."""
    (entry,) = await stage.add("a")
    await stage.group()
    await stage.read("c1", 1)
    await stage.redis.xdel(STREAM, entry)

    async def fails(_: Trimmed) -> None:
        raise ConnectionError("of the program's own")

    with pytest.raises(RuntimeError, match=f"on_trimmed failed for entry {entry} of orders"):
        await stage.take(stage.consumer(on_trimmed=fails))


# Others who meddle


async def test_taken_over_while_it_waits(stage: Stage) -> None:
    """What another consumer has claimed is not handed out, and not taken back."""
    entries = await stage.add("a", "b", "c")
    async with stage.consumer(wait=True, claim_after=10) as consumer:
        first = await anext(consumer)
        await stage.redis.xclaim(STREAM, "g", "thief", 0, [*entries[1:]])
        await eventually(lambda: consumer.statistics().lost == 2)
        await first.ack()
        assert consumer.statistics().waiting == 0
    assert {whose for whose, _ in (await stage.pending()).values()} == {"thief"}


async def test_taken_over_while_it_is_worked_on(stage: Stage) -> None:
    """If it then fails, whoever has it now tries again, not this one; if it is done, it is done."""
    entries = await stage.add("a", "b")
    async with stage.consumer(wait=True, claim_after=10) as consumer:
        first, second = await anext(consumer), await anext(consumer)
        await stage.redis.xclaim(STREAM, "g", "thief", 0, [*entries])
        await eventually(lambda: consumer.statistics().lost == 2)
        await first.fail("not now")
        await second.ack()
        assert consumer.statistics().waiting == consumer.statistics().working == 0
    assert await stage.pending() == {entries[0]: ("thief", 2)}
    assert await stage.letters() == []


async def test_acknowledged_by_another(stage: Stage) -> None:
    """An event that somebody else has acknowledged before its next attempt is not tried again."""
    (entry,) = await stage.add("a")
    seen = []
    async with stage.consumer() as consumer:
        async for delivery in consumer:
            seen.append(delivery.attempt)
            await delivery.fail("not now")
            await stage.redis.xack(STREAM, "g", entry)
    assert seen == [1]


async def test_the_same_name_twice(stage: Stage) -> None:
    """The process that has a name first stops when a second one takes it, and says what to do."""
    entries = await stage.add("a")

    async def first() -> None:
        async with stage.consumer(wait=True) as consumer:
            await anext(consumer)
            started.set()
            await anyio.sleep_forever()

    started = asyncio.Event()
    task = asyncio.create_task(first())
    await started.wait()
    async with stage.consumer(wait=True) as second:
        delivery = await anext(second)
        with pytest.raises(ConsumerReplaced, match=r"'c1'.*its own name"):
            await task
        assert (delivery.entry_id, delivery.attempt) == (entries[0], 2)
        await delivery.ack()
    assert await stage.pending() == {}


async def test_the_same_name_for_other_resources(stage: Stage) -> None:
    """Two processes of one name may consume different resources."""
    await stage.add("a")
    await stage.add("x", resource="shipments")
    async with stage.consumer(wait=True) as one, stage.consumer(resources=["shipments"], wait=True) as two:
        await asyncio.sleep(0.25)  # some renewals, at a hundred times the speed
        await (await anext(one)).ack()
        await (await anext(two)).ack()
    assert await stage.pending() == await stage.pending(resource="shipments") == {}


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


# Answers that get lost


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


# Redis is away, or full


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


# Clients of every kind


@pytest.mark.parametrize("options", [{"decode_responses": True}, {"protocol": 3}, {"socket_timeout": 0.2}])
async def test_other_clients(
    stage: Stage, stage_server: Server, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that decodes answers, speaks RESP3, or has a shorter timeout than a read may take, does as well."""
    waits: list[str] = []

    async def pause(_: RetryForever, what: str, *_more: object) -> None:
        waits.append(what)

    monkeypatch.setattr(RetryForever, "pause", pause)
    entries = await stage.add("a", "b", "b")
    await stage.group()
    await stage.lie_idle("gone", *await stage.read("gone", 1))
    client: Redis = Redis.from_url(stage_server.url, **options)
    got: list[tuple[str, int]] = []

    async def handle(delivery: Delivery) -> None:
        if delivery.event.version == 2 and delivery.attempt < 3:
            raise ValueError("not now")
        got.append((delivery.entry_id, delivery.attempt))

    consumer = Consumer(client, group="g", resources="orders", name="c1", block=0.5, clock=FastClock())
    async with consumer, anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: consumer.run(handle))
        await eventually(lambda: len(got) == 3)
        await asyncio.sleep(0.6)
        consumer.stop()
    assert sorted(got) == [(entries[0], 2), (entries[1], 1), (entries[2], 3)]
    assert waits == []
    assert await stage.pending() == {}
    await client.aclose()


async def test_a_pool_of_one(stage: Stage, stage_server: Server) -> None:
    """The consumer takes no connection of the client's pool for good."""
    await stage.add("a")
    client = Redis.from_url(stage_server.url, max_connections=1)
    async with Consumer(
        client, group="g", resources=["orders"], name="c1", block=0.1, wait=False
    ) as consumer:
        async for delivery in consumer:
            await asyncio.wait_for(client.ping(), PATIENCE)
            await delivery.ack()
    await client.aclose()
    assert await stage.pending() == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {"group": ""},
        {"group": "two words"},
        {"name": "ordersync-replay"},
        {"name": "a\nb"},
        {"account": ""},
        {"resources": []},
        {"begin": "1-0"},
        {"batch": 0},
        {"prefetch": -1},
        {"max_deliveries": 0},
        {"claim_after": 0},
        {"block": 0},
    ],
)
def test_wrong_use(wrong: dict[str, Any]) -> None:
    """What cannot work is refused before anything is connected, and named."""
    options = {"group": "g", "resources": ["orders"], "name": "c1"} | wrong
    with pytest.raises(SettingsError, match=next(iter(wrong)).removesuffix("s")):
        Consumer(connect("redis://127.0.0.1:1"), **options)


async def test_nobody_at_work(stage: Stage) -> None:
    """`run` with nobody to work is refused; it would look like an end."""
    async with stage.consumer() as consumer:
        with pytest.raises(SettingsError, match="parallel"):
            await consumer.run(lambda _: anyio.lowlevel.checkpoint(), parallel=0)


def test_a_program_without_our_logs(redis_url: str, tmp_path: Path) -> None:
    """In a program that has not set up our logs, lines go through `logging` to stderr, and none to stdout."""
    code = f"""
import asyncio, logging
from redis.asyncio import Redis
from ordersync_consumer import Consumer
logging.basicConfig(level="INFO", format="%(name)s %(levelname)s %(message)s")
async def main():
    client = Redis.from_url({redis_url!r})
    async with Consumer(client, group="g", resources=["orders"], name="c1", wait=False) as consumer:
        async for delivery in consumer:
            pass
    await client.aclose()
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env=program_env() | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
    started, stopped = done.stderr.splitlines()
    assert started.startswith("ordersync INFO event='consumer_started'")
    assert "consumer='c1'" in started
    assert "consumer_stopped" in stopped
