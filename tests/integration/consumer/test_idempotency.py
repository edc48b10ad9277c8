"""The effect of an event once, however often the event comes; and never a mark without its effect."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis.exceptions
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from ordersync_consumer import Delivery
from ordersync_consumer.idempotency import WEEK, RedisOnce, SqlOnce
from tests.support.consuming import Stage
from tests.support.servers import Server
from tests.support.streams import KEYS
from tests.support.waiting import PATIENCE
from worker.errors import SettingsError

pytestmark = pytest.mark.anyio


def count(key: str = "stock") -> Any:
    """An effect that counts."""

    def effect(pipe: Pipeline) -> None:
        pipe.incrby(key, 2)
        pipe.rpush("log", key, b"\x00\xff", 1.5)

    return effect


async def deliveries(stage: Stage, *subjects: str) -> list[Delivery]:
    """Deliveries of new events."""
    await stage.add(*subjects)
    return await stage.take(stage.consumer())


# Redis


async def test_once(stage: Stage) -> None:
    """The commands run once for an event and a group; other events and other groups have effects of their own."""
    one, two = await deliveries(stage, "a", "a")
    once, other = RedisOnce(stage.redis, group="g"), RedisOnce(stage.redis, group="h")
    assert [await once.apply(one, count()) for _ in range(3)] == [True, False, False]
    assert await once.apply(two, count())
    assert await other.apply(one, count())
    assert await stage.redis.get("stock") == b"6"
    assert (await stage.redis.lrange("log", 0, 2)) == [b"stock", b"\x00\xff", b"1.5"]  # type: ignore[misc] # redis-py's union


async def test_seen(stage: Stage) -> None:
    """It can be asked before the work that leads to the effect."""
    (one,) = await deliveries(stage, "a")
    once = RedisOnce(stage.redis, group="g")
    assert not await once.seen(one)
    await once.apply(one, count())
    assert await once.seen(one)


async def test_the_mark_ends(stage: Stage) -> None:
    """An id is remembered as long as it is told, a week by default."""
    one, two = await deliveries(stage, "a", "b")
    await RedisOnce(stage.redis, group="g").apply(one, count())
    await RedisOnce(stage.redis, group="g", remember=600).apply(two, count())
    lives = [await stage.redis.ttl(KEYS.processed("g", each.event.id)) for each in (one, two)]
    assert WEEK - PATIENCE < lives[0] <= WEEK
    assert 600 - PATIENCE < lives[1] <= 600


async def test_no_mark_without_its_effect(stage: Stage) -> None:
    """Where a command fails, the event is not marked, as MULTI would, and its effect comes with the next attempt."""
    (one,) = await deliveries(stage, "a")
    await stage.redis.set("log", "no list")
    once = RedisOnce(stage.redis, group="g")

    def effect(pipe: Pipeline) -> None:
        pipe.rpush("log", "x")
        pipe.incrby("stock", 2)

    with pytest.raises(redis.exceptions.ResponseError, match="WRONGTYPE"):
        await once.apply(one, effect)
    assert not await once.seen(one)
    assert await stage.redis.get("stock") is None
    await stage.redis.delete("log")
    assert await once.apply(one, effect)
    assert await stage.redis.get("stock") == b"2"


async def test_no_mark_when_redis_is_full(stage: Stage) -> None:
    """The same where Redis has no memory left."""
    (one,) = await deliveries(stage, "a")
    once = RedisOnce(stage.redis, group="g")
    await stage.redis.config_set("maxmemory", 1)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        await once.apply(one, count())
    await stage.redis.config_set("maxmemory", 0)
    assert await stage.redis.get("stock") is None
    assert await once.apply(one, count())


async def test_two_at_once(stage: Stage) -> None:
    """Of many who are at the same event at the same time, one has the effect."""
    (one,) = await deliveries(stage, "a")
    once = RedisOnce(stage.redis, group="g")
    done = await asyncio.gather(*(once.apply(one, count()) for _ in range(20)))
    assert sorted(done) == [False] * 19 + [True]
    assert await stage.redis.get("stock") == b"2"


async def test_commands_of_two_words(stage: Stage) -> None:
    """Any command that a pipeline takes will do."""
    (one,) = await deliveries(stage, "a")

    def effect(pipe: Pipeline) -> None:
        pipe.xgroup_create("made", "g", mkstream=True)
        pipe.zadd("board", {"x": 1, "y": 2})
        pipe.execute_command("HSET", "h", "f", "v")

    assert await RedisOnce(stage.redis, group="g").apply(one, effect)
    assert [group["name"] for group in await stage.redis.xinfo_groups("made")] == [b"g"]
    assert await stage.redis.zrange("board", 0, -1) == [b"x", b"y"]


async def test_no_effect_at_all(stage: Stage) -> None:
    """An event that asks for nothing is remembered all the same."""
    (one,) = await deliveries(stage, "a")
    once = RedisOnce(stage.redis, group="g")
    assert await once.apply(one, lambda _: None)
    assert not await once.apply(one, count())


async def test_cancelled_in_the_middle(stage: Stage) -> None:
    """A cancellation comes before the effect or behind it: effect and mark stay together."""
    some = await deliveries(stage, *(f"s{number}" for number in range(30)))
    once = RedisOnce(stage.redis, group="g")
    for number, one in enumerate(some):
        with anyio.move_on_after(number * 0.00005):
            await once.apply(one, count())
    marks = [await once.seen(one) for one in some]
    assert int(await stage.redis.get("stock") or 0) == 2 * sum(marks)


async def test_with_a_client_that_decodes(stage: Stage, stage_server: Server) -> None:
    """It does with any client."""
    (one,) = await deliveries(stage, "a")
    client: Redis = Redis.from_url(stage_server.url, decode_responses=True)
    once = RedisOnce(client, group="g")
    assert [await once.apply(one, count()) for _ in range(2)] == [True, False]
    await client.aclose()


async def test_killed_behind_the_effect(stage: Stage) -> None:
    """A consumer that dies between the effect and the acknowledgement: the event comes again, the effect does not."""
    await stage.add("a", "b")
    once = RedisOnce(stage.redis, group="g")
    async with stage.consumer() as consumer:
        assert await once.apply(await anext(consumer), count())
        await stage.die()
    done = []
    async with stage.consumer() as consumer:
        async for delivery in consumer:
            done.append((delivery.event.subject, await once.apply(delivery, count())))
            await delivery.ack()
    assert done == [("a", False), ("b", True)]
    assert await stage.redis.get("stock") == b"4"


# SQL


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(tmp_path / "stock.db", check_same_thread=False)
    connection.execute("CREATE TABLE stock (subject TEXT PRIMARY KEY, left_over INTEGER NOT NULL)")
    yield connection
    connection.close()


def take_one(connection: sqlite3.Connection, delivery: Delivery) -> None:
    """An effect: one less of it."""
    connection.execute(
        "INSERT INTO stock VALUES (?, 9) ON CONFLICT DO UPDATE SET left_over = left_over - 1",
        (delivery.event.subject,),
    )


def left_over(connection: sqlite3.Connection) -> list[tuple[str, int]]:
    """What all can see."""
    return connection.execute("SELECT subject, left_over FROM stock ORDER BY 1").fetchall()


async def test_once_in_a_transaction(stage: Stage, database: sqlite3.Connection, tmp_path: Path) -> None:
    """The mark and the effect are committed together; another connection sees both."""
    one, two = await deliveries(stage, "a", "a")
    once = SqlOnce(database, group="g")
    once.create_table()
    once.create_table()
    told = []
    for delivery in (one, one, two):
        with once.transaction(delivery) as new:
            told.append(new)
            if new:
                take_one(database, delivery)
    assert told == [True, False, True]
    other = sqlite3.connect(tmp_path / "stock.db")
    assert left_over(other) == [("a", 8)]
    with SqlOnce(other, group="h").transaction(one) as new:
        assert new
    other.close()


async def test_an_error_undoes_both(stage: Stage, database: sqlite3.Connection) -> None:
    """Where the effect fails, neither it nor the mark stays."""
    (one,) = await deliveries(stage, "a")
    once = SqlOnce(database, group="g")
    once.create_table()

    def fail() -> None:
        with once.transaction(one):
            take_one(database, one)
            raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        fail()
    assert left_over(database) == []
    with once.transaction(one) as new:
        assert new


async def test_another_process_at_the_same_event(
    stage: Stage, database: sqlite3.Connection, tmp_path: Path
) -> None:
    """It waits until the first one has committed, and then finds the event done."""
    (one,) = await deliveries(stage, "a")
    SqlOnce(database, group="g").create_table()
    order: list[str] = []
    began = asyncio.Event()

    def second() -> bool:
        other = sqlite3.connect(tmp_path / "stock.db", timeout=PATIENCE)
        try:
            with SqlOnce(other, group="g").transaction(one) as new:
                order.append("second")
                return new
        finally:
            other.close()

    with SqlOnce(database, group="g").transaction(one) as new:
        assert new
        began.set()
        waiting = asyncio.create_task(asyncio.to_thread(second))
        await asyncio.sleep(0.1)
        order.append("first")
        take_one(database, one)
    assert not await waiting
    assert order == ["first", "second"]
    assert left_over(database) == [("a", 9)]


async def test_forget(stage: Stage, database: sqlite3.Connection) -> None:
    """Marks of events that cannot come again are removed, those of this group alone."""
    one, two = await deliveries(stage, "a", "b")
    time = 1000.0
    once = SqlOnce(database, group="g", now=lambda: time)
    once.create_table()
    with once.transaction(one):
        pass
    with SqlOnce(database, group="h", now=lambda: time).transaction(one):
        pass
    time = 5000.0
    with once.transaction(two):
        pass
    assert once.forget(older_than=3000) == 1
    with once.transaction(one) as new:
        assert new
    with once.transaction(two) as new:
        assert not new


def test_a_connection_that_commits_by_itself() -> None:
    """It is refused: an effect could be kept without its mark."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    with pytest.raises(SettingsError, match="is in autocommit mode"):
        SqlOnce(connection, group="g")
    connection.close()


def test_a_table_that_is_none() -> None:
    """The name of the table goes into statements, so it must be one."""
    connection = sqlite3.connect(":memory:")
    for table in ("x; DROP TABLE stock", "", "1a"):
        with pytest.raises(SettingsError, match="is not the name of a table"):
            SqlOnce(connection, group="g", table=table)
    SqlOnce(connection, group="g", table="main.marks").create_table()
    connection.close()


async def test_in_a_thread_beside_the_loop(stage: Stage, database: sqlite3.Connection) -> None:
    """As in the documentation: blocking work in a thread, every effect once although each event comes twice."""
    await stage.add(*(f"s{number % 5}" for number in range(20)))
    once = SqlOnce(database, group="g")
    once.create_table()

    def work(delivery: Delivery) -> None:
        with once.transaction(delivery) as new:
            if new:
                take_one(database, delivery)

    async def handle(delivery: Delivery) -> None:
        await anyio.to_thread.run_sync(work, delivery)
        if delivery.attempt == 1:
            raise ValueError("behind the effect")

    async with stage.consumer() as consumer:
        await consumer.run(handle, parallel=1)
        assert consumer.statistics().failed == 20
    assert left_over(database) == [(f"s{number}", 6) for number in range(5)]
