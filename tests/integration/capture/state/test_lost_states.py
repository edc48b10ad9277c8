"""States of records that are deleted in Redis, or evicted: their records are known, so they are not created."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from tests.support.faulty_gateway import Liar, Watch, order, orders, watching
from worker.capture.health import Health, judge
from worker.capture.registry import ORDERS
from worker.capture.state.store import StateStore

pytestmark = pytest.mark.anyio


def add_now(w: Watch, count: int) -> list[str]:
    """Orders that are made now; their ids."""
    number, now = len(w.liar.records), int(w.clock.now() * 1000)
    new = [order(number + one, now + one) for one in range(count)]
    w.liar.records += new
    return [record["id"] for record in new]


async def lose_states(w: Watch) -> None:
    keys = [key async for key in w.place.redis.scan_iter(f"{w.account.keys.states('orders')}:*")]
    await w.place.redis.unlink(*keys)


async def told(w: Watch, identifier: str) -> list[tuple[str, int]]:
    return [(event.action, event.version) for event in await w.events() if event.subject == identifier]


async def test_a_record_that_was_known_is_not_created(redis_url: str) -> None:
    """It is a snapshot with a version above that of before; one that is really new is created. It is said once."""
    async with watching(Liar(records=orders(100)), redis_url) as w:
        await w.poll()
        w.clock.offset += 20
        (known,) = add_now(w, 1)
        w.clock.offset += 20
        await w.poll()
        await lose_states(w)
        w.clock.offset += 20
        (new,) = add_now(w, 1)
        w.clock.offset += 20
        with capture_logs() as lines:
            for _ in range(3):
                await w.poll()
        (line,) = [line for line in lines if line["event"] == "redis_lost_a_key"]
        assert line["cause"] == "Redis lost the states of 101 records"
        (first, again), ((action, _),) = await told(w, known), await told(w, new)
        assert (first[0], again[0], action) == ("created", "snapshot", "created")
        assert again[1] > first[1]
        assert await w.missing() == []


async def test_it_is_degraded_until_a_full_scan_has_ended(redis_url: str) -> None:
    """The scan that has noticed it is stopped before its end."""
    async with watching(Liar(records=orders(100)), redis_url, page_size=10) as w:
        await w.poll()
        await lose_states(w)
        pages = iter([False, False, True])
        await w.poll(stop=lambda: next(pages, True))
        store = StateStore(w.place.redis, w.account.keys, ORDERS)
        verdict = judge(await store.load_cursor(), w.clock.now())
        assert (verdict.health, "lost the states of 100 records" in verdict.cause) == (Health.DEGRADED, True)
        await w.poll()
        assert judge(await store.load_cursor(), w.clock.now()).health is Health.OK
        assert {event.action for event in await w.events()} == {"snapshot"}
