"""The request budget of an account, shared by all its workers through Redis.

Two limits: requests per second, a token bucket in one script, and requests under way, of which each worker
takes an equal share of what is permitted. At high rates a worker takes requests for some milliseconds at a
time, so that the budget costs one call to Redis now and then and not one for each page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from worker.redis import scripts
from worker.redis.connections import answer

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.clock import Clock
    from worker.keys import Keys

_BLOCK_SECONDS = 0.02
_KEEP_SECONDS = 0.25
_QUIET_SECONDS = 5.0
"""A worker that has not asked for so long shares the budget no more."""


@dataclass(frozen=True, slots=True)
class BudgetStatistics:
    """What was taken since the start, and how this worker stands now."""

    granted: int
    waited_seconds: float
    sharing_workers: int
    concurrency: int


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """What all workers of an account together have asked of OrderMesh, and may ask: `requests` in the last minute.

    `rate`: requests permitted in a second; 0 while nobody asks. `workers`: those that have asked in the last seconds.
    """

    requests: int
    rate: float
    workers: int

    @property
    def share(self) -> float:
        """The part of a minute's budget that was used."""
        return self.requests / (self.rate * 60) if self.rate else 0.0


async def use_of(redis: Redis, keys: Keys, now: float) -> BudgetUse:
    """How much of the budget of an account is used; `now` in seconds since 1970."""
    result = await answer(redis.hmget(keys.budget, ["rate", "minute", "used", "before"]))
    workers = await redis.zcount(f"{keys.budget}:sharing", (now - _QUIET_SECONDS) * 1000, "+inf")
    rate, minute, used, before = (float(value or 0) for value in result)
    # Of the minute before as much counts as lies within the last 60 seconds.
    passed = now / 60 - minute
    requests = used + before * (1 - max(0.0, passed)) if passed < 1 else used * max(0.0, 2 - passed)
    return BudgetUse(round(requests), rate, workers)


@dataclass(frozen=True, slots=True)
class Grant:
    """The right to send one request. `waited`: seconds for the rate."""

    slot: object
    waited: float


class Budget:
    """Hands out the right to send one request."""

    def __init__(
        self,
        *,
        redis: Redis,
        keys: Keys,
        requests_per_second: float,
        max_concurrency: int,
        worker_id: str,
        clock: Clock,
    ) -> None:
        self._redis, self._keys, self._clock, self._worker_id = redis, keys, clock, worker_id
        self._sharing_key = f"{keys.budget}:sharing"
        self._rate, self._max_concurrency = requests_per_second, max_concurrency
        self._capacity = max(max_concurrency, int(requests_per_second * _BLOCK_SECONDS * 4))
        self._block = max(1, int(requests_per_second * _BLOCK_SECONDS))
        self._script = scripts.load(redis, "worker.ordermesh", "budget")
        self._slots = anyio.CapacityLimiter(max_concurrency)
        self._asking = anyio.Lock()
        self._permits, self._permits_until = 0, 0.0
        self._granted, self._waited, self._sharing = 0, 0.0, 1

    def statistics(self) -> BudgetStatistics:
        """A snapshot."""
        return BudgetStatistics(self._granted, self._waited, self._sharing, int(self._slots.total_tokens))

    async def acquire(self) -> Grant:
        """Wait for the right to send one request. The grant goes to `give_back` when the request has ended.

        Not when its caller has: a request that nobody waits for any more is still under way.
        """
        slot = object()
        await self._slots.acquire_on_behalf_of(slot)
        waited = 0.0
        try:
            if not self._take_permit():
                async with self._asking:  # one asks for all, so waits do not overlap and add up to real time
                    while not self._take_permit():
                        waited += await self._ask()
        except BaseException:
            self._slots.release_on_behalf_of(slot)
            raise
        self._granted += 1
        self._waited += waited
        return Grant(slot, waited)

    def give_back(self, grant: Grant) -> None:
        """The request has ended."""
        self._slots.release_on_behalf_of(grant.slot)

    async def leave(self) -> None:
        """This worker ends: its share goes to the others at once, and not when it has been quiet for a while."""
        await answer(self._redis.zrem(self._sharing_key, self._worker_id))

    def _take_permit(self) -> bool:
        # Permits that lay about for long would add up to a burst that the budget does not know of.
        if self._permits and self._clock.monotonic() < self._permits_until:
            self._permits -= 1
            return True
        return False

    async def _ask(self) -> float:
        """Ask once; the seconds that had to be waited because nothing was granted."""
        granted, wait_ms, sharing = await self._script(
            keys=[self._keys.budget, self._sharing_key],
            args=[self._rate, self._capacity, self._block, self._worker_id],
        )
        self._sharing = sharing
        share = max(1, self._max_concurrency // sharing)
        if self._slots.total_tokens != share:
            self._slots.total_tokens = share
        if granted:
            self._permits, self._permits_until = granted, self._clock.monotonic() + _KEEP_SECONDS
            return 0.0
        await self._clock.sleep(wait_ms / 1000)
        return float(wait_ms) / 1000
