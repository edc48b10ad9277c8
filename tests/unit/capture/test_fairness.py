"""How much of the event loop the pages of one account may take."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from worker.capture.fairness import LONG_SECONDS, PAUSE, LoopShare

pytestmark = pytest.mark.anyio


class StillClock:
    """Time that goes on only when something sleeps, or when the test says so."""

    def __init__(self) -> None:
        self.at = 100.0

    def now(self) -> float:
        """The time, in seconds."""
        return self.at

    monotonic = now

    async def sleep(self, seconds: float) -> None:
        """Let the time go on, and others have their turn."""
        self.at += seconds
        await anyio.lowlevel.checkpoint()

    def uniform(self, low: float, high: float) -> float:
        """The middle."""
        return (low + high) / 2


async def test_a_hostile_account_gets_a_fifth_of_the_loop() -> None:
    """Pages that each take long, of several reads at once, wait for each other."""
    clock = StillClock()
    share, worked = LoopShare(clock), 0.0

    async def read(pages: int) -> None:
        nonlocal worked
        for _ in range(pages):
            await share.wait()
            with share.measured():
                clock.at += 0.5
            worked += 0.5

    began = clock.now()
    async with anyio.create_task_group() as reads:
        for _ in range(4):
            reads.start_soon(read, 5)
    await share.wait()
    assert worked == 10
    assert clock.now() - began >= worked * (1 + PAUSE)


async def test_usual_pages_wait_for_nothing() -> None:
    """A page that takes no longer than usual ones costs no time."""
    clock = StillClock()
    share = LoopShare(clock)
    for _ in range(100):
        await share.wait()
        with share.measured():
            clock.at += LONG_SECONDS / 2
    assert clock.now() == pytest.approx(100 + 50 * LONG_SECONDS)
