"""Pauses: what a person has stopped, who, since when and why. They stand in Redis and outlive every worker.

`ordersync:{A}:paused` is a hash: the name of a resource, or `*` for the whole account, and a pause as JSON. A pause
stops reading, by the schedule and by hand; events that are there are delivered, trimmed and replayed as before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from worker.cancellation import finish
from worker.clock import rfc3339
from worker.redis.connections import answer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from redis.asyncio import Redis

    from worker.keys import Keys

EVERYTHING = "*"
"""Stands for all resources of an account."""
_UNREADABLE = "the pause was not written by this program and cannot be read"


class Pause(msgspec.Struct, frozen=True):
    """Who has paused what, why, and when (seconds since 1970). `resource` is `*` for the whole account."""

    resource: str
    reason: str
    by: str
    at: float

    @property
    def description(self) -> str:
        """In one sentence, without its end."""
        what = "the account is" if self.resource == EVERYTHING else "the resource is"
        since = f" since {rfc3339(self.at)}" if self.at else ""
        return f"{what} paused by {self.by}{since}: {self.reason}"


def parse(fields: Mapping[bytes, bytes]) -> dict[str, Pause]:
    """All pauses of an account by resource, as Redis gives them. One that cannot be read still pauses."""
    pauses = {}
    for name, value in fields.items():
        resource = name.decode("utf-8", "replace")
        try:
            pauses[resource] = msgspec.json.decode(value, type=Pause)
        except msgspec.DecodeError:
            pauses[resource] = Pause(resource, _UNREADABLE, "an unknown user", 0.0)
    return pauses


def of(pauses: Mapping[str, Pause], resource: str) -> Pause | None:
    """What pauses a resource: a pause of its own, or that of the account."""
    return pauses.get(resource) or pauses.get(EVERYTHING)


class Pauses:
    """The pauses of one account."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis, self._key = redis, keys.paused

    async def all(self) -> dict[str, Pause]:
        """All of them, by resource; that of the whole account under `*`."""
        return parse(await answer(self._redis.hgetall(self._key)))

    async def of(self, resource: str) -> Pause | None:
        """What pauses a resource now."""
        own, general = await answer(self._redis.hmget(self._key, [resource, EVERYTHING]))
        result = {resource: own, EVERYTHING: general}
        return of(parse({name.encode(): value for name, value in result.items() if value}), resource)

    async def begin(self, pauses: Iterable[Pause]) -> None:
        """Pause; a pause that is there already is replaced."""
        mapping = {pause.resource: msgspec.json.encode(pause).decode() for pause in pauses}
        await finish(answer(self._redis.hset(self._key, mapping=mapping)))

    async def end(self, resources: Sequence[str]) -> None:
        """Lift the pauses of these resources, or of `*`. Polls that are due by then begin at once."""
        if resources:
            await finish(answer(self._redis.hdel(self._key, *resources)))
