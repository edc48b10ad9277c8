"""Every way in which pollers are known to lose records, or to publish them twice, played by the sandbox over HTTP."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

import pytest

from ordersync_consumer import tail as stream
from tests.support.arq_worker import planned
from tests.support.faulty_gateway import MovedClock
from tests.support.mutations import change_apart
from tests.support.sandbox_api import SandboxApi
from tests.support.worker import Bench, BenchMaker
from worker.capture.registry import ORDERS, SHIPMENTS
from worker.capture.scan.strategy import OVERLAP_MS
from worker.clock import rfc3339
from worker.sandbox import FaultRule, SandboxServer, ServedContract
from worker.sandbox.state.index import Index

pytestmark = pytest.mark.anyio

HOUR, DAY = 3600.0, 86_400.0
GATEWAYS: dict[str, dict[str, Any]] = {
    "window": {"since_honoured": True, "choices_honoured": False},
    "window, sorted": {"since_honoured": True, "sort_honoured": True, "choices_honoured": False},
    "head": {"sort_honoured": True, "choices_honoured": False},
    "open": {},
    "sweep": {"choices_honoured": False},
}
"""A contract for each plan. Without a total, a fall of it cannot help."""
FAST = ["window", "window, sorted", "head"]


def server(plan: str, orders: int = 120, **contract: Any) -> SandboxServer:
    return SandboxServer(orders=orders, contract=ServedContract(**GATEWAYS[plan], **contract))


async def settled(b: Bench) -> int:
    """The first complete read is over, or the second where orders had just come or changed; the number of events."""
    run = await b.poll()
    if run.error_code == "unproven":
        run = await b.poll(complete=True)
    assert (run.outcome, run.plan) == ("complete", "sweep")
    return len(await b.events())


def drift(action: str, *, page: int, count: int = 1) -> FaultRule:
    """What happens to the orders before that page is served, once."""
    return FaultRule(action, operation="orders.search", page=page, count=count, times=1)


async def all_is_told(b: Bench) -> None:
    """The last event of each order is what OrderMesh has, and no version of one was published twice."""
    events = await b.events()
    told = {event.subject: event.data for event in events}
    truth = b.sandbox.store.truth()
    assert [each for each, raw in truth.items() if told.get(each) != raw] == []
    twice = Counter((event.subject, event.version) for event in events)
    assert [each for each, times in twice.items() if times > 1] == []
    contents = Counter((event.subject, event.data) for event in events)
    assert [each for each, times in contents.items() if times > 1] == []


# Pages that move


@pytest.mark.parametrize("total", ["total", None])
@pytest.mark.parametrize("plan", GATEWAYS)
async def test_page_drift_by_inserts_while_reading(bench: BenchMaker, plan: str, total: str | None) -> None:
    """Orders that come in above the pages that were read are published, and those that are shown again are not."""
    with server(plan, total=total, descending=True) as sandbox:
        # Fewer than a page: they are all of one moment.
        sandbox.faults.replace((drift("create", page=3, count=8),))
        async with bench(sandbox, probe=True, page_size=10) as b:
            await settled(b)
            changed = sandbox.store.change(35)
            change_apart(sandbox.store, changed)
            sandbox.faults.replace((drift("create", page=2, count=13),))
            run = await b.poll()
            if (
                plan != "open"
            ):  # which leaves changes of closed orders, and of too many at once, to the complete read
                assert run.outcome == "complete"
                assert sandbox.faults.fired() == [int(plan != "window, sorted")]
                assert {event.subject for event in await b.events()} >= set(changed)
            sandbox.faults.clear()
            await b.poll(complete=plan == "open")
            await all_is_told(b)


@pytest.mark.parametrize("total", ["total", None])
@pytest.mark.parametrize("plan", FAST)
async def test_page_drift_by_deletes_while_reading_what_is_newer(
    bench: BenchMaker, plan: str, total: str | None
) -> None:
    """A changed order that slips to a page that was read is found by the same poll."""
    with server(plan, total=total) as sandbox:
        async with bench(sandbox, probe=True, page_size=10) as b:
            await settled(b)
            ids = sandbox.store.ids()
            # The newest change stands above; what is deleted are the first orders of the list.
            order = ids[20:60] + ids[:8]
            change_apart(sandbox.store, order if plan == "head" else ids[:48])
            sandbox.faults.replace((drift("delete", page=3, count=5),))
            run = await b.poll()
            assert (run.outcome, "sweep" in run.plan) == ("complete", False)
            assert sandbox.faults.fired() == [int(plan != "window, sorted")]
            await all_is_told(b)


async def test_page_drift_by_deletes_while_reading_everything(bench: BenchMaker) -> None:
    """An order that nobody knows yet and that slips to a page that was read is found by the same read."""
    with server("sweep") as sandbox:
        async with bench(sandbox, probe=True, page_size=10, max_concurrency=1) as b:
            await settled(b)
            sandbox.store.create(30)
            sandbox.faults.replace((drift("delete", page=12, count=12),))
            run = await b.poll()
            assert (run.outcome, run.created, sandbox.faults.fired()) == ("complete", 30, [1])
            await all_is_told(b)


@pytest.mark.parametrize("action", ["create", "delete"])
async def test_a_total_that_changes_between_pages(bench: BenchMaker, action: str) -> None:
    """The first read is not ended by a total that was true for an earlier page, nor kept from its end."""
    with server("sweep") as sandbox:
        async with bench(sandbox, probe=True, page_size=10) as b:
            sandbox.faults.replace((drift(action, page=12, count=15),))
            assert (await b.poll()).outcome == "complete"
            assert sandbox.faults.fired() == [1]
            assert (await b.poll()).outcome == "complete"
            await all_is_told(b)


async def test_duplicate_ids_across_pages(bench: BenchMaker) -> None:
    """An order that two pages show, read side by side, is published once."""
    with server("sweep", descending=True) as sandbox:
        async with bench(sandbox, probe=True, page_size=10) as b:
            await b.account.capabilities.probe(ORDERS)
            rules = [drift("create", page=page, count=4) for page in range(2, 12)]
            sandbox.faults.replace(rules)
            run = await b.poll()
            assert (run.outcome, sandbox.faults.fired()) == ("complete", [1] * 10)
            assert run.records > len(await b.events())
            sandbox.faults.clear()
            await b.poll()
            await all_is_told(b)


# Times


@pytest.mark.parametrize("plan", FAST)
async def test_ties_at_a_window_edge(bench: BenchMaker, plan: str) -> None:
    """A change of the very time at which the next read begins is inside it."""
    with server(plan) as sandbox:
        async with bench(sandbox, probe=True, page_size=10) as b:
            sandbox.store.change(1)
            await settled(b)
            edge = rfc3339(((await b.cursor()).mark - OVERLAP_MS) / 1000)
            sandbox.store.change(sandbox.store.ids()[:3], updatedAt=edge, externalId="at the edge")
            run = await b.poll()
            assert (run.outcome, run.updated) == ("complete", 3)


@pytest.mark.parametrize("total", ["total", None])
@pytest.mark.parametrize("plan", FAST)
async def test_more_ties_than_a_page(bench: BenchMaker, plan: str, total: str | None) -> None:
    """Changes of the same time that fill more than a page are all read, as are those behind them."""
    with server(plan, total=total) as sandbox:
        async with bench(sandbox, probe=True, page_size=10) as b:
            sandbox.store.change(1)
            await settled(b)
            (order,) = sandbox.store.change(sandbox.store.ids()[90])
            now = str(sandbox.store.times(order)[0])
            tied = sandbox.store.change(sandbox.store.ids()[:33], updatedAt=now, externalId="tied")
            behind = sandbox.store.change(sandbox.store.ids()[60:64])
            before = len(await b.events())
            run = await b.poll()
            assert (run.outcome, "sweep" in run.plan) == ("complete", False)
            assert {event.subject for event in (await b.events())[before:]} == {order, *tied, *behind}
            await all_is_told(b)


@pytest.mark.parametrize("plan", FAST)
async def test_late_commits_below_the_mark(bench: BenchMaker, plan: str) -> None:
    """A change that is shown after a newer one, with an older time, is inside the overlap."""
    with server(plan) as sandbox:
        async with bench(sandbox, probe=True, page_size=10) as b:
            await settled(b)
            sandbox.store.change(25)
            await b.poll()
            late = rfc3339(((await b.cursor()).mark - 30_000) / 1000)
            (order,) = sandbox.store.change(sandbox.store.ids()[0], updatedAt=late, externalId="late")
            run = await b.poll()
            assert (run.updated, "sweep" in run.plan) == (1, False)
            assert (await b.events())[-1].subject == order


@pytest.mark.parametrize("plan", FAST)
async def test_index_lag(bench: BenchMaker, plan: str) -> None:
    """A change that lists show an hour after it was made is not passed by: the mark comes from what was shown."""
    with server(plan, index_lag=HOUR) as sandbox:
        ahead, clock = [0.0], MovedClock()
        sandbox._sandbox.indexes["orders.search"] = Index(HOUR, lambda: ahead[0])
        async with bench(sandbox, probe=True, page_size=10, clock=clock) as b:
            await settled(b)
            changed = {*sandbox.store.change(15), *sandbox.store.create(2)}
            ahead[0] += HOUR / 4
            clock.offset += HOUR / 2
            b.adjust(complete_every=10 * DAY)
            assert (await b.poll()).published == 0
            ahead[0] += HOUR
            clock.offset += HOUR / 2
            run = await b.poll()
            assert (run.published, "sweep" in run.plan) == (17, False)
            assert {event.subject for event in (await b.events())[-17:]} == changed


@pytest.mark.parametrize("plan", FAST)
async def test_updated_at_is_null(bench: BenchMaker, plan: str) -> None:
    """A new order, whose `updatedAt` is null until it changes, is as new as it was made."""
    with server(plan) as sandbox:
        async with bench(sandbox, probe=True, page_size=10) as b:
            await settled(b)
            created = sandbox.store.create(12)
            assert all(b'"updatedAt":null' in sandbox.store.truth()[each] for each in created)
            run = await b.poll()
            assert (run.created, "sweep" in run.plan) == (12, False)
            newest = (await b.cursor()).newest
            sandbox.store.create(1)
            assert (await b.poll()).created == 1
            assert (await b.cursor()).newest > newest


@pytest.mark.parametrize("skew", [-HOUR, HOUR])
@pytest.mark.parametrize("plan", FAST)
async def test_clock_skew_of_an_hour(bench: BenchMaker, plan: str, skew: float) -> None:
    """Whichever way our clock is wrong: nothing is passed by, nothing is read again and again, and it is told."""
    clock = MovedClock()
    clock.offset = skew
    with server(plan) as sandbox:
        async with bench(sandbox, probe=True, page_size=10, clock=clock) as b:
            await settled(b)
            b.adjust(complete_every=10 * DAY)
            for _ in range(3):
                began = time.time()
                sandbox.store.change(12)
                sandbox.store.create(3)
                run = await b.poll()
                assert (run.outcome, "sweep" in run.plan) == ("complete", False)
                assert float(run.summary(0.0)["clock_offset_s"]) == pytest.approx(-skew, abs=30)
                passed = time.time() - began
                assert (await b.cursor()).mark / 1000 >= began - passed
            await all_is_told(b)


async def test_a_worker_that_was_down_for_a_day(bench: BenchMaker, redis_url: str) -> None:
    """What was missed is one poll, and that catches up with everything."""
    clock = MovedClock()
    with server("window, sorted", orders=300) as sandbox:
        async with (
            bench(sandbox, probe=True, page_size=20, clock=clock) as b,
            planned(b.services, redis_url) as schedule,
        ):
            await settled(b)
            clock.offset += DAY
            for _ in range(10):
                sandbox.store.change(20)
                sandbox.store.create(10)
            assert "polls/poll:default:orders" in await schedule.due()
            run = await b.poll()
            assert (run.outcome, run.plan) == ("complete", "window+sweep")
            await all_is_told(b)
            assert len(await b.redis.xrange(b.account.keys.runs)) == 2


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
