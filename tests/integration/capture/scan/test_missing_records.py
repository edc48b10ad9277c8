"""Known records that a full scan does not show, at a gateway that shares no code with the sandbox.

Each is asked for by id before anything is concluded: deleted, refused, or there while the pages moved.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.faulty_gateway import Liar, Query, Reply, Watch, orders, watching
from worker.redis.connections import answer

pytestmark = pytest.mark.anyio


async def actions(w: Watch) -> Counter[str]:
    return Counter(event.action for event in await w.events())


async def pass_time(w: Watch, seconds: float) -> None:
    """Let so much time pass for the worker and for its refresh queue, which goes by the clock of Redis."""
    w.clock.offset += seconds
    key = w.account.keys.refresh_queue("orders")
    for member, due in await answer(w.place.redis.zrange(key, 0, -1, withscores=True)):
        await answer(w.place.redis.zadd(key, {member: due - seconds}))


async def polls(w: Watch, times: int, *, every: float = 20.0) -> None:
    for _ in range(times):
        await pass_time(w, every)
        await w.poll()


@pytest.mark.parametrize("status", [404, 410])
async def test_gone_is_not_found(redis_url: str, status: int) -> None:
    """Some gateways answer 410 for a record that there was: it is deleted as one that there is not."""
    liar = Liar(records=orders(100))
    async with watching(liar, redis_url) as w:
        await w.poll()
        victim = liar.records.pop(7)["id"]

        def refuse(path: str, _: Query) -> Reply | None:
            return (status, {"message": "no such order"}) if victim in path else None

        liar.interfere = refuse
        await polls(w, 20)
        assert (await actions(w))["deleted"] == 1
        assert (await w.events())[-1].subject == victim


async def test_a_shard_that_is_away_for_90_seconds_deletes_nothing(redis_url: str) -> None:
    """It is not listed and answers 404 by id meanwhile: the second answer is waited for, five minutes by default."""
    liar = Liar(records=orders(400))
    async with watching(liar, redis_url) as w:
        await w.poll()
        there = liar.records
        liar.records = there[:5] + there[10:]
        await polls(w, 5)  # 100 s
        liar.records = there
        await polls(w, 20)
        assert await actions(w) == {"snapshot": 400}


async def test_the_time_between_the_two_answers_is_a_setting(redis_url: str) -> None:
    """`ORDERSYNC_POLL__CONFIRM_DELETES`."""
    liar = Liar(records=orders(400))
    async with watching(liar, redis_url, confirm_deletes=60.0) as w:
        await w.poll()
        del liar.records[5:7]
        await polls(w, 3)
        assert (await actions(w))["deleted"] == 0
        await polls(w, 3)
        assert (await actions(w))["deleted"] == 2
