"""The queue of arq, in which other programs request resyncs: what is in it cannot run code or end the worker."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from arq.constants import job_key_prefix

from jobs.arq_worker import SupervisedWorker
from jobs.worker import make_resync_worker
from tests.support.arq_worker import end_worker, working
from tests.support.waiting import eventually
from tests.support.worker import Bench, BenchMaker
from worker.keys import KeySpace

pytestmark = pytest.mark.anyio


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return (Path.touch, (self._file,))


@contextlib.asynccontextmanager
async def taking_requests(b: Bench, url: str) -> AsyncIterator[SupervisedWorker]:
    """The worker that takes requests of resyncs, at work while the block runs."""
    worker = make_resync_worker(url, b.services, "test-1")
    running = asyncio.ensure_future(worker.async_run())
    try:
        yield worker
        assert not running.done()
    finally:
        await end_worker(worker, running)


async def test_a_pickled_body_is_refused_and_harmless(
    bench: BenchMaker, redis_url: str, tmp_path: Path
) -> None:
    """Who can write to Redis cannot run code here, and the worker goes on."""
    requests = KeySpace().resync_queue
    async with bench() as b:
        await b.redis.set(f"{job_key_prefix}bomb", pickle.dumps(Bomb(tmp_path / "ran")))
        await b.redis.zadd(requests, {"bomb": 1})
        async with taking_requests(b, redis_url) as worker:
            await eventually(lambda: worker.jobs_failed)
        assert not (tmp_path / "ran").exists()
        assert await b.redis.zscore(requests, "bomb") is None


async def test_bodies_of_another_shape_do_not_end_the_worker(bench: BenchMaker, redis_url: str) -> None:
    """Some would raise outside of arq's try, end its loop, and be met again after each restart."""
    bodies = (
        b'{"t":"x","f":"resync","a":[],"k":{},"et":1}',
        b'{"t":null,"f":5,"a":[],"k":{},"et":1}',
        b'{"t":null,"f":"resync","a":[],"k":[],"et":null}',
        b'{"t":null,"f":"resync","a":5,"k":{},"et":1}',
        b'{"t":null,"f":"nosuch","a":[],"k":{},"et":1}',
        b'{"t":null,"f":"resync","a":[],"k":{},"et":1}',
        b"[]",
        b"",
    )
    requests = KeySpace().resync_queue
    async with bench() as b:
        for number, body in enumerate(bodies):
            await b.redis.set(f"{job_key_prefix}odd-{number}", body)
            await b.redis.zadd(requests, {f"odd-{number}": 1})
        async with taking_requests(b, redis_url) as worker:
            await eventually(lambda: worker.jobs_failed == len(bodies))
        assert not [name for name in await b.redis.zrange(requests, 0, -1) if name.startswith(b"odd-")]


async def test_no_hook_is_set(bench: BenchMaker, redis_url: str) -> None:
    """A hook that raises ends arq's worker: there is none."""
    async with bench() as b, working(b, redis_url) as worker:
        hooks = (
            worker.on_startup,
            worker.on_shutdown,
            worker.on_job_start,
            worker.on_job_end,
            worker.after_job_end,
        )
        assert hooks == (None,) * 5
        assert worker.allow_abort_jobs is False
