"""A server that may evict keys is named when the worker starts."""

import pytest
import redis.asyncio
import structlog

from worker.redis.connections import check_server

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl", "noeviction"])
async def test_a_policy_that_evicts_is_named(redis_url: str, policy: str) -> None:
    """It deletes whole streams; the log says which policy it is, and what to type."""
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.config_set("maxmemory-policy", policy)
        try:
            with structlog.testing.capture_logs() as lines:
                await check_server(client, redis_url)
        finally:
            await client.config_set("maxmemory-policy", "noeviction")
    named = [(line["log_level"], line["policy"]) for line in lines if line["event"] == "redis_may_evict"]
    assert named == ([] if policy == "noeviction" else [("warning", policy)])
    assert all(
        "CONFIG SET maxmemory-policy noeviction" in line["advice"] for line in lines if "policy" in line
    )
