"""Times of the gateway that go back: the content decides, whatever the time beside it says."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

import pytest

from tests.support.campaign import settle, worker_at
from tests.support.commands import ordersync
from tests.support.gateway import Gateway, Judge, Serving
from tests.support.programs import Program
from worker.capture.registry import ORDERS
from worker.capture.resync.requests import ResyncRequest

pytestmark = pytest.mark.anyio

Happening: TypeAlias = Callable[[Gateway], None]


def clock_put_back(gateway: Gateway) -> None:
    """The clock of the gateway was an hour ahead, and is put right; then the same orders change again."""
    ids = gateway.history.ids("orders")[:20]
    gateway.history.step_clock(-3600)
    gateway.history.change("orders", ids)


def backup_restored(gateway: Gateway) -> None:
    """Twenty orders are again what they were at first."""
    gateway.history.restore("orders", gateway.history.ids("orders")[:20])


def future_put_right(gateway: Gateway) -> None:
    """Orders that were changed next year, by mistake, are changed now."""
    ids = gateway.history.ids("orders")[:20]
    gateway.history.change("orders", ids)


def hour_passed_twice(gateway: Gateway) -> None:
    """The second pass of the hour when summer time ends."""
    ids = gateway.history.ids("orders")[:20]
    gateway.history.change("orders", ids, at=gateway.history.now() - 3600)


BEFORE: dict[Happening, float] = {
    clock_put_back: 3600.0,
    backup_restored: 0.0,
    future_put_right: 31_536_000.0,
    hour_passed_twice: 0.0,
}
"""How far ahead of the true time the last change was."""
SERVINGS: dict[str, dict[str, Any]] = {
    "full scans": {},
    "filter": {"filters": True},
    "sort": {"sorts": True},
    "both": {"filters": True, "sorts": True},
}


@pytest.mark.parametrize("happening", BEFORE, ids=lambda each: each.__name__)
@pytest.mark.parametrize("serving", SERVINGS)
async def test_times_go_back(redis_url: str, happening: Happening, serving: str) -> None:
    """What the orders are then is published by full scans, though each shows an older time than before."""
    with (
        Gateway(orders=120, serving=Serving(**SERVINGS[serving])) as gateway,
        Judge(gateway, redis_url) as judge,
    ):
        history = gateway.history
        async with worker_at(gateway, redis_url, page_size=50) as worker:
            await settle(worker, judge)
            history.step_clock(BEFORE[happening])
            for each in history.ids("orders")[:30]:
                history.change("orders", [each])
            if happening is future_put_right:
                history.step_clock(-BEFORE[happening])
            await settle(worker, judge)
            happening(gateway)
            assert await settle(worker, judge) <= 3
        assert judge.verdict().counts == {}


async def test_two_nodes_whose_clocks_differ(redis_url: str, tmp_path: Path) -> None:
    """The same orders are written by one node and, at once, by another one that is 1.5 s behind; with a daemon."""
    with Gateway(orders=120) as gateway, Judge(gateway, redis_url) as judge:
        chance = Random(5)
        with Program(tmp_path, **gateway.settings(redis_url, tmp_path, api__page_size="50")):
            await judge.recovered()
            for _ in range(4):
                some = chance.sample(gateway.history.ids("orders"), 15)
                gateway.history.change("orders", some)
                await judge.recovered()
                gateway.history.change("orders", some, at=time.time() - 1.5)
                await judge.recovered()
        assert judge.verdict().counts == {}


async def test_a_forced_resync_of_a_record_that_went_back(redis_url: str, tmp_path: Path) -> None:
    """`resync --id ID --force --wait` publishes it, whatever its time."""
    with Gateway(orders=20) as gateway, Judge(gateway, redis_url) as judge:
        settings = gateway.settings(redis_url, tmp_path, poll__intervals='{"orders": 3600}')
        (one,) = gateway.history.ids("orders")[3:4]
        gateway.history.change("orders", [one])
        with Program(tmp_path, **settings) as daemon:
            await judge.recovered()
            await daemon.logged("poll_done")
            gateway.history.change("orders", [one], at=time.time() - 50)
            done = ordersync("resync", "orders", "--id", one, "--force", "--wait", cwd=tmp_path, **settings)
            assert done.returncode == 0, done.stderr
            assert "1 published" in done.stdout + done.stderr
            assert judge.missed() == []
        assert judge.verdict().counts == {}


async def test_lists_that_lag_behind_confirm_no_older_state(redis_url: str) -> None:
    """A change is read by its id, and several full scans still show the state before: it is not published again."""
    with Gateway(orders=20) as gateway, Judge(gateway, redis_url) as judge:
        async with worker_at(gateway, redis_url, page_size=50) as worker:
            await settle(worker, judge)
            one = gateway.history.ids("orders")[3]
            gateway.serving.frozen_at = time.time()
            gateway.history.change("orders", [one])
            resyncer = worker.account.resyncer
            asked = await resyncer.resyncs.create(
                ResyncRequest(resource="orders", ids=(one,)), worker.clock.now()
            )
            await resyncer.slice(ORDERS, asked.id)
            assert judge.missed() == []
            for _ in range(3):
                await worker.poll(complete=True)
                worker.clock.offset += 60
            gateway.serving.frozen_at = None
            await settle(worker, judge)
        assert judge.verdict().counts == {}
