"""What is shown that is not so, and what servers do not do: known ways to lose records, or to publish them twice."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

import pytest

from ordersync_consumer import tail as stream
from tests.support.loss_cases import FAST, GATEWAYS, all_is_told, server, settled
from tests.support.mutations import change_apart
from tests.support.sandbox_api import SandboxApi
from tests.support.worker import BenchMaker
from worker.capture.registry import SHIPMENTS
from worker.sandbox import FaultRule

pytestmark = pytest.mark.anyio


# What is shown


async def test_a_child_change_without_the_parent_moving(bench: BenchMaker) -> None:
    """Shipments are read for themselves: one that changes while its order stands still is published."""
    with server("window") as sandbox:
        async with bench(sandbox, probe=True) as b:
            await settled(b)
            assert (await b.account.poller.poll(SHIPMENTS)).outcome == "complete"
            orders = sandbox.store.truth()
            (shipment,) = sandbox.world.shipments.change(1)
            assert sandbox.store.truth() == orders
            assert (await b.poll()).published == 0
            run = await b.account.poller.poll(SHIPMENTS)
            assert run.updated == 1
            key = b.account.keys.stream("shipments")
            last = [event async for event in stream.follow(b.redis, key, "0", wait=False)][-1]
            assert (last.subject, last.data) == (shipment, sandbox.world.truth("shipments")[shipment])


@pytest.mark.parametrize("plan", GATEWAYS)
async def test_a_record_that_goes_a_b_a(bench: BenchMaker, plan: str) -> None:
    """The way back is a change like any other; one there and back that nobody has seen is none."""
    with server(plan) as sandbox:
        async with bench(sandbox, probe=True) as b:
            await settled(b)
            order = sandbox.store.ids()[5]
            for status in ("Open", "Customer Care Hold", "Open"):
                sandbox.store.change(order, status=status)
                assert (await b.poll()).updated == 1
            known = sandbox.store.truth()[order]
            sandbox.store.change_silently(order, status="Cancelled")
            sandbox.store.replace(order, known)
            assert (await b.poll()).updated == 0
            mine = [event for event in await b.events() if event.subject == order]
            assert [event.version for event in mine] == [1, 2, 3, 4]
            assert len({event.id for event in mine}) == 4


@pytest.mark.parametrize("plan", GATEWAYS)
async def test_a_stale_page_after_a_newer_one(bench: BenchMaker, plan: str) -> None:
    """A page from before a change, of a cache that lags, takes nothing back."""
    with server(plan, orders=40) as sandbox:
        async with bench(sandbox, probe=True) as b:
            await settled(b)
            changed = sandbox.store.change(3)
            run = await b.poll()
            query = dict(parse_qsl(sandbox.requests.last()[-run.usage.requests].query))
            with SandboxApi(sandbox) as api:
                old = api.send("orders.search", query=query).text
            sandbox.store.change(changed)
            await b.poll()
            told = len(await b.events())
            sandbox.faults.replace(
                (FaultRule("garbage", operation="orders.search", page=1, body=old, times=1),)
            )
            run = await b.poll()
            assert sandbox.faults.fired() == [1]
            assert run.published == 0
            assert len(await b.events()) == told
            await b.poll()
            await all_is_told(b)


async def test_an_empty_answer_with_200(bench: BenchMaker) -> None:
    """An empty list where records are known says nothing, of the whole as of what is newer."""
    for plan in [*FAST, "sweep"]:
        with server(plan) as sandbox:
            async with bench(sandbox, probe=True, page_size=10) as b:
                await b.redis.flushall()
                await settled(b)
                before = await b.cursor()
                sandbox.store.change(4)
                sandbox.faults.replace((FaultRule("empty", operation="orders.search", times=1),))
                run = await b.poll()
                after = await b.cursor()
                assert (plan, run.outcome, run.error_code) == (plan, "suspicious", "suspicious")
                assert (after.fresh_as_of, after.mark, after.tracked) == (
                    before.fresh_as_of,
                    before.mark,
                    before.tracked,
                )
                run = await b.poll()
                assert (run.outcome, run.updated) == ("complete", 4)
                assert (await b.cursor()).suspicious == ""
                await all_is_told(b)


async def test_an_empty_answer_with_200_for_every_status(bench: BenchMaker) -> None:
    """Where no order is open any more, a complete read has to say so first: they are not asked for one by one."""
    with server("open") as sandbox:
        sandbox.store.create(30)
        async with bench(sandbox, probe=True, page_size=10) as b:
            await settled(b)
            assert (await b.poll()).plan == "open"
            before = await b.cursor()
            sandbox.store.create(2)
            sandbox.faults.replace((FaultRule("empty", operation="orders.search"),))
            run = await b.poll()
            assert (run.plan, run.outcome) == ("open", "suspicious")
            assert "open records are no longer returned" in run.error
            assert (await b.cursor()).fresh_as_of == before.fresh_as_of
            assert sandbox.requests.count("orders.get") <= 1  # that of the probe
            sandbox.faults.clear()
            run = await b.poll()
            assert (run.plan, run.outcome, run.created) == ("open+sweep", "complete", 2)
            assert (await b.cursor()).suspicious == ""
            await all_is_told(b)


# What the server does not do


@pytest.mark.parametrize("plan", GATEWAYS)
async def test_a_server_that_caps_the_page_size(bench: BenchMaker, plan: str) -> None:
    """Fewer records than were asked for are no end."""
    with server(plan, max_page_size=7) as sandbox:
        async with bench(sandbox, probe=True, page_size=50) as b:
            await settled(b)
            sandbox.store.change(30)
            assert (await b.poll(complete=plan == "open")).outcome == "complete"
            await all_is_told(b)


@pytest.mark.parametrize(
    ("cap", "page_size", "refuse"), [(1000, 250, False), (1000, 250, True), (900, 240, True)]
)
async def test_a_server_that_caps_the_result_count(
    bench: BenchMaker, cap: int, page_size: int, *, refuse: bool
) -> None:
    """Of 1,300 orders no list shows more than 1,000: it is read from time to time, and nothing is left out.

    Another number than a multiple of 1,000 is one that the probe has seen.
    """
    contract = {"descending": True, "result_cap": cap, "refuse_deep": refuse}
    with server("window, sorted", orders=1300, **contract) as sandbox:
        async with bench(sandbox, probe=True, page_size=page_size) as b:
            run = await b.poll()
            assert (run.outcome, run.plan) == ("complete", "sweep+sweep")
            assert (await b.cursor()).capped == cap
            await all_is_told(b)
            sandbox.store.change(1200)
            run = await b.poll()
            assert (run.outcome, run.plan) == ("complete", "window")
            await all_is_told(b)
            run = await b.poll(complete=True)
            assert (run.outcome, run.plan, run.published) == ("complete", "sweep", 0)


async def test_a_filter_that_breaks_within_a_keyset_scan(
    bench: BenchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full scan that goes by time ends where its filter breaks; the one by page numbers begins with page 0."""
    capped: dict[str, Any] = {"descending": True, "result_cap": 900, "refuse_deep": True}
    with server("window, sorted", orders=1300, **capped) as sandbox:
        async with bench(sandbox, probe=True, page_size=240) as b:
            assert (await b.poll()).plan == "sweep+sweep"
            assert (await b.cursor()).capped == 900
            # The newest orders, on page 0, have changed last: the scan by time has not come to them.
            change_apart(sandbox.store, sandbox.store.ids())
            read_page, requests = b.account.client.read_page, itertools.count(1)

            async def breaking(*args: Any) -> bytes:
                if next(requests) == 4:
                    broken = replace(sandbox._sandbox.contract, since_honoured=False, result_cap=None)
                    sandbox._sandbox.contract = sandbox.store.contract = broken
                return await read_page(*args)

            monkeypatch.setattr(b.account.client, "read_page", breaking)
            run = await b.poll(complete=True)
            assert (run.outcome, run.plan, run.missing) == ("complete", "sweep+sweep", 0)
            await all_is_told(b)


@pytest.mark.parametrize(
    ("plan", "lie"),
    [("window", "since_honoured"), ("window, sorted", "sort_honoured"), ("head", "sort_honoured")],
)
async def test_a_server_that_ignores_filter_or_sort(bench: BenchMaker, plan: str, lie: str) -> None:
    """What it has kept for a while and then ignores in silence is used no more, and hides nothing."""
    with server(plan) as sandbox:
        async with bench(sandbox, probe=True, page_size=10) as b:
            await settled(b)
            holds: dict[str, Any] = {lie: False}
            changed = replace(sandbox._sandbox.contract, **holds)
            sandbox._sandbox.contract = sandbox.store.contract = changed
            sandbox.store.change(list(reversed(sandbox.store.ids()[60:90])))
            run = await b.poll()
            assert (run.outcome, run.updated) == ("complete", 30)
            await all_is_told(b)
            known = (await b.account.capabilities.load())["orders"]
            assert (known.since if lie == "since_honoured" else known.descending) in (None, {})
