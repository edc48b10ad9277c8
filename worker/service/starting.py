"""The heartbeat of a worker that starts: it may wait for Redis for long, and a supervisor must not end it for that."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from worker.cancellation import end
from worker.service import heartbeat

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from worker.clock import Clock

BEAT_SECONDS = 3.0
STARTING = "the worker is starting: it waits for Redis, or logs in"


@asynccontextmanager
async def starting(data_dir: Path, worker_id: str, clock: Clock) -> AsyncIterator[None]:
    """Write a heartbeat now and then while the block runs; it says that the worker is not ready."""
    began = clock.now()

    async def beat() -> None:
        while True:
            with suppress(OSError):  # a folder that cannot be written to is reported by the daemon
                sign = heartbeat.Beat(worker_id, os.getpid(), clock.now(), began, problem=STARTING)
                heartbeat.write(data_dir, sign)
            await clock.sleep(BEAT_SECONDS)

    beating = asyncio.ensure_future(beat())
    try:
        yield
    finally:
        await end(beating)
        heartbeat.remove(data_dir)
