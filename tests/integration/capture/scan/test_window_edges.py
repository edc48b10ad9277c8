"""Times at which records are lost: equal ones, late ones, none, and clocks that are wrong."""

from __future__ import annotations

import time

import pytest

from tests.support.arq_worker import planned
from tests.support.faulty_gateway import MovedClock
from tests.support.loss_cases import FAST, all_is_told, server, settled
from tests.support.worker import BenchMaker
from worker.capture.scan.strategy import OVERLAP_MS
from worker.clock import rfc3339
from worker.sandbox.state.index import Index

pytestmark = pytest.mark.anyio

HOUR, DAY = 3600.0, 86_400.0


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
