"""Keeps a table of orders up to date with redis-py alone, any version from 5 on: no package of ordermesh-sync.

Reads through a group, takes over what a consumer that is gone has left, applies each event once, and makes a dead
letter of an event that fails too often. Several processes with one group and different names share the work.

    python plain.py redis://127.0.0.1:6379/0 orders.db --group warehouse --name worker-1
"""  # noqa: INP001 - a program by itself

from __future__ import annotations

import argparse
import gzip
import json
import os
import sqlite3
import sys
import time
from datetime import UTC, datetime

import redis

NEWEST = """
INSERT INTO orders VALUES (?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET entry_ms = excluded.entry_ms, entry_number = excluded.entry_number,
    record = excluded.record
WHERE (entry_ms, entry_number) < (excluded.entry_ms, excluded.entry_number)
"""  # an event that is retried comes after later ones of its order: the greater entry id is newer, always


class Consumer:
    """One consumer of the orders of an account."""

    def __init__(self, client: redis.Redis, database: sqlite3.Connection, words: argparse.Namespace) -> None:
        self.client, self.database, self.words = client, database, words
        self.stream = f"{words.prefix}{{{words.account}}}:stream:orders"
        self.dead = f"{words.prefix}{{{words.account}}}:dead:orders"

    def create_group(self) -> None:
        """Begin with the oldest event that is kept, unless the group exists."""
        try:
            self.client.xgroup_create(self.stream, self.words.group, id="0", mkstream=True)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def run(self) -> None:
        """Handle events until there are none with --once, else until a signal."""
        self.create_group()
        looked = -1e9
        while True:
            try:
                if time.monotonic() - looked > self.words.claim_after / 2:
                    looked = time.monotonic()
                    self.claim_idle()
                answer = self.client.xreadgroup(
                    self.words.group, self.words.name, {self.stream: ">"}, count=100, block=500
                )
            except redis.ResponseError as error:
                if "NOGROUP" not in str(error) and "UNBLOCKED" not in str(error):
                    raise
                self.create_group()  # Redis has lost the group: it begins again
                continue
            entries = answer[0][1] if answer else []
            for entry_id, fields in entries:
                self.handle(entry_id, fields, 1)
            if self.words.once and not entries and not self.pending():
                return

    def pending(self) -> int:
        """How many events somebody has taken and not finished."""
        return int(self.client.xpending(self.stream, self.words.group)["pending"])

    def claim_idle(self) -> None:
        """Take over what nobody has touched for a while: left by a process that is gone, failed here, or replayed."""
        idle = int(self.words.claim_after * 1000)
        for entry in self.client.xpending_range(self.stream, self.words.group, "-", "+", 100, idle=idle):
            entry_id, delivered = entry["message_id"], entry["times_delivered"]
            # Counts the attempt. Nothing comes back if another consumer was faster, or the entry was removed.
            claimed = self.client.xclaim(self.stream, self.words.group, self.words.name, idle, [entry_id])
            for claimed_id, fields in claimed:
                self.handle(claimed_id, fields, delivered + 1)

    def handle(self, entry_id: bytes, fields: dict[bytes, bytes], attempt: int) -> None:
        """Apply an event, and acknowledge it after the effect; or leave it to be retried, or make it a dead letter."""
        try:
            if fields:  # else it was removed from the stream after it had been taken
                self.apply(entry_id.decode(), fields)
        except Exception as error:  # noqa: BLE001 - whatever it is: the event is tried again
            print(f"{entry_id.decode()} failed, attempt {attempt}: {error}", file=sys.stderr)  # noqa: T201
            if attempt >= self.words.max_deliveries:
                self.bury(entry_id, fields, attempt, str(error)[:1000])
            return
        self.client.xack(self.stream, self.words.group, entry_id)

    def bury(self, entry_id: bytes, fields: dict[bytes, bytes], attempt: int, reason: str) -> None:
        """Write a dead letter, as the consumer kit does, and acknowledge the event: both or nothing."""
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        letter: dict[str | bytes, str | bytes | int] = {
            "kind": "delivery", "reason": reason, "subject": fields[b"subject"], "where": entry_id, "time": now,
            "group": self.words.group, "consumer": self.words.name, "attempts": attempt, "trace": "",
        }  # fmt: skip
        letter |= {name if name == b"data" else b"event." + name: value for name, value in fields.items()}
        with self.client.pipeline(transaction=True) as both:
            both.xadd(self.dead, letter)  # type: ignore[arg-type] # redis-py's type is of one key type
            both.xack(self.stream, self.words.group, entry_id)
            both.execute()

    def apply(self, entry_id: str, fields: dict[bytes, bytes]) -> None:
        """Write the order, and remember the event, in one transaction: twice is the same as once."""
        data = fields[b"data"]
        if fields.get(b"dataencoding") == b"gzip":
            data = gzip.decompress(data)
        order = json.loads(data)
        if self.words.refuse and order.get("status") == self.words.refuse:
            raise ValueError(f"status {self.words.refuse} is not wanted here")
        milliseconds, number = map(int, entry_id.split("-"))
        with self.database:
            mark = self.database.execute(
                "INSERT INTO done VALUES (?) ON CONFLICT DO NOTHING", (fields[b"id"].decode(),)
            )
            if mark.rowcount:  # else it was applied before
                row = (fields[b"subject"].decode(), milliseconds, number, data.decode())
                self.database.execute(NEWEST, row)


def main(words: argparse.Namespace) -> None:
    """Consume."""
    database = sqlite3.connect(words.database)
    database.execute(
        "CREATE TABLE IF NOT EXISTS orders "
        "(id TEXT PRIMARY KEY, entry_ms INTEGER, entry_number INTEGER, record TEXT)"
    )
    database.execute("CREATE TABLE IF NOT EXISTS done (event_id TEXT PRIMARY KEY)")
    client = redis.Redis.from_url(words.url, password=os.environ.get("REDISCLI_AUTH"))
    try:
        Consumer(client, database, words).run()
    finally:
        client.close()
        database.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Keep a table of orders up to date.")
    parser.add_argument("url")
    parser.add_argument("database")
    parser.add_argument("--group", default="warehouse")
    parser.add_argument("--name", default="worker-1", help="its own, and the same after a restart")
    parser.add_argument("--account", default="default")
    parser.add_argument("--prefix", default="ordersync:", help="ORDERSYNC_REDIS__PREFIX of the worker")
    parser.add_argument(
        "--claim-after", type=float, default=60.0, help="seconds; more than one event may take"
    )
    parser.add_argument("--max-deliveries", type=int, default=5)
    parser.add_argument("--refuse", help="fail at orders of this status, to see what happens then")
    parser.add_argument("--once", action="store_true")
    main(parser.parse_args())
