"""What a health report reads, and what it says of the time since."""

from __future__ import annotations

from typing import cast

import pytest

from tests.support.worker import Bench, BenchMaker
from worker.capture.registry import NOTES
from worker.reporting import reporter

pytestmark = pytest.mark.anyio

INTERVALS = {"orders": 60.0, "notes": 60.0}


async def hashes_read(b: Bench) -> int:
    """How many hashes were read as a whole since CONFIG RESETSTAT: cursors, and the pauses."""
    stats = cast("dict[str, dict[str, int]]", await b.redis.info("commandstats"))
    return stats.get("cmdstat_hgetall", {}).get("calls", 0)


async def test_a_report_reads_no_cursor_before_a_poll_is_due(bench: BenchMaker) -> None:
    """The health is judged again all the same: what it says depends on the time."""
    async with bench(probe=True, intervals=INTERVALS) as b:
        await b.poll()
        await b.poll(NOTES)
        report = reporter(b.services)
        first = await report()
        await b.redis.config_resetstat()
        assert await report() == first
        assert await hashes_read(b) == 1  # the pauses
        await b.redis.hset(b.account.keys.cursor("orders"), "due_at", b.services.clock.now() - 1)
        b.services.touched.add("default")
        await report()
        await b.redis.config_resetstat()
        await report()
        assert await hashes_read(b) == 2  # orders are due


@pytest.mark.parametrize("sign", ["a poll has failed", "time has passed"])
async def test_a_report_reads_what_has_changed(
    bench: BenchMaker, monkeypatch: pytest.MonkeyPatch, sign: str
) -> None:
    """At once after a poll of this worker that failed or recovered, and soon after what nobody told it."""
    async with bench(probe=True, intervals={"orders": 60.0}) as b:
        await b.poll()
        report = reporter(b.services)
        assert [beat.health for beat in await report()] == ["ok"]
        await b.redis.hset(b.account.keys.cursor("orders"), "gaps", 1)
        assert [beat.health for beat in await report()] == ["ok"]
        if sign == "a poll has failed":
            b.services.touched.add("default")
        else:
            monkeypatch.setattr("worker.reporting.CURSOR_SECONDS", 0.0)
        assert [beat.health for beat in await report()] == ["degraded"]
