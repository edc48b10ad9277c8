"""The random selection of orders to change."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from random import Random


def pick(
    n: int, ids: Sequence[str], *, open_ids: Collection[str], planted: Collection[str], rng: Random
) -> list[str]:
    """Select `n` different orders, preferably new and open ones.

    Args:
        n: How many; fewer are selected if fewer exist.
        ids: All orders in creation order.
        open_ids: The open orders.
        planted: Orders that are never selected.
        rng: The source of randomness.
    """
    available = len(ids) - len(planted)
    if n * 2 >= available:
        pool = [item for item in reversed(ids) if item not in planted]
        pool.sort(key=lambda each: each not in open_ids)
        return pool[:n]
    picked: dict[str, None] = {}
    while len(picked) < n:
        for attempt in range(20):
            # The cube of a uniform number is often close to 0, which is the end of the list, with the newest orders.
            candidate = ids[-1 - int(rng.random() ** 3 * len(ids))]
            if candidate in picked or candidate in planted:
                continue
            if candidate in open_ids or attempt > 8:
                picked[candidate] = None
                break
    return list(picked)
