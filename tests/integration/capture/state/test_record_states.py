"""Known records that are drawn: not those that come first in their hash."""

from __future__ import annotations

import random

import pytest

from tests.support.worker import BenchContext
from worker.capture.state.record_states import some_of
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio


async def test_each_known_record_may_be_drawn(redis_url: str) -> None:
    """The first by id are the oldest here, which a shop deletes together. All of them, where no more are known."""
    chance = random.Random(7)
    with SandboxServer(orders=120) as sandbox:
        async with BenchContext(sandbox, redis_url, {}) as bench:
            await bench.poll()
            known, states = sandbox.store.ids(), bench.account.keys.states("orders")
            buckets = int(await bench.redis.hget(bench.account.keys.cursor("orders"), "buckets"))
            drawn = [await some_of(bench.redis, states, buckets, 3, chance.uniform) for _ in range(500)]
            every = await some_of(bench.redis, states, buckets, 500, chance.uniform)
    assert all(len(set(each)) == 3 for each in drawn)
    assert {identifier for each in drawn for identifier in each} == set(known)
    assert sorted(every) == sorted(known)
