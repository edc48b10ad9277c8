"""The ticker: keeps orders coming and changing at a steady rate, as in a shop that is open."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.sandbox.store import Store

SHARE_OF_CREATES = 0.2
"""About one event in five is a new order, the others are changes of orders that are there."""

_LONGEST_WAIT = 0.5
_SHORTEST_WAIT = 0.02


def due(rate: float, elapsed: float, done: int) -> int:
    """How many events are still to happen `elapsed` seconds after the start, when `done` have happened."""
    return max(0, int(rate * elapsed) - done)


def step(store: Store, n: int, rng: Random) -> None:
    """Lets `n` events happen."""
    creates = sum(rng.random() < SHARE_OF_CREATES for _ in range(n))
    if creates:
        store.create(creates)
    if n > creates:
        store.change(n - creates)


async def tick(store: Store, rate: float, seed: int) -> None:
    """Lets `rate` events happen each second until cancelled; returns at once when the rate is 0.

    The count follows the clock, so a late wake-up loses nothing.
    """
    if rate <= 0:
        return
    rng = Random(seed)
    clock = asyncio.get_running_loop().time
    started, done = clock(), 0
    wait = min(_LONGEST_WAIT, max(_SHORTEST_WAIT, 1 / rate))
    while True:
        await asyncio.sleep(wait)
        n = due(rate, clock() - started, done)
        if n:
            step(store, n, rng)
            done += n
