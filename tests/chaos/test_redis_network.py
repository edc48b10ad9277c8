"""The network between a worker and Redis: late, silent, cut at any byte, with answers that are lost after the fact."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis
from redis.exceptions import RedisError

from tests.support.campaign import Worker, settle, worker_at
from tests.support.faulty_gateway import MovedClock
from tests.support.gateway import Gateway, Judge
from tests.support.programs import Program
from tests.support.proxy import Proxy
from tests.support.servers import Server
from worker.capture.state import lease
from worker.capture.state.run import Outcome
from worker.errors import OrdersyncError

pytestmark = pytest.mark.anyio

RECOVERY = 80.0
"""Seconds within which a daemon must have made up for a network that was away: the lease, its longest pause, a read."""


@pytest.fixture
def proxy(shared_server: Server) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", shared_server.port) as one:
        yield one


def work(gateway: Gateway) -> None:
    """Let orders change, come and go."""
    history = gateway.history
    ids = history.ids("orders")
    history.change("orders", ids[5::40])
    history.create("orders", 1)
    history.delete("orders", ids[-4:-3])


def run_ids(redis_url: str) -> list[bytes]:
    """The ids of the run records, in order."""
    with redis.Redis.from_url(redis_url) as client:
        return [values[b"run_id"] for _, values in client.xrange("ordersync:{default}:runs")]


async def poll(worker: Worker, *, complete: bool) -> None:
    """Poll, while the network may fail."""
    with suppress(RedisError, OrdersyncError, OSError):
        await worker.poll(complete=complete)


@pytest.mark.parametrize("first_read", [True, False], ids=["first read", "changes"])
async def test_reset_at_any_byte(
    redis_url: str, shared_server: Server, proxy: Proxy, *, first_read: bool
) -> None:
    """Of all bytes that the server sends during a poll, at 20 places spread over them."""
    for place in range(20):
        with redis.Redis.from_url(redis_url) as client:
            client.flushall()
        with Gateway(orders=60) as gateway, Judge(gateway, redis_url) as judge:
            async with worker_at(gateway, f"redis://{proxy.address}/0", page_size=20) as worker:
                if not first_read:
                    await settle(worker, judge)
                    work(gateway)
                proxy.reset_after(1 + place * (300 if first_read else 220))
                await poll(worker, complete=True)
                proxy.calm()
                await settle(worker, judge)
            assert judge.verdict().counts == {}, f"place {place}"


@pytest.mark.parametrize("first_read", [True, False], ids=["first read", "changes"])
async def test_answers_lost_after_the_fact(
    redis_url: str, shared_server: Server, proxy: Proxy, *, first_read: bool
) -> None:
    """Of each script that a poll calls, once: it was executed, and the worker does not hear of it."""
    dropped, number = True, 0
    while dropped:
        with redis.Redis.from_url(redis_url) as client:
            client.flushall()
        with Gateway(orders=60) as gateway, Judge(gateway, redis_url) as judge:
            async with worker_at(gateway, f"redis://{proxy.address}/0", page_size=20) as worker:
                await worker.account.client.tokens.get()
                if not first_read:
                    await settle(worker, judge)
                    work(gateway)
                before = proxy.dropped
                proxy.drop_answer(b"EVALSHA", skip=number)
                await poll(worker, complete=True)
                dropped = proxy.dropped > before
                proxy.calm()
                await settle(worker, judge)
            assert judge.verdict().counts == {}, f"script {number}"
        runs = run_ids(redis_url)
        assert len(runs) == len(set(runs)), f"script {number}: a run is recorded twice"
        number += 1
    assert number > 8


class LateHeartbeat(MovedClock):
    """A clock by which the heartbeat of a lease comes when the proxy has dropped so many answers, and not before."""

    def __init__(self, proxy: Proxy) -> None:
        super().__init__()
        self._proxy, self.dropped = proxy, 0

    async def sleep(self, seconds: float) -> None:
        """Sleep, or wait for the proxy."""
        if seconds != lease.RENEW_SECONDS:
            await super().sleep(seconds)
            return
        while self._proxy.dropped < self.dropped:  # noqa: ASYNC110 - another thread counts
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.001)


async def test_a_heartbeat_after_an_answer_that_was_lost(redis_url: str, proxy: Proxy) -> None:
    """The last commit of a poll is sent again, and is known again: the heartbeat has committed nothing meanwhile."""
    clock = LateHeartbeat(proxy)
    with Gateway(orders=20) as gateway, Judge(gateway, redis_url) as judge:
        async with worker_at(gateway, f"redis://{proxy.address}/0", page_size=20, clock=clock) as worker:
            await settle(worker, judge)
            for number in range(1, 9):
                clock.dropped = number
                proxy.drop_answer(b"run_id")
                assert (await worker.poll()).outcome is Outcome.COMPLETE
                assert proxy.dropped == number
    runs = run_ids(redis_url)
    assert len(runs) == len(set(runs))


async def away(proxy: Proxy, seconds: float) -> None:
    """No byte comes through for so long."""
    proxy.hole = True
    await asyncio.sleep(seconds)
    proxy.hole = False


async def trouble(redis_url: str, folder: Path, proxy: Proxy, *, hole: float) -> None:
    """One fault of the network after the other, with a daemon that publishes changes in between."""
    with Gateway(orders=200) as gateway, Judge(gateway, redis_url) as judge:
        settings = gateway.settings(f"redis://{proxy.address}/0", folder, api__page_size="50")
        with Program(folder, **settings) as program:
            await judge.recovered(RECOVERY)
            proxy.latency = 0.03
            work(gateway)
            await judge.recovered(RECOVERY)
            proxy.latency = 0.0
            work(gateway)
            for _ in range(5):
                proxy.reset_all()
                await asyncio.sleep(0.3)
            await judge.recovered(RECOVERY)
            proxy.refuse = True
            proxy.reset_all()
            work(gateway)
            await asyncio.sleep(1.5)
            proxy.refuse = False
            await judge.recovered(RECOVERY)
            work(gateway)
            await away(proxy, hole)
            await judge.recovered(RECOVERY)
            for skip in (0, 3):
                proxy.drop_answer(b"EVALSHA", skip=skip)
                work(gateway)
                await judge.recovered(RECOVERY)
            assert program.process.poll() is None
        assert judge.verdict().counts == {}
        runs = run_ids(redis_url)
        assert len(runs) == len(set(runs))


async def test_a_daemon_behind_a_bad_network(redis_url: str, tmp_path: Path, proxy: Proxy) -> None:
    await trouble(redis_url, tmp_path, proxy, hole=2.0)


@pytest.mark.long
@pytest.mark.parametrize("seconds", [30.0, 60.0])
async def test_a_black_hole(redis_url: str, tmp_path: Path, proxy: Proxy, seconds: float) -> None:
    """The connections stay open, and nothing comes through for longer than every timeout."""
    await trouble(redis_url, tmp_path, proxy, hole=seconds)
