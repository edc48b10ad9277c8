"""The arq workers of a daemon: one for the schedule, and one for the requests of other programs."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from arq.worker import func

from jobs.arq_worker import IN_PROGRESS_SECONDS, SupervisedWorker, deserialize, make_queue, serialize
from jobs.lane_worker import LaneWorker
from jobs.poll import poll
from jobs.reconcile import reconcile
from jobs.resync import resync, resync_slice
from jobs.retain import FullRedisHandler, retain
from worker.cancellation import plain_errors
from worker.capture.lanes import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from arq.worker import Function

    from worker.services import Services

W = TypeVar("W", bound="SupervisedWorker")

JOB_TIMEOUT = 300
"""Seconds. A last resort: every call inside has timeouts of its own, and a slice is much shorter."""


class Workers:
    """Several workers that start and end together; the daemon supervises them as one."""

    def __init__(self, lanes: LaneWorker, *workers: SupervisedWorker) -> None:
        self.lanes, self.workers = lanes, (lanes, *workers)
        self.beat: Callable[[], None] = lambda: None
        self._turned = set[int]()
        for at, worker in enumerate(self.workers):
            worker.beat = partial(self._turn, at)

    def _turn(self, at: int) -> None:
        """Report a heartbeat once every worker has completed a turn."""
        self._turned.add(at)
        if len(self._turned) == len(self.workers):
            self._turned.clear()
            self.beat()

    @property
    def tasks(self) -> dict[str, asyncio.Task[Any]]:
        """The running jobs by id."""
        return {name: task for worker in self.workers for name, task in worker.tasks.items()}

    @property
    def under_way(self) -> dict[str, float]:
        """When each running job began, by the monotonic clock."""
        return {name: began for worker in self.workers for name, began in worker.under_way.items()}

    @property
    def places(self) -> Mapping[Lane, int]:
        """How many jobs of each lane run at the same time, at most."""
        return self.lanes.places

    @property
    def running(self) -> Mapping[Lane, int]:
        """How many jobs of each lane run."""
        return self.lanes.running

    @property
    def allow_pick_jobs(self) -> bool:
        """True if new jobs are started."""
        return all(worker.allow_pick_jobs for worker in self.workers)

    @allow_pick_jobs.setter
    def allow_pick_jobs(self, allowed: bool) -> None:
        for worker in self.workers:
            worker.allow_pick_jobs = allowed

    async def async_run(self) -> None:
        """Run until one worker fails, or until cancelled."""
        with plain_errors():
            async with anyio.create_task_group() as group:
                for worker in self.workers:
                    group.start_soon(worker.async_run)

    async def close(self) -> None:
        """Cancel the jobs and close the connections of every worker, even if closing one of them fails."""
        results = await asyncio.gather(*(worker.close() for worker in self.workers), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result


def make_worker(queue_url: str, services: Services, worker_id: str) -> Workers:
    """Return a worker for the schedule, and one for requests of resyncs, each with its own connections."""
    return Workers(
        make_lane_worker(queue_url, services, worker_id), make_resync_worker(queue_url, services, worker_id)
    )


def make_lane_worker(queue_url: str, services: Services, worker_id: str) -> LaneWorker:
    """Return the worker that runs what is due: polls, scans, resyncs, reconciliation and retention."""
    return _make(
        LaneWorker,
        queue_url,
        services,
        worker_id,
        queue=services.keys.lane(Lane.POLLS),
        functions=[
            func(poll, name="poll", keep_result=0, timeout=JOB_TIMEOUT),
            func(reconcile, name="reconcile", keep_result=0, timeout=JOB_TIMEOUT),
            func(retain, name="retain", keep_result=0, timeout=JOB_TIMEOUT),
            func(resync_slice, name="resync", keep_result=0, timeout=JOB_TIMEOUT),
        ],
    )


def make_resync_worker(queue_url: str, services: Services, worker_id: str) -> SupervisedWorker:
    """Return the worker that takes requests of resyncs. A second until it takes one is fine."""
    return _make(
        SupervisedWorker,
        queue_url,
        services,
        worker_id,
        queue=services.keys.resync_queue,
        functions=[func(resync, name="resync", keep_result=0, max_tries=100_000, timeout=60)],
    )


def _make(
    kind: type[W],
    queue_url: str,
    services: Services,
    worker_id: str,
    *,
    queue: str,
    functions: list[Function],
) -> W:
    worker = kind(
        functions=functions,
        queue_name=queue,
        redis_pool=make_queue(queue_url, queue),
        handle_signals=False,
        job_serializer=serialize,
        job_deserializer=deserialize,
        keep_result=0,
        poll_delay=1.0,
        max_jobs=20,
        health_check_interval=10,
        health_check_key=f"{queue}:health:{worker_id}",
        ctx={"services": services},
        log_results=False,
    )
    worker.relief = FullRedisHandler(services)
    worker.in_progress_timeout_s = IN_PROGRESS_SECONDS
    return worker
