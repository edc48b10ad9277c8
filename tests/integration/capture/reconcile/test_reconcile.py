"""What reconciliation proves: what lists of OrderMesh hide is found in its audit logs, healed, and accounted for."""

from __future__ import annotations

import json

import pytest

from ordersync_consumer import tail as stream
from ordersync_consumer.envelope import Event
from tests.support.arq_worker import planned
from tests.support.reconciling import HIDDEN, ORDERS_ALONE, asked, be_due, coverage, one_pass, total
from tests.support.waiting import eventually
from tests.support.worker import Bench, BenchMaker
from worker.capture.registry import AUDIT_LOGS, ORDERS, SHIPMENTS
from worker.capture.state.pauses import Pause, Pauses
from worker.config.sections import ReconcileSettings
from worker.redis.connections import answer
from worker.telemetry import log as logs

pytestmark = pytest.mark.anyio


async def events_of(b: Bench, resource: str) -> list[Event]:
    key = b.account.keys.stream(resource)
    return [event async for event in stream.follow(b.redis, key, "0", wait=False)]


async def test_where_nothing_was_missed_it_is_proven(few: BenchMaker) -> None:
    """Changes that polls have seen are covered by what they published: one request for each record, no other read."""
    async with few() as b:
        await b.poll()
        b.sandbox.store.change(7)
        done = await one_pass(b)
        assert done.complete_until > 0
        assert done.complete_since > 0
        last = (await coverage(b).passes())[-1]
        assert last.proven
        assert (last.counts.records, last.counts.verified, last.counts.found, last.counts.open) == (
            50,
            50,
            0,
            0,
        )
        assert await total(b, "entries") >= 57
        assert asked(b, "orders.get") == 0
        assert [event.reason for event in await b.events()] == ["poll"] * 57


async def test_a_change_that_the_lists_hide_is_found_and_healed(
    few: BenchMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    """The audit log tells of it, the record is read by its id, and the event says that reconciliation has found it."""
    logs.configure("json", "info")
    async with few() as b:
        await b.poll()
        first, second = b.sandbox.store.ids()[:2]
        b.sandbox.hide("orders", first, second)
        b.sandbox.store.change(first, status=HIDDEN)
        b.sandbox.store.change(second, status=HIDDEN)
        b.sandbox.store.change(
            second, status=f"{HIDDEN} AGAIN"
        )  # between two reads: only what it came to can be published
        done = await one_pass(b)
        healed = [event for event in await b.events() if event.reason == "reconcile"]
        assert {event.subject for event in healed} == {first, second}
        assert all(event.type.endswith(".updated") and "status" in event.changed for event in healed)
        truth = b.sandbox.store.truth()
        assert {event.subject: event.data for event in healed} == {
            each: truth[each] for each in (first, second)
        }
        assert (await total(b, "found"), await total(b, "healed"), await total(b, "open")) == (2, 2, 0)
        assert await coverage(b).gaps() == {}
        assert done.complete_until > 0
        lines = capsys.readouterr().err
        assert lines.count('"event": "gap_found"') == lines.count('"event": "gap_healed"') == 2
        assert all('"level": "warning"' in line for line in lines.splitlines() if '"gap_' in line)
        # The next sweep is served the old record again, and does not take back what is newer.
        run = await b.poll(complete=True)
        assert (run.updated, run.stale) == (0, 2)
        again = await one_pass(b)
        assert again.complete_until > done.complete_until
        assert (await coverage(b).passes())[-1].counts.found == 0


async def test_shipments_are_proven_likewise(few: BenchMaker) -> None:
    """Their times have no zone, and their audit logs stand at a path of their own."""
    async with few(intervals={"shipments": 1.0}, probe=True) as b:
        await b.account.poller.poll(SHIPMENTS, complete=True)
        (shipment,) = b.sandbox.world.shipments.ids()[:1]
        b.sandbox.hide("shipments", shipment)
        b.sandbox.world.shipments.change(500)
        before = {event.subject for event in await events_of(b, "shipments") if event.reason == "reconcile"}
        assert before == set()
        await one_pass(b, SHIPMENTS)
        healed = [event for event in await events_of(b, "shipments") if event.reason == "reconcile"]
        assert [event.subject for event in healed] == [shipment]
        assert await total(b, "healed", "shipments") == 1
        assert await total(b, "verified", "shipments") >= len(b.sandbox.world.shipments.ids())


async def test_an_entry_that_moves_no_time_is_verified_by_reading_the_record(few: BenchMaker) -> None:
    """A log may tell of more than the record's time does. It costs a read by id, is no gap, and is looked at once."""
    async with few() as b:
        await b.poll()
        order = b.sandbox.store.ids()[3]
        b.sandbox.world.audit.note("order", order, "Viewed", actor="somebody", before=None, after=None)
        await one_pass(b)
        assert asked(b, "orders.get") == 1
        assert await total(b, "found") == 0
        assert await total(b, "entries") >= 51
        await one_pass(b)
        assert asked(b, "orders.get") == 1


async def test_what_happens_behind_the_window_is_left_to_the_next_pass(bench: BenchMaker) -> None:
    """A change that is younger than the lag is not missing: a poll may still be on its way to it."""
    async with bench(reconcile=ReconcileSettings(lag=1), intervals=ORDERS_ALONE) as b:
        await b.poll()
        await one_pass_anyhow(b)
        order = b.sandbox.store.ids()[0]
        b.sandbox.hide("orders", order)
        b.sandbox.store.change(order, status=HIDDEN)
        changed = b.services.clock.now() * 1000
        while not [event for event in await b.events() if event.reason == "reconcile"]:
            await one_pass_anyhow(b)
            last = (await coverage(b).passes())[-1]
            assert last.counts.found == (last.until >= changed - 1)


async def one_pass_anyhow(b: Bench) -> None:
    """One pass over whatever the window is by now."""
    before = len(await coverage(b).passes())

    async def ended() -> bool:
        await b.poll()
        await be_due(b)
        await b.account.reconciler.run([ORDERS])
        return len(await coverage(b).passes()) > before

    await eventually(ended)


async def test_new_entries_are_handed_to_the_audit_stream(few: BenchMaker) -> None:
    """A log that tells more than was published of it is due there, and is published once."""
    async with few(intervals={"orders": 1.0, "order_audit": 1.0}) as b:
        await b.poll()
        log = AUDIT_LOGS["order_audit"]
        await b.account.poller.poll(log)
        order = b.sandbox.store.ids()[5]
        b.sandbox.world.audit.note("order", order, "Viewed", actor="somebody", before=None, after=None)
        await b.account.poller.poll(log)
        before = await events_of(b, "order_audit")
        await one_pass(b)
        await b.account.poller.poll(log)
        new = (await events_of(b, "order_audit"))[len(before) :]
        assert [(event.subject, json.loads(event.data)["action"]) for event in new] == [(order, "Viewed")]
        assert await b.redis.zcard(b.account.keys.refresh_queue("order_audit")) == 0


async def test_a_deleted_record_is_no_gap(few: BenchMaker) -> None:
    """Its deletion is published by complete reads, which may not have missed it yet: said, and no obstacle."""
    async with few() as b:
        await b.poll()
        order = b.sandbox.store.ids()[0]
        b.sandbox.hide("orders", order)
        await one_pass(b)
        b.sandbox.store.delete(order)
        del b.sandbox.store.audit._logs[("order", order)]  # as where a log goes with its record
        await one_pass(b)
        last = (await coverage(b).passes())[-1]
        assert (last.proven, last.counts.absent, last.counts.open) == (True, 1, 0)
        assert (await b.cursor()).gaps == 0
        assert (await coverage(b).gaps())[order].is_absent
        keys = b.account.keys
        await answer(
            b.redis.hset(keys.unconfirmed_deletes("orders"), order, "1")
        )  # answered once, half a minute ago
        await b.redis.zadd(keys.refresh_queue("orders"), {f"id:{order}": 0})
        assert (await b.poll()).deleted == 1
        await one_pass(b)
        assert await coverage(b).gaps() == {}
        assert await total(b, "found") == 0


async def test_a_pause_and_a_first_read_come_before_it(few: BenchMaker) -> None:
    """Nothing is asked of a resource that somebody has paused, nor before it was read once."""
    async with few() as b:
        await b.account.reconciler.run([ORDERS])
        assert (await coverage(b).load()).due_at > b.services.clock.now()
        await b.poll()
        await be_due(b)
        await Pauses(b.redis, b.account.keys).begin([Pause("*", "stocktaking", "somebody", 0.0)])
        await b.account.reconciler.run([ORDERS])
        assert "orders.audit_logs" not in b.sandbox.requests.counts()


async def test_it_takes_its_share_of_the_budget(bench: BenchMaker) -> None:
    """A tenth of 200 a second: 50 records take two and a half seconds of a budget that polls have for themselves."""
    settings = ReconcileSettings(lag=0, share=0.1)
    async with bench(reconcile=settings, intervals=ORDERS_ALONE, requests_per_second=200) as b:
        await b.poll()
        began = b.services.clock.monotonic()
        await one_pass(b)
        took = b.services.clock.monotonic() - began
        requests = asked(b, "orders.audit_logs")
        assert requests >= 51
        assert took >= (requests - 2) / 20


async def test_it_is_planned_when_it_is_due(few: BenchMaker, redis_url: str) -> None:
    """One job for an account, after the first complete read; not while it is paused, and not when it is turned off."""
    wanted = "reconcile/reconcile:default"
    async with few() as b, planned(b.services, redis_url) as schedule:
        assert wanted not in await schedule.due()
        await b.poll()
        assert wanted in await schedule.due()
        await one_pass(b)
        await schedule.planner.reconcile_ended(b.account.account)
        assert wanted not in await schedule.due()
        await be_due(b)
        await Pauses(b.redis, b.account.keys).begin([Pause("orders", "stocktaking", "somebody", 0.0)])
        assert wanted not in await schedule.due()
    async with few(reconcile=ReconcileSettings(every=0)) as b, planned(b.services, redis_url) as schedule:
        await Pauses(b.redis, b.account.keys).end(["orders"])
        assert wanted not in await schedule.due()
