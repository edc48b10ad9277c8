"""The arq workers: functions, schedule, serializer, and options that work round known problems of arq."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import msgspec
from arq.connections import ArqRedis
from arq.constants import in_progress_key_prefix, retry_key_prefix
from arq.utils import poll as turns
from arq.worker import Worker, func
from redis.exceptions import ResponseError

from jobs.poll import poll
from jobs.queue import IN_PROGRESS_SECONDS, time_of
from jobs.reconcile import reconcile
from jobs.resync import resync, resync_slice
from jobs.retain import FullRedisHandler, retain
from jobs.tick import keep_ticking
from worker.cancellation import AGAIN_SECONDS, end, plain_errors
from worker.redis.connections import pool
from worker.redis.refusals import is_full

if TYPE_CHECKING:
    from collections.abc import Callable

    from arq.worker import Function

    from worker.services import Services

W = TypeVar("W", bound="SupervisedWorker")

POLL_TIMEOUT = 300
"""Seconds. A last resort: every call inside has timeouts of its own, and a slice is much shorter."""


def serialize(job: dict[str, Any]) -> bytes:
    """Return a job as JSON. With pickle, anyone who can write to Redis could run code here."""
    return msgspec.json.encode(job, enc_hook=repr)


class _Job(msgspec.Struct):
    """The fields of a job that arq reads. A field of another type would end arq's loop, again after each restart."""

    f: str
    a: list[Any]
    k: dict[str, Any]
    t: int | None
    et: int


def deserialize(body: bytes) -> dict[str, Any]:
    """Return the fields of a serialized job."""
    return msgspec.structs.asdict(msgspec.json.decode(body, type=_Job))


class _Queue(ArqRedis):
    """A client whose `close`, which arq calls, does not use the name that redis-py has deprecated."""

    async def close(self, close_connection_pool: bool | None = None) -> None:
        await self.aclose(close_connection_pool)


def make_queue(url: str, name: str) -> ArqRedis:
    """Return a client that enqueues jobs, with the timeouts and retries that arq's own pool lacks."""
    return _Queue(pool(url), job_serializer=serialize, job_deserializer=deserialize, default_queue_name=name)


class Workers:
    """Several workers that start and end together; the daemon supervises them as one."""

    def __init__(self, *workers: SupervisedWorker) -> None:
        self.workers = workers
        self.beat: Callable[[], None] = lambda: None
        self._turned = set[int]()
        for at, worker in enumerate(workers):
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


class SupervisedWorker(Worker):
    """arq's worker, with a heartbeat in each turn of its loop, that survives a full Redis.

    arq ends when Redis refuses a write, again after each restart. This worker goes on, and works again as soon as Redis
    has room for a job.
    """

    beat: Callable[[], None] = staticmethod(lambda: None)
    relief: FullRedisHandler

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.under_way: dict[str, float] = {}
        """Ids of the jobs that run, and when each began, by the monotonic clock."""
        self._noting = set[asyncio.Future[None]]()
        """Calls of `finish_job` that have not returned."""

    async def main(self) -> None:
        """Run until cancelled. arq's own start also prints INFO, which the Redis user may not be permitted to read."""
        self.ctx["redis"] = self.pool
        async for _ in turns(self.poll_delay_s):
            await self._poll_iteration()

    async def heart_beat(self) -> None:
        """Report a heartbeat in each turn of arq's loop."""
        self.turned()
        try:
            await super().heart_beat()
        except ResponseError as error:
            if not is_full(error):
                raise
            await self.relief.refused()
        self.relief.run()

    def turned(self) -> None:
        """Note that arq's loop has turned."""
        self.beat()

    async def record_health(self) -> None:
        """Write arq's health key every few seconds, also after the wall clock was put back."""
        self._last_health_check = min(self._last_health_check, time.time())
        await super().record_health()

    async def run_job(self, job_id: str, score: int) -> None:
        """Run a job. If Redis is too full to record its start or end, undo what was recorded.

        The commands are sent one by one: a full Redis 7.0 refuses a whole transaction, even one that makes room.
        """
        self.under_way[job_id] = time.monotonic()
        try:
            await super().run_job(job_id, time_of(score))
        except ResponseError as error:
            if not is_full(error):
                raise
            await self.pool.delete(retry_key_prefix + job_id)
            await self.pool.delete(in_progress_key_prefix + job_id)
            await self.relief.refused()
        finally:
            self.under_way.pop(job_id, None)

    async def finish_job(self, *args: Any, **options: Any) -> None:
        """Record the end of a job. arq shields this call, but does not await it when the job is cancelled."""
        noting = asyncio.ensure_future(super().finish_job(*args, **options))
        self._noting.add(noting)
        noting.add_done_callback(self._noting.discard)
        await noting

    async def close(self) -> None:
        """End the jobs and close the connections, even if the server is away and arq stops half way."""
        pool, jobs = self.pool.connection_pool, list(self.tasks.values())
        try:
            await super().close()
        finally:
            # arq stops at the first job that raises CancelledError, and leaves the other jobs and its shielded calls
            # running without their connections. They have been cancelled once; wait until they have ended.
            if jobs or self._noting:
                await asyncio.wait([*jobs, *self._noting], timeout=AGAIN_SECONDS)
            for job in jobs:
                await end(job)
            await pool.disconnect()


class PollWorker(SupervisedWorker):
    """A worker that ticks as well. It reports a heartbeat once both arq's loop and the tick have completed a turn."""

    _turned = False

    async def async_run(self) -> None:
        """Run until the loop or the tick fails, or until cancelled."""
        with plain_errors():
            async with anyio.create_task_group() as group:
                group.start_soon(keep_ticking, {**self.ctx, "redis": self.pool}, self._ticked)
                group.start_soon(super().async_run)

    def turned(self) -> None:
        """Note that arq's loop has turned."""
        self._turned = True

    def _ticked(self) -> None:
        if self._turned:
            self._turned = False
            self.beat()


def make_worker(queue_url: str, services: Services, worker_id: str) -> Workers:
    """Return a worker that ticks, polls, reconciles and trims, and one for resyncs, each with its own connections."""
    return Workers(
        make_poll_worker(queue_url, services, worker_id), make_resync_worker(queue_url, services, worker_id)
    )


def make_poll_worker(queue_url: str, services: Services, worker_id: str) -> PollWorker:
    """Return the worker that ticks, polls, reconciles and trims."""
    queue = services.queue
    return _make(
        PollWorker,
        queue_url,
        services,
        worker_id,
        queue=queue,
        functions=[
            func(poll, name="poll", keep_result=0, max_tries=1000, timeout=POLL_TIMEOUT),
            func(retain, name="retain", keep_result=0, max_tries=1000, timeout=POLL_TIMEOUT),
            func(reconcile, name="reconcile", keep_result=0, max_tries=1000, timeout=POLL_TIMEOUT),
        ],
        poll_delay=0.1,
    )


def make_resync_worker(queue_url: str, services: Services, worker_id: str) -> SupervisedWorker:
    """Return the worker for resyncs, which has a queue of its own. Half a second until a resync starts is fine."""
    return _make(
        SupervisedWorker,
        queue_url,
        services,
        worker_id,
        queue=services.keys.resync_queue,
        functions=[
            func(resync, name="resync", keep_result=0, max_tries=100_000, timeout=60),
            func(resync_slice, name="resync_slice", keep_result=0, max_tries=1000, timeout=POLL_TIMEOUT),
        ],
        poll_delay=0.5,
    )


def _make(
    kind: type[W],
    queue_url: str,
    services: Services,
    worker_id: str,
    *,
    queue: str,
    functions: list[Function],
    poll_delay: float,
) -> W:
    worker = kind(
        functions=functions,
        queue_name=queue,
        redis_pool=make_queue(queue_url, queue),
        handle_signals=False,
        job_serializer=serialize,
        job_deserializer=deserialize,
        keep_result=0,
        poll_delay=poll_delay,
        max_jobs=20,
        health_check_interval=10,
        health_check_key=f"{queue}:health:{worker_id}",
        ctx={"services": services},
        log_results=False,
    )
    worker.relief = FullRedisHandler(services)
    worker.in_progress_timeout_s = IN_PROGRESS_SECONDS
    return worker
