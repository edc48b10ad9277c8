"""Pages that always fail: what lies behind them is published, and it is said what could not be had."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.campaign import Worker, settle, worker_at
from tests.support.commands import ordersync
from tests.support.gateway import Gateway, Judge, Serving
from worker.capture.health import Health, judge
from worker.capture.state.run import Outcome
from worker.redis.connections import answer

pytestmark = pytest.mark.anyio


def patience(fault: dict[str, Any]) -> float:
    """Seconds to wait for an answer: few where some never come, but enough for the others on a busy machine."""
    return 1.0 if fault["action"] == "hang" else 30.0


async def letters(worker: Worker) -> list[dict[bytes, bytes]]:
    entries = await answer(worker.place.redis.xrange(worker.account.keys.dead("orders")))
    return [fields for _, fields in entries]


@pytest.mark.parametrize(
    "fault", [{"action": "status", "code": 500}, {"action": "garbage"}, {"action": "hang"}]
)
@pytest.mark.parametrize("total", ["totalCount", None])
async def test_one_record(redis_url: str, fault: dict[str, Any], total: str | None) -> None:
    """999 of 1,000 are published; the page is named; one dead letter, degraded, never complete; then it heals."""
    with Gateway(orders=1000, serving=Serving(total=total)) as gateway, Judge(gateway, redis_url) as held:
        bad = gateway.history.ids("orders")[550]
        broken = gateway.faults.add(**fault, holds=bad)
        async with worker_at(
            gateway, redis_url, page_size=100, timeout=patience(fault), attempts=1
        ) as worker:
            run = await worker.poll()
            assert (run.outcome, await letters(worker)) == (Outcome.FAILED, [])  # it may be temporary
            for _ in range(3):
                run = await worker.poll()
                assert run.outcome is Outcome.SUSPICIOUS
                assert "number 550 of the list, on page 5" in run.error
            assert [each.partition(":")[0] for each in held.missed()] == [bad]
            (letter,) = await letters(worker)
            assert json.loads(letter[b"data"]) == {
                "operation": "orders.search", "page": 5, "first": 550, "records": 1,
            }  # fmt: skip
            cursor = await worker.cursor()
            verdict = judge(cursor, worker.clock.now())
            assert (verdict.health, "on page 5" in verdict.cause, cursor.fresh_as_of) == (
                Health.DEGRADED,
                True,
                0,
            )
            broken.end()
            assert (await worker.poll()).outcome is Outcome.COMPLETE
            assert judge(await worker.cursor(), worker.clock.now()).health is Health.OK
        assert held.verdict().counts == {}


async def test_a_temporary_failure(redis_url: str) -> None:
    """A page that fails in one poll is requested again as it was."""
    with Gateway(orders=1000) as gateway, Judge(gateway, redis_url):
        gateway.faults.add("status", code=503, page=4, times=1)
        async with worker_at(gateway, redis_url, page_size=100, attempts=1) as worker:
            assert (await worker.poll()).outcome is Outcome.FAILED
            run = await worker.poll()
            assert (run.outcome, run.pages, await letters(worker)) == (Outcome.COMPLETE, 7, [])
        assert all(asked.query.get("pageSize", "100") in {"100", "1", "2"} for asked in gateway.asked[-8:])


@pytest.mark.parametrize(
    "fault", [{"action": "status", "code": 503}, {"action": "hang"}, {"action": "reset"}]
)
async def test_an_outage_is_no_bad_page(redis_url: str, fault: dict[str, Any]) -> None:
    """However often the poll fails: no dead letter, and the scan ends when the gateway is back."""
    with Gateway(orders=500) as gateway, Judge(gateway, redis_url) as held:
        async with worker_at(
            gateway, redis_url, page_size=100, timeout=patience(fault), attempts=1
        ) as worker:
            await settle(worker, held)
            gateway.history.change("orders", gateway.history.ids("orders")[450:460])
            outage = gateway.faults.add(**fault, path="/orders")
            for _ in range(4):
                assert (await worker.poll()).outcome is Outcome.FAILED
            outage.end()
            assert (await worker.poll()).outcome is Outcome.COMPLETE
            assert await letters(worker) == []
        assert held.verdict().counts == {}


async def test_pages_of_one_size(redis_url: str) -> None:
    """A server that knows no other page size: the whole page is missing, and no more."""
    with Gateway(orders=500, serving=Serving(largest_page=50)) as gateway, Judge(gateway, redis_url) as held:
        ids = gateway.history.ids("orders")
        gateway.faults.add("status", code=500, holds=ids[130])
        gateway.faults.add("status", code=400, path="pageSize=(1|5|25)$")
        async with worker_at(gateway, redis_url, page_size=50, attempts=1) as worker:
            for _ in range(3):
                run = await worker.poll()
                assert run.outcome is not Outcome.COMPLETE
        missed = {each.partition(":")[0] for each in held.missed()}
        assert {ids[130]} <= missed <= set(ids[100:150])


async def test_deletions_and_changes_beside_a_bad_page(redis_url: str) -> None:
    """What changes elsewhere is published; nothing on the page is taken for deleted."""
    with Gateway(orders=500) as gateway, Judge(gateway, redis_url) as held:
        history, ids = gateway.history, gateway.history.ids("orders")
        async with worker_at(gateway, redis_url, page_size=100, attempts=1) as worker:
            await settle(worker, held)
            broken = gateway.faults.add("status", code=500, holds=ids[150])
            history.change("orders", [ids[3], ids[160], ids[490]])
            history.create("orders", 3)
            for _ in range(3):
                await worker.poll()
                worker.clock.offset += 60
            assert held.verdict().counts == {}
            history.delete("orders", [ids[10]])
            broken.end()
            await settle(worker, held)
        assert held.verdict().counts == {}


async def test_once(redis_url: str, tmp_path: Path) -> None:
    """`run --once` goes on behind the page as well; exit 1, the page is named, and both attempts count."""
    with Gateway(orders=300) as gateway, Judge(gateway, redis_url) as held:
        bad = gateway.history.ids("orders")[150]
        gateway.faults.add("status", code=500, holds=bad)
        settings = gateway.settings(redis_url, tmp_path, api__page_size="100", api__attempts="1")
        done = ordersync("run", "--once", cwd=tmp_path, **settings)
        assert (done.returncode, "number 150 of the list, on page 1" in done.stderr) == (1, True), done.stderr
        assert "299 records read, 299 events published (299 snapshot" in done.stdout
        assert [each.partition(":")[0] for each in held.missed()] == [bad]
