"""A first full scan that finds no record: an account without records, or an outage."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.faulty_gateway import Liar, order, orders, watching
from worker.capture.health import Health, judge
from worker.capture.registry import ORDERS
from worker.capture.state.store import StateStore

pytestmark = pytest.mark.anyio


async def test_after_an_outage_history_is_not_created(redis_url: str) -> None:
    """An empty list for two minutes: the records that come after it are the first that are read."""
    liar = Liar(records=[])
    async with watching(liar, redis_url) as w:
        for _ in range(8):
            await w.poll()
            w.clock.offset += 15
        store = StateStore(w.place.redis, w.account.keys, ORDERS)
        verdict = judge(await store.load_cursor(), w.clock.now())
        assert (verdict.health, "found no records" in verdict.cause) == (Health.STARTING, True)
        liar.records = orders(50)
        await w.poll()
        assert Counter(event.action for event in await w.events()) == {"snapshot": 50}
        assert judge(await store.load_cursor(), w.clock.now()).health is Health.OK


async def test_a_new_account_has_no_records(redis_url: str) -> None:
    """Two empty lists, five minutes apart, are believed: the first order of its life is created."""
    liar = Liar(records=[])
    async with watching(liar, redis_url) as w:
        await w.poll()
        w.clock.offset += 300
        await w.poll()
        w.clock.offset += 15
        liar.records = [order(0, int(w.clock.now() * 1000))]
        await w.poll()
        assert [event.action for event in await w.events()] == ["created"]
