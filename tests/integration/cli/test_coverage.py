"""`ordersync coverage`: what is proven, hour by hour, and in words what is not and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import ordersync
from tests.support.reconciling import HIDDEN, ORDERS_ALONE, SOON, one_pass
from tests.support.worker import Bench, BenchMaker
from worker.app import announce
from worker.capture.reconcile.calendar import HOUR_MS
from worker.capture.registry import ORDERS
from worker.clock import parse_time
from worker.redis.connections import answer
from worker.sandbox import FaultRule, Permissions

pytestmark = pytest.mark.anyio


def call(tmp_path: Path, redis_url: str, *words: str) -> Any:
    done = ordersync("coverage", *words, cwd=tmp_path, redis__url=redis_url, poll__preset="orders")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if "--json" in words else done.stdout


async def proven_long_ago(b: Bench) -> int:
    """Let the proof reach back for some hours, as after a day of work; the present hour."""
    hour = int(b.services.clock.now() // 3600)
    await answer(
        b.redis.hset(b.account.keys.reconcile("orders"), "complete_since", str((hour - 5) * HOUR_MS))
    )
    return hour


async def test_what_an_account_does_not_poll_is_not_shown(
    bench: BenchMaker, redis_url: str, tmp_path: Path
) -> None:
    """What is polled of it may be said in Redis or in an accounts file, and not in the settings of the command."""
    async with bench(intervals=ORDERS_ALONE) as b:
        await announce(b.services)
        await b.poll()
        done = ordersync("coverage", "--json", cwd=tmp_path, redis__url=redis_url, poll__preset="records")
        assert [row["resource"] for row in json.loads(done.stdout)] == ["orders"]


async def test_what_is_proven_is_shown(bench: BenchMaker, redis_url: str, tmp_path: Path) -> None:
    """A glyph for each hour, when it is complete, what was found and healed; the same for programs."""
    async with bench(reconcile=SOON, intervals=ORDERS_ALONE) as b:
        await announce(b.services)
        await b.poll()
        await b.account.reconciler.run([ORDERS])
        order = b.sandbox.store.ids()[0]
        b.sandbox.hide("orders", order)
        b.sandbox.store.change(order, status=HIDDEN)
        await one_pass(b)
        hour = await proven_long_ago(b)

        (row,) = call(tmp_path, redis_url, "orders", "--json")
        assert (row["account"], row["resource"], row["provable"], row["open"], row["gaps"]) == (
            "default", "orders", True, 0, [],
        )  # fmt: skip
        assert (
            sum(each["healed"] for each in row["passes"]) == sum(each["found"] for each in row["passes"]) == 1
        )
        assert all(each["proven"] for each in row["passes"])
        assert parse_time(row["complete_until"]) == parse_time(row["passes"][-1]["until"])
        states = [
            each["state"] for each in row["hours"] if hour - 5 <= (parse_time(each["hour"]) or 0) // HOUR_MS
        ]
        assert "healed" in states
        assert states[:4] == ["verified"] * 4

        told = call(tmp_path, redis_url, "--days", "2")
        assert told.count("■") >= 4
        assert "◆" in told
        assert "gap healed" in told
        assert "orders is proven complete up to 20" in told
        assert "Gaps found: 1, healed: 1, still open: 0." in told
        assert "its audit log cannot be read" in told
        assert len([line for line in told.splitlines() if line.startswith("20")]) == 2


async def test_what_is_open_is_named(bench: BenchMaker, redis_url: str, tmp_path: Path) -> None:
    """The record, when it changed, and why it could not be read; the proof stops before it."""
    async with bench(reconcile=SOON, intervals=ORDERS_ALONE) as b:
        await announce(b.services)
        await b.poll()
        order = b.sandbox.store.ids()[0]
        b.sandbox.hide("orders", order)
        b.sandbox.store.change(order, status=HIDDEN)
        b.sandbox.faults.replace((FaultRule("status", operation="orders.get", code=400),))
        await one_pass(b)
        told = call(tmp_path, redis_url)
        assert f"open  {order}" in told
        assert "api_error" in told
        assert "!" in told
        (row,) = call(tmp_path, redis_url, "--json")
        assert [(gap["id"], gap["why"]) for gap in row["gaps"]] == [(order, "api_error")]
        assert row["passes"][-1]["proven"] is False
        assert "open" in {each["state"] for each in row["hours"]}


async def test_what_cannot_be_proven_is_said_in_words(
    bench: BenchMaker, redis_url: str, tmp_path: Path
) -> None:
    """A token without the right to audit logs; resources that have none; audit logs themselves."""
    async with bench(reconcile=SOON, intervals=ORDERS_ALONE) as b:
        await announce(b.services)
        await b.poll()
        b.sandbox.auth.permit(Permissions().without("audit:get"))
        await b.account.reconciler.run([ORDERS])
        told = call(tmp_path, redis_url)
        assert "No hour of orders is proven complete." in told
        assert "The comparison has stopped: orders.audit_logs: status 403" in told
        for name in ("categories", "order_audit"):
            await answer(b.redis.hset(b.account.keys.cursor(name), "baseline", "1"))
        rows = call(tmp_path, redis_url, "--json")
        assert [(row["resource"], row["provable"]) for row in rows] == [
            ("orders", False), ("categories", False), ("order_audit", False),
        ]  # fmt: skip
        assert "403" in rows[0]["why"]
        assert "OrderMesh serves no audit logs, or no single records" in rows[1]["why"]
        assert "audit logs prove other resources" in rows[2]["why"]
    done = ordersync("coverage", "parcels", cwd=tmp_path, redis__url=redis_url)
    assert (done.returncode, "Unknown resource 'parcels'" in done.stderr) == (2, True)
