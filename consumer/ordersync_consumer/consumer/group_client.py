"""What one consumer does with its group in Redis: join it, read and claim entries, keep and return them.

Entries come from three places: those that no consumer has read yet (`XREADGROUP >`), those that are pending for this
consumer since an earlier process, and those of any consumer that have been idle for a while. All three are fetched on
a dedicated connection, so that the loss of a response is noticed.
"""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import redis.exceptions

from ordersync_consumer.cancellation import finish
from ordersync_consumer.consumer.connection import DedicatedConnection, with_timeout
from ordersync_consumer.errors import ConsumerReplaced, GroupGone
from ordersync_consumer.functions import function
from ordersync_consumer.groups import LONG_AGO, RETURNED, text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from redis.asyncio import Redis

    from ordersync_consumer.consumer.options import ConsumerOptions
    from ordersync_consumer.keys import Keys

CHUNK = 500
"""Entries per call of a script at most: a millisecond or two, in which Redis serves no other client."""
_START = "0-0"


@dataclass(slots=True)
class StreamCursor:
    """The stream of a resource, its keys in Redis, and how far its pending entries have been scanned.

    Attributes:
        resource: Name of the resource.
        stream: Key of the stream.
        dead: Key of its dead letters.
        replayed: Key of the set of replayed ids.
        consumer_lock: Key of the lock on the name of the consumer.
        own: Id after which to go on scanning the entries that are pending for this consumer; None when done.
        idle: Cursor at which to go on scanning for idle entries of any consumer; None when done.
        trimmed: Ids of pending entries that were removed from the stream, of which the program has not been told yet.
            Redis names each once, so the call that learns of it notes it here, even if the caller is cancelled.

    """

    resource: str
    stream: str
    dead: str
    replayed: str
    consumer_lock: str
    own: str | None = _START
    idle: str | None = _START
    trimmed: list[str] = field(default_factory=list)

    def rescan_own(self) -> None:
        """Scan the entries of this consumer again: a response was lost, and Redis may have delivered some."""
        self.own = _START

    def rescan_idle(self) -> None:
        """Scan for idle entries again, unless a scan is under way."""
        if self.idle is None:
            self.idle = _START


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An entry of a stream. `flat`: its names and values in turn. `count`: how many attempts Redis has counted."""

    entry_id: bytes
    flat: list[bytes]
    count: int = 0
    replayed: bool = False


class GroupClient:
    """The commands of one consumer. `cursors`: the streams that it reads.

    Every method raises `GroupGone` if the group does not exist, and the errors of redis-py. No call is cut short by a
    cancellation: otherwise entries could be pending for this consumer without its knowledge.

    """

    def __init__(self, client: Redis, keys: Keys, options: ConsumerOptions) -> None:
        self._redis, self._connection = client, DedicatedConnection(client)
        self._group, self._name, self._begin = options.group, options.name, options.begin
        self._idle_ms, self._token = int(options.claim_after * 1000), secrets.token_hex(8)
        self._lock_ms = max(self._idle_ms * 2, 60_000)
        self.cursors = [
            StreamCursor(
                resource,
                keys.stream(resource),
                keys.dead(resource),
                keys.replayed(resource, self._group),
                keys.consumer_lock(resource, self._group, self._name),
            )
            for resource in options.resources
        ]
        self._claim_script = function(client, "take")
        self._extend_script = function(client, "hold")
        self._return_script = function(client, "release")

    async def join(self) -> None:
        """Create the group in every stream where it does not exist, and lock the name for this process.

        An existing group is not changed, so the consumer can join it while Redis is full.
        """
        for cursor in self.cursors:
            if self._group not in await self._groups(cursor):
                await self._create(cursor, self._begin)
            try:
                await self._redis.set(cursor.consumer_lock, self._token, px=self._lock_ms)
            except redis.exceptions.OutOfMemoryError:
                await self._redis.delete(cursor.consumer_lock)

    async def rejoin(self) -> list[str] | None:
        """Create the group again in the streams where Redis has lost it; return their resources.

        None if it was dropped, and is not created: then the stream and the lock on the name of this consumer are left.
        """
        lost = []
        for cursor in self.cursors:
            if self._group in await self._groups(cursor):
                continue
            stream, lock = [await self._redis.exists(key) for key in (cursor.stream, cursor.consumer_lock)]
            if stream and lock:
                return None
            lost.append(cursor)
        for cursor in lost:
            await self._create(cursor, "0")
            await self._redis.set(cursor.consumer_lock, self._token, px=self._lock_ms)
        return [cursor.resource for cursor in lost]

    async def _create(self, cursor: StreamCursor, begin: str) -> None:
        try:
            await self._redis.xgroup_create(cursor.stream, self._group, id=begin, mkstream=True)
        except redis.exceptions.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):  # another consumer has created it meanwhile
                raise

    async def _groups(self, cursor: StreamCursor) -> set[str]:
        try:
            result = await self._redis.xinfo_groups(cursor.stream)
        except redis.exceptions.ResponseError as error:
            if "no such key" in str(error):
                return set()
            raise
        return {text(item["name"]) for item in result}

    async def read_new(self, count: int, block: float) -> list[tuple[StreamCursor, list[Entry]]]:
        """Return up to `count` entries of each stream that the group has not read; block up to `block` seconds."""
        command: list[bytes | str | float] = ["XREADGROUP", "GROUP", self._group, self._name, "COUNT", count]
        if block > 0:
            command += ["BLOCK", max(1, int(block * 1000))]
        command += ["STREAMS", *(cursor.stream for cursor in self.cursors), *(">" for _ in self.cursors)]
        with self._group_errors():
            result = await finish(self._connection.call(*command, wait=block))
        by_stream = {cursor.stream.encode(): cursor for cursor in self.cursors}
        parts = result.items() if isinstance(result, dict) else result or ()
        return [
            (by_stream[stream], [Entry(entry_id, _flat(fields)) for entry_id, fields in entries])
            for stream, entries in parts
        ]

    async def claim_own(self, cursor: StreamCursor, known: Collection[str], count: int) -> list[Entry]:
        """Return the next entries pending for this consumer whose ids are not `known`, oldest first.

        Moves `cursor.own` on. Call again while that is not None. Ids of removed entries go to `cursor.trimmed`.
        """
        after = "-" if cursor.own in (None, _START) else f"({cursor.own}"
        command = ("XPENDING", cursor.stream, self._group, after, "+", min(count, CHUNK), self._name)
        with self._group_errors():
            pending = await finish(self._connection.call(*command))
        ids = [text(item[0]) for item in pending]
        cursor.own = ids[-1] if ids else None
        unknown = [entry_id for entry_id in ids if entry_id not in known]
        if not unknown:
            return []
        _, entries = await self._claim(cursor, ["own", *unknown])
        return entries

    async def claim_idle(self, cursor: StreamCursor, count: int) -> list[Entry]:
        """Claim the next entries that have been idle for `claim_after` seconds, and return them.

        Moves `cursor.idle` on. Ids of removed entries go to `cursor.trimmed`.
        """
        arguments = ["idle", self._idle_ms, cursor.idle or _START, min(count, CHUNK)]
        position, entries = await self._claim(cursor, arguments)
        cursor.idle = None if position == _START else position
        return entries

    async def extend(
        self, cursor: StreamCursor, counts: Sequence[tuple[str, int | str]]
    ) -> tuple[list[str], list[str]]:
        """Keep entries from being claimed by other consumers for another `claim_after` seconds.

        Args:
            cursor: Their stream.
            counts: For each entry its id and the number of attempts to store, or "" to leave it unchanged.

        Returns:
            Ids that other consumers have claimed or acknowledged, and ids that were removed from the stream.

        Raises:
            ConsumerReplaced: Another process consumes under the same name.

        """
        lost: list[str] = []
        trimmed: list[str] = []
        for start in range(0, max(len(counts), 1), CHUNK):
            arguments: list[Any] = [self._group, self._name, self._token, self._lock_ms]
            for pair in counts[start : start + CHUNK]:
                arguments += pair
            with self._group_errors():
                status, *ids = await finish(
                    with_timeout(
                        self._extend_script(keys=[cursor.stream, cursor.consumer_lock], args=arguments)
                    )
                )
            if text(status) == "replaced":
                raise ConsumerReplaced(self._group, self._name)
            lost += map(text, ids[0])
            trimmed += map(text, ids[1])
        return lost, trimmed

    async def give_back(self, cursor: StreamCursor, begun: Sequence[tuple[str, int]], *, rest: bool) -> None:
        """Let other consumers claim entries at once. Ids of removed entries go to `cursor.trimmed`.

        Args:
            cursor: Their stream.
            begun: For each entry its id and how many attempts were begun.
            rest: Also give back every other entry that is pending for this consumer, and unlock its name.

        """
        start = 0
        while True:
            arguments: list[Any] = [self._group, self._name, self._token, RETURNED, LONG_AGO]
            chunk = begun[start : start + CHUNK]
            start += CHUNK
            arguments.append(CHUNK if rest and start >= len(begun) else 0)
            for pair in chunk:
                arguments += pair
            with self._group_errors():
                more, *ids = await finish(
                    with_timeout(
                        self._return_script(keys=[cursor.stream, cursor.consumer_lock], args=arguments)
                    )
                )
            cursor.trimmed += map(text, ids)
            if start >= len(begun) and not more:
                return

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    @contextmanager
    def _group_errors(self) -> Iterator[None]:
        """Raise `GroupGone` if a call finds that the group does not exist."""
        try:
            yield
        except redis.exceptions.ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            streams = ", ".join(cursor.stream for cursor in self.cursors)
            raise GroupGone(self._group, streams) from None

    async def _claim(self, cursor: StreamCursor, arguments: list[Any]) -> tuple[str, list[Entry]]:
        """Run the script that claims; return where it has stopped, and the entries."""

        async def claim() -> tuple[str, list[Entry]]:
            position, claimed, trimmed = await self._claim_script.call(
                self._connection.call,
                [cursor.stream, cursor.replayed],
                [self._group, self._name, *arguments],
            )
            cursor.trimmed += map(text, trimmed)
            entries = [
                Entry(entry_id, _flat(fields), count, bool(replayed))
                for entry_id, fields, count, replayed in claimed
            ]
            return text(position), entries

        with self._group_errors():
            return await finish(claim())


def _flat(fields: list[bytes] | dict[bytes, bytes]) -> list[bytes]:
    if isinstance(fields, dict):
        return [part for pair in fields.items() for part in pair]
    return fields
