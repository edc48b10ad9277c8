"""Pauses: which resources a user has paused, since when and why. They are stored in Redis and survive restarts.

`ordersync:{A}:paused` is a hash from the name of a resource, or `*` for the whole account, to a pause as JSON. A pause
stops reading, scheduled or manual; existing events are delivered, trimmed and replayed as before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from worker.cancellation import finish
from worker.capture.state.changes import tell_change
from worker.clock import rfc3339
from worker.redis.connections import answer
from worker.redis.stored import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from redis.asyncio import Redis

    from worker.keys import Keys

EVERYTHING = "*"
"""Means all resources of an account."""
_UNREADABLE = "the pause was not written by this program and cannot be read"


class Pause(msgspec.Struct, frozen=True):
    """Who has paused what, why, and when (seconds since 1970). `resource` is `*` for the whole account."""

    resource: str
    reason: str
    by: str
    at: float

    @property
    def description(self) -> str:
        """The pause as a sentence without a full stop."""
        what = "the account is" if self.resource == EVERYTHING else "the resource is"
        since = f" since {rfc3339(self.at)}" if self.at else ""
        return f"{what} paused by {self.by}{since}: {self.reason}"


def parse(fields: Mapping[bytes, bytes]) -> dict[str, Pause]:
    """Return the pauses of an account by resource, from the hash in Redis. An unreadable pause is still in force."""
    pauses = {}
    for name, value in fields.items():
        resource = name.decode("utf-8", "replace")
        try:
            pauses[resource] = msgspec.json.decode(value, type=Pause)
        except UNREADABLE:
            pauses[resource] = Pause(resource, _UNREADABLE, "an unknown user", 0.0)
    return pauses


def of(pauses: Mapping[str, Pause], resource: str) -> Pause | None:
    """Return the pause of a resource, its own or that of the account; None if it is not paused."""
    return pauses.get(resource) or pauses.get(EVERYTHING)


def in_force(resource: str, own: bytes | None, general: bytes | None) -> Pause | None:
    """Return the pause of a resource from what is stored of it, and of the account; None if it is not paused."""
    stored = {resource: own, EVERYTHING: general}
    return of(parse({name.encode(): value for name, value in stored.items() if value}), resource)


class Pauses:
    """The pauses of one account."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis, self._keys, self._key = redis, keys, keys.paused

    async def all(self) -> dict[str, Pause]:
        """Return all pauses by resource; the pause of the whole account under `*`."""
        return parse(await answer(self._redis.hgetall(self._key)))

    async def of(self, resource: str) -> Pause | None:
        """Return the current pause of a resource, its own or that of the account; None if it is not paused."""
        own, general = await answer(self._redis.hmget(self._key, [resource, EVERYTHING]))
        return in_force(resource, own, general)

    async def begin(self, pauses: Iterable[Pause]) -> None:
        """Store pauses. An existing pause of the same resource is replaced."""
        mapping = {pause.resource: msgspec.json.encode(pause).decode() for pause in pauses}
        await finish(answer(self._redis.hset(self._key, mapping=mapping)))
        await tell_change(self._redis, self._keys)

    async def end(self, resources: Sequence[str]) -> None:
        """Remove the pauses of these resources, or of `*`. Polls that are due begin at once."""
        if resources:
            await finish(answer(self._redis.hdel(self._key, *resources)))
            await tell_change(self._redis, self._keys)
