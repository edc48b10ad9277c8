"""One probe of a contract at a time, which goes on where an earlier one was interrupted."""

from __future__ import annotations

import asyncio

import pytest
import structlog

from tests.support.waiting import eventually
from tests.support.worker import Bench, BenchMaker
from worker.capture.probe.journal import ProbeJournal
from worker.capture.probe.samples import ProbeRefusal, SamplePage, SampleRecord
from worker.capture.registry import AUDIT_LOGS, ORDERS
from worker.capture.state.lease import acquire
from worker.capture.state.run import Outcome
from worker.errors import LeaseHeld
from worker.ordermesh.contract.findings import fingerprint
from worker.redis.connections import answer, connect
from worker.sandbox import FaultRule

pytestmark = pytest.mark.anyio

SLOW = FaultRule("delay", operation="orders.search", seconds=0.05)
BOTH = {"orders": 1.0, "order_audit": 1.0}


def requests(b: Bench) -> int:
    return sum(b.sandbox.requests.counts().get("orders.search", {}).values())


async def test_reads_that_begin_together_probe_once(bench: BenchMaker) -> None:
    """Orders and their audit logs need the same findings: one read probes, and the other one waits meanwhile."""
    async with bench(probe=True, intervals=BOTH) as b:
        with structlog.testing.capture_logs() as lines:
            first, second = await asyncio.gather(b.poll(), b.poll(AUDIT_LOGS["order_audit"]))
        assert (first.outcome, second.outcome) == (Outcome.COMPLETE, Outcome.COMPLETE)
        assert (await b.cursor()).failures == 0
        assert len([line for line in lines if line["event"] == "contract_probed"]) == 1


async def test_another_worker_that_probes_is_waited_for(
    bench: BenchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read is held after some seconds, which is no failure; a person who asks gets a probe after the other one."""
    monkeypatch.setattr("worker.capture.probe.registry.WAIT_SECONDS", 0.3)
    async with bench(probe=True) as b:
        believed = fingerprint(b.account.capabilities.store.configured)
        key = b.services.keys.gateway(b.sandbox.url, believed).lease("orders")
        async with acquire(b.redis, key, resource="x", owner="other", clock=b.services.clock):
            with pytest.raises(LeaseHeld, match="the contract of orders"):
                await b.account.capabilities.ensure(ORDERS)
            waiting = asyncio.ensure_future(b.account.capabilities.probe(ORDERS))
            await asyncio.sleep(0)
            assert requests(b) == 0
        assert (await waiting).state == "found"


async def test_a_probe_that_is_interrupted_again_and_again_ends(bench: BenchMaker) -> None:
    """Each life sends four requests: the next one goes on with the fifth. The journal is removed at the end."""
    async with bench(probe=True) as b:
        b.sandbox.faults.replace((SLOW,))
        lives = 0
        while True:
            lives, before = lives + 1, requests(b)
            probing = asyncio.ensure_future(b.account.capabilities.ensure(ORDERS))
            await eventually(lambda of=probing, n=before: of.done() or requests(b) >= n + 4)  # type: ignore[misc]
            if probing.done():
                break
            probing.cancel()
            await asyncio.wait([probing])
            assert lives < 30, "the probe does not come any further"
        assert (await probing).state == "found"
        assert lives > 2
        assert not await b.redis.exists(b.account.keys.probe("orders"))


PAGE = SamplePage((SampleRecord("a", 1, unchanged=False, names=frozenset({"id"})),), "orders", "total", 1)
REFUSAL = ProbeRefusal(404, "no such page")


async def test_a_journal_gives_back_what_was_seen(redis_url: str) -> None:
    """Each answer once, those to the same request in their order, for the same profile only."""
    client = connect(redis_url)
    first = ProbeJournal(client, "journal", "profile")
    for request, seen in (("one", PAGE), ("two", REFUSAL), ("three", PAGE), ("two", PAGE)):
        assert first.next(request) is None
        await first.add(request, seen)
    assert 0 < await client.ttl("journal") <= 900
    second = ProbeJournal(client, "journal", "profile")
    assert await second.load() == 4
    requests = ("two", "other", "three", "two", "two", "one")
    assert [second.next(one) for one in requests] == [REFUSAL, None, PAGE, PAGE, None, PAGE]
    third = ProbeJournal(client, "journal", "another profile")
    assert await third.load() == 0
    assert third.next("one") is None
    await second.drop()
    assert not await client.exists("journal")
    await answer(client.rpush("journal", b"not an entry"))
    assert await third.load() == 0
    await client.aclose()
