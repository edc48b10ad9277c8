"""The workers that are alive: each writes its heartbeat to Redis as well as to its data folder.

`ordersync:worker:ID` says when a worker was last alive, and expires. `ordersync:{A}:worker:ID` contains as JSON what it
has last reported of an account, which takes its turn with the others, and `ordersync:{A}:workers` is a sorted set of
the names by time.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
import redis.exceptions

from ordersync_consumer.servers.topology import SlotUnavailable
from worker.cancellation import finish
from worker.keys import KeySpace
from worker.redis.connections import answer
from worker.redis.refusals import is_full
from worker.redis.stored import UNREADABLE, number_of, text_of
from worker.service.heartbeat import MAX_AGE, Beat

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.keys import Keys

KEPT_SECONDS = 86_400.0
"""Seconds that the report of a worker about an account is kept, longer than it takes until its next turn."""


async def say_alive(redis_client: Redis, space: KeySpace, worker_id: str, now: float) -> None:
    """Write that a worker is alive. A full Redis has no room for it: then the last word is kept longer."""
    life, key = int(MAX_AGE * 1000), space.worker(worker_id)
    try:
        await finish(answer(redis_client.set(key, f"{now:.3f}", px=life)))
    except redis.exceptions.ResponseError as error:
        if not is_full(error):
            raise
        await finish(answer(redis_client.pexpire(key, life)))


class Presence:
    """The workers of one account."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis, self._keys = redis, keys

    async def beat(self, beat: Beat) -> None:
        """Write what this worker reports of the account, unless Redis is full. `say_alive` says that it is alive."""
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.set(
                    self._keys.worker(beat.worker), msgspec.json.encode(beat), px=int(KEPT_SECONDS * 1000)
                )
                pipe.zadd(self._keys.workers, {beat.worker: beat.at})
                pipe.zremrangebyscore(self._keys.workers, "-inf", beat.at - KEPT_SECONDS)
                await finish(pipe.execute())
        except redis.exceptions.ResponseError as error:
            if not is_full(error):
                raise

    async def leave(self, worker_id: str) -> None:
        """Remove what a worker that ends has reported. May be cancelled: the connection is closed next."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.delete(self._keys.worker(worker_id))
            pipe.zrem(self._keys.workers, worker_id)
            await pipe.execute()

    async def alive(self) -> list[Beat]:
        """Return what each live worker has last reported, with the time at which it was last alive, by name."""
        names = sorted(text_of(name) for name in await self._redis.zrange(self._keys.workers, 0, -1))
        space = KeySpace(self._keys.prefix)
        async with self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.get(space.worker(name))
                pipe.get(self._keys.worker(name))
            found = await pipe.execute(raise_on_error=False) if names else []
        beats = []
        for at, value in zip(found[::2], found[1::2], strict=True):
            is_hidden = isinstance(at, SlotUnavailable)  # the node that knows when it was last alive is away
            for error in (value,) if is_hidden else (at, value):
                if isinstance(error, Exception):
                    raise error
            if at:
                with suppress(*UNREADABLE):  # written by a later version or another program
                    beat = msgspec.json.decode(value or b"", type=Beat)
                    beats.append(beat if is_hidden else msgspec.structs.replace(beat, at=number_of(at)))
        return beats
