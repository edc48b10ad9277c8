"""What a developer writes first: one page after another, one command after another."""

from __future__ import annotations

import json
from typing import Any, cast

import httpx
import redis

from tests.bench.rivals import PAGE_SIZE, SEEN, STREAM, Result, Stopwatch, arguments


def run(url: str, redis_url: str) -> Result:
    watch = Stopwatch()
    store = redis.Redis.from_url(redis_url, decode_responses=True)
    with httpx.Client(base_url=url, timeout=30) as client:
        login = client.post("/user/v1/clients/token", json={"clientId": "a", "clientSecret": "b"})
        client.headers["Authorization"] = f"Bearer {login.json()['accessToken']}"
        page = 1
        while True:
            response = client.get("/order/v1/orders", params={"page": page, "pageSize": PAGE_SIZE})
            response.raise_for_status()
            orders: list[dict[str, Any]] = response.json()["orders"]
            published = 0
            for order in orders:
                version = order["updatedAt"] or order["createdAt"]
                if cast("str | None", store.hget(SEEN, order["id"])) == version:
                    continue
                store.xadd(STREAM, {"id": order["id"], "data": json.dumps(order)})
                store.hset(SEEN, order["id"], version)
                published += 1
            watch.count(len(orders), published)
            if len(orders) < PAGE_SIZE:
                break
            page += 1
    store.close()
    return watch.result()


if __name__ == "__main__":
    given = arguments("plain")
    print(run(given.url, given.redis_url).as_json())
