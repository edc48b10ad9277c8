"""More accounts than fit on a screen: they are counted, and those that look worst are shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import structlog

from tests.support.commands import ordersync
from tests.support.worker import BenchMaker
from worker.admin.survey import MANY
from worker.capture.state.pauses import Pause, Pauses
from worker.redis.connections import answer
from worker.telemetry.metrics import COUNTED_ACCOUNTS, OTHERS, Metrics
from worker.telemetry.tracing import Span, begin

pytestmark = pytest.mark.anyio

NAMES = [f"shop{number:02}" for number in range(25)]


async def test_status_counts_all_and_shows_the_worst(
    bench: BenchMaker, redis_url: str, tmp_path: Path
) -> None:
    """One of 25 is paused. It is shown, whatever its name; --account shows any, and --json prints all."""

    def status(*words: str) -> str:
        return ordersync("status", *words, cwd=tmp_path, redis__url=redis_url).stdout

    async with bench() as b:
        await b.poll()
        cursor = await answer(b.redis.hgetall(b.account.keys.cursor("orders")))
        for name in NAMES:
            await answer(b.redis.hset(b.services.keys.of(name).cursor("orders"), mapping=cursor))
        await answer(b.redis.sadd(b.services.keys.accounts, *NAMES))
        last = b.services.keys.of(NAMES[-1])
        await Pauses(b.redis, last).begin([Pause("*", "stocktaking", "ops", 1.0)])
        text = status()
        assert text.startswith("25 accounts by their worst resource: 1 paused, 24 ok.\n")
        assert NAMES[-1] in text
        assert sum(name in text for name in NAMES) == MANY
        one = status("--account", NAMES[-2])
        assert [name for name in NAMES if name in one] == [NAMES[-2]]
        assert len(json.loads(status("--json"))) == 25
        found = ordersync("status", "--account", "shop99", cwd=tmp_path, redis__url=redis_url)
        assert (found.returncode, "Unknown account 'shop99'" in found.stderr) == (2, True)


def test_of_very_many_accounts_the_first_have_counters() -> None:
    """The others are counted together, so that the metrics of thousands of accounts fit into memory."""
    metrics = Metrics("1")
    for number in range(COUNTED_ACCOUNTS + 5):
        with structlog.contextvars.bound_contextvars(account=f"a{number}", resource="orders"):
            metrics.watch(Span("request", begin(), 0))
    text = metrics.show([])[0].decode()
    assert f'account="a{COUNTED_ACCOUNTS - 1}",resource="orders"}} 1.0' in text
    assert f'account="a{COUNTED_ACCOUNTS}"' not in text
    assert f'ordersync_requests_total{{account="{OTHERS}",resource="orders"}} 5.0' in text
    assert 'ordersync_accounts{health="failing"} 0.0' in text
