"""The request budget of an account, shared by all its workers through Redis.

It has two limits: requests per second, a token bucket in one script, and concurrent requests, which the workers share
equally. At high rates a worker takes permits for some milliseconds at a time, so that it does not call Redis for each
page. The permit for the first request of a poll comes with the script that opens the poll.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import anyio
import msgspec

from worker.cancellation import finish
from worker.errors import RateLimited
from worker.ordermesh.http.waits import Wait, WaitTime
from worker.redis import scripts
from worker.redis.connections import answer
from worker.redis.stored import number_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from worker.clock import Clock
    from worker.keys import Keys

MAX_EXHAUSTED = 30.0
"""Seconds. However long the gateway's limit lasts, a request is tried then, and the refusal says what follows."""
LIMIT_REACHED = "OrderMesh has answered that its rate limit permits no further request until then"
_BLOCK_SECONDS = 0.02
_KEEP_SECONDS = 0.25
_ROUNDED = 0.002
"""Seconds by which the script rounds a wait up."""
_QUIET_SECONDS = 5.0
"""A worker that has requested no permit for this long does not share the budget any longer."""


class BudgetStatistics(msgspec.Struct, frozen=True):
    """The permits that this worker got since its start, and its current share."""

    granted: int
    waited_seconds: float
    """Seconds during which at least one request waited: for a free slot, for its turn to ask, or for a permit."""
    sharing_workers: int
    concurrency: int


class BudgetUse(msgspec.Struct, frozen=True):
    """The requests of all workers of an account, and how many are permitted."""

    requests: int
    """Requests in the last minute."""
    rate: float
    """Permitted requests per second; 0 if no worker sends any."""
    workers: int
    """Workers that have requested permits in the last seconds."""

    @property
    def share(self) -> float:
        """The used part of the budget of one minute."""
        return self.requests / (self.rate * 60) if self.rate else 0.0


async def use_of(redis: Redis, keys: Keys, now: float) -> BudgetUse:
    """Return how much of the budget of an account is used; `now` is in seconds since 1970."""
    *result, sharing = await answer(redis.hmget(keys.budget, ["rate", "minute", "used", "before", "sharing"]))
    workers = sum(
        abs(now - number_of(entry.rpartition(b"=")[2]) / 1000) <= _QUIET_SECONDS
        for entry in (sharing or b"").split()
    )
    rate, minute, used, before = (max(0.0, number_of(value)) for value in result)
    # The previous minute counts by the part of it that is within the last 60 seconds.
    passed = now / 60 - minute
    requests = used + before * (1 - max(0.0, passed)) if passed < 1 else used * max(0.0, 2 - passed)
    return BudgetUse(round(requests), rate, workers)


class Grant(msgspec.Struct, frozen=True):
    """The right to send one request."""

    slot: object


class PermitRequest(NamedTuple):
    """What a script takes the permit for one request with; see `lua/permits.lua`."""

    requests_per_second: float
    capacity: int
    worker_id: str


class Budget:
    """Grants requests within the limits of an account."""

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
        self._rate, self._max_concurrency = requests_per_second, max_concurrency
        self._capacity = max(max_concurrency, int(requests_per_second * _BLOCK_SECONDS * 4))
        self._block = max(1, int(requests_per_second * _BLOCK_SECONDS))
        self._script = scripts.load(redis, "worker.ordermesh", "budget", begin=("permits",))
        self._exhaust = scripts.load(redis, "worker.ordermesh", "exhaust_budget")
        self._slots = anyio.CapacityLimiter(max_concurrency)
        self._request_lock = anyio.Lock()
        self._permits, self._permits_until = 0, 0.0
        self._granted, self._sharing = 0, 1
        self._waited = WaitTime()
        self.pause: Wait | None = None
        """While the gateway permits no request, because it has said so."""

    def statistics(self) -> BudgetStatistics:
        """Return the current figures."""
        return BudgetStatistics(
            self._granted, self._waited.seconds, self._sharing, int(self._slots.total_tokens)
        )

    async def acquire(self, time: WaitTime | None = None) -> Grant:
        """Wait for the right to send one request, and return it. Pass it to `release` when the request has ended.

        The end of the caller does not matter: an abandoned request is still in flight.

        Args:
            time: Adds up how long the requests of the caller wait.

        """
        slot = object()
        try:
            self._slots.acquire_on_behalf_of_nowait(slot)
        except anyio.WouldBlock:
            has_slot = has_permit = False
        else:
            has_slot, has_permit = True, self._take_permit()
        if not has_permit:
            with self._waited.counted(self._clock), (time or WaitTime()).counted(self._clock):
                await self._wait(slot, has_slot=has_slot)
        self._granted += 1
        return Grant(slot)

    async def _wait(self, slot: object, *, has_slot: bool) -> None:
        """Wait until `slot` is one of the slots, and for a permit."""
        if not has_slot:
            await self._slots.acquire_on_behalf_of(slot)
        try:
            if not self._take_permit():
                async with self._request_lock:  # one task asks Redis for all
                    while not self._take_permit():
                        await self._request_permits()
        except BaseException:
            self._slots.release_on_behalf_of(slot)
            raise

    def release(self, grant: Grant) -> None:
        """Free the slot of a request that has ended."""
        self._slots.release_on_behalf_of(grant.slot)

    async def exhaust(self, seconds: float) -> None:
        """Grant no request of the account for so long, half a minute at most: the gateway permits none."""
        self._permits = 0
        await self._exhaust(keys=[self._keys.budget], args=[int(min(seconds, MAX_EXHAUSTED) * 1000)])

    async def leave(self) -> None:
        """Give this worker's share to the others at once, instead of after some seconds without a request."""
        await self._ask(0)

    @property
    def request(self) -> PermitRequest | None:
        """What another script takes the permit for the next request with; None if one is there."""
        if self._permits and self._clock.monotonic() < self._permits_until:
            return None
        return PermitRequest(self._rate, self._capacity, self._worker_id)

    def note(self, granted: int, sharing: int) -> None:
        """Take over the permits that another script was granted; `sharing`: the workers that share the budget."""
        now = self._clock.monotonic()
        self._permits = granted + (self._permits if now < self._permits_until else 0)
        self._permits_until = now + _KEEP_SECONDS
        self._share(sharing)

    async def give_back(self) -> None:
        """Give a permit back that was granted and is not needed, unless it was used."""
        if self._permits:
            self._permits -= 1
            await finish(self._ask(-1))

    async def _ask(self, requests: int) -> Sequence[int]:
        args: list[str | float] = [self._rate, self._capacity, requests, self._worker_id]
        answered: Sequence[int] = await self._script(keys=[self._keys.budget], args=args)
        return answered

    def _share(self, sharing: int) -> None:
        """Note how many workers share the budget, and so the concurrent requests."""
        self._sharing = sharing
        share = max(1, self._max_concurrency // sharing)
        if self._slots.total_tokens != share:
            self._slots.total_tokens = share

    def _take_permit(self) -> bool:
        # Old permits expire: used together later, they would be a burst that exceeds the rate.
        if self._permits and self._clock.monotonic() < self._permits_until:
            self._permits -= 1
            return True
        return False

    async def _request_permits(self) -> None:
        """Request permits once; wait if none was granted."""
        granted, wait_ms, sharing = await self._ask(self._block)
        self._share(sharing)
        if granted:
            self._permits, self._permits_until = granted, self._clock.monotonic() + _KEEP_SECONDS
            return
        seconds = wait_ms / 1000
        try:
            if seconds > 1 / self._rate + _ROUNDED:  # a permit comes sooner, unless the gateway permits none
                now = self._clock.now()
                self.pause = Wait(LIMIT_REACHED, now, now + seconds, RateLimited.code)
            await self._clock.sleep(seconds)
        finally:
            self.pause = None
