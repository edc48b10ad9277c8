"""The raw limit: the fastest loop that fetches, fingerprints and publishes, with no guarantee at all.

`--mode first` publishes everything it reads; `--mode unchanged` compares fingerprints and writes nothing.
"""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any, cast

import msgspec
import uvloop
from redis.asyncio import Redis
from xxhash import xxh3_64_digest

from tests.bench.rawhttp import RawConnection
from tests.bench.rivals import PAGE_SIZE, SEEN, STREAM, Result, Stopwatch, arguments

# KEYS: stream, fingerprints. ARGV: time, then id, fingerprint, record of each. Returns how many.
PUBLISH = """
local seen = {}
for at = 2, #ARGV, 3 do
  redis.call('XADD', KEYS[1], '*', 'specversion', '1.0', 'id', ARGV[at], 'source', '/ordermesh/bench',
    'type', 'io.ordermesh.order.snapshot', 'subject', ARGV[at], 'time', ARGV[1],
    'datacontenttype', 'application/json', 'dataschema', '', 'sequence', at, 'version', ARGV[at + 1],
    'reason', 'poll', 'changed', '', 'partitionkey', ARGV[at], 'data', ARGV[at + 2])
  seen[#seen + 1] = ARGV[at]
  seen[#seen + 1] = ARGV[at + 1]
end
redis.call('HSET', KEYS[2], unpack(seen))
return #seen / 2
"""


class Head(msgspec.Struct):
    """The one field of a record that is decoded."""

    id: str


class Heads(msgspec.Struct):
    """A page as ids."""

    orders: list[Head]


class Raws(msgspec.Struct):
    """A page as undecoded records."""

    orders: list[msgspec.Raw]


async def run(url: str, redis_url: str, in_flight: int = 4, mode: str = "first") -> Result:
    watch = Stopwatch()
    store: Redis = Redis.from_url(redis_url)
    untyped = cast("Any", store)  # redis-py types its commands for both worlds at once
    script = await untyped.script_load(PUBLISH)
    ids_of = msgspec.json.Decoder(Heads).decode
    raws_of = msgspec.json.Decoder(Raws).decode
    pages = count(1)

    async def read() -> None:
        connection = await RawConnection.open(url)
        for page in pages:
            body = await connection.request(f"/order/v1/orders?page={page}&pageSize={PAGE_SIZE}")
            raws = raws_of(body).orders
            if raws:
                ids = [head.id for head in ids_of(body).orders]
                prints = [xxh3_64_digest(raw) for raw in raws]
                if mode == "first":
                    batch: list[bytes | str] = ["2026-01-01T00:00:00Z"]
                    for order_id, fingerprint, raw in zip(ids, prints, raws, strict=True):
                        batch += (order_id, fingerprint, bytes(raw))
                    await untyped.evalsha(script, 2, STREAM, SEEN, *batch)
                    watch.count(len(raws), len(raws))
                else:
                    kept = await untyped.hmget(SEEN, ids)
                    differs = sum(a != b for a, b in zip(kept, prints, strict=True))
                    if differs:
                        raise RuntimeError(f"{differs} records changed in a run in which nothing changes")
                    watch.count(len(raws), 0)
            if len(raws) < PAGE_SIZE:
                break
        connection.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(read())
    await store.aclose()
    return watch.result()


if __name__ == "__main__":
    given = arguments("raw")
    print(uvloop.run(run(given.url, given.redis_url, given.in_flight, given.mode)).as_json())
