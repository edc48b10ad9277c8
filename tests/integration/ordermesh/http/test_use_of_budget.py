"""How much of the budget of requests is used, as `ordersync status` shows it."""

from __future__ import annotations

import time

import pytest

from tests.support.worker import BenchMaker
from worker.ordermesh.http.budget import use_of

pytestmark = pytest.mark.anyio


async def test_use_of_the_budget(bench: BenchMaker) -> None:
    """Of this minute and of the part of the one before that lies within the last 60 seconds; nothing after two."""
    async with bench() as b:
        keys, minute = b.account.keys, 30_000_000
        values: dict[str, str] = {"rate": "2.5", "minute": str(minute), "used": "30", "before": "60"}
        await b.redis.hset(keys.budget, mapping=values)
        seen = [
            await use_of(b.redis, keys, minute * 60 + passed) for passed in (0, 15, 59.9, 60, 90, 120, 900)
        ]
        assert [use.requests for use in seen] == [90, 75, 30, 30, 15, 0, 0]
        assert (seen[0].rate, seen[0].share) == (2.5, 0.6)
        await b.redis.delete(keys.budget)
        assert (await use_of(b.redis, keys, time.time())).share == 0.0


async def test_the_budget_counts_what_it_grants(bench: BenchMaker) -> None:
    """Over the turn of a minute as well: what is asked for is in one of the two counts."""
    async with bench(requests_per_second=40) as b:
        budget = b.account.client.budget
        for _ in range(9):
            budget.release(await budget.acquire())
        found = await b.redis.hmget(b.account.keys.budget, ["used", "before", "rate"])
        used, before, rate = (float(value or 0) for value in found)
        assert used + before == 9
        assert rate == 40
        use = await use_of(b.redis, b.account.keys, time.time())
        assert (use.requests, use.workers) == (9, 1)
        await b.redis.hincrby(b.account.keys.budget, "minute", -1)  # as if a minute had passed
        budget.release(await budget.acquire())
        found = await b.redis.hmget(b.account.keys.budget, ["used", "before"])
        assert [float(value) for value in found] == [1, used]
