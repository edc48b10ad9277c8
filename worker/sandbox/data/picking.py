"""Which orders something happens to when nobody names them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from random import Random


def pick(
    n: int, ids: Sequence[str], *, open_ids: Collection[str], planted: Collection[str], rng: Random
) -> list[str]:
    """Picks `n` different orders, leaning to the newest and, while tries last, to open ones.

    Args:
        n: How many; fewer are picked when there are fewer.
        ids: All orders in creation order.
        open_ids: Those that still move on by themselves.
        planted: Those that are left alone.
        rng: Where the choice comes from.
    """
    available = len(ids) - len(planted)
    if n * 2 >= available:
        pool = [item for item in reversed(ids) if item not in planted]
        pool.sort(key=lambda each: each not in open_ids)
        return pool[:n]
    picked: dict[str, None] = {}
    while len(picked) < n:
        for attempt in range(20):
            # The cube of a uniform number lies near 0: near the end of the list, with the new orders.
            candidate = ids[-1 - int(rng.random() ** 3 * len(ids))]
            if candidate in picked or candidate in planted:
                continue
            if candidate in open_ids or attempt > 8:
                picked[candidate] = None
                break
    return list(picked)
