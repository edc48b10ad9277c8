"""The clock of Redis: taken over, kept while the clock of this machine is set, and followed when it jumps."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest
import structlog

from ordersync_consumer.servers.cluster import ClusterClient
from worker.redis.clock import RedisClock

pytestmark = pytest.mark.anyio


class Server:
    """Answers TIME with a clock that is ahead of the monotonic one by so many seconds."""

    def __init__(self, ahead: float) -> None:
        self.ahead = ahead

    async def time(self) -> tuple[int, int]:
        """Return seconds and microseconds, as Redis does."""
        now = time.monotonic() + self.ahead
        return int(now), int(now % 1 * 1e6)


@pytest.fixture
def server() -> Server:
    return Server(1e9)


@pytest.fixture
async def clock(server: Server) -> RedisClock:
    result = RedisClock(cast("Any", server))
    await result.sync()
    return result


def ahead(clock: RedisClock) -> float:
    return clock.now() - clock.monotonic()


async def test_before_the_first_answer_it_is_ours(server: Server) -> None:
    """A worker that waits for Redis logs in meanwhile."""
    assert RedisClock(cast("Any", server)).now() == pytest.approx(time.time(), abs=10)


async def test_our_clock_may_be_set(clock: RedisClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two answers of Redis time passes by the monotonic clock."""
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert ahead(clock) == pytest.approx(1e9, abs=1)
    assert clock.steady_for() == float("inf")


async def test_the_time_that_an_answer_tells_is_taken_over(clock: RedisClock, server: Server) -> None:
    """As if Redis had been asked; so it need not be asked again for a moment, and is asked after that."""
    now = clock.monotonic()
    clock.note(now + 1e9 - 3600, now - 0.01, now + 0.01)
    assert ahead(clock) == pytest.approx(1e9 - 3600, abs=0.3)
    server.ahead -= 7200
    await clock.sync(within=3600.0)
    assert ahead(clock) == pytest.approx(1e9 - 3600, abs=0.3)
    now = clock.monotonic() - 5
    clock.note(now + 1e9 - 3600, now, now)  # it was told 5 s ago
    await clock.sync(within=4.0)
    assert ahead(clock) == pytest.approx(1e9 - 7200, abs=0.3)


async def test_the_time_of_another_node_says_nothing(clock: RedisClock) -> None:
    """The nodes of a cluster have clocks of their own, and all workers go by one of them."""
    clock._client = ClusterClient.__new__(ClusterClient)
    now = clock.monotonic()
    clock.note(now, now, now)
    assert ahead(clock) == pytest.approx(1e9, abs=0.3)


async def test_a_slow_drift_is_followed_without_a_word(clock: RedisClock, server: Server) -> None:
    """Two clocks never run at the same pace."""
    server.ahead += 0.5
    await clock.sync()
    assert ahead(clock) == pytest.approx(1e9 + 0.5, abs=0.3)
    assert clock.steady_for() == float("inf")


@pytest.mark.parametrize("moved", [-3600.0, 3600.0])
async def test_a_jump_is_followed_and_said(clock: RedisClock, server: Server, moved: float) -> None:
    """Only one that goes ahead makes waits end early."""
    server.ahead += moved
    with structlog.testing.capture_logs() as lines:
        await clock.sync()
        await clock.sync()
    assert [(line["event"], line["moved_s"]) for line in lines] == [
        ("clock_moved", pytest.approx(moved, abs=0.3))
    ]
    assert ahead(clock) == pytest.approx(1e9 + moved, abs=0.3)
    assert (clock.steady_for() < 60) == (moved > 0)
