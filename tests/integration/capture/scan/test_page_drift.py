"""Pages that move while they are read, played by the sandbox over HTTP."""

from __future__ import annotations

import pytest

from tests.support.loss_cases import FAST, GATEWAYS, all_is_told, drift, server, settled
from tests.support.mutations import change_apart
from tests.support.worker import BenchMaker
from worker.capture.registry import ORDERS

pytestmark = pytest.mark.anyio


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
