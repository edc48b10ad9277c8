"""The worker of arq that is made for a daemon, and the client of its queue: they work round known problems of arq."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import msgspec
from arq.connections import ArqRedis
from arq.constants import in_progress_key_prefix, job_key_prefix, retry_key_prefix
from arq.utils import poll as turns
from arq.worker import Worker
from redis.exceptions import ResponseError

from ordersync_consumer.redaction import words_of
from worker.cancellation import AGAIN_SECONDS, end
from worker.redis.connections import pool
from worker.redis.refusals import is_full, is_wrong_value
from worker.redis.stored import text_of
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobs.retain import FullRedisHandler

IN_PROGRESS_SECONDS = 8.0
"""Seconds that arq's in-progress mark lasts: so long after a worker was killed its job of arq is taken over."""


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

    async def start_jobs(self, job_ids: list[bytes]) -> None:
        """Start jobs. An id that is not text was put there by another program: it is removed, and the rest goes on."""
        ours = []
        for job_id in job_ids:
            if text_of(job_id).encode() == job_id:
                ours.append(job_id)
            else:
                await self._drop(job_id, "the id is not UTF-8")
        await super().start_jobs(ours)

    async def _drop(self, job_id: bytes | str, reason: str) -> None:
        """Remove a job that cannot be run, with all keys that arq has of it."""
        name = job_id if isinstance(job_id, bytes) else job_id.encode()
        prefixes = (job_key_prefix, retry_key_prefix, in_progress_key_prefix)
        await self.pool.zrem(self.queue_name, name)
        await self.pool.delete(*(prefix.encode() + name for prefix in prefixes))
        get_logger().error(
            "job_dropped", job=text_of(name), error=reason,
            advice=f"Another program has written into the queue {self.queue_name}. Find out which: only workers may "
            "do so.",
        )  # fmt: skip

    async def run_job(self, job_id: str, score: int) -> None:
        """Run a job. If Redis is too full to record its start or end, undo what was recorded.

        A job whose keys contain what another program has written is dropped.

        The commands are sent one by one: a full Redis 7.0 refuses a whole transaction, even one that makes room.
        """
        self.under_way[job_id] = time.monotonic()
        try:
            await super().run_job(job_id, score)
        except ResponseError as error:
            if is_wrong_value(error):
                await self._drop(job_id, words_of(error))
                return
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
