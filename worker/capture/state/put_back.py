"""What follows when the clock of Redis is put back: no read waits longer for that, and no data looks fresher.

The times in the cursors say how old the published data is. They were written by the clock as it was, so they are moved
with it: what was read an hour ago does not seem to be ten minutes old after the clock was put back by 50 minutes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.cancellation import finish
from worker.redis import scripts
from worker.redis.stored import text_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from worker.keys import Keys, KeySpace

_PAST = (
    "fresh_as_of", "part_as_of", "last_success", "swept_at", "sweep_started", "unread_since",
)  # fmt: skip
"""Fields of the cursor that say since when something is so."""


class PutBack:
    """By how much the clock of Redis was put back, as all workers together have seen it."""

    def __init__(self, redis: Redis, space: KeySpace) -> None:
        self._key = space.clock
        self._look = scripts.load(redis, "worker.capture", "clock")
        self._move = scripts.load(redis, "worker.capture", "put_back")

    async def look(self) -> str:
        """Note the time of Redis; return by how much it was put back in all: what `follow` takes."""
        return text_of(await finish(self._look(keys=[self._key], args=[])))

    async def follow(self, keys: Keys, resources: Sequence[str], back: str) -> float:
        """Move the due times of what waits in the refresh queues of these resources of an account, and their cursors.

        `back`: the result of `look`. Return the seconds by which they were moved; 0 if another worker has done so.
        """
        queues = [keys.refresh_queue(name) for name in resources]
        cursors = [keys.cursor(name) for name in resources]
        moved = await finish(
            self._move(keys=[keys.put_back, *queues, *cursors], args=[back, len(queues), *_PAST])
        )
        return float(moved)
