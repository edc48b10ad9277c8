"""The expiry of dead letters: those that nobody has replayed or dropped for long are removed and counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ordersync_consumer.servers.cluster import at
from worker.cancellation import finish
from worker.redis.connections import answer
from worker.redis.stored import number_of, text_of

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.keys import Keys


class ExpiredLetters(msgspec.Struct, frozen=True):
    """How many dead letters of a resource have expired in all, and when the last ones did (seconds since 1970)."""

    letters: int
    at: float


class LetterExpiry:
    """Removes the dead letters of one account that are too old."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis, self._keys = at(redis, keys.base), keys

    async def expire(self, resource: str, max_age: float) -> int:
        """Remove the letters that are older than `max_age` seconds by the clock of Redis. Return how many."""
        seconds, _ = await answer(self._redis.time())
        oldest = f"{max(0, int((seconds - max_age) * 1000))}-0"
        expired = int(
            await finish(
                answer(self._redis.xtrim(self._keys.dead(resource), minid=oldest, approximate=False))
            )
        )
        if expired:
            key = self._keys.expired_letters
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.hincrby(key, resource, expired)
                pipe.hset(key, f"{resource}:at", str(seconds))
                await finish(pipe.execute())
        return expired

    async def expired(self) -> dict[str, ExpiredLetters]:
        """Return how many letters have expired, by resource; none of a resource of which none has."""
        found = await answer(self._redis.hgetall(self._keys.expired_letters))
        fields = {text_of(name): number_of(value) for name, value in found.items()}
        return {
            name: ExpiredLetters(int(value), fields.get(f"{name}:at", 0.0))
            for name, value in fields.items()
            if not name.endswith(":at")
        }
