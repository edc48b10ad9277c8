"""Puts jobs with a fixed id into arq's queue, whatever the clocks of the hosts say.

arq starts a job when its score, in milliseconds since 1970, is not ahead of the wall clock of the host that looks. A
host whose clock is behind would leave the jobs of the others alone, and after a clock is put back a job would wait for
as long. So no job is put off: the tick enqueues it when it is due, with a score that lies in the past for every host.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from arq.constants import in_progress_key_prefix

if TYPE_CHECKING:
    from arq.connections import ArqRedis

IN_PROGRESS_SECONDS = 8.0
"""Seconds that arq's in-progress mark outlives the last heartbeat of the worker that runs the job."""
BEHIND_SECONDS = 10 * 365 * 86_400.0
"""So much earlier than now is the score of a job: the order of the jobs is kept, and no clock is as far behind."""
EXPIRES_SECONDS = 86_400.0
"""Seconds after which arq drops a job that no worker has taken."""


def time_of(score: int) -> int:
    """Return when a job with this score was due, in milliseconds since 1970, as arq reports it in the log."""
    behind = int(BEHIND_SECONDS * 1000)
    return score + behind if score < time.time() * 1000 - behind / 2 else score


async def enqueue(
    queue: ArqRedis, queue_name: str, job_id: str, function: str, *arguments: str, now: float, **named: Any
) -> bool:
    """Enqueue a job that is due now, unless the same one is queued or running; True if it was enqueued.

    A job that is queued already, but whose score lies ahead, is brought forward. So is the end of an in-progress mark
    that was set before the clock of Redis was put back: the worker that set it may be dead.

    Args:
        queue: The client.
        queue_name: The name of the queue.
        job_id: The fixed id of the job.
        function: The name of its function.
        arguments: Its arguments.
        now: The current time, in seconds since 1970.
        named: Its named arguments.

    """
    at = now - BEHIND_SECONDS
    job = await queue.enqueue_job(
        function,
        *arguments,
        _job_id=job_id,
        _queue_name=queue_name,
        _defer_until=datetime.fromtimestamp(at, UTC),
        _expires=EXPIRES_SECONDS,
        **named,
    )
    if job is not None:
        return True
    mark = in_progress_key_prefix + job_id
    async with queue.pipeline(transaction=False) as pipe:
        pipe.zadd(queue_name, {job_id: int(at * 1000)}, xx=True, lt=True)
        pipe.pttl(mark)
        _, left = await pipe.execute()
    if left > 2 * IN_PROGRESS_SECONDS * 1000:
        await queue.pexpire(mark, int(IN_PROGRESS_SECONDS * 1000))
    return False
