"""Which workers are alive: a heartbeat of each in Redis, beside the one in its data folder.

`ordersync:{A}:worker:ID` holds the heartbeat as JSON and expires when none follows; `ordersync:{A}:workers`, a sorted
set of names by time, leads to them.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import redis.exceptions

from worker.cancellation import finish
from worker.redis.connections import answer, is_full
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
        """This worker is alive. Where Redis is full, what it said last holds on: there is no room for more."""
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
        """It ends in order, and is not waited for. May be cut short: the connection is closed next."""
        async with self.redis.pipeline(transaction=False) as pipe:
            pipe.delete(self.keys.worker(worker_id))
            pipe.zrem(self.keys.workers, worker_id)
            await pipe.execute()

    async def alive(self) -> list[Beat]:
        """The last heartbeats of those that are alive, by name."""
        names = sorted(name.decode() for name in await self.redis.zrange(self.keys.workers, 0, -1))
        if not names:
            return []
        result = await self.redis.mget([self.keys.worker(name) for name in names])
        beats = []
        for value in result:
            with suppress(msgspec.DecodeError):  # of a later version, or of another hand
                beats.append(msgspec.json.decode(value or b"", type=Beat))
        return beats
