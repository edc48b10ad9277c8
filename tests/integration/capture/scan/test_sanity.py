"""Runs whose evidence speaks against them: told, not believed, and over with the next one that is in order."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from tests.support.worker import Bench, BenchMaker
from worker.capture.health import Health, judge
from worker.sandbox import FaultRule, SandboxServer, ServedContract
from worker.telemetry import log as logs

pytestmark = pytest.mark.anyio

CLAIMS = (
    "baseline",
    "mark",
    "swept_at",
    "swept_mark",
    "swept_records",
    "fresh_as_of",
    "last_success",
    "tracked",
)


async def claims(b: Bench) -> dict[str, Any]:
    """What is claimed to be known completely."""
    cursor = await b.cursor()
    return {name: getattr(cursor, name) for name in CLAIMS}


async def health(b: Bench) -> tuple[Health, str]:
    """How the orders stand."""
    verdict = judge(await b.cursor(), b.services.clock.now())
    return verdict.health, verdict.cause


async def is_in_order_again(b: Bench) -> None:
    """The next run is normal and ends it."""
    assert (await b.poll()).outcome == "complete"
    assert await health(b) == (Health.OK, "")
    assert (await b.cursor()).suspicious == ""


async def test_an_empty_list(bench: BenchMaker, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is deleted, nothing is claimed, health says why, and the log has one warning for it."""
    logs.configure("json", "info")
    async with bench(page_size=20) as b:
        await b.poll()
        before = await claims(b)
        capsys.readouterr()
        b.sandbox.faults.replace((FaultRule("empty", operation="orders.search"),))
        for _ in range(2):
            run = await b.poll()
            assert (run.outcome, run.error) == ("suspicious", "the list was empty, but 50 records are known")
        assert await claims(b) == before
        word, cause = await health(b)
        assert (word, "the list was empty" in cause) == (Health.DEGRADED, True)
        lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        (told,) = [line for line in lines if line["event"] == "run_suspicious"]
        assert (told["level"], told["resource"], told["outcome"]) == ("warning", "orders", "suspicious")
        assert not [line for line in lines if line["event"] in {"poll_done", "poll_failed"}]
        b.sandbox.faults.clear()
        await is_in_order_again(b)
        assert len(await b.events()) == 50


async def test_a_total_far_from_the_last_one(bench: BenchMaker) -> None:
    """A list that has lost most of its records is not believed, unless the next read shows the same."""
    async with bench(page_size=20) as b:
        await b.poll()
        before = await claims(b)
        known = {each: b.sandbox.store.truth()[each] for each in b.sandbox.store.ids()}
        for order in list(known)[:30]:
            b.sandbox.store.delete(order)
        run = await b.poll()
        assert (run.outcome, run.missing) == ("suspicious", 0)
        assert "20 records were returned, but the last full scan returned 50" in run.error
        assert await claims(b) == before
        for order, raw in known.items():
            b.sandbox.store.replace(order, raw)
        await is_in_order_again(b)
        for order in list(known)[:30]:
            b.sandbox.store.delete(order)
        assert (await b.poll(complete=True)).outcome == "suspicious"
        assert (await b.poll(complete=True)).outcome == "complete"


async def test_all_records_changed_at_once(bench: BenchMaker) -> None:
    """They are published, as each is what was served; a complete read it is not called until the next one agrees."""
    with SandboxServer(orders=120) as sandbox:
        async with bench(sandbox, page_size=50) as b:
            await b.poll()
            before = await claims(b)
            sandbox.store.change_silently(sandbox.store.ids(), safeId="another")
            run = await b.poll()
            assert (run.outcome, run.updated) == ("suspicious", 120)
            assert "120 of 120 records have changed at the same time" in run.error
            assert await claims(b) == before
            await is_in_order_again(b)
            assert len(await b.events()) == 240


async def test_a_window_that_is_rightly_empty(bench: BenchMaker) -> None:
    """Where the newest record is gone, a complete read says so at once, and it is not asked about again."""
    with SandboxServer(orders=120, contract=ServedContract(since_honoured=True)) as sandbox:
        async with bench(sandbox, probe=True) as b:
            await b.poll()
            (order,) = sandbox.store.create(1)
            assert (await b.poll()).created == 1
            sandbox.store.delete(order)
            run = await b.poll()
            assert (run.plan, run.outcome) == ("window", "suspicious")
            run = await b.poll()
            assert (run.plan, run.outcome, run.error) == ("window+sweep", "complete", "")
            run = await b.poll()
            assert (run.plan.removeprefix("refresh+"), run.outcome) == ("window", "complete")
            assert await health(b) == (Health.OK, "")


@pytest.mark.parametrize(
    "contract", [{"choices_honoured": False}, {"sort_honoured": True}, {"since_honoured": True}]
)
async def test_every_run_record_has_its_evidence(
    bench: BenchMaker, capsys: pytest.CaptureFixture[str], contract: dict[str, Any]
) -> None:
    """Pages, records, the server's total, the newest modification and the offset of the clocks, in record and line."""
    logs.configure("json", "info")
    with SandboxServer(orders=60, contract=ServedContract(**contract)) as sandbox:
        async with bench(sandbox, probe=True, page_size=20) as b:
            await b.poll()
            (order,) = sandbox.store.change(1)
            await b.poll()
            record = {
                k.decode(): v.decode()
                for k, v in (await b.redis.xrevrange(b.account.keys.runs))[0][1].items()
            }
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    line = [line for line in lines if line["event"] == "poll_done"][-1]
    assert {"pages", "records", "total", "newest", "clock_offset_s"} <= line.keys() & record.keys()
    updated = msgspec.json.decode(sandbox.store.truth()[order])["updatedAt"]
    assert record["newest"] == line["newest"]
    assert record["newest"][:23] == updated[:23]
    assert abs(float(record["clock_offset_s"])) < 5
    assert 1 <= int(record["total"]) <= 60
