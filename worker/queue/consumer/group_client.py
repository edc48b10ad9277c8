"""What a consumer asks of Redis: entries to work on, to keep them, and to give them back.

Three ways in: what was never read (`XREADGROUP >`), what is the consumer's own since an earlier life, and what
nobody has touched for a while, whoever has it. All three go over a line of their own, so that an answer that
got lost is noticed.
"""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import redis.exceptions

from worker.cancellation import finish
from worker.errors import ConsumerReplaced, GroupGone
from worker.queue.consumer.connection import DedicatedConnection, with_timeout
from worker.queue.streams.groups import OURS
from worker.redis import scripts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from redis.asyncio import Redis

    from worker.keys import Keys

REPLAY, RETURNED = f"{OURS}replay", f"{OURS}returned"
"""Consumers that stand for nobody: entries wait in their hands to be claimed, at once and by anyone."""
LONG_AGO = 10 * 365 * 86_400 * 1000
"""Milliseconds for which such an entry seems to have lain idle: longer than anyone waits to claim it."""
CHUNK = 500
"""Entries that one call of a script deals with at most: a millisecond or two, in which Redis does nothing else."""
_BEGINNING = "0-0"


@dataclass(slots=True)
class StreamCursor:
    """The stream of a resource, and how far this consumer has gone through what is pending in it.

    `own`: the id behind which its own entries have still to be looked at, None when that is done. `cursor`: where
    to go on with looking for idle ones, None when all have been looked at.
    """

    resource: str
    stream: str
    dead: str
    replayed: str
    holder: str
    own: str | None = _BEGINNING
    cursor: str | None = _BEGINNING

    def restart(self) -> None:
        """An answer was lost: it has to be looked what this consumer was given, or has claimed."""
        self.own = _BEGINNING


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a stream. `count`: how often it may have been begun before, as Redis has it."""

    entry_id: bytes
    fields: dict[bytes, bytes]
    count: int = 0
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Claimed:
    """Entries that are this consumer's now, and ids of entries that were pending and whose data is gone."""

    entries: list[Entry] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)


class GroupClient:
    """The entries of some streams, for one consumer of one group."""

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        *,
        group: str,
        name: str,
        resources: Sequence[str],
        claim_after: float,
    ) -> None:
        self._redis, self._line = client, DedicatedConnection(client)
        self.group, self.name = group, name
        self._idle_ms, self._token = int(claim_after * 1000), secrets.token_hex(8)
        self._hold_ms = max(self._idle_ms * 2, 60_000)
        self.sources = [
            StreamCursor(
                resource,
                keys.stream(resource),
                keys.dead(resource),
                keys.replayed(resource, group),
                keys.consumer_lock(resource, group, name),
            )
            for resource in resources
        ]
        self._take = scripts.load(client, "worker.queue", "take")
        self._hold = scripts.load(client, "worker.queue", "hold")
        self._release = scripts.load(client, "worker.queue", "release")

    async def join(self, begin: str) -> None:
        """Make the group exist in every stream, and take the name for this process.

        A group that is there is left as it is, also when Redis is full and would not even look.
        """
        for source in self.sources:
            if self.group not in await self._groups(source):
                try:
                    await self._redis.xgroup_create(source.stream, self.group, id=begin, mkstream=True)
                except redis.exceptions.ResponseError as error:
                    if not str(error).startswith("BUSYGROUP"):
                        raise
            try:
                await self._redis.set(source.holder, self._token, px=self._hold_ms)
            except redis.exceptions.OutOfMemoryError:
                await self._redis.delete(source.holder)

    async def _groups(self, source: StreamCursor) -> set[str]:
        try:
            result = await self._redis.xinfo_groups(source.stream)
        except redis.exceptions.ResponseError as error:
            if "no such key" in str(error):
                return set()
            raise
        return {text(item["name"]) for item in result}

    async def new(self, count: int, block: float) -> list[tuple[StreamCursor, list[Entry]]]:
        """Up to `count` entries of each stream that nobody has read; waits `block` seconds for the first.

        Never cut short by a cancellation: what Redis has given out would be in nobody's hands.
        """
        words: list[bytes | str | float] = ["XREADGROUP", "GROUP", self.group, self.name, "COUNT", count]
        if block > 0:
            words += ["BLOCK", max(1, int(block * 1000))]
        words += ["STREAMS", *(source.stream for source in self.sources), *(">" for _ in self.sources)]
        with self._group_there():
            result = await finish(self._line.call(*words, wait=block))
        by_stream = {source.stream.encode(): source for source in self.sources}
        parts = result.items() if isinstance(result, dict) else result or ()
        return [
            (by_stream[stream], [Entry(entry_id, _pairs(flat)) for entry_id, flat in entries])
            for stream, entries in parts
        ]

    async def own(self, source: StreamCursor, known: Iterable[str], count: int) -> Claimed:
        """Entries that are this consumer's since an earlier life, without those that are `known`; the oldest first.

        `source.own` moves on. Ask again until it is None.
        """
        after = "-" if source.own in (None, _BEGINNING) else f"({source.own}"
        words = ("XPENDING", source.stream, self.group, after, "+", min(count, CHUNK), self.name)
        with self._group_there():
            pending = await finish(self._line.call(*words))
        ids = [text(item[0]) for item in pending]
        source.own = ids[-1] if ids else None
        ours = set(known)
        requested = [entry_id for entry_id in ids if entry_id not in ours]
        if not requested:
            return Claimed()
        _, entries, gone = await self._script(source, ["own", *requested])
        return _taken(entries, gone)

    async def idle(self, source: StreamCursor, count: int) -> Claimed:
        """Entries that nobody has touched for `claim_after` seconds. `source.cursor` moves on."""
        words = ["idle", self._idle_ms, source.cursor or _BEGINNING, min(count, CHUNK)]
        cursor, entries, gone = await self._script(source, words)
        source.cursor = None if cursor == _BEGINNING.encode() else text(cursor)
        return _taken(entries, gone)

    async def extend(
        self, source: StreamCursor, counts: Sequence[tuple[str, int | str]]
    ) -> tuple[list[str], list[str]]:
        """Keep entries (id, deliveries or "" to leave them as they are) from being claimed by others.

        Two lists of ids: those that somebody else has claimed or acknowledged, and those whose data is gone.

        Raises:
            ConsumerReplaced: Another process consumes under the same name.

        """
        lost: list[str] = []
        gone: list[str] = []
        for at in range(0, max(len(counts), 1), CHUNK):
            words: list[Any] = [self.group, self.name, self._token, self._hold_ms]
            for pair in counts[at : at + CHUNK]:
                words += pair
            with self._group_there():
                status, *rest = await finish(
                    with_timeout(self._hold(keys=[source.stream, source.holder], args=words))
                )
            if text(status) == "replaced":
                raise ConsumerReplaced(self.group, self.name)
            lost += map(text, rest[0])
            gone += map(text, rest[1])
        return lost, gone

    async def give_back(
        self, source: StreamCursor, begun: Sequence[tuple[str, int]], *, rest: bool
    ) -> list[str]:
        """Let others have these entries (id, how often it was begun), and with `rest` all else that is this consumer's.

        Ids whose data is gone come back.
        """
        gone: list[str] = []
        at = 0
        while True:
            words: list[Any] = [self.group, self.name, self._token, RETURNED, LONG_AGO]
            chunk = begun[at : at + CHUNK]
            at += CHUNK
            words.append(CHUNK if rest and at >= len(begun) else 0)
            for pair in chunk:
                words += pair
            with self._group_there():
                more, *ids = await finish(
                    with_timeout(self._release(keys=[source.stream, source.holder], args=words))
                )
            gone += map(text, ids)
            if at >= len(begun) and not more:
                return gone

    async def close(self) -> None:
        """Let go of the line."""
        await self._line.close()

    @contextmanager
    def _group_there(self) -> Iterator[None]:
        """Around a call that needs the group."""
        try:
            yield
        except redis.exceptions.ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            streams = ", ".join(source.stream for source in self.sources)
            raise GroupGone(self.group, streams) from None

    async def _script(self, source: StreamCursor, words: list[Any]) -> Any:
        keys = [source.stream, source.replayed]
        with self._group_there():
            return await finish(self._line.script(self._take, keys, [self.group, self.name, *words]))


def text(value: bytes | str) -> str:
    """An answer of Redis as text, whether the client decodes answers or not."""
    return value.decode() if isinstance(value, bytes) else value


def _taken(entries: list[Any], gone: list[bytes]) -> Claimed:
    return Claimed(
        [Entry(entry_id, _pairs(flat), count, bool(replayed)) for entry_id, flat, count, replayed in entries],
        [text(entry_id) for entry_id in gone],
    )


def _pairs(flat: list[bytes] | dict[bytes, bytes]) -> dict[bytes, bytes]:
    if isinstance(flat, dict):
        return flat
    return dict(zip(flat[::2], flat[1::2], strict=True))
