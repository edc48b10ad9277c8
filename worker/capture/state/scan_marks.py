"""The places of records that a full scan has seen, until they are noted in its bitmap: in ranges, many at a time."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import anyio

from worker.cancellation import finish
from worker.capture.state.packing import packb
from worker.redis import scripts
from worker.redis.connections import answer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from redis.asyncio import Redis

AT_ONCE = 2000
"""Ranges that one call notes."""
MAX_HELD = 50_000
"""Places above which they are noted."""


class ScanMarks:
    """Places that are yet to be noted in the bitmap `key`.

    They are noted before the cursor moves past their pages: a worker that is killed has seen no more than it has noted.
    """

    def __init__(self, redis: Redis, key: str) -> None:
        self._mark = scripts.load(redis, "worker.capture", "mark", begin=("bits",))
        self._redis, self._key = redis, key
        self._places = array("I")
        self._has_begun = False  # and the bitmap is still that of an earlier scan
        self._flushing = anyio.Lock(fast_acquire=True)
        """Pages are noted at the same time: the bitmap of the earlier scan is removed once, before all of them."""

    async def add(self, places: Iterable[int]) -> None:
        """Add places of records that were seen."""
        self._places.extend(places)
        if len(self._places) > MAX_HELD:
            await self.flush()

    def begin(self) -> None:
        """Begin a scan, which has seen nothing. A scan that ends before anything is noted needs no bitmap."""
        self._places, self._has_begun = array("I"), True

    async def count(self) -> int:
        """Return how many records the scan has seen."""
        if self._has_begun:
            return len(set(self._places))
        await self.flush()
        return int(await answer(self._redis.bitcount(self._key)))

    async def flush(self) -> None:
        """Note all of them, in an empty bitmap if the scan has just begun."""
        async with self._flushing:
            if self._has_begun:
                await finish(answer(self._redis.unlink(self._key)))
                self._has_begun = False
            if not self._places:
                return
            places, self._places = self._places, array("I")
            found = ranges(sorted(places))
            for start in range(0, len(found), 2 * AT_ONCE):
                await finish(self._mark(keys=[self._key], args=[packb(found[start : start + 2 * AT_ONCE])]))


def ranges(places: Iterable[int]) -> list[int]:
    """Return rising numbers as a flat list of ranges: the first of each, and the one behind its last."""
    found: list[int] = []
    for place in places:
        if found and found[-1] == place:
            found[-1] = place + 1
        elif not found or found[-1] < place:
            found += (place, place + 1)
    return found
