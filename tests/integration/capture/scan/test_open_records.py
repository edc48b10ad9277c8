"""Reading the orders that may still change, where a gateway has neither filter nor sort but chooses by status."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from msgspec import Raw

from tests.support.tools import missing
from tests.support.worker import Bench, BenchMaker
from worker.capture.context import ReadOptions
from worker.capture.reconcile import reconciler
from worker.capture.reconcile.comparison import Window
from worker.capture.records import compiled
from worker.capture.records.raw_records import RawRecord
from worker.capture.registry import ORDERS
from worker.capture.resync.requests import ResyncRequest
from worker.capture.state.open_records import OpenRecords
from worker.config.sections import InterestSettings, ReconcileSettings
from worker.redis.connections import answer
from worker.sandbox import FaultRule, SandboxServer, ServedContract

pytestmark = pytest.mark.anyio


def status_of(sandbox: SandboxServer, order: str) -> str:
    """As it is now."""
    status: str = json.loads(sandbox.store.truth()[order])["status"]
    return status


def orders_in(sandbox: SandboxServer, *statuses: str) -> list[str]:
    """Orders of the sandbox in one of these statuses."""
    return [each for each in sandbox.store.ids() if status_of(sandbox, each) in statuses]


async def settled(b: Bench) -> None:
    """The first complete read is over."""
    run = await b.poll()
    assert (run.outcome, run.plan) == ("complete", "sweep")


async def test_an_order_that_opens_again_is_recorded_again(bench: BenchMaker) -> None:
    """An order that was recorded before is sent to Redis again only after a read has found it closed."""
    async with bench() as b:
        records, key = OpenRecords(b.redis, b.account.keys, "orders"), b.account.keys.open("orders")
        await records.add({"a", "b"})
        await b.redis.delete(key)
        await records.add({"a", "b", "c"})
        assert await answer(b.redis.smembers(key)) == {b"c"}
        await records.replace({"a"}, believe=True)
        await records.add({"a", "b"})
        assert await answer(b.redis.smembers(key)) == {b"a", b"b"}


async def test_the_cost_follows_the_open_orders(bench: BenchMaker) -> None:
    """With ten times the history a quiet poll costs no more, and less than reading everything."""
    costs = []
    for history in (300, 3000):
        with SandboxServer(orders=history) as sandbox:
            for order in orders_in(sandbox, "Open", "In Production", "Customer Care Hold")[20:]:
                sandbox.store.change(order, status="Fulfilled")
            async with bench(sandbox, probe=True, page_size=20) as b:
                await b.redis.flushall()
                await settled(b)
                await b.poll()
                run = await b.poll()
                assert (run.plan, run.outcome, run.published) == ("open", "complete", 0)
                costs.append(run.usage.requests)
                assert run.usage.requests < (await b.cursor()).scan.pages
    assert costs[1] <= costs[0] + 2


async def test_the_first_scan_reads_each_order_in_one_pass(
    bench: BenchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its content along with its id, also where the scan learns the statuses; later only what has changed is read."""
    if compiled.missing:
        missing("the compiled reader was not built")
    contents = list[int]()

    observe = ReadOptions.observe

    def observed(options: ReadOptions, records: Sequence[Raw], **how: Any) -> list[RawRecord]:
        found = observe(options, records, **how)
        contents.append(sum(one.content is not None for one in found))
        return found

    monkeypatch.setattr(ReadOptions, "observe", observed)
    with SandboxServer(orders=60) as sandbox:
        async with bench(sandbox, probe=True, page_size=20) as b:
            await settled(b)
            assert sum(contents) == 60
            contents.clear()
            b.adjust(complete_every=0.0)
            assert (await b.poll()).plan == "open+sweep"
            assert contents
            assert not any(contents)


async def test_changes_of_open_orders(bench: BenchMaker) -> None:
    """New ones and changed ones are published by the same poll; what has left is read by its id with the next."""
    with SandboxServer(orders=200) as sandbox:
        async with bench(sandbox, probe=True, page_size=10) as b:
            await settled(b)
            assert (await b.poll()).plan == "open"
            created = sandbox.store.create(12)
            (order,) = sandbox.store.change(orders_in(sandbox, "Open")[0], externalId="changed")
            run = await b.poll()
            assert (run.plan, run.created, run.updated) == ("open", 12, 1)
            gone = [created[0], order]
            sandbox.store.change(gone, status="Fulfilled")
            assert (await b.poll()).outcome == "complete"
            run = await b.poll()
            assert (run.plan, run.updated) == ("refresh+open", 2)
            assert [status_of(sandbox, event.subject) for event in (await b.events())[-2:]] == [
                "Fulfilled"
            ] * 2
            assert (await b.poll()).published == 0


async def test_a_change_in_a_final_status(bench: BenchMaker) -> None:
    """It is left to the complete read, which finds it."""
    with SandboxServer(orders=200) as sandbox:
        async with bench(sandbox, probe=True, page_size=10) as b:
            await settled(b)
            await b.poll()
            (order,) = sandbox.store.change(orders_in(sandbox, "Fulfilled")[0], externalId="refunded")
            assert (await b.poll()).published == 0
            b.adjust(complete_every=0.0)
            run = await b.poll()
            assert (run.plan, run.updated) == ("open+sweep", 1)
            assert (await b.events())[-1].subject == order


async def test_a_choice_that_stops_to_hold(bench: BenchMaker) -> None:
    """One order of another status: the parameter is used no more, and the poll reads everything."""
    with SandboxServer(orders=200) as sandbox:
        async with bench(sandbox, probe=True, page_size=10) as b:
            await settled(b)
            await b.poll()
            contract = replace(sandbox._sandbox.contract, choices_honoured=False)
            sandbox._sandbox.contract = sandbox.store.contract = contract
            changed = sandbox.store.change(15)
            run = await b.poll()
            assert (run.plan, run.outcome, run.updated) == ("open+sweep", "complete", 15)
            known = (await b.account.capabilities.load())["orders"]
            assert (known.status_parameter, known.merchant_parameter) == (None, None)
            assert (await b.poll()).plan == "sweep"
            assert {event.subject for event in (await b.events())[-15:]} == set(changed)


async def test_a_choice_that_is_ignored_is_not_used(bench: BenchMaker) -> None:
    """What the probe has not seen to be honoured is never asked for."""
    with SandboxServer(orders=200, contract=ServedContract(choices_honoured=False)) as sandbox:
        async with bench(sandbox, probe=True, page_size=10, interest=InterestSettings(merchants=("m",))) as b:
            await settled(b)
            known = (await b.account.capabilities.load())["orders"]
            assert (known.status_parameter, known.merchant_parameter) == (None, None)
            asked = len(sandbox.requests.last())
            assert (await b.poll()).plan == "sweep"
            assert not any("merchantId" in each.query for each in sandbox.requests.last()[asked:])


@pytest.mark.parametrize("honoured", [True, False])
async def test_one_merchant_is_read_alone(bench: BenchMaker, *, honoured: bool) -> None:
    """Where the gateway chooses by merchant, the orders of others are not even asked for."""
    with SandboxServer(orders=200) as sandbox:
        merchant = json.loads(next(iter(sandbox.store.truth().values())))["merchantId"]
        mine = {
            each for each, raw in sandbox.store.truth().items() if json.loads(raw)["merchantId"] == merchant
        }
        async with bench(
            sandbox, probe=True, page_size=10, interest=InterestSettings(merchants=(merchant,))
        ) as b:
            run = await b.poll()
            assert (run.outcome, run.records, run.outside) == ("complete", len(mine), 0)
            if not honoured:
                contract = replace(sandbox._sandbox.contract, choices_honoured=False)
                sandbox._sandbox.contract = sandbox.store.contract = contract
            sandbox.store.change(sandbox.store.ids()[:150])
            for _ in range(2):
                assert (await b.poll(complete=True)).outcome in {"complete", "suspicious"}
            told = {event.subject: event.data for event in await b.events()}
            assert told == {each: sandbox.store.truth()[each] for each in mine}
            known = (await b.account.capabilities.load())["orders"]
            assert known.merchant_parameter == ("merchantId" if honoured else None)


NEWEST_FIRST = ServedContract(descending=True)


async def told_as_final(b: Bench, order: str) -> None:
    """Two polls find that an order has left the open statuses, and publish it."""
    b.sandbox.store.change(order, status="Fulfilled")
    b.sandbox.faults.clear()
    for _ in range(2):
        assert (await b.poll()).outcome == "complete"
    last = [event for event in await b.events() if event.subject == order][-1]
    assert json.loads(last.data)["status"] == "Fulfilled"


def asked_for(sandbox: SandboxServer, status: str) -> int:
    """How often a page of the orders in a status has been asked for."""
    return sum(f"status={status}" in each.query for each in sandbox.requests.last())


async def test_told_as_open_by_a_poll_that_is_stopped(bench: BenchMaker) -> None:
    """What has left the open statuses before the next poll is read by its id all the same."""
    with SandboxServer(orders=200, contract=NEWEST_FIRST) as sandbox:
        async with bench(sandbox, probe=True, page_size=10) as b:
            await settled(b)
            created = sandbox.store.create(12)
            before = asked_for(sandbox, "Open")
            run = await b.poll(stop=lambda: asked_for(sandbox, "Open") > before)
            assert (run.plan, run.outcome, run.created) == ("open", "stopped", 10)
            await told_as_final(b, created[-1])


async def test_told_as_open_by_a_complete_read_that_fails(bench: BenchMaker) -> None:
    """What has left the open statuses before it goes on, behind the page that has shown it, is read by its id."""
    with SandboxServer(orders=200, contract=NEWEST_FIRST) as sandbox:
        async with bench(sandbox, probe=True, page_size=10, attempts=1) as b:
            await settled(b)
            created = sandbox.store.create(30)
            sandbox.faults.replace([FaultRule("garbage", operation="orders.search", page=3, times=1)])
            run = await b.poll(complete=True)
            assert (run.plan, run.outcome, run.created) == ("sweep", "failed", 20)
            await told_as_final(b, created[-1])


async def test_told_as_open_by_its_id(bench: BenchMaker) -> None:
    """What comes back and leaves once more, before the list is read again, is read by its id once more."""
    with SandboxServer(orders=200) as sandbox:
        async with bench(sandbox, probe=True, page_size=10) as b:
            await settled(b)
            order = orders_in(sandbox, "Open")[0]
            sandbox.store.change(order, status="Cancelled")
            assert (await b.poll()).outcome == "complete"
            sandbox.store.change(order, status="Open")
            run = await b.poll(follow_ups_only=True)
            assert (run.plan, run.updated) == ("refresh", 1)
            await told_as_final(b, order)


async def by_resync(b: Bench, order: str) -> None:
    """Read an order since a person has asked for it."""
    resyncs = b.account.resyncer.resyncs
    request = ResyncRequest(resource="orders", ids=(order,))
    await b.account.resyncer.slice(ORDERS, (await resyncs.create(request, b.services.clock.now())).id)


async def by_reconciliation(b: Bench, _: str) -> None:
    """Read the orders whose audit logs list a change that was not published."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reconciler, "window_of", lambda *_, **__: Window(0, 10**13))
        await b.account.reconciler.run([ORDERS])


@pytest.mark.parametrize("read", [by_resync, by_reconciliation])
async def test_told_as_open_beside_the_polls(
    bench: BenchMaker, read: Callable[[Bench, str], Awaitable[None]]
) -> None:
    """What a resync or reconciliation publishes as open, and leaves before the next poll, is read by its id."""
    with SandboxServer(orders=200) as sandbox:
        async with bench(sandbox, probe=True, page_size=10, reconcile=ReconcileSettings(lag=0)) as b:
            await settled(b)
            order = orders_in(sandbox, "Fulfilled")[0]
            sandbox.store.change(order, status="Open")
            await read(b, order)
            last = (await b.events())[-1]
            assert (last.subject, json.loads(last.data)["status"]) == (order, "Open")
            await told_as_final(b, order)
