"""A wait that OrderMesh asks for: who looks sees it while it lasts, with its cause, its begin and the next try."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.support.polling import fault
from tests.support.waiting import PATIENCE, eventually
from tests.support.worker import Bench, BenchMaker
from worker.admin.status import StatusCollector
from worker.capture.registry import SHIPMENTS
from worker.capture.state.lease import RENEW_SECONDS
from worker.clock import SystemClock
from worker.config.settings import Settings
from worker.reporting import reporter
from worker.sandbox import FaultRule

pytestmark = pytest.mark.anyio


class WaitingClock(SystemClock):
    """A clock by which leases are renewed at once, and a request that waits goes on when the test says."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.waited: list[float] = []

    async def sleep(self, seconds: float) -> None:
        """Wait for the test if that is more than a moment."""
        if seconds == RENEW_SECONDS:
            await asyncio.sleep(0.02)
        elif seconds > RENEW_SECONDS:
            self.waited.append(seconds)
            await self.go_on.wait()
        else:
            await asyncio.sleep(seconds)


@asynccontextmanager
async def waiting(b: Bench, clock: WaitingClock) -> AsyncIterator[list[Any]]:
    """A poll that waits until the block ends; the lines of the log."""
    with structlog.testing.capture_logs() as lines:
        task = asyncio.create_task(b.poll())
        try:
            yield lines
            clock.go_on.set()
            assert (await asyncio.wait_for(task, PATIENCE)).outcome == "complete"
        finally:
            task.cancel()


async def test_a_429_is_seen_while_it_lasts(bench: BenchMaker) -> None:
    """The cursor, the status and the heartbeat name it, one warning is logged, and all of it ends with the wait."""
    clock = WaitingClock()
    async with bench(clock=clock) as b:
        await b.poll()
        fault(b, "status", code=429, retry_after=30, times=2)
        began = time.time()
        async with waiting(b, clock) as lines:
            cursor = await eventually(lambda: _waits(b))
            assert "status 429" in cursor.wait
            assert "OrderMesh asks to wait 30 s" in cursor.wait
            assert began - 1 < cursor.wait_since < time.time() + 1
            assert 28 < cursor.wait_until - cursor.wait_since < 32
            (beat,) = [beat for beat in await reporter(b.services)() if beat.resource == "orders"]
            assert beat.health == "degraded"
            assert "status 429" in beat.cause
            settings = Settings(data_dir=Path("/nowhere"))
            (row,) = [
                row for row in await StatusCollector(b.redis, settings).rows() if row["resource"] == "orders"
            ]
            assert row["health"] == "degraded"
            assert "the next try is in" in row["cause"]
            assert "status 429" in row["cause"]
            assert row["since"] < row["next_try"]
            told = [line for line in lines if line["event"] == "gateway_wait"]
            assert [(line["log_level"], "status 429" in line["cause"]) for line in told] == [
                ("warning", True)
            ]
        assert (await b.cursor()).wait == ""
        assert len([line for line in lines if line["event"] == "gateway_wait"]) == 1


async def _waits(b: Bench) -> Any:
    cursor = await b.cursor()
    return cursor if cursor.wait else None


async def test_the_login_waits_for_every_resource(bench: BenchMaker) -> None:
    """A login that has to wait is why each resource waits."""
    clock = WaitingClock()
    async with bench(clock=clock) as b:
        b.sandbox.faults.replace(
            [FaultRule("status", operation="clients.token", code=429, retry_after=20, times=1)]
        )
        async with waiting(b, clock):
            cursor = await eventually(lambda: _waits(b))
            assert "clients.token: status 429" in cursor.wait


async def test_an_exhausted_limit_is_a_wait(bench: BenchMaker) -> None:
    """The header that says that no request is permitted until then makes the account wait, and it says so."""
    clock = WaitingClock()
    async with bench(clock=clock) as b:
        await b.poll()
        await b.account.client.budget.exhaust(20)
        async with waiting(b, clock):
            cursor = await eventually(lambda: _waits(b))
            assert "rate limit" in cursor.wait
            assert 15 < cursor.wait_until - cursor.wait_since < 21
            await b.redis.delete(b.account.keys.budget)


async def test_the_wait_of_one_list_is_not_that_of_another(bench: BenchMaker) -> None:
    """A resource whose requests are answered does not say that it waits."""
    clock = WaitingClock()
    async with bench(clock=clock, intervals={"orders": 1.0, "shipments": 1.0}) as b:
        await b.poll()
        await b.poll(SHIPMENTS)
        fault(b, "status", code=429, retry_after=30)
        async with waiting(b, clock):
            await eventually(lambda: _waits(b))
            await b.poll(SHIPMENTS)
            await b.poll(SHIPMENTS)
            stored = await b.redis.hget(b.account.keys.cursor("shipments"), "wait")
            assert not stored
