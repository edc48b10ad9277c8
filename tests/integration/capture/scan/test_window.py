"""Reading what is newer, where the gateway can leave out the rest."""

from typing import Any

import pytest

from tests.support.mutations import serve_as
from tests.support.worker import Bench, BenchMaker
from worker.capture.registry import ORDERS
from worker.capture.scan.strategy import OVERLAP_MS
from worker.capture.state.run import Run
from worker.clock import rfc3339
from worker.sandbox import FaultRule, SandboxServer, ServedContract
from worker.telemetry import log as logs

pytestmark = pytest.mark.anyio


def server(**contract: Any) -> SandboxServer:
    return SandboxServer(orders=400, contract=ServedContract(since_honoured=True, **contract))


async def settled(b: Bench) -> None:
    """The first complete read is over, and a window begins behind the history."""
    assert (await b.poll()).outcome == "complete"


def versions(events: list[Any]) -> list[tuple[str, int]]:
    return [(event.subject, int(event.version)) for event in events]


async def test_a_quiet_poll_costs_one_request(bench: BenchMaker) -> None:
    """When nothing has changed, one request says so, whatever there is in all."""
    with server() as sandbox:
        async with bench(sandbox, probe=True, page_size=20) as b:
            await settled(b)
            run = await b.poll()
            assert (run.plan, run.outcome, run.usage.requests) == ("window", "complete", 1)
            assert run.published == 0


@pytest.mark.parametrize("total", ["total", None])
@pytest.mark.parametrize("descending", [False, True])
async def test_changes_come_through_a_window(
    bench: BenchMaker, total: str | None, *, descending: bool
) -> None:
    """New and changed orders, more than a page of them, are published once and as what they are."""
    with server(total=total, descending=descending) as sandbox:
        async with bench(sandbox, probe=True, page_size=20) as b:
            await settled(b)
            before = len(await b.events())
            created, changed = sandbox.store.create(30), sandbox.store.change(30)
            run = await b.poll()
            assert run.plan == "window"
            # Pages may have moved while they were read, so more than one of them is gone over again.
            assert run.usage.requests < 20
            events = (await b.events())[before:]
            assert {event.subject for event in events} == {*created, *changed}
            assert len(events) == len({event.subject for event in events})
            assert {e.subject for e in events if e.type.endswith("created")} == set(created)
            assert (await b.poll()).published == 0


async def test_everything_is_read_once_in_a_while(bench: BenchMaker) -> None:
    """A change that a window cannot see is found by the complete read."""
    with server() as sandbox:
        async with bench(sandbox, probe=True) as b:
            await settled(b)
            (order,) = sandbox.store.change_silently(sandbox.store.ids()[3])
            assert (await b.poll()).published == 0
            b.adjust(complete_every=0.0)
            run = await b.poll()
            assert (run.plan, run.updated) == ("window+sweep", 1)
            assert (await b.events())[-1].subject == order


async def test_a_complete_read_can_be_asked_for(bench: BenchMaker) -> None:
    """`run --once` reads everything, whatever is known to be new."""
    with server() as sandbox:
        async with bench(sandbox, probe=True) as b:
            await settled(b)
            assert (await b.poll(complete=True)).plan == "sweep"


async def test_a_filter_that_stops_to_hold_is_withdrawn(
    bench: BenchMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    """One older record in a filtered answer: the filter is used no more, at once, and the log says so."""
    logs.configure("json", "info")
    with server() as sandbox:
        async with bench(sandbox, probe=True) as b:
            await settled(b)
            serve_as(sandbox, since_honoured=False)
            changed = sandbox.store.change(5)
            run = await b.poll()
            assert (run.plan, run.outcome, run.updated) == ("window+sweep", "complete", 5)
            assert {event.subject for event in (await b.events())[-5:]} == set(changed)
            known = (await b.account.capabilities.load())["orders"]
            assert (known.since, known.filtering.supported) == (None, False)
            assert (await b.poll()).plan == "sweep"
    assert '"event": "capability_withdrawn"' in capsys.readouterr().err


async def test_a_window_moves_its_mark_at_its_end_only(bench: BenchMaker) -> None:
    """Interrupted behind a page, a window starts over: what it had not read is not passed by."""
    with server() as sandbox:
        async with bench(sandbox, probe=True, page_size=10, attempts=1) as b:
            await settled(b)
            before = await b.cursor()
            changed = sandbox.store.change(35)
            sandbox.faults.replace((FaultRule(operation="orders.search", action="status", code=500, page=3),))
            assert (await b.poll()).outcome == "failed"
            after = await b.cursor()
            assert (after.mark, after.newest) == (before.mark, before.newest)
            sandbox.faults.replace(())
            run = await b.poll()
            assert (run.plan, run.outcome) == ("window+sweep", "complete")  # the scan that took over goes on
            subjects = [event.subject for event in (await b.events())[400:]]
            assert sorted(subjects) == sorted(changed)


async def test_a_window_that_is_too_long_becomes_a_sweep(bench: BenchMaker) -> None:
    """What does not fit into one slice of time would start over for ever."""
    with server() as sandbox:
        async with bench(sandbox, probe=True, page_size=10) as b:
            await settled(b)
            changed = sandbox.store.change(60)

            assert (await b.poll(slice_seconds=0)).outcome == "partial"
            assert (await b.cursor()).swept_at == 0
            run: Run = await b.poll()
            assert (run.plan, run.outcome) == ("sweep", "complete")
            assert {event.subject for event in (await b.events())[400:]} == set(changed)


async def test_a_window_that_is_stopped_starts_over(bench: BenchMaker) -> None:
    """A worker that is asked to end leaves a window behind a page; no sweep is needed for that."""
    with server() as sandbox:
        async with bench(sandbox, probe=True, page_size=10) as b:
            await settled(b)
            sandbox.store.change(30)
            assert (await b.poll(stop=lambda: True)).outcome == "stopped"
            run = await b.poll()
            assert (run.plan, run.outcome, run.updated) == ("window", "complete", 30)


async def test_windows_go_on_beside_a_long_sweep(bench: BenchMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A complete read that takes longer than the interval is read in parts, a window before each."""
    with server() as sandbox:
        async with bench(sandbox, probe=True, page_size=20) as b:
            await settled(b)
            monkeypatch.setattr("worker.capture.scan.strategy.MIN_STEP_SECONDS", -1.0)
            b.adjust(intervals={"orders": -1.0})
            b.adjust(complete_every=0.0)
            first = await b.poll()
            assert (first.plan, first.outcome) == ("window+sweep", "partial")
            assert (await b.cursor()).scan.started > 0
            changed = sandbox.store.change(7)
            second = await b.poll()
            assert (second.plan, second.updated) == ("window+sweep", 7)
            assert {event.subject for event in (await b.events())[400:]} == set(changed)
            monkeypatch.undo()
            b.adjust(intervals={"orders": 5.0})
            b.adjust(complete_every=3600.0)
            third = await b.poll()
            assert (third.plan, third.outcome) == ("window+sweep", "complete")
            assert (await b.cursor()).scan.started == 0
            assert (await b.poll()).plan == "window"
            assert len(await b.redis.xrange(b.account.keys.runs)) == 5


async def test_a_filter_that_is_refused_is_withdrawn(bench: BenchMaker) -> None:
    """A gateway that takes the parameter no more does not stop the polls."""
    with server() as sandbox:
        async with bench(sandbox, probe=True) as b:
            await settled(b)
            sandbox.store.change(3)
            sandbox.faults.replace(
                (FaultRule(operation="orders.search", action="status", code=400, times=1),)
            )
            run = await b.poll()
            assert (run.plan, run.outcome, run.updated) == ("window+sweep", "complete", 3)
            assert (await b.account.capabilities.load())["orders"].since is None


async def test_a_time_in_the_future_hides_nothing(bench: BenchMaker) -> None:
    """One record that says it was modified in 2099 does not carry the mark beyond what has been read."""
    with server() as sandbox:
        sandbox.store.change(sandbox.store.ids()[0], updatedAt="2099-01-01T00:00:00.0000000Z")
        async with bench(sandbox, probe=True) as b:
            await settled(b)
            (order,) = sandbox.store.change(sandbox.store.ids()[7])
            run = await b.poll()
            assert (run.plan, run.updated) == ("window", 1)
            assert (await b.events())[-1].subject == order


async def test_a_late_commit_below_the_mark(bench: BenchMaker) -> None:
    """A change that becomes visible after a newer one, with an older time, is inside the overlap."""
    with server() as sandbox:
        async with bench(sandbox, probe=True) as b:
            await settled(b)
            first, second = sandbox.store.ids()[10:12]
            sandbox.store.change(second)
            await b.poll()
            seen = (await b.cursor()).newest
            late = rfc(seen - OVERLAP_MS // 2)
            sandbox.store.change(first, updatedAt=late, externalId="late")
            run = await b.poll()
            assert (run.plan, run.updated) == ("window", 1)


def rfc(milliseconds: int) -> str:
    return rfc3339(milliseconds / 1000)


async def test_an_unreadable_record_in_a_window(bench: BenchMaker) -> None:
    """It is parked and told once; the next windows go on behind it, and it stays known as unreadable."""
    with server() as sandbox:
        async with bench(sandbox, probe=True) as b:
            await settled(b)
            stamp = rfc((await b.cursor()).newest + 1000)
            sandbox.store.replace("broken", f'{{"updatedAt": "{stamp}"}}'.encode())
            (order,) = sandbox.store.change(sandbox.store.ids()[5])
            run = await b.poll()
            assert (run.outcome, run.unreadable) == ("failed", 1)
            assert (await b.events())[-1].subject == order
            assert await b.redis.xlen(b.account.keys.dead(ORDERS.name)) == 1
            assert (await b.cursor()).unreadable == 1
