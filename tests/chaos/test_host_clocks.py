"""Hosts whose clocks jump, or differ: polling goes on, and nothing is missed, told twice or told out of order."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.gateway import Gateway, Judge
from tests.support.host_clock import HostClock
from tests.support.programs import Program

pytestmark = pytest.mark.anyio

SOON = 60.0
"""Seconds within which changes are published, whatever the clock does: far less than an hour, by which it jumps."""


def work(gateway: Gateway) -> None:
    """Let orders change, come and go."""
    history = gateway.history
    ids = history.ids("orders")
    history.change("orders", ids[5::40])
    history.create("orders", 2)
    history.delete("orders", ids[-4:-3])


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
async def test_the_clock_of_a_host_jumps(redis_url: str, tmp_path: Path, jump: float) -> None:
    """Forward, or back, while the daemon runs; and back to the true time."""
    clock = HostClock(tmp_path)
    with Gateway(orders=200) as gateway, Judge(gateway, redis_url) as judge:
        settings = gateway.settings(redis_url, tmp_path, api__page_size="50")
        with Program(tmp_path, *clock.command(), **settings):
            await judge.recovered()
            for offset in (jump, 0.0):
                clock.set(offset)
                work(gateway)
                await judge.recovered(SOON)
                work(gateway)
                await judge.recovered(SOON)
        assert judge.verdict().counts == {}


async def test_a_successor_on_a_host_that_is_behind(redis_url: str, tmp_path: Path) -> None:
    """The first host is five minutes ahead and stops in order; the next one publishes at once."""
    ahead = HostClock(tmp_path, 300.0)
    with Gateway(orders=200) as gateway, Judge(gateway, redis_url) as judge:
        settings = gateway.settings(redis_url, tmp_path, api__page_size="50")
        with Program(tmp_path, *ahead.command(), **settings) as program:
            await judge.recovered()
            work(gateway)
            await judge.recovered(SOON)
            program.process.terminate()
            await program.ended()
        with Program(tmp_path, **settings) as successor:
            work(gateway)
            await successor.logged("worker_started")
            await judge.recovered(SOON)
        assert judge.verdict().counts == {}


async def test_two_hosts_with_clocks_an_hour_apart(redis_url: str, tmp_path: Path) -> None:
    """Both run at the same time."""
    ahead = HostClock(tmp_path, 3600.0)
    with Gateway(orders=200) as gateway, Judge(gateway, redis_url) as judge:
        settings = gateway.settings(redis_url, tmp_path, api__page_size="50")
        with Program(tmp_path, *ahead.command(), **settings), Program(tmp_path, **settings):
            await judge.recovered()
            for offset in (3600.0, -3600.0):
                ahead.set(offset)
                work(gateway)
                await judge.recovered(SOON)
                work(gateway)
                await judge.recovered(SOON)
        assert judge.verdict().counts == {}
