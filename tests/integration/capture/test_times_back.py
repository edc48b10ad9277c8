"""Modification times that go back: what is shown with an older time is confirmed, and then published."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.support.loss_cases import GATEWAYS
from tests.support.worker import Bench, BenchMaker
from worker.capture.health import judge
from worker.capture.reconcile import reconciler
from worker.capture.reconcile.comparison import Window
from worker.capture.reconcile.verifier import RecordCheck
from worker.capture.registry import ORDERS
from worker.capture.resync.requests import OVER, Resync, ResyncRequest
from worker.capture.state.refresh_queue import RefreshQueue, record
from worker.config.sections import InterestSettings
from worker.redis.connections import answer
from worker.sandbox import FaultRule, SandboxServer, ServedContract
from worker.telemetry import log as logs

pytestmark = pytest.mark.anyio


def write(b: Bench, order: str, *, seconds: float = 0.0, at: str = "", **fields: Any) -> None:
    """Serve an order with other fields, modified so many seconds after it was (before, if negative), or `at` a time."""
    before = json.loads(b.sandbox.store.truth()[order])
    modified = datetime.fromisoformat(before["updatedAt"] or before["createdAt"])
    moved = at or (modified + timedelta(seconds=seconds)).isoformat()
    after = before | fields | {"updatedAt": moved}
    b.sandbox.store.replace(order, json.dumps(after).encode())


def same(b: Bench, order: str, data: bytes) -> bool:
    """Return whether an event shows the order as it is served."""
    return bool(json.loads(data) == json.loads(b.sandbox.store.truth()[order]))


async def is_told(b: Bench, *orders: str) -> bool:
    """Return whether the last event of each order shows it as it is served."""
    last = {event.subject: event.data for event in await b.events()}
    return all(same(b, order, last[order]) for order in orders)


async def resync(b: Bench, **fields: Any) -> Resync:
    """Carry out a resync to its end."""
    resyncs = b.account.resyncer.resyncs
    name = (await resyncs.create(ResyncRequest(resource="orders", **fields), b.services.clock.now())).id
    for _ in range(10):
        await b.account.resyncer.slice(ORDERS, name)
        resync = await resyncs.get(name)
        assert resync is not None
        if resync.state in OVER:
            return resync
    raise AssertionError("the resync does not end")


@pytest.mark.parametrize("back", [50, 86_400])
@pytest.mark.parametrize("plan", GATEWAYS)
async def test_a_time_that_goes_back_is_published(bench: BenchMaker, plan: str, back: float) -> None:
    """The first read that shows it keeps it back, the read by id that follows publishes it, and nothing twice.

    A day back, it lies before the mark of the reads of newer changes: a full scan shows it.
    """
    with SandboxServer(orders=60, contract=ServedContract(**GATEWAYS[plan])) as sandbox:
        async with bench(sandbox, probe=True) as b:
            await b.poll()
            order = b.sandbox.store.change(1)[0]
            await b.poll()
            told = len(await b.events())
            write(b, order, seconds=-back, status="Open", remark="back")
            run = await b.poll(complete=back > 60)
            assert (run.stale, run.updated) == (1, int(back > 60))
            if back < 60:
                assert (await b.cursor()).stale == 1
                verdict = judge(await b.cursor(), b.services.clock.now())
                assert (verdict.health.value, "no later time" in verdict.cause) == ("degraded", True)
                assert (await b.poll()).updated == 1
            assert await is_told(b, order)
            cursor = await b.cursor()
            assert (cursor.stale, judge(cursor, b.services.clock.now()).health.value) == (0, "ok")
            for _ in range(2):
                run = await b.poll(complete=True)
                assert (run.published, run.stale) == (0, 0)
            assert len(await b.events()) == told + 1


async def test_two_nodes_whose_clocks_differ(bench: BenchMaker) -> None:
    """The node behind writes each order after the one ahead: every second write is published by the second poll."""
    with SandboxServer(orders=60, contract=ServedContract(**GATEWAYS["window"])) as sandbox:
        async with bench(sandbox, probe=True) as b:
            await b.poll()
            orders = b.sandbox.store.ids()
            for order in orders:
                write(b, order, at="2026-11-20T10:00:01.500Z", status="Open", node="ahead")
            await b.poll()
            for order in orders:
                write(b, order, at="2026-11-20T10:00:00.200Z", status="Fulfilled", node="behind")
            first, second = await b.poll(), await b.poll()
            assert (first.stale, first.updated, second.updated) == (60, 0, 60)
            assert await is_told(b, *orders)


async def test_a_backup_is_restored(bench: BenchMaker) -> None:
    """Twenty orders are as they were a day ago: all of them are published, and no other one."""
    async with bench() as b:
        orders = b.sandbox.store.ids()[:20]
        before = {order: b.sandbox.store.truth()[order] for order in orders}
        for order in orders:
            write(b, order, seconds=86_400, status="Fulfilled")
        await b.poll()
        for order, raw in before.items():
            b.sandbox.store.replace(order, raw)
        assert ((await b.poll()).stale, (await b.poll()).updated) == (20, 20)
        assert await is_told(b, *orders)
        assert len(await b.events()) == 50 + 20


async def test_the_hour_that_comes_twice(bench: BenchMaker) -> None:
    """Times without a zone go back by an hour when summer time ends; one that was in the future is put right."""
    async with bench() as b:
        first, second = b.sandbox.store.ids()[:2]
        known = json.loads(b.sandbox.store.truth()[first])
        for order, at, status in (
            (first, "2026-10-25T02:50:00", "Open"),
            (second, "2062-11-20T10:00:00Z", "Open"),
            (first, "2026-10-25T02:10:00", "Fulfilled"),
            (second, "2026-11-20T10:00:00Z", "Fulfilled"),
        ):
            served = known | {"id": order, "updatedAt": at, "status": status}
            b.sandbox.store.replace(order, json.dumps(served).encode())
            await b.poll()
            await b.poll()
        assert await is_told(b, first, second)
        versions = [event.version for event in await b.events() if event.subject == second]
        assert versions == [1, 2, 3]


async def test_it_is_logged_once(bench: BenchMaker, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for the records of a commit, with both times of the first."""
    logs.configure("json", "info")
    async with bench() as b:
        await b.poll()
        orders = sorted(b.sandbox.store.ids()[:3])
        for order in orders:
            write(b, order, seconds=-50, status="Odd")
        await b.poll()
        await b.poll()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if "went_back" in line]
    assert [(line["level"], line["records"]) for line in lines] == [("warning", 3)]
    assert lines[0]["subject"] in orders
    assert re.fullmatch(r"20..-.*Z", lines[0]["changed_at"])
    assert lines[0]["changed_at"] < lines[0]["previous_at"]


@pytest.mark.parametrize("status", [404, 403, 500])
async def test_without_reads_by_id_two_full_scans_decide(bench: BenchMaker, status: int) -> None:
    """Where the record cannot be read by its id, the next full scan that shows it again publishes it."""
    async with bench() as b:
        await b.poll()
        order = b.sandbox.store.ids()[3]
        write(b, order, seconds=-50, status="Odd")
        b.sandbox.faults.replace((FaultRule("status", operation="orders.get", code=status),))
        first, second = await b.poll(), await b.poll()
        assert (first.stale, first.updated, second.stale, second.updated) == (1, 0, 1, 0)
        await b.grow_old()
        third = await b.poll()
        assert (third.stale, third.updated) == (0, 1)
        assert await is_told(b, order)
        assert (await b.cursor()).stale == 0


async def test_a_full_scan_that_is_interrupted_does_not_confirm_itself(bench: BenchMaker) -> None:
    """The scan that resumes is the same read: what it shows for the second time is no second evidence."""
    async with bench(page_size=10) as b:
        await b.poll()
        b.sandbox.faults.replace((FaultRule("status", operation="orders.get", code=500),))
        order = b.sandbox.store.ids()[3]
        write(b, order, seconds=-50, status="Odd")
        await b.poll(stop=_after(2))
        mark = await answer(b.redis.hgetall(b.account.keys.stale("orders")))
        assert len(mark) == 1
        await answer(b.redis.hset(b.account.keys.cursor("orders"), "sweep_page", "0"))
        run = await b.poll()
        assert (run.stale, run.updated) == (1, 0)
        await b.grow_old()
        assert (await b.poll()).updated == 1


def _after(pages: int) -> Any:
    asked = iter(range(10_000))
    return lambda: next(asked) >= pages


async def test_another_older_state_has_to_be_confirmed_anew(bench: BenchMaker) -> None:
    """A full scan confirms the bytes that another one has shown, not any older state."""
    async with bench() as b:
        await b.poll()
        b.sandbox.faults.replace((FaultRule("status", operation="orders.get", code=500),))
        order = b.sandbox.store.ids()[3]
        for status in ("First", "Second"):
            write(b, order, seconds=-50, status=status)
            run = await b.poll()
            assert (run.stale, run.updated) == (1, 0)
            await b.grow_old()
        assert (await b.poll()).updated == 1
        assert await is_told(b, order)


async def test_a_list_that_lags_confirms_nothing(bench: BenchMaker) -> None:
    """It shows the older state in one scan after another while the read by id, which would tell, fails."""
    async with bench() as b:
        await b.poll()
        order = b.sandbox.store.ids()[3]
        old = b.sandbox.store.truth()[order]
        write(b, order, seconds=50, status="New")
        new = b.sandbox.store.truth()[order]
        await b.poll()
        b.sandbox.faults.replace((FaultRule("status", operation="orders.get", code=500),))
        b.sandbox.store.replace(order, old)
        for _ in range(4):
            assert (await b.poll()).updated == 0
        b.sandbox.store.replace(order, new)
        assert (await b.poll()).published == 0
        assert ((await b.cursor()).stale, [event.version for event in await b.events()][-1]) == (0, 2)


async def test_a_list_that_showed_an_older_state_once(bench: BenchMaker) -> None:
    """The next full scan shows what was published: the record is not stale any more, though nobody has read it."""
    async with bench() as b:
        await b.poll()
        order = b.sandbox.store.ids()[3]
        old = b.sandbox.store.truth()[order]
        b.sandbox.faults.replace((FaultRule("status", operation="orders.get", code=500),))
        write(b, order, seconds=-50, status="Odd")
        await b.poll()
        assert (await b.cursor()).stale == 1
        b.sandbox.store.replace(order, old)
        assert (await b.poll()).published == 0
        assert (await b.cursor()).stale == 0


async def test_a_read_by_id_that_nothing_has_announced(bench: BenchMaker) -> None:
    """A copy that lags answers it, perhaps: it is read once more, some seconds later."""
    async with bench() as b:
        await b.poll()
        order = b.sandbox.store.ids()[3]
        queue = RefreshQueue(b.redis, b.account.keys, "orders")
        write(b, order, seconds=-50, status="Odd")
        await queue.add([record(order)])
        run = await b.poll(follow_ups_only=True)
        assert (run.stale, run.updated, run.follow_ups) == (1, 0, 1)
        due = await answer(b.redis.zscore(b.account.keys.refresh_queue("orders"), record(order)))
        assert 3 < due - b.services.clock.now() < 6
        await queue.add([record(order)])
        assert (await b.poll(follow_ups_only=True)).updated == 1


@pytest.mark.parametrize("force", [False, True])
async def test_a_resync_by_id_publishes_it(bench: BenchMaker, force: bool) -> None:
    """A person has named the record: it is published as it is, at once."""
    async with bench() as b:
        await b.poll()
        order = b.sandbox.store.ids()[3]
        write(b, order, seconds=-50, status="Odd")
        done = await resync(b, ids=(order,), force=force)
        assert (done.read, done.published, done.unchanged, done.stale) == (1, 1, 0, 0)
        assert await is_told(b, order)
        assert ((await b.poll()).published, (await b.cursor()).stale) == (0, 0)


async def test_a_resync_of_the_list(bench: BenchMaker) -> None:
    """The list may lag: what it shows is counted by itself, not as unchanged, and read by id; `force` publishes it."""
    async with bench() as b:
        await b.poll()
        first, second = b.sandbox.store.ids()[:2]
        write(b, first, seconds=-50, status="Odd")
        done = await resync(b, all=True)
        assert (done.read, done.published, done.unchanged, done.stale) == (50, 0, 49, 1)
        assert (await b.poll()).updated == 1
        write(b, second, seconds=-50, status="Odd")
        done = await resync(b, all=True, force=True)
        assert (done.published, done.unchanged, done.stale) == (50, 0, 0)
        assert await is_told(b, first, second)


async def test_a_record_outside_the_scope(bench: BenchMaker) -> None:
    """One that was outside comes in with an older time, and one that was published leaves with one."""
    async with bench(interest=InterestSettings(statuses={"orders": ["Open"]})) as b:
        first, second = b.sandbox.store.ids()[:2]
        write(b, first, seconds=0, status="Draft")
        write(b, second, seconds=0, status="Open")
        await b.poll()
        write(b, first, seconds=-50, status="Open")
        write(b, second, seconds=-50, status="Draft")
        await b.poll()
        await b.poll()
        assert await is_told(b, first, second)
        assert (await b.cursor()).stale == 0


async def test_reconciliation_makes_it_due(bench: BenchMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads by id, and finds an older state that no list has shown: the next read by id publishes it."""
    monkeypatch.setattr(reconciler, "window_of", lambda *_, **__: Window(0, 10**13))
    monkeypatch.setattr(RecordCheck, "is_suspect", property(lambda _: True))
    async with bench() as b:
        await b.poll()
        order = b.sandbox.store.ids()[3]
        write(b, order, seconds=-50, status="Odd")
        await answer(b.redis.hset(b.account.keys.reconcile("orders"), "due_at", "0"))
        await b.account.reconciler.run([ORDERS])
        assert (await b.cursor()).stale == 1
        assert (await b.poll(follow_ups_only=True)).updated == 1
        assert await is_told(b, order)
