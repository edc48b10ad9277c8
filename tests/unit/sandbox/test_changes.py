import asyncio
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from worker.sandbox import Store
from worker.sandbox.state.changes import due, step, tick
from worker.sandbox.state.world import World


@given(st.floats(0.01, 1_000), st.lists(st.floats(0, 5), max_size=30))
def test_events_follow_the_clock(rate: float, waits: list[float]) -> None:
    """However late the ticker wakes up, as many events have happened as rate and time call for."""
    elapsed, done = 0.0, 0
    for wait in waits:
        elapsed += wait
        done += due(rate, elapsed, done)
    assert done == int(rate * elapsed)


def test_about_a_fifth_are_new_orders() -> None:
    """Of many events about one in five creates an order, the others change one."""
    store = Store(2_000)
    step(store, 1_000, Random(1))
    statistics = store.statistics()
    assert statistics.created + statistics.changed == 1_000
    assert 150 < statistics.created < 250


def test_about_a_tenth_happen_to_shipments_alone() -> None:
    """With shipments some events leave the orders as they are, and all events still happen."""
    store = Store(500)
    shipments = World(store).shipments
    orders, before = store.truth(), dict.fromkeys(shipments.ids())
    step(store, 200, Random(1), shipments)
    statistics = store.statistics()
    alone = 200 - statistics.created - statistics.changed
    assert 5 < alone < 45
    untouched = [each for each, raw in orders.items() if store.get(each) == raw]
    moved = [each for each in before if store.audit.entries("shipment", each)]
    owners = {(shipments.get(each) or {})["orderId"] for each in moved}
    assert owners & set(untouched)


def test_an_empty_store_gets_its_first_orders() -> None:
    """Without orders to change, only creations have an effect."""
    store = Store(0)
    step(store, 50, Random(1))
    assert store.statistics().created == len(store) > 0


def test_a_rate_of_0_is_off() -> None:
    """With rate 0 the ticker ends at once and nothing happens."""
    store = Store(5)
    asyncio.run(tick(store, 0, 1))
    assert store.statistics().changed == 0
