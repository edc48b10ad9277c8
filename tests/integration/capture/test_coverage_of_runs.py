"""What a run has covered, and how fresh a resource is of that: said as it is, by every strategy."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.support.worker import Bench, BenchMaker
from worker.admin.status import StatusCollector
from worker.app import announce
from worker.capture.health import Health, judge
from worker.capture.registry import AUDIT_LOGS
from worker.capture.state.run import Covered
from worker.capture.state.run_history import History
from worker.cli.render.status import one_line, screen
from worker.config.settings import Settings
from worker.sandbox import FaultRule, SandboxServer, ServedContract

pytestmark = pytest.mark.anyio

GATEWAYS: dict[Covered, dict[str, Any]] = {
    Covered.NEWER: {"since_honoured": True, "choices_honoured": False},
    Covered.OPEN: {},
    Covered.ALL: {"choices_honoured": False},
}


async def row_of(b: Bench, name: str = "orders") -> dict[str, Any]:
    """Return what `status` says of a resource."""
    await announce(b.services)
    rows = await StatusCollector(b.redis, Settings()).rows()
    (row,) = [row for row in rows if row["resource"] == name]
    return row


@pytest.mark.parametrize("covered", GATEWAYS)
async def test_each_run_says_what_it_has_covered(bench: BenchMaker, covered: Covered) -> None:
    """So do its record, the cursor and `status`: a read of a part does not make everything fresh."""
    with SandboxServer(orders=60, contract=ServedContract(**GATEWAYS[covered])) as sandbox:
        async with bench(sandbox, probe=True, page_size=10) as b:
            first = await b.poll()
            whole = (await b.cursor()).fresh_as_of
            row = await row_of(b)
            assert (first.covered, row["part"], row["part_s"]) == (Covered.ALL, None, None)
            run = await b.poll()
            assert (run.outcome, run.covered) == ("complete", covered)
            cursor, row = await b.cursor(), await row_of(b)
            records = [record async for record in History(b.redis, b.account.keys).newest_first()]
            assert [record.text("covered") for record in records][:2] == [covered, "all"]
            if covered is Covered.ALL:
                assert cursor.fresh_as_of == run.started_at
                assert (row["part"], row["part_s"]) == (None, None)
                return
            assert (cursor.fresh_as_of, cursor.part_as_of, cursor.part) == (whole, run.started_at, covered)
            assert (row["part"], 0 <= row["part_s"] <= row["fresh_s"]) == (covered, True)
            row |= {"fresh_s": 2210.0, "part_s": 4.0}
            words = f"2210 s, {covered} 4 s"
            assert f"fresh {words}" in one_line(row)
            assert any(words in line for line in screen([row]))
            run = await b.poll(complete=True)
            cursor = await b.cursor()
            assert (run.covered, cursor.fresh_as_of) == (Covered.ALL, run.started_at)
            assert cursor.part_as_of < cursor.fresh_as_of
            assert (
                covered
                not in one_line(await row_of(b)).replace("open", "", 0).split("fresh")[1].split(",")[0]
            )


async def test_a_change_in_a_final_status(bench: BenchMaker) -> None:
    """Polls of open records do not see it: everything is only as fresh as the full scan that shows it."""
    with SandboxServer(orders=60, contract=ServedContract()) as sandbox:
        async with bench(sandbox, probe=True, page_size=10) as b:
            (order,) = sandbox.store.change(1)
            sandbox.store.change(order, status="Cancelled")
            await b.poll()
            before = (await b.cursor()).fresh_as_of
            sandbox.store.change_silently(order, remark="a change that moves nothing")
            run = await b.poll()
            assert (run.updated, run.covered) == (0, Covered.OPEN)
            assert (await b.cursor()).fresh_as_of == before
            assert (await b.poll(complete=True)).updated == 1


async def test_a_read_that_does_not_end_covers_nothing(bench: BenchMaker) -> None:
    """It was stopped, it failed, it is suspect, or it has read single records."""
    async with bench(page_size=10) as b:
        assert (await b.poll(stop=lambda: True)).covered == Covered.NOTHING
        await b.poll()
        b.sandbox.faults.replace((FaultRule("status", operation="orders.search", code=500),))
        assert (await b.poll()).covered == Covered.NOTHING
        b.sandbox.faults.replace((FaultRule("empty", operation="orders.search"),))
        run = await b.poll()
        assert (run.outcome, run.covered) == ("suspicious", Covered.NOTHING)
        assert (await b.poll(follow_ups_only=True)).covered == Covered.NOTHING


async def test_open_records_that_are_suspect(bench: BenchMaker) -> None:
    """The record of the run says what its log line says: suspicious, and nothing covered."""
    with SandboxServer(orders=120, contract=ServedContract()) as sandbox:
        sandbox.store.create(30)
        async with bench(sandbox, probe=True, page_size=10) as b:
            for _ in range(2):  # orders have come just before
                await b.poll(complete=True)
            assert (await b.poll()).covered == Covered.OPEN
            sandbox.faults.replace((FaultRule("empty", operation="orders.search"),))
            run = await b.poll()
            (record, *_) = [record async for record in History(b.redis, b.account.keys).newest_first()]
            assert (run.outcome, run.covered, run.freshness) == ("suspicious", Covered.NOTHING, None)
            assert (record.text("outcome"), record.text("covered")) == ("suspicious", "none")


async def test_audit_logs_are_those_of_changed_records(bench: BenchMaker) -> None:
    """No read covers all of them, so none makes them fresh as a whole."""
    async with bench(intervals={"orders": 1.0, "order_audit": 1.0}, probe=True) as b:
        await b.poll()
        run = await b.poll(AUDIT_LOGS["order_audit"])
        assert (run.outcome, run.covered) == ("complete", Covered.CHANGED)
        row = await row_of(b, "order_audit")
        assert (row["health"], row["fresh_s"], row["part"]) == ("ok", None, "changed")
        assert f"fresh changed {row['part_s']:.0f} s" in one_line(row)


async def test_a_full_scan_that_never_ends_is_said(bench: BenchMaker) -> None:
    """Polls of a part stay fresh; the age of the rest is judged by itself."""
    with SandboxServer(orders=60, contract=ServedContract(**GATEWAYS[Covered.NEWER])) as sandbox:
        async with bench(sandbox, probe=True) as b:
            await b.poll()
            await b.poll()
            cursor, now = await b.cursor(), b.services.clock.now()
            assert judge(cursor, now).health is Health.OK
            verdict = judge(
                msgspec.structs.replace(cursor, fresh_as_of=now - 2.5 * cursor.complete_every), now
            )
            assert (verdict.health, "the last full scan began" in verdict.cause) == (Health.DEGRADED, True)
