"""The completeness proof: what the lists of OrderMesh hide is found in its audit logs, healed, and accounted for."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

from ordersync_consumer import tail as stream
from ordersync_consumer.envelope import Event
from tests.support.arq_worker import planned
from tests.support.reconciling import HIDDEN, ORDERS_ALONE, SOON, be_due, coverage, one_pass
from tests.support.waiting import eventually
from tests.support.worker import Bench, BenchMaker
from worker.capture.health import Health, judge
from worker.capture.reconcile import reconciler as reconcile
from worker.capture.reconcile.progress import LEASE, Coverage, ReconcileProgress
from worker.capture.reconcile.verifier import Verifier
from worker.capture.registry import AUDIT_LOGS, ORDERS, SHIPMENTS
from worker.capture.state.opening import Opener, Opening
from worker.capture.state.pauses import Pause, Pauses
from worker.config.sections import ReconcileSettings
from worker.redis.connections import answer
from worker.sandbox import FaultRule, Permissions
from worker.telemetry import log as logs

pytestmark = pytest.mark.anyio


async def events_of(b: Bench, resource: str) -> list[Event]:
    key = b.account.keys.stream(resource)
    return [event async for event in stream.follow(b.redis, key, "0", wait=False)]


async def total(b: Bench, name: str, resource: str = "orders") -> int:
    """A count, over all passes."""
    return sum(getattr(each.counts, name) for each in await coverage(b, resource).passes())


def asked(b: Bench, operation: str) -> int:
    """Requests for an operation so far."""
    return b.sandbox.requests.count(operation)


@pytest.fixture
def few(bench: BenchMaker) -> Any:
    """A worker on 50 orders whose passes may prove everything up to now, and may begin at once."""

    def make(**options: Any) -> Any:
        return bench(**{"reconcile": SOON, "intervals": ORDERS_ALONE, **options})

    return make


# --- what it proves -----------------------------------------------------------------------------------------------


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


# --- what it cannot prove -----------------------------------------------------------------------------------------


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


# --- slices, crashes, two at a time -------------------------------------------------------------------------------


async def test_it_is_resumed_where_it_was_stopped(few: BenchMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice ends with the batch in hand, and the next one carries on: each record is counted once."""
    monkeypatch.setattr(reconcile, "MAX_AT_ONCE", 8)
    async with few() as b:
        await b.poll()
        slices = 0

        def looks() -> int:
            return asked(b, "orders.audit_logs")

        def over(most: int) -> bool:
            return looks() >= most

        while not await coverage(b).passes():
            assert looks() < 300
            slices, most = slices + 1, looks() + 20
            await b.account.reconciler.run([ORDERS], stop=partial(over, most))
        (only,) = await coverage(b).passes()
        assert (only.counts.records, only.counts.verified) == (50, 50)
        assert slices >= 3


class Killed(BaseException):
    """The process ends here."""


def is_checked(fields: Any, _: Any) -> bool:
    """It is noted which records are about to be read by id."""
    return bool(fields.get("checking"))


def is_published(fields: Any, more: Any) -> bool:
    """The event of a gap is published, and what came of its batch is about to be noted."""
    return bool(more.get("ended") is None and fields.get("behind") and fields["counts"].healed)


def is_over(_: Any, more: Any) -> bool:
    """A pass that has healed a gap is about to end."""
    return bool(more.get("ended") and more["ended"].counts.healed)


@pytest.mark.parametrize(("point", "behind"), [(is_checked, True), (is_published, False), (is_over, False)])
async def test_killed_anywhere_it_resumes(
    few: BenchMaker, point: Any, behind: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two steps of it: the gap is healed once, counted once, and all is proven in the end."""
    plain = Coverage.update

    async def note(self: Coverage, fence: int, fields: Any, **more: Any) -> None:
        if point(fields, more) and not behind:
            raise Killed
        await plain(self, fence, fields, **more)
        if point(fields, more):
            raise Killed

    async with few() as b:
        await b.poll()
        order = b.sandbox.store.ids()[0]
        b.sandbox.hide("orders", order)
        b.sandbox.store.change(order, status=HIDDEN)
        monkeypatch.setattr(Coverage, "update", note)
        with pytest.raises(Killed):
            await one_pass(b)
        monkeypatch.setattr(Coverage, "update", plain)
        await one_pass(b)
        assert len([event for event in await b.events() if event.reason == "reconcile"]) == 1
        assert (await total(b, "found"), await total(b, "healed"), await total(b, "open")) == (1, 1, 0)
        assert await coverage(b).gaps() == {}


async def test_one_at_a_time(few: BenchMaker) -> None:
    """Two workers share the share: the second one finds the lease taken, and does nothing."""
    async with few() as b:
        await b.poll()
        held = {"owner": "other", "fence": 1, "until": 10**15}
        await answer(b.redis.hset(b.account.keys.lease(LEASE), mapping=held))
        await b.account.reconciler.run([ORDERS])
        assert await coverage(b).load() == ReconcileProgress()
        assert "orders.audit_logs" not in b.sandbox.requests.counts()


async def test_who_has_lost_the_lease_writes_nothing(
    few: BenchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that was frozen past its lease neither publishes nor moves what is proven."""
    async with few() as b:
        await b.poll()
        order = b.sandbox.store.ids()[0]
        b.sandbox.hide("orders", order)
        b.sandbox.store.change(order, status=HIDDEN)
        await b.poll()
        plain = Verifier.settle

        async def settle(self: Any, looks: Any) -> bool:
            await answer(b.redis.hset(b.account.keys.lease(LEASE), "fence", 10**15))
            return bool(await plain(self, looks))

        monkeypatch.setattr(Verifier, "settle", settle)
        await b.account.reconciler.run([ORDERS])
        assert (await coverage(b).load()).counts.records == 0
        assert not [event for event in await b.events() if event.reason == "reconcile"]


@pytest.mark.parametrize("first", [True, False], ids=["in the first full scan", "later"])
async def test_what_a_poll_commits_meanwhile_is_no_loss(
    few: BenchMaker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, first: bool
) -> None:
    """A slice loads the cursor, then a poll publishes: Redis holds more than the cursor says, and has lost nothing."""
    logs.configure("json", "info")
    async with few() as b:
        if not first:
            await b.poll()
            b.sandbox.store.change(7)
            await be_due(b)
        plain = Opener.open

        async def opened(self: Opener, owner: str, *, memory: bool) -> Opening | Pause:
            found = await plain(self, owner, memory=memory)
            monkeypatch.setattr(Opener, "open", plain)
            assert (await b.poll()).outcome == "complete"
            return found

        monkeypatch.setattr(Opener, "open", opened)
        await b.account.reconciler.run([ORDERS])
        assert "redis_" not in capsys.readouterr().err
        assert [event.sequence for event in await b.events()] == list(range(1, 51 if first else 58))


async def test_it_waits_until_a_poll_has_looked_for_a_loss(few: BenchMaker) -> None:
    """A worker that was killed may have given out numbers that Redis has lost: a poll looks, under its lease."""
    async with few() as b:
        await b.poll()
        await be_due(b)
        b.services.given_out.doubt("default/orders")
        await b.account.reconciler.run([ORDERS])
        assert asked(b, "orders.audit_logs") == 0
        assert (await coverage(b).load()).due_at > b.services.clock.now()
        await one_pass(b)


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


# --- the schedule -------------------------------------------------------------------------------------------------


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
