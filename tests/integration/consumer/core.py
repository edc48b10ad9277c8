"""The promises of the consumer kit, checked with whatever redis-py runs it: `python core.py ADDRESS`.

It imports the kit alone, since it runs in environments that have nothing else (`test_redis_clients.py`).
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from contextlib import suppress
from typing import Any

import redis as redis_py
from redis.asyncio import Redis, RedisCluster

from ordersync_consumer import Backoff, Consumer, Delivery, GroupGone, Reject, SettingsError, Trimmed, connect
from ordersync_consumer.dead import DeadLetters
from ordersync_consumer.envelope import FIELDS
from ordersync_consumer.groups import Groups
from ordersync_consumer.idempotency import RedisOnce
from ordersync_consumer.keys import Keys
from ordersync_consumer.replay import ReplayRange, replay

KEYS = Keys("default")
STREAM = KEYS.stream("orders")
SOON = Backoff(first=0.001)


async def add(client: Redis, *subjects: str, start: int = 1) -> list[str]:
    """Write an event of each subject."""
    ids = []
    for number, subject in enumerate(subjects, start):
        values: dict[Any, Any] = dict.fromkeys(FIELDS, "x") | {
            "id": f"order:{subject}:{number}",
            "subject": subject,
            "sequence": f"{number:020}",
            "version": "1",
            "changed": "",
            "data": b'{"id":"a"}',
        }
        ids.append((await client.xadd(STREAM, values)).decode())
    return ids


def consumer(client: Redis, **options: Any) -> Consumer:
    """A consumer that ends when nothing is left."""
    defaults: dict[str, Any] = {
        "group": "g",
        "resources": ["orders"],
        "name": "me",
        "wait": False,
        "backoff": SOON,
    }
    return Consumer(client, **{**defaults, **options})


async def order_and_retries(client: Redis) -> None:
    """Each event is handled; one that fails is tried again before the later ones of its entity."""
    await add(client, "a", "b", "a", "c", "a")
    seen: list[str] = []

    async def handle(delivery: Delivery) -> None:
        seen.append(delivery.event.id)
        if delivery.event.id == "order:a:1" and delivery.attempt < 3:
            raise ValueError("not yet")

    async with consumer(client) as one:
        await one.run(handle)
    assert one.statistics().acknowledged == 5
    of_a = [event_id for event_id in seen if event_id.startswith("order:a")]
    assert of_a == ["order:a:1"] * 3 + ["order:a:3", "order:a:5"], seen
    assert (await client.xpending(STREAM, "g"))["pending"] == 0


async def batches_and_each(client: Redis) -> None:
    """Batches and single deliveries are acknowledged; one that is put back comes again."""
    await add(client, *(f"s{number}" for number in range(250)))
    handled = 0
    async with consumer(client) as one:
        async for batch in one.batches(100):
            handled += len(batch)
            await batch.ack()
    assert handled == 250
    await add(client, "a", "b", start=300)
    async with consumer(client) as one:
        first = await anext(one)
        first.put_back()
        async for delivery in one:
            await delivery.ack()
    assert (await client.xpending(STREAM, "g"))["pending"] == 0


async def a_consumer_that_is_gone(client: Redis) -> None:
    """What another consumer left is claimed once it is idle; entries of the own name at once."""
    await add(client, "a", "b", "c", "d")
    await client.xgroup_create(STREAM, "g", id="0")
    await client.xreadgroup("g", "gone", {STREAM: ">"}, count=2)
    await client.xreadgroup("g", "me", {STREAM: ">"}, count=1)
    await asyncio.sleep(0.02)
    async with consumer(client, claim_after=0.01) as one:
        found = []
        async for delivery in one:
            found.append(delivery.event.subject)
            await delivery.ack()
        assert one.statistics().recovered == 3
    assert sorted(found) == ["a", "b", "c", "d"], found


async def dead_letters_and_replay(client: Redis) -> None:
    """A rejected event and a foreign entry become dead letters; a letter and a range are delivered again."""
    ids = await add(client, "a", "b")
    await client.xadd(STREAM, {"foreign": "entry"})

    async def reject(delivery: Delivery) -> None:
        if delivery.event.subject == "a" and not delivery.replayed:
            raise Reject("never")

    async with consumer(client) as one:
        await one.run(reject)
    letters = DeadLetters(client, KEYS)
    found = [letter async for letter in letters.each("orders")]
    assert sorted(letter.subject for letter in found) == ["", "a"], found
    (letter,) = [letter for letter in found if letter.subject]
    assert letter.event is not None
    assert (letter.reason, letter.event.data) == ("never", b'{"id":"a"}')
    await letters.replay(letter)
    result = await replay(client, KEYS, "orders", "g", ReplayRange(from_id=ids[1], to_id=ids[1]))
    assert result.replayed == 1
    again: list[tuple[str, bool]] = []

    async def note(delivery: Delivery) -> None:
        again.append((delivery.event.subject, delivery.replayed))

    async with consumer(client) as one:
        await one.run(note)
    assert sorted(again) == [("a", True), ("b", True)], again


async def effects_happen_once(client: Redis) -> None:
    """Of two deliveries of one event, one has an effect; a command that fails leaves no mark."""
    await add(client, "a", "b")
    once = RedisOnce(client, group="g")

    async def handle(delivery: Delivery) -> None:
        assert await once.apply(delivery, lambda pipe: pipe.hincrby("stock", delivery.event.subject, 1))
        assert not await once.apply(delivery, lambda pipe: pipe.hincrby("stock", delivery.event.subject, 1))
        assert await once.seen(delivery)

    async with consumer(client) as one:
        await one.run(handle)
    assert one.statistics().acknowledged == 2
    stock: Any = client.hgetall("stock")
    assert await stock == {b"a": b"1", b"b": b"1"}


async def what_was_removed(client: Redis) -> None:
    """A pending entry that was removed is reported; a group that is dropped ends the consumer."""
    ids = await add(client, "a", "b")
    await client.xgroup_create(STREAM, "g", id="0")
    await client.xreadgroup("g", "me", {STREAM: ">"}, count=2)
    await client.xdel(STREAM, ids[0])
    reported: list[Trimmed] = []

    async def on_trimmed(trimmed: Trimmed) -> None:
        reported.append(trimmed)

    async with consumer(client, on_trimmed=on_trimmed) as one:
        async for delivery in one:
            await delivery.ack()
    assert reported == [Trimmed("orders", ids[0])], reported
    with suppress(GroupGone):
        async with consumer(client, wait=True, block=0.05) as one:
            await client.xgroup_destroy(STREAM, "g")
            await anext(one)
        raise AssertionError("a consumer of a dropped group goes on")


async def waiting_and_stopping(client: Redis) -> None:
    """A consumer that waits sees a new event, and ends when it is stopped."""
    seen: list[str] = []

    async with consumer(client, wait=True, block=0.05) as one:

        async def handle(delivery: Delivery) -> None:
            seen.append(delivery.event.subject)
            one.stop()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(one.run(handle))
            await add(client, "late")
    assert seen == ["late"], seen
    status = await Groups(client, KEYS).status("orders")
    assert [(group.name, group.pending, group.unread) for group in status.groups] == [("g", 0, 0)], status


async def main(address: str) -> None:
    """Check each promise on an empty database, with answers as bytes and, where the client has it, with RESP3."""
    for options in ({}, {"protocol": 3}, {"decode_responses": True}):
        client = Redis.from_url(address, **options)
        plain = Redis.from_url(address)
        for check in CHECKS:
            await plain.flushall()
            try:
                await check(plain if options.get("decode_responses") else client)
            except Exception as error:
                error.add_note(f"{check.__name__} with {options}, redis-py {redis_py.__version__}")
                raise
        if options.get("decode_responses"):
            await plain.flushall()
            await add(plain, "a", "b")
            async with consumer(client) as one:
                async for batch in one.batches(10):
                    await batch.ack()
                assert one.statistics().acknowledged == 2
        await client.aclose()
        await plain.aclose()
    with suppress(SettingsError):
        Consumer(Redis(), group="", resources=["orders"])
        raise AssertionError("an empty name of a group is accepted")
    print(redis_py.__version__)  # noqa: T201 - the result


async def on_a_cluster(url: str) -> None:
    """A client of `connect`, and redis-py's own client of a cluster, which the consumer takes as well."""
    ours, stream = connect(url), Keys("default").stream("orders")
    await ours.delete(stream)
    script = ours.register_script("return redis.call('INCR', KEYS[1])")
    assert await script(keys=["{x}:n"]) == await ours.incr("{y}:n") == 1
    async with ours.pipeline(transaction=False) as pipe:
        for key in ("{x}:n", "{y}:n", "{x}:n"):
            pipe.incr(key)
        assert await pipe.execute() == [2, 2, 3]
    async with ours.pipeline(transaction=True) as pipe:
        pipe.incr("{x}:n")
        pipe.delete("{x}:n")
        assert await pipe.execute() == [4, 1]
    await ours.delete("{y}:n")
    await ours.delete("{default}:count")
    await add(ours, "a", "b")
    theirs: Any = RedisCluster.from_url(url.replace("+cluster", ""))
    for client in (ours, theirs):
        group = f"g-{uuid.uuid4()}"  # the cluster has what was done with other versions
        once = RedisOnce(client, group=group)
        async with once, consumer(client, group=group) as one:
            async for delivery in one:
                for is_new in (True, False):
                    assert await once.apply(delivery, lambda pipe: pipe.incr("{default}:count")) is is_new
                await delivery.ack()
            assert one.statistics().acknowledged == 2
    assert await ours.get("{default}:count") == b"4"
    await theirs.aclose()
    await ours.aclose()


CHECKS = (
    order_and_retries,
    batches_and_each,
    a_consumer_that_is_gone,
    dead_letters_and_replay,
    effects_happen_once,
    what_was_removed,
    waiting_and_stopping,
)

if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
    asyncio.run(on_a_cluster(sys.argv[2]))
