"""The tick: once a second it puts the polls that are due into the queue. It does nothing else.

A cron job of arq's is dropped when a deploy interrupts it and is not made up for when missed. So the tick
holds no work: what is due is computed from the cursors, and one poll catches up with all that was missed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobs.poll import job_id
from jobs.resources import RESOURCES
from jobs.workplace import workplace_of
from worker.keys import QUEUE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arq.connections import ArqRedis

TICK_SECONDS = 1.0


async def tick(ctx: Mapping[Any, Any]) -> None:
    """Enqueue each poll that is due before the next tick, to start when it is due."""
    place = workplace_of(ctx)
    if place.stopping():
        return
    queue: ArqRedis = ctx["redis"]
    wanted = [
        (desk, name) for desk in place.desks.values() for name in desk.account.intervals if name in RESOURCES
    ]
    async with place.redis.pipeline(transaction=False) as pipe:
        for desk, name in wanted:
            pipe.hget(desk.keys.cursor(name), "due_at")
        due = await pipe.execute()
    now = place.clock.now()
    for (desk, name), due_at in zip(wanted, due, strict=True):
        wait = _seconds(due_at) - now
        if wait < TICK_SECONDS:
            # Refused by arq while the same job is queued or running, which is what is wanted.
            await queue.enqueue_job(
                "poll",
                desk.account.name,
                name,
                _job_id=job_id(desk.account.name, name),
                _queue_name=QUEUE,
                _defer_by=max(0.0, wait),
            )


def _seconds(value: bytes | None) -> float:
    """A cursor that cannot be read is due: the poll then says what is wrong with it."""
    try:
        return float(value or 0)
    except ValueError:
        return 0.0
