"""What is due to be read by id: follow-ups of changes, records that a complete read did not show, resyncs.

A sorted set for each resource holds who is to be read, and since when by the clock of Redis. Whoever reads takes a
look at it and removes a member in the commit that deals with it, unless it became due again since the read began:
so a worker may be killed at any point, and no change is followed up by a read that was earlier.

Members: `id:ID` is a record; `of:ID` are the records of a parent, or the audit log of a record, `of:ID/ID` that of
something within it. What stands behind the colon is percent-encoded, so that any id can be written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from worker.cancellation import finish
from worker.redis import scripts
from worker.redis.connections import answer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from redis.asyncio import Redis

    from worker.capture.resources import FollowUp
    from worker.keys import Keys

_ID, _OF = "id:", "of:"

CONFIRM_SECONDS = 30.0
"""Between the two answers that a record does not exist."""
CONFIRMATIONS = 2
"""Answers, or full scans, that it takes to delete a record."""


@dataclass(frozen=True, slots=True)
class RefreshKey:
    """Who is to be read: one record by its `path` of one id, or `of` a parent."""

    path: tuple[str, ...]
    of: bool

    def __str__(self) -> str:
        return (_OF if self.of else _ID) + "/".join(quote(item, safe="") for item in self.path)

    @classmethod
    def parse(cls, text: str) -> RefreshKey | None:
        """Read it back; None for what this program did not write."""
        kind, rest = text[:3], text[3:]
        if kind not in {_ID, _OF} or not rest:
            return None
        return cls(tuple(unquote(item) for item in rest.split("/")), kind == _OF)


def record(identifier: str) -> str:
    """The member that stands for a record."""
    return str(RefreshKey((identifier,), of=False))


def log_of(*path: str) -> str:
    """The member that stands for the records of a parent, or for an audit log."""
    return str(RefreshKey(path, of=True))


def follow_ups(
    requested: Sequence[FollowUp],
    identifier: str,
    linked: Sequence[object],
    *,
    first: bool = False,
    before: Sequence[Sequence[str]] = (),
) -> Iterator[tuple[str, str]]:
    """What a change of a record makes due: targets and members.

    `linked`: the values of the fields that the follow-ups name, in their order. What is no id there is passed over.
    `first`: the change is that the first complete read has found the record. `before`: what `within` has said of it
    as it was published last: what has been taken out of it since tells so in its own log.
    """
    values, earlier = iter(linked), iter(before)
    for item in requested:
        value = next(values, None) if item.ids else None
        held = next(earlier, ()) if item.is_within else ()
        if first and not item.first:
            continue
        if not item.ids:
            yield item.target, log_of(identifier)
            continue
        for result in dict.fromkeys((*_ids(value, item.ids[1:]), *held)):
            # An id that leads to a record stands alone; one of something within a record needs both.
            yield item.target, log_of(identifier, result) if item.is_within else record(result)


def within(requested: Sequence[FollowUp], linked: Sequence[object]) -> list[list[str]]:
    """The ids of what stands within a record, for each of the follow-ups that read of it. `linked`: as above."""
    values = iter(linked)
    pairs = [(item, next(values, None)) for item in requested if item.ids]
    return [list(_ids(value, each.ids[1:])) for each, value in pairs if each.is_within]


def _ids(value: object, path: tuple[str, ...]) -> Iterator[str]:
    for one in value if isinstance(value, list) else ():
        result = one
        if path:
            result = one.get(path[0]) if isinstance(one, dict) else None
        if isinstance(result, str | int) and result != "":
            yield str(result)


@dataclass(frozen=True, slots=True)
class RefreshBatch:
    """A look at what is due. `at`: when it was taken, by the clock of Redis."""

    at: str
    members: tuple[str, ...]


class RefreshQueue:
    """What is due of one resource of one account."""

    def __init__(self, redis: Redis, keys: Keys, resource: str) -> None:
        self._redis, self._key, self._tries = (
            redis,
            keys.refresh_queue(resource),
            keys.refresh_failures(resource),
        )
        self._take = scripts.load(redis, "worker.capture", "due")

    async def fetch(self, limit: int) -> RefreshBatch:
        """Look at up to `most` of what is due now. Nothing is removed."""
        at, *members = await self._take(keys=[self._key], args=[limit])
        return RefreshBatch(at.decode(), tuple(member.decode() for member in members))

    async def count(self) -> int:
        """How many are due, now or later."""
        return int(await answer(self._redis.zcard(self._key)))

    async def add(self, members: Iterable[str]) -> None:
        """Note that these are to be read, from now on."""
        seconds, micros = await answer(self._redis.time())
        scores = dict.fromkeys(members, seconds + micros / 1e6)
        if scores:
            await finish(answer(self._redis.zadd(self._key, scores)))

    async def failed(self, member: str) -> int:
        """Count a failed read of a member; how many there were in a row."""
        return int(await finish(answer(self._redis.hincrby(self._tries, member, 1))))

    async def succeeded(self, members: Sequence[str]) -> None:
        """Forget the failures of these."""
        if members:
            await finish(answer(self._redis.hdel(self._tries, *members)))
