"""Consumer groups: which there are, what each of them still needs; declaring and dropping them.

A group is a consumer group of Redis and nothing else. A declared group is one that exists from the start, so
that it counts for retention and backpressure before it has read for the first time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import redis.exceptions

from worker.cancellation import finish
from worker.redis import scripts
from worker.redis.connections import answer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from redis.asyncio import Redis

    from worker.keys import Keys

OURS = "ordersync-"
"""What the names of consumers start with that stand for nobody who reads: entries wait there to be claimed."""


@dataclass(frozen=True, slots=True)
class RetentionLimits:
    """What is kept of a stream: age in seconds, entries, bytes of their names and values. 0 is no limit."""

    max_age: float = 0.0
    max_entries: int = 0
    max_bytes: int = 0

    @property
    def arguments(self) -> list[int]:
        """As the scripts take them."""
        return [int(self.max_age * 1000), self.max_entries, self.max_bytes]


@dataclass(frozen=True, slots=True)
class Group:
    """One group of a stream. Ids are those of entries; "" where there is none.

    `needed`: the first id that it still needs. `unread`: entries behind `delivered`, of which `oldest_unread` is
    the first. `pending`: entries that were delivered and not acknowledged. `held`: entries that the limits
    do not keep, and that are there because this group needs them.
    """

    name: str
    needed: str
    delivered: str
    pending: int
    oldest_pending: str
    unread: int
    oldest_unread: str
    held: int


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """A stream and its groups at one moment.

    `entry_bytes`: average length of an entry, its names and values, from some of them; `used_memory` is what
    Redis compares with `maxmemory`, which is 0 where there is no limit.
    """

    entries: int
    entry_bytes: float
    used_memory: int
    maxmemory: int
    groups: tuple[Group, ...] = ()

    @property
    def bytes(self) -> int:
        """The length of all entries, by their average."""
        return round(self.entries * self.entry_bytes)

    @property
    def full(self) -> bool:
        """Whether Redis refuses to write."""
        return 0 < self.maxmemory < self.used_memory

    @property
    def slowest(self) -> Group | None:
        """The group that has the most to read, if there is any."""
        return max(self.groups, key=lambda group: group.unread, default=None)


@dataclass(frozen=True, slots=True)
class GroupConsumer:
    """A consumer of a group: entries that it holds, and seconds since it last asked for any."""

    name: str
    pending: int
    idle: float


class Groups:
    """The groups of the streams of one account."""

    def __init__(self, redis_client: Redis, keys: Keys) -> None:
        self._redis, self._keys = redis_client, keys
        self._survey = scripts.load(redis_client, "worker.queue", "survey", begin=["needs"])

    async def status(self, resource: str, limits: RetentionLimits | None = None) -> StreamStatus:
        """How the stream of a resource and its groups stand; `limits` tell what is held against them."""
        arguments = (limits or RetentionLimits()).arguments
        result = await finish(self._survey(keys=[self._keys.stream(resource)], args=arguments))
        entries, average, used, limit, *groups = result
        return StreamStatus(entries, float(average), used, limit, tuple(_group(item) for item in groups))

    async def consumers(self, resource: str, group: str) -> list[GroupConsumer]:
        """The consumers of a group, without those that stand for nobody."""
        result = await self._redis.xinfo_consumers(self._keys.stream(resource), group)
        named = [(_text(item["name"]), item) for item in result]
        return [
            GroupConsumer(name, each["pending"], each["idle"] / 1000)
            for name, each in named
            if not name.startswith(OURS)
        ]

    async def missing(self, declared: Mapping[str, Iterable[str]]) -> list[tuple[str, str]]:
        """The declared groups (name: its resources) that do not exist, each with its resource."""
        requested = sorted({name for resources in declared.values() for name in resources})
        known = {name: await self._names(name) for name in requested}
        return [
            (group, resource)
            for group, resources in declared.items()
            for resource in resources
            if group not in known[resource]
        ]

    async def declare(self, declared: Mapping[str, Iterable[str]]) -> list[tuple[str, str]]:
        """Make every declared group exist; those that were made, each with its resource.

        A new one begins with the oldest entry there is.
        """
        made = []
        for group, resource in await self.missing(declared):
            try:
                await self._redis.xgroup_create(self._keys.stream(resource), group, id="0", mkstream=True)
            except redis.exceptions.ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise
            else:
                made.append((group, resource))
        return made

    async def drop(self, resource: str, group: str) -> bool:
        """Remove a group with all that it holds. False if there was none."""
        await self._redis.delete(self._keys.replayed(resource, group))
        try:
            return bool(await self._redis.xgroup_destroy(self._keys.stream(resource), group))
        except redis.exceptions.ResponseError as error:
            if "requires the key to exist" in str(error):
                return False
            raise

    async def _names(self, resource: str) -> set[str]:
        stream = self._keys.stream(resource)
        if not await answer(self._redis.exists(stream)):
            return set()
        return {_text(item["name"]) for item in await self._redis.xinfo_groups(stream)}


def idle_seconds(group: Group, consumers: Sequence[GroupConsumer], now: float) -> float:
    """How long nobody has read for the group; `now` in seconds since 1970.

    A group that has no consumers is as idle as its oldest unread entry is old: with nothing to read it is not.
    """
    if consumers:
        return min(consumer.idle for consumer in consumers)
    if not group.oldest_unread:
        return 0.0
    return max(0.0, now - written_at(group.oldest_unread))


def written_at(entry_id: str) -> float:
    """When an entry was written, in seconds since 1970: an id begins with the time of the server."""
    return int(entry_id.partition("-")[0]) / 1000


def _group(result: Sequence[bytes | int]) -> Group:
    name, needed, delivered, pending, oldest_pending, unread, oldest_unread, held = result
    return Group(
        name=_text(name),
        needed=_text(needed),
        delivered=_text(delivered),
        pending=int(pending),
        oldest_pending=_text(oldest_pending),
        unread=int(unread),
        oldest_unread=_text(oldest_unread),
        held=int(held),
    )


def _text(value: bytes | str | int) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
