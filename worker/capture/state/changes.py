"""What people change, told to the workers: the accounts whose schedule has to be looked at now.

The stream `ordersync:changes` has an entry for each change of an account that a command, or another program, makes: a
pause, a resync, a record to look at again, an entry of the operator log. A worker reads what was added since it looked
last, which costs one command, however many accounts there are. An entry that is lost costs time and nothing else: the
slow pass over all accounts (`jobs/tick.py`) finds what it told of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import NoPermissionError

from ordersync_consumer.servers.cluster import at
from worker.cancellation import finish
from worker.keys import KeySpace
from worker.redis.connections import answer
from worker.redis.stored import text_of

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.keys import Keys

KEPT = 1000


async def tell_change(redis: Redis, keys: Keys) -> None:
    """Tell the workers that a person has changed something of an account.

    A user of Redis that may not do so, by rights of before, has made the change all the same: it counts a little later.
    """
    try:
        stream = KeySpace(keys.prefix).changes
        fields: Any = {"account": keys.account}
        await finish(answer(at(redis, stream).xadd(stream, fields, maxlen=KEPT, approximate=True)))
    except NoPermissionError:
        return


class Changes:
    """Reads which accounts were changed, from when it was opened on."""

    def __init__(self, redis: Redis, space: KeySpace) -> None:
        self._redis, self._key = redis, space.changes
        self._last = ""

    async def open(self) -> None:
        """Begin behind the last change."""
        newest = await self._redis.xrevrange(self._key, count=1)
        self._last = text_of(newest[0][0]) if newest else "0-0"

    async def read(self) -> set[str]:
        """Return the accounts that were changed since the last call."""
        if not self._last:
            await self.open()
            return set()
        found = await self._redis.xrange(self._key, min=f"({self._last}", count=KEPT)
        if found:
            self._last = text_of(found[-1][0])
        return {text_of(fields.get(b"account", b"")) for _, fields in found} - {""}
