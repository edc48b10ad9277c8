"""What a careful developer writes: concurrent pages, content hashes, one transaction for each page."""

from __future__ import annotations

import asyncio
import hashlib
from itertools import count
from typing import Any, cast

import httpx
import orjson
from redis.asyncio import Redis

from tests.bench.rivals import PAGE_SIZE, SEEN, STREAM, Result, Stopwatch, arguments


async def commit(store: Redis, orders: list[dict[str, Any]]) -> int:
    """Publish what differs from the hashes kept, and keep the new ones, in one MULTI/EXEC."""
    ids = [cast("str", order["id"]) for order in orders]
    hashes = [
        hashlib.sha256(orjson.dumps(order, option=orjson.OPT_SORT_KEYS)).hexdigest() for order in orders
    ]
    kept = await cast("Any", store.hmget(SEEN, ids))
    changed = [at for at, fingerprint in enumerate(hashes) if kept[at] != fingerprint]
    if not changed:
        return 0
    async with store.pipeline(transaction=True) as transaction:
        for at in changed:
            transaction.xadd(STREAM, {"id": ids[at], "data": orjson.dumps(orders[at])})
            transaction.hset(SEEN, ids[at], hashes[at])
        await transaction.execute()
    return len(changed)


async def run(url: str, redis_url: str, in_flight: int = 4) -> Result:
    watch = Stopwatch()
    store: Redis = Redis.from_url(redis_url, decode_responses=True)
    limits = httpx.Limits(max_connections=in_flight)
    async with httpx.AsyncClient(base_url=url, timeout=30, limits=limits) as client:
        login = await client.post("/user/v1/clients/token", json={"clientId": "a", "clientSecret": "b"})
        client.headers["Authorization"] = f"Bearer {login.json()['accessToken']}"
        pages = count(1)

        async def read() -> None:
            for page in pages:
                response = await client.get("/order/v1/orders", params={"page": page, "pageSize": PAGE_SIZE})
                response.raise_for_status()
                orders: list[dict[str, Any]] = orjson.loads(response.content)["orders"]
                if orders:
                    watch.count(len(orders), await commit(store, orders))
                if len(orders) < PAGE_SIZE:
                    return

        async with asyncio.TaskGroup() as group:
            for _ in range(in_flight):
                group.create_task(read())
    await store.aclose()
    return watch.result()


if __name__ == "__main__":
    given = arguments("careful")
    print(asyncio.run(run(given.url, given.redis_url, given.in_flight)).as_json())
