"""What follows for the refresh queues when the clock of Redis is put back: no read waits longer for that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.cancellation import finish
from worker.redis import scripts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from worker.keys import Keys


class PutBack:
    """The latest time of Redis that a worker of an account has seen."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._keys = keys
        self._move = scripts.load(redis, "worker.capture", "put_back")

    async def follow(self, resources: Sequence[str]) -> float:
        """Move the due times of what waits in the refresh queues of `resources`, if the clock was put back.

        Return the seconds by which it was put back since the last call of any worker; 0 if it was not.
        """
        queues = [self._keys.refresh_queue(name) for name in resources]
        return float(await finish(self._move(keys=[self._keys.clock, *queues], args=[])))
