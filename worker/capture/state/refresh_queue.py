"""The refresh queue: records to read by id, such as follow-ups of changes and records missing from a full scan.

A sorted set for each resource contains the keys to read, by due time of the clock of Redis. The worker fetches a batch
and removes a key in the commit that writes the result, unless the key became due again after the read began. So a
worker may be killed at any point, and a change is never followed up by a read that began before it.

Keys: `id:ID` is a record; `of:ID` means the records of a parent, or the audit log of a record; `of:ID/ID` is the audit
log of an object nested in a record. Ids are percent-encoded, so that a key can contain any id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import msgspec

from ordersync_consumer.servers.cluster import at
from worker.cancellation import finish
from worker.redis import scripts
from worker.redis.connections import answer
from worker.redis.stored import text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from redis.asyncio import Redis

    from worker.capture.resources import FollowUp
    from worker.keys import Keys

_ID, _OF = "id:", "of:"

CONFIRMATIONS = 2
"""Number of answers, or full scans, after which a missing record is deleted."""


class RefreshKey(msgspec.Struct, frozen=True):
    """A key of the refresh queue: one record, whose `path` is one id, or everything `of` a parent."""

    path: tuple[str, ...]
    of: bool

    def __str__(self) -> str:
        return (_OF if self.of else _ID) + "/".join(quote(item, safe="") for item in self.path)

    @classmethod
    def parse(cls, text: str) -> RefreshKey | None:
        """Return the key from its text; None if this program did not write it."""
        kind, rest = text[:3], text[3:]
        if kind not in {_ID, _OF} or not rest:
            return None
        return cls(tuple(unquote(item) for item in rest.split("/")), kind == _OF)


def record(identifier: str) -> str:
    """Return the key of a record."""
    return str(RefreshKey((identifier,), of=False))


def log_of(*path: str) -> str:
    """Return the key of the records of a parent, or of an audit log."""
    return str(RefreshKey(path, of=True))


def follow_ups(
    requested: Sequence[FollowUp],
    identifier: str,
    linked: Sequence[object],
    *,
    snapshot: bool = False,
    before: Sequence[Sequence[str]] = (),
) -> Iterator[tuple[str, str]]:
    """Yield the follow-ups of a change of a record, as pairs of target and key.

    Args:
        requested: The follow-ups of the resource.
        identifier: The id of the record.
        linked: The values of the fields that the follow-ups name, in their order. Values that are not ids are skipped.
        snapshot: The record is one of the past, which was found after the first full scan.
        before: The result of `within` for the record as it was published last. The audit log of a nested object that
            was removed since then contains the removal, so it is read, too.

    """
    values, earlier = iter(linked), iter(before)
    for item in requested:
        value = next(values, None) if item.ids else None
        previous = next(earlier, ()) if item.is_within else ()
        if snapshot and not item.snapshots:
            continue
        if not item.ids:
            yield item.target, log_of(identifier)
            continue
        for result in dict.fromkeys((*_ids(value, item.ids[1:]), *previous)):
            # The key of a record is its id; the key of a nested object also has the id of the record.
            yield item.target, log_of(identifier, result) if item.is_within else record(result)


def within(requested: Sequence[FollowUp], linked: Sequence[object]) -> list[list[str]]:
    """Return the ids of the nested objects of a record, for each follow-up that reads their logs.

    `linked` as for `follow_ups`.
    """
    values = iter(linked)
    pairs = [(item, next(values, None)) for item in requested if item.ids]
    return [list(_ids(value, item.ids[1:])) for item, value in pairs if item.is_within]


def _ids(value: object, path: tuple[str, ...]) -> Iterator[str]:
    for item in value if isinstance(value, list) else ():
        result = item
        if path:
            result = item.get(path[0]) if isinstance(item, dict) else None
        if isinstance(result, str | int) and result != "":
            yield str(result)


class RefreshBatch(msgspec.Struct, frozen=True):
    """A batch of due keys. `at`: when it was fetched, by the clock of Redis."""

    at: str
    members: tuple[str, ...]


class Backlog(msgspec.Struct, frozen=True):
    """How many keys are due now. `oldest`: since when the first of them is (seconds since 1970); 0 if none is due."""

    count: int
    oldest: float


class RefreshQueue:
    """The refresh queue of one resource of one account."""

    def __init__(self, redis: Redis, keys: Keys, resource: str) -> None:
        self._redis, self._key, self._failures, self._cut = (
            at(redis, keys.base),  # whose clock is the one of the scripts
            keys.refresh_queue(resource),
            keys.refresh_failures(resource),
            keys.cut_logs(resource),
        )
        self._fetch = scripts.load(redis, "worker.capture", "due")

    async def fetch(self, limit: int, longest: float) -> RefreshBatch:
        """Return up to `limit` keys that are due now. They are not removed.

        `longest`: seconds that a key waits at most. One that is to wait longer is due now: the clock was put back.
        """
        at, *members = await self._fetch(keys=[self._key], args=[limit, longest])
        return RefreshBatch(text_of(at), tuple(text_of(member) for member in members))

    async def count(self) -> int:
        """Return how many keys are due, now or later."""
        return int(await answer(self._redis.zcard(self._key)))

    async def backlog(self, now: float) -> Backlog:
        """Return what is due at `now`, in seconds since 1970 by the clock of Redis."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.zcount(self._key, "-inf", now)
            pipe.zrangebyscore(self._key, "-inf", now, start=0, num=1, withscores=True)
            count, first = await pipe.execute()
        return Backlog(count, first[0][1] if first else 0.0)

    async def waits(self, members: Sequence[str]) -> list[float]:
        """Return in how many seconds those of these keys are due that are in the queue; 0 or less: now."""
        if not members:
            return []
        scores = await answer(self._redis.zmscore(self._key, list(members)))
        seconds, micros = await answer(self._redis.time())
        now = seconds + micros / 1e6
        return [float(score) - now for score in scores if score is not None]

    async def add(self, members: Iterable[str]) -> None:
        """Add keys that are due now."""
        if not (due := list(members)):
            return
        seconds, micros = await answer(self._redis.time())
        await finish(answer(self._redis.zadd(self._key, dict.fromkeys(due, seconds + micros / 1e6))))

    async def note_cut(self, members: Mapping[str, str]) -> None:
        """Note why a part of each of these audit logs cannot be read; "" for one that was read to its end."""
        cut = {member: why for member, why in members.items() if why}
        if cut:
            await finish(answer(self._redis.hset(self._cut, mapping=cut)))
        if whole := members.keys() - cut.keys():
            await finish(answer(self._redis.hdel(self._cut, *whole)))

    async def cut(self) -> tuple[int, str]:
        """Return of how many audit logs a part cannot be read, and why, for one of them."""
        count = int(await answer(self._redis.hlen(self._cut)))
        if not count:
            return 0, ""
        _, found = await answer(self._redis.hscan(self._cut, count=1))
        return count, text_of(next(iter(found.values()), b""))

    async def failed(self, member: str) -> int:
        """Count a failed read of a key; return the number of failures in a row."""
        return int(await finish(answer(self._redis.hincrby(self._failures, member, 1))))

    async def succeeded(self, members: Sequence[str]) -> None:
        """Reset the failure counts of these keys."""
        if members:
            await finish(answer(self._redis.hdel(self._failures, *members)))
