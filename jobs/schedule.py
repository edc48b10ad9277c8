"""The schedule: which job is due when, in a sorted set of Redis for each lane.

What is due costs something, what exists does not: a worker looks at the jobs with the lowest due times, and at nothing
else. A job stays in the schedule for good. A worker claims it, renews the claim while it runs, and gives it its next
due time when it has ended; the claim of a worker that has died expires. So no job can be lost on its way through a
queue, and none can expire in it.

Due times are in seconds since 1970 by the clock of Redis, which is the same for all workers.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from worker.cancellation import finish
from worker.capture.lanes import Lane, Times
from worker.redis import scripts
from worker.redis.connections import answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from redis.asyncio import Redis

    from worker.keys import KeySpace

CLAIM_SECONDS = 8.0
"""Seconds after which the claim of a worker that has died expires."""
RENEW_SECONDS = 2.0
"""Seconds between two renewals of a claim: three may fail before it expires."""
SETTLE_SECONDS = 0.25
"""For so long a job that has ended waits for others, to be settled together with them."""
MAX_LOOKED_AT = 200
"""Jobs of a lane that one call looks at, at most: so many accounts get their turn in it."""
CLAIMED = 1e11
"""Added to the time until which a job is claimed; see lua/claim.lua and lua/claims.lua."""


def poll_id(account: str, resource: str) -> str:
    """Return the id of the polls of a resource, in whatever lane."""
    return f"poll:{account}:{resource}"


def reconcile_id(account: str) -> str:
    """Return the id of the reconciliation of an account."""
    return f"reconcile:{account}"


def retain_id(account: str) -> str:
    """Return the id of the retention passes of an account."""
    return f"retain:{account}"


def resync_id(account: str, resource: str, name: str) -> str:
    """Return the id of the slices of a resync."""
    return f"resync:{account}:{resource}:{name}"


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job that this worker has claimed, and since when it was due (seconds since 1970).

    The time of a first scan that never began is negative, as in the schedule.
    """

    lane: Lane
    job: bytes
    due_at: float


@dataclass(frozen=True, slots=True)
class Room:
    """The free places of a lane, and how many jobs of each account run in it."""

    free: int
    running: Mapping[str, int]


@dataclass(slots=True, eq=False)
class _Ended:
    """A job that has ended, its next due times, and what was found when it was settled."""

    lane: Lane
    job: str
    times: Times
    is_settled: anyio.Event = field(default_factory=anyio.Event)
    is_asked_for: bool = False
    error: Exception | None = None


class Schedule:
    """The schedule that all workers share. `redis`: the server of the queue.

    Attributes:
        due: When more is due in each lane, as far as this worker knows; 0: it has to look; negative: a first scan that
            never began waits for a place.
        on_end: Called when a job has ended and waits for others to be settled.
    """

    on_end: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, redis: Redis, space: KeySpace) -> None:
        self._redis = redis
        self.keys = {lane: space.lane(lane.value) for lane in Lane}
        self._planned = space.planned
        self._claim = scripts.load(redis, "jobs", "claim")
        self._place = scripts.load(redis, "jobs", "place", begin=("claims",))
        self._renew = scripts.load(redis, "jobs", "renew", begin=("claims",))
        self._settle = scripts.load(redis, "jobs", "settle", begin=("claims",))
        self.due: dict[Lane, float] = dict.fromkeys(Lane, 0.0)
        self._moved = 0.0
        self._turns = Counter[Lane]()
        self._ended: list[_Ended] = []

    @property
    def ended(self) -> Counter[Lane]:
        """How many jobs of each lane have ended and wait to be settled: their places are free."""
        return Counter(each.lane for each in self._ended)

    async def claim(self, now: float, rooms: Mapping[Lane, Room], *, expired: bool) -> list[Claimed]:
        """Claim what is due at `now`; return it, and note when more is due in each lane.

        `expired`: claim also the jobs of workers that have died.
        """
        lanes = list(rooms)
        args: list[str | float] = [f"{now:.3f}", CLAIM_SECONDS, MAX_LOOKED_AT, "1" if expired else ""]
        for lane, room in rooms.items():
            args += [
                room.free,
                self._turns[lane],
                " ".join(f"{name}={n}" for name, n in room.running.items()),
            ]
        self.due |= dict.fromkeys(lanes, float("inf"))  # what is put in meanwhile is noted as well
        found = await finish(self._claim(keys=[self.keys[lane] for lane in lanes], args=args))
        claimed = list[Claimed]()
        for lane, (then, *jobs) in zip(lanes, found, strict=True):
            self._note(lane, float(then))
            self._turns[lane] += len(jobs) // 2
            claimed += [Claimed(lane, job, float(at)) for job, at in zip(jobs[::2], jobs[1::2], strict=True)]
        return claimed

    def _note(self, lane: Lane, at: float) -> None:
        self.due[lane] = min(self.due[lane], at)

    def look_again(self) -> None:
        """Have the next claim look at all lanes: another worker may have put something into any of them."""
        self.due = dict.fromkeys(Lane, 0.0)

    async def is_planned(self) -> bool:
        """Return whether all accounts are in it, and note if another worker has put something into a lane.

        If Redis has lost the schedule, a job that ends puts itself back alone.
        """
        marks = dict(await answer(self._redis.zrange(self._planned, 0, -1, withscores=True)))
        if (moved := marks.get(b"moved", 0.0)) != self._moved:
            self._moved = moved
            self.look_again()
        return b"all" in marks

    async def note_planned(self, now: float) -> None:
        """Note that all accounts are about to be put into it."""
        await finish(answer(self._redis.zadd(self._planned, {"all": now})))

    async def oldest_due(self, now: float) -> dict[Lane, float]:
        """Return for each lane the seconds since the job is due that waits for a place the longest; 0 for none."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for key in self.keys.values():
                pipe.zrangebyscore(key, 0, now, start=0, num=1, withscores=True)
            pipe.zrevrangebyscore(self.keys[Lane.SCANS], "(0", "-inf", start=0, num=1, withscores=True)
            *found, never_begun = await pipe.execute()
        ages = {
            lane: now - first[0][1] if first else 0.0 for lane, first in zip(self.keys, found, strict=True)
        }
        if never_begun:
            ages[Lane.SCANS] = max(ages[Lane.SCANS], now + never_begun[0][1])
        return ages

    async def renew(self, now: float, jobs: Sequence[Claimed]) -> None:
        """Extend the claims of jobs that run; one that has ended meanwhile is left alone."""
        if not jobs:
            return
        lanes = list(self.keys)
        args: list[str | int | bytes] = [f"{CLAIMED + now + CLAIM_SECONDS:.3f}"]
        for each in jobs:
            args += [lanes.index(each.lane) + 1, each.job]
        await finish(self._renew(keys=list(self.keys.values()), args=args))

    async def settle(self, lane: Lane, job: str, times: Times, *, patient: bool = False) -> bool:
        """Give a job of a lane that has ended its next due times; without one it is removed from its lane.

        In another lane it is only brought forward: it may run there. Return whether somebody wanted to bring it
        forward in its lane while it was claimed.

        `patient`: wait a little for others, so that one command settles several. The place of the job is free
        meanwhile, and its claim expires if the worker dies.
        """
        ended = _Ended(lane, job, times)
        self._ended.append(ended)
        if patient:
            self.on_end()
            with anyio.move_on_after(SETTLE_SECONDS):
                await ended.is_settled.wait()
        if ended in self._ended:
            jobs, self._ended = self._ended, []
            await finish(self._settle_all(jobs))
        await ended.is_settled.wait()
        if ended.error is not None:
            raise ended.error
        return ended.is_asked_for

    async def _settle_all(self, jobs: Sequence[_Ended]) -> None:
        """Settle jobs that have ended, and tell those who wait for that."""
        own, others = list[int | str](), list[int | str]()
        for each in jobs:
            at = each.times.get(each.lane)
            # To the microsecond: a poll that runs a little too early finds that its list is not due.
            own += (self._number(each.lane), each.job, "" if at is None else repr(at))
            for lane, then in each.times.items():
                if lane is not each.lane and then is not None:
                    others += (self._number(lane), each.job, f"{then:.3f}")
        try:
            keys = [*self.keys.values(), self._planned]
            moved, *asked = await self._settle(keys=keys, args=[len(jobs), *own, *others])
        except Exception as error:  # noqa: BLE001 - each job that waits gets the error, and raises it
            for each in jobs:
                each.error = error
        else:
            self._note_moved(moved)
            for each, is_asked_for in zip(jobs, asked, strict=True):
                each.is_asked_for = bool(is_asked_for)
                self._note_all(each.times)
        for each in jobs:
            each.is_settled.set()

    def _number(self, lane: Lane) -> int:
        """Return the number of a lane in the keys of a script."""
        return list(self.keys).index(lane) + 1

    def _note_moved(self, moved: bytes) -> None:
        """Note that this worker has moved something in the schedule, unless others have as well."""
        if float(moved or 0) == self._moved + 1:
            self._moved += 1

    def _note_all(self, times: Times) -> None:
        for lane, at in times.items():
            if at is not None:
                self._note(lane, at)

    async def place(self, jobs: Sequence[tuple[str, Times]]) -> None:
        """Put jobs into the schedule, or bring them forward; see lua/place.lua. A claimed job is left alone."""
        flat = [
            part
            for job, times in jobs
            for lane, at in times.items()
            for part in (self._number(lane), job, "" if at is None else f"{at:.3f}")
        ]
        for start in range(0, len(flat), 3000):  # Lua's stack ends at 8000
            keys = [*self.keys.values(), self._planned]
            self._note_moved(await finish(self._place(keys=keys, args=flat[start : start + 3000])))
        for _, times in jobs:
            self._note_all(times)

    async def remove(self, lane: Lane, job: bytes | str) -> None:
        """Remove a job that nobody is to do."""
        await answer(self._redis.zrem(self.keys[lane], job))
