"""The first full scans: which records existed before them, however they are interrupted and however the list moves."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from tests.integration.capture.test_poll import after_pages
from tests.support.campaign import settle, worker_at
from tests.support.faulty_gateway import Liar, order, orders, watching
from tests.support.gateway import Gateway, Judge, Serving
from worker.capture.registry import ORDERS
from worker.capture.state.run import Outcome
from worker.capture.state.store import StateStore

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("direction", ["modified", "-modified", "-created"])
@pytest.mark.parametrize("total", ["totalCount", None])
@pytest.mark.parametrize("pages", [11, 1000])
async def test_old_orders_are_snapshots(
    redis_url: str, direction: str, total: str | None, pages: int
) -> None:
    """The list moves with every page, and the first reads are interrupted, or not (1000)."""
    serving = Serving(total=total)
    serving.order = direction  # type: ignore[assignment]
    with Gateway(orders=400, serving=serving) as gateway, Judge(gateway, redis_url) as judge:
        history, chance = gateway.history, Random(5)
        old = set(history.ids("orders"))

        def move(_kind: str, _page: int) -> None:
            history.change("orders", [chance.choice(history.ids("orders"))])
            if not chance.randrange(4):
                history.create("orders")
            if not chance.randrange(15):
                history.delete("orders", history.ids("orders")[:1])

        async with worker_at(gateway, redis_url, page_size=20) as worker:
            serving.before_page = move
            for _ in range(3):
                await worker.poll(stop=after_pages(pages))
                worker.clock.offset += 60
            serving.before_page = None
            await settle(worker, judge)
            history.create("orders", 3)
            run = await worker.poll(complete=True)
            assert (run.created, run.snapshot) == (3, 0)
        assert judge.verdict().wrong_first == []
        words = Counter(
            each.action for each in judge.told["orders"] if each.subject in old and each.version == 1
        )
        assert set(words) == {"snapshot"}


async def test_new_orders_of_a_slow_clock_are_created(redis_url: str) -> None:
    """A source whose times are an hour behind, or of another zone: what is new since the first scan is no snapshot."""
    liar = Liar(records=orders(40))
    async with watching(liar, redis_url, page_size=10) as watch:
        await watch.poll()
        liar.add(3)  # ten days ago, but after all others
        run = await watch.poll()
        assert (run.created, run.snapshot) == (3, 0)


async def test_records_without_a_creation_time(redis_url: str) -> None:
    """After a scan that was resumed, or whose pages moved, they are snapshots until one is clean."""
    liar = Liar(records=[{**each, "createdAt": None} for each in orders(40)])

    def more(watch_count: int) -> None:
        liar.records += [{**order(100 + watch_count, 0), "createdAt": None}]

    async with watching(liar, redis_url, page_size=10) as watch:
        store = StateStore(watch.place.redis, watch.account.keys, ORDERS)
        await watch.poll(stop=after_pages(2))
        assert (await watch.poll()).outcome is Outcome.COMPLETE
        assert (await store.load_cursor()).unclean_scans == 1
        more(1)
        run = await watch.poll()
        assert (run.created, run.snapshot) == (0, 1)
        assert (await store.load_cursor()).unclean_scans == 0
        more(2)
        run = await watch.poll()
        assert (run.created, run.snapshot) == (1, 0)
