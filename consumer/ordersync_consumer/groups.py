"""Consumer groups: what each one has read and still needs; how to create and drop them.

A group is a consumer group of Redis. A declared group is created by the worker, so that retention and backpressure
take it into account before it reads for the first time.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
import redis.exceptions

from ordersync_consumer.cancellation import finish
from ordersync_consumer.client import answer
from ordersync_consumer.functions import function

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from redis.asyncio import Redis

    from ordersync_consumer.keys import Keys

RESERVED_PREFIX = "ordersync-"
"""Prefix of consumer names that no process uses: entries are pending for them until a consumer claims them."""
REPLAY, RETURNED = f"{RESERVED_PREFIX}replay", f"{RESERVED_PREFIX}returned"
"""Such consumers: of entries that were replayed, and of entries that a consumer gave back when it stopped."""
_ENTRY_ID = re.compile(r"([0-9]{1,20})(?:-([0-9]{1,20}))?", re.ASCII)
_LARGEST = 2**64 - 1
"""The largest value of each number of an id."""
LONG_AGO = 10 * 365 * 86_400 * 1000
"""Idle time of such entries in milliseconds: longer than any consumer waits before it claims an idle entry."""


class RetentionLimits(msgspec.Struct, frozen=True):
    """How much of a stream is kept: age in seconds, entries, bytes of their names and values. 0 means no limit."""

    max_age: float = 0.0
    max_entries: int = 0
    max_bytes: int = 0

    @property
    def arguments(self) -> list[int]:
        """The limits as arguments of a script: milliseconds, entries, bytes."""
        return [int(self.max_age * 1000), self.max_entries, self.max_bytes]


class Group(msgspec.Struct, frozen=True):
    """One group of a stream. Ids of entries are "" if there is no such entry.

    Attributes:
        name: Its name.
        needed: Id of the oldest entry that it still needs.
        delivered: Id of the last entry that it has read.
        pending: Number of entries that were delivered and not acknowledged.
        oldest_pending: Id of the oldest of them.
        unread: Number of entries that it has not read.
        oldest_unread: Id of the oldest of them.
        held: Number of entries that exceed the limits and are kept because this group needs them.

    """

    name: str
    needed: str
    delivered: str
    pending: int
    oldest_pending: str
    unread: int
    oldest_unread: str
    held: int


class StreamStatus(msgspec.Struct, frozen=True):
    """A stream and its groups at one moment.

    Attributes:
        entries: Number of entries.
        entry_bytes: Average length of an entry, its names and values, estimated from a sample.
        used_memory: Bytes that Redis compares with `maxmemory`.
        maxmemory: The limit of Redis in bytes; 0 means no limit.
        groups: The groups.

    """

    entries: int
    entry_bytes: float
    used_memory: int
    maxmemory: int
    groups: tuple[Group, ...] = ()

    @property
    def bytes(self) -> int:
        """The length of all entries, estimated by their average."""
        return round(self.entries * self.entry_bytes)

    @property
    def full(self) -> bool:
        """True if Redis refuses to write."""
        return 0 < self.maxmemory < self.used_memory

    @property
    def slowest(self) -> Group | None:
        """The group with the most unread entries; None without groups."""
        return max(self.groups, key=lambda group: group.unread, default=None)


class GroupConsumer(msgspec.Struct, frozen=True):
    """A consumer of a group: the number of its pending entries, and the seconds since its last read."""

    name: str
    pending: int
    idle: float


class Groups:
    """The groups of the streams of one account."""

    def __init__(self, redis_client: Redis, keys: Keys) -> None:
        self._redis, self._keys = redis_client, keys
        self._status_script = function(redis_client, "survey")

    async def status(
        self, resource: str, limits: RetentionLimits | None = None, *, of_groups: bool = False
    ) -> StreamStatus:
        """Return the status of a stream.

        Args:
            resource: Name of the resource.
            limits: The retention limits, for `Group.held`.
            of_groups: Only the groups are of interest: the memory is 0, and so is the length of the entries of a
                stream without groups, or without a limit on bytes.

        """
        arguments = [*(limits or RetentionLimits()).arguments, int(of_groups)]
        result = await finish(self._status_script(keys=[self._keys.stream(resource)], args=arguments))
        entries, average, used, limit, *groups = result
        return StreamStatus(entries, float(average), used, limit, tuple(_group(item) for item in groups))

    async def consumers(self, resource: str, group: str) -> list[GroupConsumer]:
        """Return the consumers of a group, except the reserved ones."""
        result = await self._redis.xinfo_consumers(self._keys.stream(resource), group)
        return [
            GroupConsumer(name, item["pending"], item["idle"] / 1000)
            for item in result
            if not (name := text(item["name"])).startswith(RESERVED_PREFIX)
        ]

    async def missing(self, declared: Mapping[str, Iterable[str]]) -> list[tuple[str, str]]:
        """Return which declared groups (name: its resources) do not exist, as pairs of group and resource."""
        requested = sorted({name for resources in declared.values() for name in resources})
        known = {name: await self._names(name) for name in requested}
        return [
            (group, resource)
            for group, resources in declared.items()
            for resource in resources
            if group not in known[resource]
        ]

    async def declare(self, declared: Mapping[str, Iterable[str]]) -> list[tuple[str, str]]:
        """Create the declared groups that do not exist. Return them as pairs of group and resource.

        A new group begins with the oldest entry of the stream.
        """
        created = []
        for group, resource in await self.missing(declared):
            if await self.create(resource, group, "0"):
                created.append((group, resource))
        return created

    async def create(self, resource: str, group: str, begin: str) -> bool:
        """Create a group, and the stream if it does not exist. False if the group exists; then it is not changed.

        Args:
            resource: Name of the resource.
            group: Name of the group.
            begin: Id of the first entry that it gets, if it is in the stream, otherwise the next one after it; "0"
                for the oldest entry that is kept, "$" for the next new one.

        Raises:
            ValueError: `begin` is not the id of an entry.

        """
        stream, last = self._keys.stream(resource), begin if begin == "$" else id_before(begin)
        try:
            await self._redis.xgroup_create(stream, group, id=last, mkstream=True)
        except redis.exceptions.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
            return False
        return True

    async def drop(self, resource: str, group: str) -> bool:
        """Remove a group and its pending entries. False if it did not exist."""
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
        return {text(item["name"]) for item in await self._redis.xinfo_groups(stream)}


def idle_seconds(group: Group, consumers: Sequence[GroupConsumer], now: float) -> float:
    """Return the seconds since a consumer last read for the group; `now` in seconds since 1970.

    Without consumers, that is the age of the oldest unread entry, and 0 if the group has read everything.
    """
    if consumers:
        return min(consumer.idle for consumer in consumers)
    if not group.oldest_unread:
        return 0.0
    return max(0.0, now - written_at(group.oldest_unread))


def waiting_seconds(group: Group, consumers: Sequence[GroupConsumer], now: float) -> float:
    """Return for how many seconds events have waited while no consumer read for the group; 0 if none wait.

    A group that reads now and then is not late with an event that was published since. `now` in seconds since 1970.
    """
    oldest = group.oldest_pending or group.oldest_unread
    if not oldest:
        return 0.0
    return min(max(0.0, now - written_at(oldest)), idle_seconds(group, consumers, now))


def id_before(entry_id: str) -> str:
    """Return the greatest id before that of an entry: a group that was created with it gets the entry first.

    An id without a second number is the first one of its millisecond.

    Raises:
        ValueError: This is not the id of an entry.

    """
    found = _ENTRY_ID.fullmatch(entry_id)
    if found is None:
        raise ValueError(f"{entry_id!r} is not the id of an entry")
    milliseconds, number = int(found[1]), int(found[2] or 0)
    if max(milliseconds, number) > _LARGEST:
        raise ValueError(f"{entry_id!r} is not the id of an entry")
    if number:
        return f"{milliseconds}-{number - 1}"
    return f"{milliseconds - 1}-{_LARGEST}" if milliseconds else "0-0"


def written_at(entry_id: str) -> float:
    """Return when an entry was written, in seconds since 1970: an id begins with the time of Redis."""
    return int(entry_id.partition("-")[0]) / 1000


def _group(result: Sequence[bytes | int]) -> Group:
    name, needed, delivered, pending, oldest_pending, unread, oldest_unread, held = result
    return Group(
        name=text(name),
        needed=text(needed),
        delivered=text(delivered),
        pending=int(pending),
        oldest_pending=text(oldest_pending),
        unread=int(unread),
        oldest_unread=text(oldest_unread),
        held=int(held),
    )


def text(value: bytes | str | int) -> str:
    """Return a value of Redis as text, whether the client decodes responses or not."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
