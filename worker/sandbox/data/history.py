"""The initial orders of a sandbox, like those of a shop that has been open for some time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.sandbox.data.mutations import advance, cancel
from worker.sandbox.data.orders import HISTORY_START, HISTORY_STEP, TICKS_PER_SECOND, format_ticks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from worker.sandbox.data.orders import Order, OrderFactory

_HOUR = 3_600 * TICKS_PER_SECOND


def history(orders: int, factory: OrderFactory, rng: Random) -> Iterator[tuple[Order, int]]:
    """Yield orders with fixed times, each with the time of its last change in ticks.

    Most orders are fulfilled or cancelled; the last tenth is open or in production. The same seeds result in the same
    orders.
    """
    for number in range(orders):
        created = HISTORY_START + number * HISTORY_STEP + int(rng.random() * HISTORY_STEP)
        order = factory.make(created)
        steps = 2 if number < orders * 0.9 else int(rng.random() * 2)
        changed = created
        for _ in range(steps):
            changed += _HOUR + int(rng.random() * 20 * _HOUR)
            stamp = format_ticks(changed)
            if rng.random() < 0.02:
                cancel(order, stamp)
            else:
                advance(order, stamp, rng)
            order["updatedAt"] = stamp
            if order["status"] == "Cancelled":
                break
        yield order, changed
