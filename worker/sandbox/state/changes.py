"""The ticker: creates and changes orders and shipments at a steady rate, like the customers of a shop."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.sandbox.state.shipping import ShipmentRecords
    from worker.sandbox.state.store import Store

SHARE_OF_CREATES = 0.2
"""Share of events that create an order. The others change existing orders."""

SHARE_OF_SHIPMENTS = 0.1
"""Share of events that change a shipment but not its order."""

_MAX_WAIT = 0.5
_MIN_WAIT = 0.02


def due(rate: float, elapsed: float, done: int) -> int:
    """Return how many events are due `elapsed` seconds after the start, if `done` events have happened."""
    return max(0, int(rate * elapsed) - done)


def step(store: Store, n: int, rng: Random, shipments: ShipmentRecords | None = None) -> None:
    """Make `n` events happen. Without `shipments`, only orders change, and their shipments with them."""
    chances = [rng.random() for _ in range(n)]
    creates = sum(chance < SHARE_OF_CREATES for chance in chances)
    shipment_changes = 0 if shipments is None else sum(item >= 1 - SHARE_OF_SHIPMENTS for item in chances)
    if creates:
        store.create(creates)
    if shipments is not None and shipment_changes:
        shipments.change(shipment_changes)
    if n > creates + shipment_changes:
        store.change(n - creates - shipment_changes)


async def tick(store: Store, rate: float, seed: int, shipments: ShipmentRecords | None = None) -> None:
    """Make `rate` events per second happen until cancelled; return at once if the rate is 0.

    The number of events follows the clock, so a late wake-up loses no event.

    Args:
        store: The orders.
        rate: Events per second.
        seed: Seed of the random choices.
        shipments: Shipments to change without their orders; None changes no shipments.
    """
    if rate <= 0:
        return
    rng = Random(seed)
    clock = asyncio.get_running_loop().time
    started, done = clock(), 0
    wait = min(_MAX_WAIT, max(_MIN_WAIT, 1 / rate))
    while True:
        await asyncio.sleep(wait)
        n = due(rate, clock() - started, done)
        if n:
            step(store, n, rng, shipments)
            done += n
