"""Keeps a table of orders up to date: every event is applied once, in order, whatever is killed whenever.

Needs ordersync-consumer to be installed. `--once` ends when there is nothing left; a signal ends it in order.

    python consumer.py redis://127.0.0.1:6379/0 orders.db --group warehouse --name worker-1
"""  # noqa: INP001 - a program by itself

from __future__ import annotations

import argparse
import os
import signal
import sqlite3

import anyio
from redis.asyncio import Redis

from ordersync_consumer import Consumer, Delivery
from ordersync_consumer.idempotency import SqlOnce

NEWEST = """
INSERT INTO orders VALUES (?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET entry_ms = excluded.entry_ms, entry_number = excluded.entry_number,
    version = excluded.version, record = excluded.record
WHERE (entry_ms, entry_number) < (excluded.entry_ms, excluded.entry_number)
"""  # several consumers of a group may be at events of one order: the greater entry id is newer, always


async def main(words: argparse.Namespace) -> None:
    """Consume until a signal comes."""
    database = sqlite3.connect(words.database, check_same_thread=False)
    database.execute(
        "CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, entry_ms INTEGER, entry_number INTEGER, "
        "version INTEGER, record TEXT)"
    )
    once = SqlOnce(database, group=words.group)
    once.create_table()

    def apply(delivery: Delivery) -> None:
        event = delivery.event
        with once.transaction(delivery) as new:  # what the block does and the event's id are kept together
            if new:
                row = (event.subject, *event.position, event.version, event.data.decode())
                database.execute(NEWEST, row)

    async def handle(delivery: Delivery) -> None:
        await anyio.to_thread.run_sync(apply, delivery)  # whatever blocks belongs into a thread

    client = Redis.from_url(words.url, password=os.environ.get("REDISCLI_AUTH"))
    options = {
        "group": words.group,
        "name": words.name,
        "account": words.account,
        "prefix": words.prefix,
        "wait": not words.once,
    }
    async with (
        Consumer(client, resources=["orders"], **options) as consumer,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(stop_on_a_signal, consumer)
        await consumer.run(handle, parallel=1)  # one connection to the database: one at a time
        tasks.cancel_scope.cancel()
    await client.aclose()
    database.close()


async def stop_on_a_signal(consumer: Consumer) -> None:
    """What is being worked on is finished, and the rest given back."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            consumer.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Keep a table of orders up to date.")
    parser.add_argument("url")
    parser.add_argument("database")
    parser.add_argument("--group", default="warehouse")
    parser.add_argument(
        "--name", help="its own, and the same after a restart; the name of the host by default"
    )
    parser.add_argument("--account", default="default")
    parser.add_argument("--prefix", default="ordersync:", help="ORDERSYNC_REDIS__PREFIX of the worker")
    parser.add_argument("--once", action="store_true")
    anyio.run(main, parser.parse_args())
