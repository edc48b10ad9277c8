"""The gate of a read: why it must end, in which order that is looked at, and how often."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from worker.capture.gate import ReadGate, Stop, StopCause
from worker.capture.state.pauses import Pause
from worker.clock import SystemClock
from worker.queue.backpressure import PressureReport

pytestmark = pytest.mark.anyio

PAUSE = Pause("orders", "the vendor migrates", "ops", 0.0)
BEHIND = PressureReport("group x has 5 entries to read", "x", 5, 0, 0, 0)


class SetClock(SystemClock):
    """A clock that stands where the test puts it."""

    at = 100.0

    def monotonic(self) -> float:
        """Return where it was put."""
        return self.at


@dataclass
class Around:
    """What the gate looks at, and how often it has looked."""

    stopping: bool = False
    pause: Pause | None = None
    report: PressureReport | None = None
    looked: list[str] = field(default_factory=list)
    clock: SetClock = field(default_factory=SetClock)

    async def of(self, resource: str) -> Pause | None:
        """Return the pause."""
        self.looked.append(f"pause of {resource}")
        return self.pause

    async def check(self, written: int) -> PressureReport | None:
        """Return the backpressure."""
        self.looked.append(f"backpressure after {written}")
        return self.report

    def gate(self) -> ReadGate:
        """Return a gate that looks here."""
        here = cast("Any", self)
        return ReadGate("orders", here, here, lambda: self.stopping, self.clock)


async def test_it_lets_pass() -> None:
    """A pause is looked for four times a second at most, backpressure each time: it knows when it has to ask."""
    around = Around()
    gate = around.gate()
    for _ in range(8):
        around.clock.at += 0.125
        assert await gate.check(7, around.clock.at + 1) is None
    assert around.looked.count("pause of orders") == 4
    assert around.looked.count("backpressure after 7") == 8


async def test_the_first_cause_counts() -> None:
    """A wish to end comes first, then the time, then a pause; Redis is not asked for more than it takes."""
    around = Around(stopping=True, pause=PAUSE, report=BEHIND)
    gate = around.gate()
    around.clock.at += 1
    assert await gate.check(0, 0.0) == Stop(StopCause.STOPPED)
    around.stopping = False
    assert await gate.check(0, around.clock.at) == Stop(StopCause.OUT_OF_TIME)
    assert around.looked == []
    assert await gate.check(0, around.clock.at + 1) == Stop(StopCause.PAUSED, PAUSE.description)
    assert around.looked == ["pause of orders"]
    assert await gate.check(0, around.clock.at + 1) == Stop(StopCause.BACKPRESSURE, report=BEHIND)


@pytest.mark.parametrize(
    ("stop", "message"),
    [
        (Stop(StopCause.STOPPED), ""),
        (Stop(StopCause.OUT_OF_TIME), ""),
        (Stop(StopCause.PAUSED, PAUSE.description), "the resource is paused by ops: the vendor migrates"),
        (Stop(StopCause.BACKPRESSURE, report=BEHIND), "polling is paused: group x has 5 entries to read"),
    ],
)
def test_what_it_waits_for(stop: Stop, message: str) -> None:
    """A read that is stopped or out of time waits for nothing."""
    assert stop.message == message
