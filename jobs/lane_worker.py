"""The arq worker of the schedule: it claims what is due, as many jobs of each lane as there are places, and runs it.

arq's own loop looks at its queue ten times a second and asks Redis four commands for each job that is queued or runs;
the body, the tries and the result of a job are keys of their own, and a job that waits too long expires. Here the queue
is the schedule (jobs/schedule.py): a job is its id, and it takes a claim and its next due time, which it shares with
the others that are due, or have ended, within a quarter of a second.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio
import redis.exceptions

from jobs.arq_worker import SupervisedWorker
from jobs.away import AwayAccounts
from jobs.planner import HELD_SECONDS, Planner
from jobs.schedule import RENEW_SECONDS, Claimed, Room, Schedule
from jobs.tick import TICK_SECONDS, Tick
from ordersync_consumer.redaction import words_of
from ordersync_consumer.servers.topology import SlotUnavailable
from worker.backoff import Backoff
from worker.capture.lanes import Lane, Times
from worker.capture.registry import CAPTURED, RESOURCES
from worker.redis.refusals import is_full, is_wrong_value
from worker.redis.stored import text_of
from worker.service.presence import Presence
from worker.services import NotServed, services_of
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.services import Services

RETENTION_PLACES = 2
BACKOFF = Backoff(first=1.0, most=60.0)
"""Until a job is tried again that has failed beyond what it records itself."""
AWAY_SECONDS = 10.0
"""Until a job is looked at again whose account waits for its node, unless that answers sooner."""
ELSEWHERE_SECONDS = 2.0
"""Until a job is looked at again whose account or resource this worker does not poll: another one may."""
ORPHANED_TRIES = 30
"""Tries, a minute in all, after which a worker looks whether any other polls the account and resource of a job."""
CLAIMED_AHEAD = 0.25
"""Seconds before its time that a job is claimed, if others are due: one claim for several. It runs at its time."""
RELEASE_SECONDS = 1.0
LOOK_EVERY = 3
"""Ticks of which one looks at all lanes and for claims that have expired; the others go by what is known to be due."""
YIELD_SECONDS = 1.0
"""A scan that has run for so long gives up its place after a page if a first scan waits that never began."""
YIELDING = 4
"""Of so many places one is asked for at a time."""
_KINDS: Mapping[str, int] = {"poll": 2, "reconcile": 1, "retain": 1, "resync": 3}
"""The functions, and how many arguments the id of a job gives each."""


class LaneWorker(SupervisedWorker):
    """Runs the jobs of the schedule. It reports a heartbeat with each turn of its loop."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        services = services_of(self.ctx)
        self._schedule = Schedule(self.pool, services.keys)
        self._schedule.on_end = self._wake
        self._planner = self.ctx["planner"] = Planner(services, self._schedule)
        self._tick = Tick(services, self._planner)
        self._away = AwayAccounts(services, self._planner)
        places = services.places.model_dump() | {Lane.RETENTION.value: RETENTION_PLACES}
        self.places: dict[Lane, int] = {lane: places[lane.value] for lane in Lane}
        """How many jobs of each lane run at the same time, at most."""
        self._running: dict[str, Claimed] = {}
        self._yielding = set[str]()
        self._unchecked = set[Lane]()
        """Lanes that wait for a free place to be looked at for claims that have expired."""
        self._failures, self._elsewhere = Counter[bytes](), Counter[bytes]()
        self._awake = anyio.Event()
        self._tick_at = self._renew_at = -float("inf")
        self._ticks = -1

    @property
    def running(self) -> Mapping[Lane, int]:
        """How many jobs of each lane run."""
        counts, ended = Counter(each.lane for each in self._running.values()), self._schedule.ended
        return {lane: counts[lane] - ended[lane] for lane in Lane}

    async def main(self) -> None:
        """Run until cancelled.

        Raises:
            RedisError, OSError: Redis does not answer; the daemon starts the workers again.

        """
        self.ctx["redis"] = self.pool
        while True:
            wait = await self._turn()
            with anyio.move_on_after(wait):
                await self._awake.wait()
            self._awake = anyio.Event()

    async def _turn(self) -> float:
        """Look once; return the seconds until the next look, at most a tick."""
        services, now = services_of(self.ctx), time.monotonic()
        ticks = now >= self._tick_at
        try:
            if ticks:
                self._tick_at, self._ticks = now + TICK_SECONDS, self._ticks + 1
                await self._look()
            if self.allow_pick_jobs and not services.stopping():
                await self._start(ticks=ticks)
        except redis.exceptions.ResponseError as error:
            if not is_full(error):
                raise
            # There is no room for a claim. What is claimed stays so, and its claim expires.
            await self.relief.refused()
        for name, task in list(self.tasks.items()):
            if task.done():
                del self.tasks[name]
                task.result()  # what a job could not record ends the worker
        free = self._free()
        due = [self._schedule.due[lane] for lane in Lane if free[lane]]
        soonest = min(due, default=float("inf")) - services.clock.now()
        return max(0.0, min(self._tick_at - time.monotonic(), soonest))

    async def _look(self) -> None:
        """Do what is to be done once a second."""
        services = services_of(self.ctx)
        await self.heart_beat()
        retains = any(each.lane is Lane.RETENTION for each in self._running.values())
        if not services.stopping():
            await self._tick.run(lost=self._schedule.due[Lane.RETENTION] == float("inf") and not retains)
        if time.monotonic() >= self._renew_at:
            self._renew_at = time.monotonic() + RENEW_SECONDS
            await self._schedule.renew(services.clock.now(), list(self._running.values()))
        if self._ticks % LOOK_EVERY == 0:
            self._schedule.look_again()

    def _free(self) -> dict[Lane, int]:
        running = self.running
        return {lane: self.places[lane] - running[lane] for lane in Lane}

    async def _start(self, *, ticks: bool) -> None:
        """Claim and start what is due in the lanes that have a free place. `ticks`: a second has passed."""
        now = services_of(self.ctx).clock.now()
        rooms = {}
        for lane, free in self._free().items():
            asks = ticks and lane is Lane.SCANS and self.places[lane]  # whether first scans wait
            if self._schedule.due[lane] <= now and (free or asks):
                jobs = [each.job.split(b":")[1] for each in self._running.values() if each.lane is lane]
                rooms[lane] = Room(free, Counter(text_of(account) for account in jobs))
        if not rooms:
            return
        if ticks and self._ticks % LOOK_EVERY == 0:
            self._unchecked = set(Lane)
        expired = not self._unchecked.isdisjoint(lane for lane, room in rooms.items() if room.free)
        self._unchecked.difference_update(lane for lane, room in rooms.items() if room.free)
        for each in await self._schedule.claim(now + CLAIMED_AHEAD, rooms, expired=expired):
            await self._begin(each)
        if ticks and self._schedule.due[Lane.SCANS] < 0 and not self._free()[Lane.SCANS]:
            self._ask_for_places()

    def _ask_for_places(self) -> None:
        """Ask the scans that have run the longest to give up their places: first scans wait that never began."""
        before = time.monotonic() - YIELD_SECONDS
        scans = [name for name, each in self._running.items() if each.lane is Lane.SCANS]
        asked = [name for name in scans if name not in self._yielding and self.under_way[name] <= before]
        asked.sort(key=self.under_way.__getitem__)
        self._yielding.update(asked[: max(1, self.places[Lane.SCANS] // YIELDING)])

    async def _begin(self, claimed: Claimed) -> None:
        """Start a job that was claimed, or settle what becomes of it instead."""
        services, job = services_of(self.ctx), text_of(claimed.job)
        kind, *arguments = job.split(":", 3)
        if job.encode() != claimed.job or _KINDS.get(kind) != len(arguments):
            await self._remove(claimed, "this program gives no such id")
        elif not await self._serves(arguments[0]) or not _is_wanted(services, kind, arguments):
            await self._hand_back(claimed, *arguments[:2])
        elif arguments[0] in services.away:
            await self._put_off(claimed, AWAY_SECONDS)
        elif any(other.job == claimed.job for other in self._running.values()):
            await self._put_off(claimed, HELD_SECONDS)
        else:
            name = f"{claimed.lane}/{job}"
            self._running[name] = claimed
            self.under_way[name] = time.monotonic()
            self.tasks[name] = asyncio.ensure_future(self._run(name, claimed, kind, arguments))

    async def _put_off(self, claimed: Claimed, seconds: float) -> None:
        at = services_of(self.ctx).clock.now() + seconds
        await self._schedule.settle(claimed.lane, text_of(claimed.job), {claimed.lane: at})

    async def _remove(self, claimed: Claimed, reason: str) -> None:
        await self._schedule.remove(claimed.lane, claimed.job)
        get_logger().error(
            "job_dropped", job=text_of(claimed.job), error=reason,
            advice=f"Another program has written into the schedule {self._schedule.keys[claimed.lane]}. Find out "
            "which: only workers may do so.",
        )  # fmt: skip

    async def _serves(self, account: str) -> bool:
        """Return whether this worker serves an account, which may have been added a moment ago."""
        services = services_of(self.ctx)
        if account not in services.configured:
            await services.look_for_accounts()
        return account in services.configured

    async def _hand_back(self, claimed: Claimed, account: str, resource: str = "") -> None:
        """Leave a job to a worker that polls its account and resource; drop it if there is none."""
        self._elsewhere[claimed.job] += 1
        if self._elsewhere[claimed.job] == ORPHANED_TRIES:
            del self._elsewhere[claimed.job]
            if not await self._is_polled_elsewhere(account, resource):
                self._say_dropped(account, resource)
                await self._schedule.remove(claimed.lane, claimed.job)
                return
        await self._put_off(claimed, ELSEWHERE_SECONDS)

    async def _is_polled_elsewhere(self, account: str, resource: str) -> bool:
        """Return whether a live worker polls an account, and the resource unless that is ""."""
        services = services_of(self.ctx)
        try:
            workers = await Presence(services.redis, services.keys.of(account)).alive()
        except SlotUnavailable:
            return True  # the node does not answer, so another worker may poll it
        except redis.exceptions.ResponseError as error:
            if not is_wrong_value(error):
                raise
            return False
        return any(beat.polled and (not resource or resource in beat.polled) for beat in workers)

    def _say_dropped(self, account: str, resource: str) -> None:
        withdrawn = services_of(self.ctx).withdrawn
        if (account, resource) not in withdrawn:
            withdrawn.add((account, resource))
            get_logger(account=account).info("poll_dropped", resource=resource or "*")

    async def _run(self, name: str, claimed: Claimed, kind: str, arguments: list[str]) -> None:
        """Run a job. What it raises is logged, and it is tried again later."""
        function, job = self.functions[kind], text_of(claimed.job)
        ctx = {
            **self.ctx, "job_id": job, "lane": claimed.lane.value, "yields": lambda: name in self._yielding,
        }  # fmt: skip
        try:
            early = claimed.due_at - services_of(self.ctx).clock.now()
            if 0 < early <= CLAIMED_AHEAD:
                await anyio.sleep(early + 0.001)  # due times of the schedule are in milliseconds
            await asyncio.wait_for(function.coroutine(ctx, *arguments), function.timeout_s)
        except asyncio.CancelledError:  # the worker ends, and waits for this
            await self._release(claimed, job)
        except NotServed:  # the account was removed since the job was claimed
            await self._hand_back(claimed, *arguments[:2])
        except Exception as error:  # noqa: BLE001 - one job must not end the others
            await self._failed(claimed, job, error)
        else:
            self.jobs_complete += 1
            self._failures.pop(claimed.job, None)
        finally:
            del self._running[name]
            self._yielding.discard(name)
            self.under_way.pop(name, None)
            self._wake()

    def _wake(self) -> None:
        """Look for what is due: a place has become free."""
        self._awake.set()

    async def _failed(self, claimed: Claimed, job: str, error: Exception) -> None:
        if isinstance(error, redis.exceptions.ResponseError) and is_full(error):
            await self.relief.refused()
            return
        if isinstance(error, SlotUnavailable):  # one of the queue there is not: that is on no cluster
            await self._away.note(error)
            await self._put_off(claimed, HELD_SECONDS)
            return
        if isinstance(
            error, redis.exceptions.ConnectionError | redis.exceptions.TimeoutError | OSError
        ) and not (isinstance(error, TimeoutError)):
            raise error
        self.jobs_failed += 1
        self._failures[claimed.job] += 1
        get_logger().exception(
            "job_failed", job=job, error=words_of(error),
            advice="This is a defect of ordersync. Report it with this traceback.",
        )  # fmt: skip
        await self._put_off(claimed, BACKOFF.ceiling(self._failures[claimed.job]))

    async def close(self) -> None:
        """End the jobs and close the connections."""
        await self._away.close()
        await super().close()

    async def _release(self, claimed: Claimed, job: str) -> None:
        """Make a job due again that is cut short, so that another worker need not wait until the claim expires."""
        times: Times = {claimed.lane: claimed.due_at}
        with anyio.move_on_after(RELEASE_SECONDS, shield=True):
            try:
                await self._schedule.settle(claimed.lane, job, times)
            except (redis.exceptions.RedisError, OSError) as error:
                get_logger().debug("job_not_released", job=job, error=str(error))


def _is_wanted(services: Services, kind: str, arguments: list[str]) -> bool:
    """Return whether a job of an account that is served is to be done by this worker."""
    if kind == "poll":
        return arguments[1] in CAPTURED and arguments[1] in services.configured[arguments[0]].intervals
    return kind != "resync" or arguments[1] in RESOURCES
