"""The workers that are alive: each writes its heartbeat to Redis as well as to its data folder.

`ordersync:{A}:worker:ID` contains the heartbeat as JSON and expires. `ordersync:{A}:workers` is a sorted set of the
names by time.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import redis.exceptions

from worker.cancellation import finish
from worker.redis.connections import answer
from worker.redis.refusals import is_full
from worker.service.heartbeat import MAX_AGE, Beat

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.keys import Keys

_FORGOTTEN_AFTER = 300.0


@dataclass(frozen=True, slots=True)
class Presence:
    """The heartbeats of the workers of one account."""

    redis: Redis
    keys: Keys

    async def beat(self, beat: Beat) -> None:
        """Write the heartbeat of this worker. A full Redis has no room for it: then the last one is kept longer."""
        life, key = int(MAX_AGE * 1000), self.keys.worker(beat.worker)
        try:
            async with self.redis.pipeline(transaction=False) as pipe:
                pipe.set(key, msgspec.json.encode(beat), px=life)
                pipe.zadd(self.keys.workers, {beat.worker: beat.at})
                pipe.zremrangebyscore(self.keys.workers, "-inf", beat.at - _FORGOTTEN_AFTER)
                await finish(pipe.execute())
        except redis.exceptions.ResponseError as error:
            if not is_full(error):
                raise
            await finish(answer(self.redis.pexpire(key, life)))

    async def leave(self, worker_id: str) -> None:
        """Remove the heartbeat of a worker that ends. May be cancelled: the connection is closed next."""
        async with self.redis.pipeline(transaction=False) as pipe:
            pipe.delete(self.keys.worker(worker_id))
            pipe.zrem(self.keys.workers, worker_id)
            await pipe.execute()

    async def alive(self) -> list[Beat]:
        """Return the last heartbeat of each live worker, by name."""
        names = sorted(name.decode() for name in await self.redis.zrange(self.keys.workers, 0, -1))
        if not names:
            return []
        result = await self.redis.mget([self.keys.worker(name) for name in names])
        beats = []
        for value in result:
            with suppress(msgspec.DecodeError):  # written by a later version or another program
                beats.append(msgspec.json.decode(value or b"", type=Beat))
        return beats
