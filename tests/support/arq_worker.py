"""The worker of the schedule for the account `default`, and the schedule as a test looks at it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from jobs.arq_worker import make_queue
from jobs.lane_worker import LaneWorker
from jobs.planner import Planner
from jobs.schedule import Schedule, poll_id
from jobs.tick import Tick
from jobs.worker import make_lane_worker
from tests.support.worker import Bench
from worker.cancellation import end
from worker.capture.lanes import Lane
from worker.capture.state.run import Run
from worker.keys import KeySpace
from worker.services import Services

LANES = {lane: KeySpace().lane(lane) for lane in Lane}
POLLS, SCANS = LANES[Lane.POLLS], LANES[Lane.SCANS]
ORDERS_JOB = poll_id("default", "orders")


class Planned:
    """The schedule of some services."""

    def __init__(self, services: Services, schedule: Schedule) -> None:
        self.services, self.schedule = services, schedule
        self.planner = Planner(services, schedule)
        self.tick = Tick(services, self.planner)

    async def due(self) -> list[str]:
        """Plan all accounts; return the jobs that are due, each with its lane: `LANE/JOB`."""
        await self.planner.plan(self.services.configured)
        return await self.listed()

    async def listed(self) -> list[str]:
        """Return the jobs that are due."""
        client, now = self.schedule._redis, self.services.clock.now() + 0.01  # due times are in milliseconds
        found = {
            lane: await client.zrangebyscore(key, "-inf", now) for lane, key in self.schedule.keys.items()
        }
        return sorted(f"{lane}/{job.decode()}" for lane, jobs in found.items() for job in jobs)


@asynccontextmanager
async def planned(services: Services, url: str) -> AsyncIterator[Planned]:
    """The schedule while the block runs."""
    queue = make_queue(url, POLLS)
    try:
        yield Planned(services, Schedule(queue, services.keys))
    finally:
        await queue.aclose(close_connection_pool=True)


@asynccontextmanager
async def working(bench: Bench, url: str, worker_id: str = "test-1") -> AsyncIterator[LaneWorker]:
    """A worker at work while the block runs."""
    worker = make_lane_worker(url, bench.services, worker_id)
    task = asyncio.ensure_future(worker.async_run())
    try:
        yield worker
        assert not task.done(), "the worker has ended"
    finally:
        await end_worker(worker, task)


async def set_cursor(bench: Bench, **fields: float) -> None:
    await bench.redis.hset(bench.account.keys.cursor("orders"), mapping=fields)


class Polls:
    """Stands in for the poller where a test asks when it is called, not what it does."""

    def __init__(self, seconds: float = 0.0, bench: Bench | None = None) -> None:
        self.at: list[float] = []
        self.under_way = self.most_under_way = 0
        self._seconds, self._bench = seconds, bench

    async def poll(self, *_: Any, **__: Any) -> Run:
        """Takes its time and does nothing, but that it is not due for a while where it knows the cursor."""
        self.at.append(time.time())
        if self._bench:
            # a pause, longer than the interval
            await set_cursor(self._bench, due_at=time.time() + 600, failures=1, baseline=1)
        self.under_way += 1
        self.most_under_way = max(self.under_way, self.most_under_way)
        try:
            await asyncio.sleep(self._seconds)
        finally:
            self.under_way -= 1
        return Run("run", "default", "orders", "sweep", "poll", 0.0, 0.0)


def with_polls(bench: Bench, polls: Polls) -> None:
    bench.services.accounts = {"default": replace(bench.account, poller=polls)}  # type: ignore[arg-type] # duck-typed


async def end_worker(worker: Any, running: asyncio.Future[None]) -> None:
    """As the daemon ends it."""
    await end(running)
    with contextlib.suppress(asyncio.CancelledError):
        await worker.close()
