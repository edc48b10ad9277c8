"""Keeps the orders of OrderMesh in a table of PostgreSQL: whatever is killed whenever, each event has its effect once.

Each order is a row. An event replaces it if it is newer; of a deleted order the row stays, marked, so that an older
event that comes late does not bring it back. Beside it, `order_changes` gets one row for each event: an effect that
must not happen twice. Row, change and the id of the event are written in one transaction.

Needs ordersync-consumer and psycopg[binary]. `--once` ends when there is nothing left; a signal ends it in order.

    python postgres.py redis://127.0.0.1:6379/0 'host=/run/postgresql dbname=shop' --name worker-1
"""  # noqa: INP001 - a program by itself

from __future__ import annotations

import argparse
import json
import os
import signal

import anyio
import psycopg
from redis.asyncio import Redis

from ordersync_consumer import Consumer, Delivery, Reject
from ordersync_consumer.idempotency import SqlOnce

TABLES = """
CREATE TABLE IF NOT EXISTS orders (
    id text PRIMARY KEY, version bigint NOT NULL, entry_ms bigint NOT NULL, entry_number bigint NOT NULL,
    status text, record jsonb, deleted boolean NOT NULL DEFAULT false);
CREATE TABLE IF NOT EXISTS order_changes (
    event_id text NOT NULL, order_id text NOT NULL, version bigint NOT NULL, action text NOT NULL)
"""
NEWEST = """
INSERT INTO orders VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE SET version = excluded.version, entry_ms = excluded.entry_ms,
    entry_number = excluded.entry_number, status = excluded.status, record = excluded.record, deleted = excluded.deleted
WHERE (orders.entry_ms, orders.entry_number) < (excluded.entry_ms, excluded.entry_number)
"""  # versions rise with entry ids; the entry id decides even after Redis has lost data


async def main(words: argparse.Namespace) -> None:
    """Consume until a signal comes."""
    database = psycopg.connect(words.database)
    database.execute(
        "SELECT pg_advisory_xact_lock(1)"
    )  # of several processes that start, one creates the tables
    database.execute(TABLES)
    once = SqlOnce(database, group=words.group, placeholder="%s")
    once.create_table()

    def apply(delivery: Delivery) -> None:
        event = delivery.event
        record = json.loads(event.data)
        if words.refuse and record.get("status") == words.refuse:
            raise Reject(
                f"status {words.refuse} is not wanted here"
            )  # a dead letter at once; other errors are retried
        with once.transaction(delivery) as new:
            if new:
                order = (
                    event.subject,
                    event.version,
                    *event.position,
                    record.get("status"),
                    event.data.decode(),
                )
                database.execute(NEWEST, (*order, event.action == "deleted"))
                change = (event.id, event.subject, event.version, event.action)
                database.execute("INSERT INTO order_changes VALUES (%s, %s, %s, %s)", change)

    async def handle(delivery: Delivery) -> None:
        await anyio.to_thread.run_sync(apply, delivery)  # whatever blocks belongs into a thread

    client = Redis.from_url(words.url, password=os.environ.get("REDISCLI_AUTH"))
    consumer = Consumer(
        client,
        resources=["orders"],
        group=words.group,
        name=words.name,
        account=words.account,
        prefix=words.prefix,
        claim_after=words.claim_after,
        wait=not words.once,
    )
    async with consumer, anyio.create_task_group() as tasks:
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
    parser = argparse.ArgumentParser(description="Keep the orders in PostgreSQL.")
    parser.add_argument("url")
    parser.add_argument("database", help="as psycopg takes it")
    parser.add_argument("--group", default="postgres")
    parser.add_argument(
        "--name", help="its own, and the same after a restart; the name of the host by default"
    )
    parser.add_argument("--account", default="default")
    parser.add_argument("--prefix", default="ordersync:", help="ORDERSYNC_REDIS__PREFIX of the worker")
    parser.add_argument("--claim-after", type=float, default=30.0, help="seconds")
    parser.add_argument("--refuse", help="make dead letters of orders of this status")
    parser.add_argument("--once", action="store_true")
    anyio.run(main, parser.parse_args())
