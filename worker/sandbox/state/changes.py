"""The ticker: keeps orders and shipments coming and changing at a steady rate, as in a shop that is open."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.sandbox.state.shipping import ShipmentRecords
    from worker.sandbox.state.store import Store

SHARE_OF_CREATES = 0.2
"""About one event in five is a new order, the others are changes of orders that are there."""

SHARE_OF_SHIPMENTS = 0.1
"""About one event in ten happens to a shipment alone: its order stays as it is."""

_MAX_WAIT = 0.5
_MIN_WAIT = 0.02


def due(rate: float, elapsed: float, done: int) -> int:
    """How many events are still to happen `elapsed` seconds after the start, when `done` have happened."""
    return max(0, int(rate * elapsed) - done)


def step(store: Store, n: int, rng: Random, shipments: ShipmentRecords | None = None) -> None:
    """Lets `n` events happen; without `shipments` to orders only, whose shipments follow them."""
    chances = [rng.random() for _ in range(n)]
    creates = sum(chance < SHARE_OF_CREATES for chance in chances)
    alone = 0 if shipments is None else sum(chance >= 1 - SHARE_OF_SHIPMENTS for chance in chances)
    if creates:
        store.create(creates)
    if shipments is not None and alone:
        shipments.change(alone)
    if n > creates + alone:
        store.change(n - creates - alone)


async def tick(store: Store, rate: float, seed: int, shipments: ShipmentRecords | None = None) -> None:
    """Lets `rate` events happen each second until cancelled; returns at once when the rate is 0.

    The count follows the clock, so a late wake-up loses nothing.

    Args:
        store: The orders.
        rate: Events each second.
        seed: Seed of what happens.
        shipments: Shipments to which something happens alone; None: to none.
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
