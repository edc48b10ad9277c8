"""Resyncs: reads that a person, or another program, has asked for. What they are and where they are kept.

Each is a hash `ordersync:{A}:resync:ID`; `ordersync:{A}:resyncs` is the sorted set of all that are remembered, by the
time they were asked for, and `ordersync:{A}:resyncs:open` the set of those that are not over. Each open one is in the
schedule, a slice at a time, so no crash can lose it.
"""

from __future__ import annotations

import secrets
from enum import StrEnum
from typing import TYPE_CHECKING, Any, cast

import msgspec

from worker.capture.state.changes import tell_change
from worker.clock import parse_time
from worker.errors import SettingsError
from worker.redis.connections import answer
from worker.redis.functions import function
from worker.redis.stored import UNREADABLE, number_of, text_of

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.keys import Keys

KEPT = 200
"""Resyncs that are remembered when they are over."""
MAX_IDS = 100_000
MAX_WAIT_SECONDS = 900.0
"""Until a resync goes on, at most, however long a pause the server requests."""


class ResyncState(StrEnum):
    """How a resync stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


OVER = frozenset({ResyncState.DONE, ResyncState.CANCELLED})


class ResyncRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked for.

    The records with these `ids` (ids, short ids, safe ids, external ids, in any mix), those modified from `since` to
    `until` (RFC 3339), or `all`. `force`: also those that have not changed are published. `by`: who asks.
    """

    resource: str
    ids: tuple[str, ...] = ()
    since: str = ""
    until: str = ""
    all: bool = False
    force: bool = False
    by: str = ""

    def check(self) -> None:
        """See that it asks for one thing.

        Raises:
            SettingsError: It does not, and what to do.

        """
        requested = [bool(self.ids), bool(self.since or self.until), self.all]
        if sum(requested) != 1:
            raise SettingsError(
                "A resync needs exactly one of: ids (--id), a window (--since, --until), or --all."
            )
        if len(self.ids) > MAX_IDS:
            raise SettingsError(f"{len(self.ids)} ids are too many for one resync. Pass at most {MAX_IDS}.")
        for item in self.ids:
            if not item.strip():
                raise SettingsError("An id is empty.")
            try:
                item.encode()
            except UnicodeEncodeError:
                raise SettingsError(f"The id {item!r} is not valid UTF-8.") from None
        for name, text in (("since", self.since), ("until", self.until)):
            if text and parse_time(text) is None:
                raise SettingsError(f"--{name}: {text!r} is not a time such as 2026-03-02T10:00:00Z.")
        if self.since and self.until and self.window[0] > self.window[1]:
            raise SettingsError("--since is later than --until.")

    @property
    def window(self) -> tuple[int, int]:
        """From when to when records must have been modified, in milliseconds since 1970."""
        since, until = parse_time(self.since), parse_time(self.until)
        return since or 0, (1 << 62) if until is None else until

    @property
    def description(self) -> str:
        """In words."""
        what = (
            "all records"
            if self.all
            else f"{len(self.ids)} {'id' if len(self.ids) == 1 else 'ids'}"
            if self.ids
            else f"{self.since}..{self.until}"
        )
        return f"{what}, including unchanged ones" if self.force else what


class ResyncProgress(msgspec.Struct, kw_only=True):
    """How far a resync has come. It moves in the commits that publish.

    `position`: ids, or pages of `size` records, that are dealt with; `width`: records in the fullest of these pages,
    `page`: keys of those on the last one, `first`: of those on the first, where the list begins again after its end.
    `after`: the continuation to the next page, where pages have no numbers. `total`: ids, or records as far as the
    server says, 0 for not known.
    `read`, `published`, `unchanged`: records; `stale`: those that are older than what was published, which are
    read by id next; `unreadable`, `outside` the scope, `erased`: those of which nothing was published either.
    `missing`: ids under which nothing was found, the first of `missed`.
    `rest`: all pages are read, and the known records that none has shown are read by their ids; `by_id`: how many were;
    `passed_over`: those that cannot be read by id. `over`: there is nothing more to read.
    """

    position: int = 0
    size: int = 0
    width: int = 0
    page: tuple[bytes, ...] = ()
    first: tuple[bytes, ...] = ()
    after: str = ""
    total: int = 0
    read: int = 0
    published: int = 0
    unchanged: int = 0
    stale: int = 0
    unreadable: int = 0
    outside: int = 0
    erased: int = 0
    requests: int = 0
    missing: tuple[str, ...] = ()
    missed: int = 0
    rest: bool = False
    by_id: int = 0
    passed_over: int = 0
    over: bool = False


class Resync(ResyncProgress, kw_only=True):
    """One resync as it stands. Times in seconds since 1970. `error`: of the last try, which is made again."""

    id: str
    request: ResyncRequest
    state: ResyncState = ResyncState.WAITING
    at: float = 0.0
    ended_at: float = 0.0
    due_at: float = 0.0
    failures: int = 0
    error: str = ""

    @property
    def progress(self) -> ResyncProgress:
        """How far it has come."""
        return ResyncProgress(**{name: getattr(self, name) for name in ResyncProgress.__struct_fields__})

    @property
    def mark(self) -> str:
        """The same as it stands in the cursor."""
        return msgspec.json.encode(self.progress).decode()

    def resume_from(self, progress: ResyncProgress | str) -> None:
        """Take over how far it has come; a mark that is none counts as none."""
        try:
            result = (
                msgspec.json.decode(progress, type=ResyncProgress) if isinstance(progress, str) else progress
            )
        except (msgspec.DecodeError, msgspec.ValidationError):
            return
        for name in ResyncProgress.__struct_fields__:
            setattr(self, name, getattr(result, name))

    @property
    def share(self) -> float | None:
        """How much of it is done, from 0 to 1; None where that is not known."""
        if self.state is ResyncState.DONE:
            return 1.0
        done = self.position if self.request.ids else self.read
        return min(1.0, done / self.total) if self.total else None


class Resyncs:
    """The resyncs of one account."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis, self._keys = redis, keys
        self._note = function(redis, "worker.capture", "resync")

    async def create(self, request: ResyncRequest, now: float, name: str | None = None) -> Resync:
        """Note a resync; a worker of the account begins with it within a second or two.

        `name`: its id, so that asking twice under the same is asking once.

        Raises:
            SettingsError: What is asked for makes no sense.

        """
        request.check()
        resync = Resync(id=name or secrets.token_hex(4), request=request, at=now, total=len(request.ids))
        if await self.get(resync.id) is not None:
            return await self._known(resync.id)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(self._keys.resync(resync.id), mapping={**_fields(resync), "resource": request.resource})
            pipe.zadd(self._keys.resyncs, {resync.id: now})
            pipe.sadd(self._keys.open_resyncs, resync.id)
            await pipe.execute()
        await tell_change(self._redis, self._keys)
        await self._forget_old()
        return resync

    async def get(self, name: str) -> Resync | None:
        """One of them; None if there is none of that id."""
        fields = await answer(self._redis.hgetall(self._keys.resync(name)))
        return _parse(name, fields) if fields else None

    async def _known(self, name: str) -> Resync:
        result = await self.get(name)
        if result is None:
            raise SettingsError(f"Unknown resync {name!r}. To list the resyncs: ordersync resyncs.")
        return result

    async def all(self) -> list[Resync]:
        """Those that are remembered, the latest first."""
        names = [text_of(item) for item in await answer(self._redis.zrevrange(self._keys.resyncs, 0, -1))]
        result = [await self.get(name) for name in names]
        return [each for each in result if each is not None]

    async def open(self) -> list[Resync]:
        """Those that are not over."""
        names = sorted(text_of(each) for each in await answer(self._redis.smembers(self._keys.open_resyncs)))
        result = [await self.get(name) for name in names]
        return [item for item in result if item is not None and item.state not in OVER]

    async def due(self, now: float) -> list[tuple[str, str, float]]:
        """Id and resource of those that are not over, and the seconds until each is due; 0 or less for now.

        A time that is further ahead than a resync ever waits is due: the clock was put back since it was written.
        """
        names = sorted(text_of(item) for item in await answer(self._redis.smembers(self._keys.open_resyncs)))
        result = []
        for name in names:
            state, resource, due_at = await answer(
                self._redis.hmget(self._keys.resync(name), ["state", "resource", "due_at"])
            )
            if state is None or text_of(state) in OVER:
                await answer(self._redis.srem(self._keys.open_resyncs, name))  # its worker died just then
            elif resource:
                wait = number_of(due_at) - now
                result.append((name, text_of(resource), wait if wait <= MAX_WAIT_SECONDS else 0.0))
        return result

    async def is_over(self, name: str, *, resumable: bool = True) -> bool:
        """Whether it is, or nobody remembers it; without `resumable` ones, those that were cancelled are not."""
        result = self._redis.hget(self._keys.resync(name), "state")
        state: bytes | None = await answer(cast("Any", result))
        over = OVER if resumable else {ResyncState.DONE}
        return state is None or text_of(state) in over

    async def update(self, name: str, **fields: Any) -> bool:
        """Write fields of it, as its worker. False, and nothing is written, if it is over."""
        flat = [text for key, value in fields.items() for text in (key, _text(value))]
        return bool(await self._note(keys=[self._keys.resync(name)], args=flat))

    async def end(self, name: str, state: ResyncState, now: float) -> bool:
        """It is over, if it was not before."""
        ended = await self.update(name, state=state.value, ended_at=now, error="")
        await answer(self._redis.srem(self._keys.open_resyncs, name))
        return ended

    async def cancel(self, name: str, now: float) -> Resync:
        """End it behind what it has in hand. What it has published stays so.

        Raises:
            SettingsError: There is none, or it is over.

        """
        resync = await self._known(name)
        if resync.state in OVER:
            raise SettingsError(f"Resync {name} is already {resync.state.value}.")
        await self._set(name, state=ResyncState.CANCELLED.value, ended_at=now, error="")
        await answer(self._redis.srem(self._keys.open_resyncs, name))
        return await self._known(name)

    async def resume(self, name: str) -> Resync:
        """Go on with one that was cancelled, where it stopped.

        Raises:
            SettingsError: There is none, or it was not cancelled.

        """
        resync = await self._known(name)
        if resync.state is not ResyncState.CANCELLED:
            raise SettingsError(
                f"Resync {name} is {resync.state.value}; only a cancelled resync can be resumed."
            )
        await self._set(name, state=ResyncState.WAITING.value, ended_at=0.0, due_at=0.0)
        await answer(self._redis.sadd(self._keys.open_resyncs, name))
        await tell_change(self._redis, self._keys)
        return await self._known(name)

    async def _set(self, name: str, **fields: Any) -> None:
        mapping = {key: _text(value) for key, value in fields.items()}
        await answer(self._redis.hset(self._keys.resync(name), mapping=mapping))

    async def _forget_old(self) -> None:
        for name in await answer(self._redis.zrange(self._keys.resyncs, 0, -KEPT - 1)):
            if not await answer(self._redis.sismember(self._keys.open_resyncs, name)):
                await answer(self._redis.zrem(self._keys.resyncs, name))
                text = text_of(name)
                await self._redis.unlink(self._keys.resync(text), self._keys.resync_shown(text))


def _fields(resync: Resync) -> dict[str, str]:
    return {name: _text(getattr(resync, name)) for name in Resync.__struct_fields__ if name != "id"}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _parse(name: str, fields: dict[bytes, bytes]) -> Resync | None:
    known = {text_of(key): text_of(value) for key, value in fields.items()}
    try:
        decoded = {
            key: text if key in {"error", "state", "resource", "after"} else msgspec.json.decode(text)
            for key, text in known.items()
        }
        return msgspec.convert({**decoded, "id": name}, Resync)
    except UNREADABLE:
        return None  # of another version or hand
