"""The arq worker of the account `default`, and its queue."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from arq.connections import ArqRedis

from jobs.worker import SupervisedWorker, make_poll_worker, make_queue
from tests.support.worker import Bench
from worker.cancellation import end
from worker.keys import KeySpace

QUEUE = KeySpace().queue(["default"])


@asynccontextmanager
async def queue_of(bench: Bench, url: str) -> AsyncIterator[ArqRedis]:
    """The queue of the jobs of the account `default` while the block runs."""
    queue = make_queue(url, QUEUE)
    try:
        yield queue
    finally:
        await queue.aclose(close_connection_pool=True)


@asynccontextmanager
async def working(bench: Bench, url: str, worker_id: str = "test-1") -> AsyncIterator[SupervisedWorker]:
    """An arq worker at work while the block runs."""
    worker = make_poll_worker(url, bench.services, worker_id)
    task = asyncio.ensure_future(worker.async_run())
    try:
        yield worker
        assert not task.done(), "the worker has ended"
    finally:
        await end(task)
        with contextlib.suppress(asyncio.CancelledError):
            await worker.close()
