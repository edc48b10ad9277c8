"""Reading from the newest change down, where the gateway sorts by modification and has no filter."""

from typing import Any

import pytest

from tests.support.mutations import change_apart, serve_as
from tests.support.worker import Bench, BenchMaker
from worker.capture.scan.strategy import OVERLAP_MS
from worker.clock import rfc3339
from worker.sandbox import FaultRule, SandboxServer, ServedContract
from worker.telemetry import log as logs

pytestmark = pytest.mark.anyio


def server(**contract: Any) -> SandboxServer:
    return SandboxServer(orders=400, contract=ServedContract(sort_honoured=True, **contract))


async def settled(b: Bench) -> None:
    """The first complete read is over, and what is newer begins behind the history."""
    run = await b.poll()
    assert (run.outcome, run.plan) == ("complete", "sweep")


async def test_a_quiet_poll_costs_two_requests(bench: BenchMaker) -> None:
    """The first page holds the newest change; when the second is older and unchanged, that is all there is."""
    with server() as sandbox:
        async with bench(sandbox, probe=True, page_size=20) as b:
            await settled(b)
            run = await b.poll()
            assert (run.plan, run.outcome, run.usage.requests) == ("head", "complete", 2)
            assert run.published == 0


@pytest.mark.parametrize("total", ["total", None])
@pytest.mark.parametrize("base", [0, 1])
async def test_changes_come_through_a_head(bench: BenchMaker, total: str | None, base: int) -> None:
    """New and changed orders, more than a page of them, are published once and as what they are."""
    with server(total=total, page_base=base) as sandbox:
        async with bench(sandbox, probe=True, page_size=20) as b:
            await settled(b)
            created, changed = sandbox.store.create(30), sandbox.store.change(30)
            run = await b.poll()
            assert (run.plan, run.outcome) == ("head", "complete")
            assert run.usage.requests < 16
            events = (await b.events())[400:]
            assert {event.subject for event in events} == {*created, *changed}
            assert len(events) == len({event.subject for event in events})
            assert {e.subject for e in events if e.type.endswith("created")} == set(created)
            assert (await b.poll()).published == 0


async def test_a_late_commit_below_the_mark(bench: BenchMaker) -> None:
    """A change that is shown after a newer one, with an older time, is above the page that ends the read."""
    with server() as sandbox:
        async with bench(sandbox, probe=True, page_size=20) as b:
            await settled(b)
            first, second = sandbox.store.ids()[10:12]
            sandbox.store.change(second)
            await b.poll()
            late = rfc3339(((await b.cursor()).newest - OVERLAP_MS // 2) / 1000)
            sandbox.store.change(first, updatedAt=late, externalId="late")
            run = await b.poll()
            assert (run.plan, run.updated) == ("head", 1)


async def test_a_sort_that_stops_to_hold_is_withdrawn(
    bench: BenchMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    """One page out of order: the sort is used no more, at once, the poll reads everything, and the log says so."""
    logs.configure("json", "info")
    with server() as sandbox:
        async with bench(sandbox, probe=True) as b:
            await settled(b)
            serve_as(sandbox, sort_honoured=False)
            changed = sandbox.store.change(5)
            run = await b.poll()
            assert (run.plan, run.outcome, run.updated) == ("head+sweep", "complete", 5)
            assert {event.subject for event in (await b.events())[-5:]} == set(changed)
            known = (await b.account.capabilities.load())["orders"]
            assert (known.ascending, known.descending, known.sorting.supported) == ({}, {}, False)
            assert (await b.poll()).plan == "sweep"
    line = next(line for line in capsys.readouterr().err.splitlines() if "capability_withdrawn" in line)
    assert '"capability": "sort by modification"' in line
    assert "not sorted by modification" in line


async def test_a_sort_that_is_refused_is_withdrawn(bench: BenchMaker) -> None:
    """A gateway that takes the parameter no more does not stop the polls."""
    with server() as sandbox:
        async with bench(sandbox, probe=True) as b:
            await settled(b)
            sandbox.store.change(3)
            sandbox.faults.replace(
                (FaultRule(operation="orders.search", action="status", code=400, times=1),)
            )
            run = await b.poll()
            assert (run.plan, run.outcome, run.updated) == ("head+sweep", "complete", 3)
            assert (await b.account.capabilities.load())["orders"].descending == {}


async def test_everything_is_read_once_in_a_while(bench: BenchMaker) -> None:
    """A change that no sort can show is found by the complete read, and does not speak against the sort."""
    with server() as sandbox:
        async with bench(sandbox, probe=True) as b:
            await settled(b)
            oldest = min(sandbox.store.ids(), key=lambda each: str(sandbox.store.times(each)[0]))
            (order,) = sandbox.store.change_silently(oldest)
            assert (await b.poll()).published == 0
            b.adjust(complete_every=0.0)
            run = await b.poll()
            assert (run.plan, run.updated) == ("head+sweep", 1)
            assert (await b.events())[-1].subject == order
            assert (await b.poll()).plan == "head+sweep"


async def test_a_window_goes_by_the_sort_where_both_hold(bench: BenchMaker) -> None:
    """With a filter as well, what is newer is read from time to time: no page behind the first is asked for."""
    with server(since_honoured=True) as sandbox:
        async with bench(sandbox, probe=True, page_size=10) as b:
            await settled(b)
            changed = sandbox.store.change(55)
            change_apart(sandbox.store, changed)
            before = len(sandbox.requests.last())
            run = await b.poll()
            assert (run.plan, run.outcome, run.updated) == ("window", "complete", 55)
            asked = [record.query for record in sandbox.requests.last()[before:]]
            assert asked
            assert all("page=1&" in query for query in asked)
            assert {event.subject for event in (await b.events())[400:]} == set(changed)


async def test_a_sort_of_windows_that_stops_to_hold(bench: BenchMaker) -> None:
    """The sort alone is withdrawn: the filter still holds, and the next poll reads by page numbers."""
    with server(since_honoured=True) as sandbox:
        async with bench(sandbox, probe=True) as b:
            await settled(b)
            serve_as(sandbox, sort_honoured=False)
            sandbox.store.change(list(reversed(sandbox.store.ids()[:5])))
            run = await b.poll()
            assert (run.plan, run.outcome, run.updated) == ("window+sweep", "complete", 5)
            known = (await b.account.capabilities.load())["orders"]
            assert (known.since, known.ascending) == ("updatedFrom", {})
            sandbox.store.change(3)
            run = await b.poll()
            assert (run.plan, run.outcome, run.updated) == ("window", "complete", 3)
