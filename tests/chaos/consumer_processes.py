"""Consumers that may be killed. For each line on standard input one is started as a process of its own.

Arguments: URL of Redis. A line is `GROUP NAME`; the answer is the process id. A consumer writes down what it did
in Redis: the list `effects:GROUP` (by the idempotency helper), the hash `handled:GROUP` (event id: how often its
handler ended), `spared:GROUP` (effects that were done before), and the list `trimmed:GROUP`. SIGTERM stops one in
order. All of them end with this process.

They are forked, since to start Python anew for each would take most of the time of the test.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys

from redis.asyncio.client import Pipeline

from ordersync_consumer import Consumer, Delivery, Trimmed
from ordersync_consumer.idempotency import RedisOnce
from worker.redis.connections import connect
from worker.telemetry import log as logs

CLAIM_AFTER = 1.0
MAX_DELIVERIES = 100
"""Who is killed, or stands still on a busy machine, is nothing that an event is to blame for."""
MAX_WORK = 0.004
"""Seconds behind an effect and before its acknowledgement, in which most consumers are killed."""


async def consume(url: str, group: str, name: str, parent: int) -> None:
    """Work until told to stop."""
    client = connect(url)
    once = RedisOnce(client, group=group)

    async def handle(delivery: Delivery) -> None:
        event = delivery.event

        def effect(pipe: Pipeline) -> None:
            pipe.rpush(f"effects:{group}", event.id)

        new = await once.apply(delivery, effect)
        async with client.pipeline(transaction=False) as pipe:
            pipe.hincrby(f"handled:{group}", event.id, 1)
            if not new:
                pipe.incr(f"spared:{group}")
            await pipe.execute()
        await asyncio.sleep(random.random() * MAX_WORK)

    async def trimmed(what: Trimmed) -> None:
        await client.rpush(f"trimmed:{group}", what.entry_id)  # type: ignore[misc] # redis-py's union

    consumer = Consumer(
        client,
        group=group,
        resources=["orders"],
        name=name,
        batch=50,
        claim_after=CLAIM_AFTER,
        max_deliveries=MAX_DELIVERIES,
        block=0.2,
        on_trimmed=trimmed,
    )

    async def watch_parent() -> None:
        while os.getppid() == parent:  # noqa: ASYNC110 - nobody tells an orphan
            await asyncio.sleep(0.5)
        os._exit(1)

    watching = asyncio.create_task(watch_parent())
    async with consumer:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, consumer.stop)
        await consumer.run(handle, parallel=8)
    watching.cancel()
    await client.aclose()


def main() -> None:
    """A child for each line."""
    logs.configure("json", "error")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the dead
    parent = os.getpid()
    for line in sys.stdin:
        group, name = line.split()
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            random.seed()
            asyncio.run(consume(sys.argv[1], group, name, parent))
            os._exit(0)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
