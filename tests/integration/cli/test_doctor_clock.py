"""`ordersync doctor` and the clock: whether that of the gateway agrees with ours."""

from __future__ import annotations

import re

import pytest

from tests.support.worker import BenchMaker
from worker.admin.clock_checks import check_clock
from worker.capture.registry import ORDERS
from worker.clock import SystemClock
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio


class ClockAt(SystemClock):
    """A machine whose clock is off."""

    def __init__(self, offset: float) -> None:
        self._offset = offset

    def now(self) -> float:
        """Seconds since 1970, and the offset."""
        return super().now() + self._offset


@pytest.mark.parametrize(
    ("offset", "level", "words"),
    [
        (0.0, "ok", "agrees with ours"),
        (-3600.0, "warning", "ahead of ours"),
        (3600.0, "warning", "behind ours"),
    ],
)
async def test_a_clock_that_is_off(bench: BenchMaker, offset: float, level: str, words: str) -> None:
    """The gateway's clock against ours: which is ahead, and that nothing is missed by it."""
    with SandboxServer(orders=3) as sandbox:
        async with bench(sandbox, probe=True) as b:
            found = {"orders": await b.account.capabilities.probe(ORDERS)}
            (finding,) = [one async for one in check_clock(b.account, found, ClockAt(offset))]
            assert (finding.level.value, words in finding.text) == (level, True)
            assert bool(finding.advice) is (level != "ok")


class ClockOfASlowRequest(SystemClock):
    """A clock by which the request between its first two looks takes two minutes."""

    def __init__(self) -> None:
        self._passed = -120.0

    def now(self) -> float:
        """Seconds since 1970."""
        passed, self._passed = self._passed, 0.0
        return super().now() + passed


async def test_a_slow_answer_is_no_clock_that_is_off(bench: BenchMaker) -> None:
    """The gateway may have written it at any time of the request: how far off its clock may be is said."""
    with SandboxServer(orders=3) as sandbox:
        async with bench(sandbox, probe=True) as b:
            found = {"orders": await b.account.capabilities.probe(ORDERS)}
            (finding,) = [one async for one in check_clock(b.account, found, ClockOfASlowRequest())]
            assert finding.level.value == "ok"
            agrees = re.search(r"agrees with ours within (\d+) s", finding.text)
            assert agrees is not None
            assert int(agrees[1]) >= 120
