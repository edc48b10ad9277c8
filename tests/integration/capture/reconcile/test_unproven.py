"""What reconciliation cannot prove: logs and records that cannot be read, and a gateway that is down."""

from __future__ import annotations

import pytest

from tests.support.reconciling import HIDDEN, asked, coverage, one_pass, total
from tests.support.worker import BenchMaker
from worker.capture.health import Health, judge
from worker.capture.reconcile import reconciler as reconcile
from worker.capture.registry import ORDERS
from worker.sandbox import FaultRule, Permissions
from worker.telemetry import log as logs

pytestmark = pytest.mark.anyio


async def test_a_record_that_cannot_be_read_stays_open(few: BenchMaker) -> None:
    """What is proven does not move past it, health says so, and the pass that can read it heals it."""
    async with few() as b:
        await b.poll()
        proven = await one_pass(b)
        order = b.sandbox.store.ids()[0]
        b.sandbox.hide("orders", order)
        b.sandbox.store.change(order, status=HIDDEN)
        b.sandbox.faults.replace((FaultRule("status", operation="orders.get", code=400),))
        held = await one_pass(b)
        assert held.complete_until >= proven.complete_until
        (gap,) = (await coverage(b).gaps()).values()
        assert (gap.why, gap.is_absent) == ("api_error", False)
        assert held.complete_until < gap.at
        assert (await coverage(b).passes())[-1].proven is False
        verdict = judge(await b.cursor(), b.services.clock.now())
        assert (
            verdict.health,
            "cannot be proven that every change of 1 record was published" in verdict.cause,
        ) == (Health.DEGRADED, True)
        b.sandbox.faults.replace(())
        healed = await one_pass(b)
        assert healed.complete_until > gap.at
        assert await coverage(b).gaps() == {}
        assert await total(b, "healed") == 1
        b.sandbox.show("orders")  # as long as the list lags behind what was published, it is degraded
        await b.poll(complete=True)
        assert judge(await b.cursor(), b.services.clock.now()).health is Health.OK


async def test_a_gap_that_a_poll_heals_is_counted(few: BenchMaker) -> None:
    """Whoever publishes it: an open gap whose record has a later version by the next pass was one, and is healed."""
    async with few() as b:
        await b.poll()
        order = b.sandbox.store.ids()[0]
        b.sandbox.hide("orders", order)
        b.sandbox.store.change(order, status=HIDDEN)
        b.sandbox.faults.replace((FaultRule("status", operation="orders.get", code=400),))
        await one_pass(b)
        assert len(await coverage(b).gaps()) == 1
        b.sandbox.show("orders")
        assert (await b.poll(complete=True)).updated == 1
        await one_pass(b)
        assert await total(b, "healed") == 1
        assert await coverage(b).gaps() == {}


async def test_a_log_that_cannot_be_read_is_made_up_for_by_the_record(few: BenchMaker) -> None:
    """A record that is read now, and is as it was published, is proven as well as by its log."""
    async with few() as b:
        await b.poll()
        b.sandbox.faults.replace((FaultRule("garbage", operation="orders.audit_logs", after=20, times=3),))
        await one_pass(b)
        assert await total(b, "open") == 0
        assert asked(b, "orders.get") == 3


async def test_a_missing_permission_is_said(few: BenchMaker, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is claimed then; polls go on as before, health is not concerned, and it is tried again in a while."""
    logs.configure("json", "info")
    async with few() as b:
        await b.poll()
        b.sandbox.auth.permit(Permissions().without("audit:get"))
        await b.account.reconciler.run([ORDERS])
        progress = await coverage(b).load()
        assert "403" in progress.off
        assert progress.complete_until == 0
        assert progress.due_at > b.services.clock.now() + 3000
        assert '"event": "reconcile_off"' in capsys.readouterr().err
        assert judge(await b.cursor(), b.services.clock.now()).health is Health.OK
        b.sandbox.auth.permit(Permissions())
        assert (await one_pass(b)).off == ""


async def test_a_gateway_that_is_down_ends_the_slice(
    few: BenchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No log of a batch can be read: that is noted, the pass goes on later, and nothing of it counts as open."""
    monkeypatch.setattr(reconcile, "MAX_AT_ONCE", 10)
    async with few(attempts=1) as b:
        await b.poll()
        b.sandbox.faults.replace((FaultRule("status", operation="orders.audit_logs", code=503, after=21),))
        await b.account.reconciler.run([ORDERS])
        progress = await coverage(b).load()
        assert (progress.failures, progress.error_code, bool(progress.began)) == (1, "server_error", True)
        assert progress.due_at > b.services.clock.now()
        assert await coverage(b).gaps() == {}
        b.sandbox.faults.replace(())
        done = await one_pass(b)
        assert (done.failures, done.error) == (0, "")


async def test_where_most_cannot_be_read_a_pass_is_given_up(
    few: BenchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something else is wrong then; what is kept of it stays small."""
    monkeypatch.setattr(reconcile, "MAX_OPEN", 10)
    monkeypatch.setattr(reconcile, "MAX_AT_ONCE", 5)
    async with few() as b:
        await b.poll()
        for order in b.sandbox.store.ids():
            b.sandbox.world.audit.note("order", order, "Viewed", actor="somebody", before=None, after=None)
        b.sandbox.faults.replace((FaultRule("status", operation="orders.get", code=400),))
        await one_pass(b)
        progress, passes = await coverage(b).load(), await coverage(b).passes()
        assert passes[-1].proven is False
        assert progress.error_code == "too_many_open"
        assert 10 < len(await coverage(b).gaps()) <= 15
