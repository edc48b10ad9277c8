"""The clock of Redis, by which all workers of an account go.

Hosts whose clocks differ would otherwise disagree about what is due, and a host whose clock is put back would read
nothing until it has caught up. Between two comparisons time passes by the monotonic clock of this machine, so the clock
of this machine may be moved at will, and Redis may be away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ordersync_consumer.servers.cluster import ClusterClient
from worker.clock import SystemClock
from worker.redis.connections import answer
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from redis.asyncio import Redis

NOISE_SECONDS = 0.05
"""A difference below this, beyond what the call took, is not corrected."""
JUMP_SECONDS = 1.0
"""A larger difference between two comparisons is a clock that was moved, and not two that run at a different pace."""


class RedisClock(SystemClock):
    """The time of a Redis server. Until the first `sync` it is that of this machine."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._ahead_of_monotonic: float | None = None
        self._jumped_at = self._compared_at = -float("inf")

    def now(self) -> float:
        """Return the time of Redis in seconds since 1970."""
        if self._ahead_of_monotonic is None:
            return super().now()
        return self._ahead_of_monotonic + self.monotonic()

    def steady_for(self) -> float:
        """Return for how many seconds, by the monotonic clock, Redis' clock is not known to have jumped ahead."""
        return self.monotonic() - self._jumped_at

    async def sync(self, *, within: float = 0.0) -> None:
        """Ask Redis what time it is, unless that is known since so many seconds, by the monotonic clock.

        Raises:
            RedisError, OSError: Redis does not answer.

        """
        before = self.monotonic()
        if before - self._compared_at < within:
            return
        seconds, micros = await answer(self._client.time())
        self._compare(int(seconds) + int(micros) / 1e6, before, self.monotonic())

    def note(self, at: float, before: float, after: float) -> None:
        """Correct the clock by the time of Redis that an answer has told; see `SharedClock.note`.

        On a cluster another node may have told it, whose clock is another one: that says nothing.
        """
        if not isinstance(self._client, ClusterClient):
            self._compare(at, before, after)

    def _compare(self, at: float, before: float, after: float) -> None:
        self._compared_at = before
        self._correct(at - (before + after) / 2, (after - before) / 2)

    def _correct(self, ahead: float, uncertain: float) -> None:
        """Take over how far Redis is ahead of the monotonic clock, which is `uncertain` by so many seconds."""
        if self._ahead_of_monotonic is None:
            self._ahead_of_monotonic = ahead
            return
        moved = ahead - self._ahead_of_monotonic
        if abs(moved) <= uncertain + NOISE_SECONDS:
            return
        self._ahead_of_monotonic = ahead
        if abs(moved) > uncertain + JUMP_SECONDS:
            if moved > 0:
                self._jumped_at = self.monotonic()
            get_logger().warning(
                "clock_moved", moved_s=round(moved, 1),
                advice="Nothing is missed: what is due is read at once, and no deletion is confirmed sooner. Set up "
                "time synchronisation on the host of Redis.",
            )  # fmt: skip
