"""Deletions and drift: what a complete read did not show is asked for by id before anything is said of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.polling import after_pages
from tests.support.worker import Bench, BenchMaker
from worker.capture.health import Health, judge
from worker.capture.registry import CATEGORIES, MERCHANT_CATALOGS, SHIPMENTS
from worker.capture.scan.deletions import FEW_UNPROVEN, MANY_MOVED, max_deleted, weigh
from worker.capture.state.run import Outcome
from worker.redis.connections import answer
from worker.sandbox import FaultRule, SandboxServer

pytestmark = pytest.mark.anyio


async def deleted(b: Bench, name: str = "orders") -> list[str]:
    return [event.subject for event in await b.events(name) if event.action == "deleted"]


async def gone(b: Bench) -> dict[str, int]:
    return await b.store.all_absent()


def test_two_percent_and_always_a_few() -> None:
    """A small shop may lose some orders too, though not more than half of them."""
    tracked = (0, 1, 2, 3, 10, 39, 100, 1000, 1050, 10_000)
    assert [max_deleted(each) for each in tracked] == [1, 1, 1, 2, 5, 20, 50, 50, 50, 200]
    assert [max_deleted(each, FEW_UNPROVEN) for each in tracked] == [1, 1, 1, 2, 5, 5, 5, 20, 21, 200]


@pytest.mark.parametrize(
    ("before", "drift", "many", "after"),
    [
        (0, 0, False, 0), (5, 0, False, 0), (0, 1, False, 1), (1, MANY_MOVED, False, 2),
        (0, MANY_MOVED + 1, False, 2), (0, 0, True, 2),
    ],
)  # fmt: skip
def test_what_speaks_against_full_scans_adds_up(before: int, drift: int, many: bool, after: int) -> None:
    """At two the contract is probed: after two scans in a row that missed a few records, or one that missed many."""
    assert weigh(before, drift=drift, many=many) == after


async def test_deleted_after_a_complete_read_and_two_answers(bench: BenchMaker) -> None:
    """Not before: the first answer that it is gone is confirmed later. The event holds the id and the next version."""
    async with bench() as b:
        await b.poll()
        (victim,) = b.sandbox.store.change(1)
        await b.poll()
        b.sandbox.store.delete(victim)
        run = await b.poll()
        assert (run.outcome, run.missing, run.usage.requests) == (Outcome.COMPLETE, 1, 2)
        assert (await gone(b), await deleted(b)) == ({victim: 1}, [])
        assert (await b.poll(follow_ups_only=True)).usage.requests == 0  # not at once
        await answer(b.redis.zadd(b.account.keys.refresh_queue("orders"), {f"id:{victim}": 1}))
        run = await b.poll(follow_ups_only=True)
        assert (run.deleted, await gone(b), await deleted(b)) == (1, {}, [victim])
        event = (await b.events())[-1]
        assert (event.version, json.loads(event.data), event.changed) == (3, {"id": victim}, ())
        assert event.type == "io.ordermesh.order.deleted"
        for _ in range(2):
            run = await b.poll()
            assert (run.published, run.missing, run.drift) == (0, 0, 0)
        assert (await b.cursor()).tracked == 49


async def test_a_record_that_is_hidden_and_there_is_drift(
    bench: BenchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list does not show it, the single read does: it is counted, its change is published, it is not deleted."""
    async with bench() as b:
        await b.poll()
        hidden = b.sandbox.store.ids()[7]
        raw = b.sandbox.store.truth()[hidden]
        shown = b.account.client.read_page
        b.sandbox.store.change(hidden, status="Fulfilled")

        async def without(*args: Any, **options: Any) -> bytes:
            body = json.loads(await shown(*args, **options))
            body["orders"] = [each for each in body["orders"] if each["id"] != hidden]
            body["total"] -= 1
            return json.dumps(body).encode()

        monkeypatch.setattr(b.account.client, "read_page", without)
        fresh = (await b.cursor()).fresh_as_of
        run = await b.poll()
        assert (run.missing, run.drift, run.updated, await gone(b), await deleted(b)) == (0, 1, 1, {}, [])
        assert (await b.events())[-1].data == b.sandbox.store.truth()[hidden] != raw
        # It does not claim that it has read everything, and the list is read again at once.
        cursor = await b.cursor()
        assert (run.outcome, run.freshness, cursor.fresh_as_of) == (Outcome.PARTIAL, None, fresh)
        assert (cursor.swept_at, cursor.due_at <= b.services.clock.now()) == (0.0, True)


async def test_too_many_are_held_back_until_somebody_says_so(bench: BenchMaker) -> None:
    """The contract is probed first. Then a clear log event, once; health degraded; then accepted for one read."""
    with SandboxServer(orders=120) as sandbox:
        async with bench(sandbox) as b:
            await b.poll()
            victims = b.sandbox.store.ids()[:52]
            for victim in victims:
                b.sandbox.store.delete(victim)
            run = await b.poll()
            assert (run.outcome, run.missing) == (Outcome.PARTIAL, 52)
            assert (await b.cursor()).held_back == 0
            with capture_logs() as lines:
                for _ in range(3):
                    run = await b.poll(complete=True)
                    assert (run.outcome, run.missing, await deleted(b)) == (Outcome.COMPLETE, 52, [])
            events = [line["event"] for line in lines]
            assert [events.count(name) for name in ("contract_probed", "deletes_held_back")] == [1, 1]
            assert events.index("contract_probed") < events.index("deletes_held_back")
            assert await gone(b) == dict.fromkeys(victims, 1)
            verdict = judge(await b.cursor(), b.services.clock.now())
            assert verdict.health is Health.DEGRADED
            assert "did not find 52 of 120 known records" in verdict.cause
            assert verdict.cause.index("contract probe") < verdict.cause.index("--accept-deletes")
            await answer(b.redis.hset(b.account.keys.accepted, "orders", "1"))
            await b.poll(complete=True)
            await b.poll(follow_ups_only=True)
            assert sorted(await deleted(b)) == sorted(victims)
            assert judge(await b.cursor(), b.services.clock.now()).health is Health.OK
            assert not await answer(b.redis.exists(b.account.keys.accepted))  # it held for one read


async def test_one_that_comes_back_is_created(bench: BenchMaker) -> None:
    """With the next version, so that nobody who counts is misled."""
    async with bench() as b:
        await b.poll()
        victim = b.sandbox.store.ids()[3]
        order = b.sandbox.store.read(victim)
        b.sandbox.store.delete(victim)
        await b.poll()
        for _ in range(2):
            await answer(b.redis.zadd(b.account.keys.refresh_queue("orders"), {f"id:{victim}": 1}))
            await b.poll(follow_ups_only=True)
        assert await deleted(b) == [victim]
        assert order is not None
        b.sandbox.store.add(order, b.sandbox.store.stamp())
        await b.poll()
        event = (await b.events())[-1]
        assert (event.subject, event.action, event.version) == (victim, "created", 3)
        assert (await b.cursor()).tracked == 50


async def test_without_a_single_read_two_complete_reads_tell(bench: BenchMaker) -> None:
    """Categories cannot be read by id: not shown once is nothing, not shown twice in a row is deleted."""
    async with bench(probe=True, intervals={"categories": 1.0}) as b:
        await b.poll(CATEGORIES)
        categories, due = b.sandbox.world.categories, b.account.keys.refresh_queue("categories")
        victim = categories.ids()[0]
        categories.remove(victim)
        for outcome in (Outcome.PARTIAL, Outcome.COMPLETE, Outcome.COMPLETE):
            # It may be there: the list is read again at once, and its absence is confirmed minutes later.
            assert (await b.poll(CATEGORIES)).outcome is outcome
            assert await deleted(b, "categories") == []
        await answer(b.redis.zadd(due, {f"id:{victim}": 1}))
        await b.poll(CATEGORIES)
        assert await deleted(b, "categories") == [victim]
        assert (await b.poll(CATEGORIES)).published == 0


async def test_a_list_that_became_empty(bench: BenchMaker) -> None:
    """That the last records are gone is not believed either, until somebody says so."""
    async with bench(probe=True, intervals={"merchant_catalogs": 1.0}) as b:
        await b.poll(MERCHANT_CATALOGS)
        catalogs, due = b.sandbox.world.merchant_catalogs, b.account.keys.refresh_queue("merchant_catalogs")
        victims = catalogs.ids()
        for victim in victims:
            catalogs.remove(victim)
        for _ in range(2):
            assert (await b.poll(MERCHANT_CATALOGS)).outcome is Outcome.SUSPICIOUS
        await answer(b.redis.hset(b.account.keys.accepted, "merchant_catalogs", "1"))
        assert (await b.poll(MERCHANT_CATALOGS)).missing == len(victims)
        for _ in range(2):
            await answer(b.redis.zadd(due, {f"id:{victim}": 1 for victim in victims}))
            await b.poll(MERCHANT_CATALOGS, follow_ups_only=True)
        assert sorted(await deleted(b, "merchant_catalogs")) == sorted(victims)
        run = await b.poll(MERCHANT_CATALOGS)
        assert (run.outcome, run.published) == (Outcome.COMPLETE, 0)
        assert not await answer(b.redis.exists(b.account.keys.accepted))


async def test_a_read_in_slices_judges_all_of_it(bench: BenchMaker) -> None:
    """What each slice has seen is remembered in Redis: a read that is resumed finds what none of them showed."""
    async with bench(page_size=10) as b:
        await b.poll()
        victim = b.sandbox.store.ids()[20]
        b.sandbox.store.delete(victim)
        run = await b.poll(stop=after_pages(2))
        assert run.outcome is Outcome.STOPPED
        run = await b.poll()
        assert (run.outcome, run.missing, await gone(b)) == (Outcome.COMPLETE, 1, {victim: 1})


async def test_a_failed_read_says_nothing_of_deletions(bench: BenchMaker) -> None:
    """Only one that has come to its end counts."""
    async with bench(page_size=10, attempts=1) as b:
        await b.poll()
        b.sandbox.store.delete(b.sandbox.store.ids()[45])
        b.sandbox.faults.replace([FaultRule("status", operation="orders.search", page=3, times=1, code=500)])
        assert (await b.poll()).outcome is Outcome.FAILED
        assert (await gone(b), await answer(b.redis.zcard(b.account.keys.refresh_queue("orders")))) == ({}, 0)


async def test_shipments_follow_their_order(bench: BenchMaker) -> None:
    """A changed order has its shipments read, though nothing in the list of shipments was asked for."""
    with SandboxServer(orders=20) as sandbox:
        async with bench(sandbox, probe=True, intervals={"orders": 1.0, "shipments": 1.0}) as b:
            await b.poll()
            await b.poll(SHIPMENTS)
            before = len(await b.events("shipments"))
            order = next(iter(sandbox.store.ids()))
            sandbox.store.change(order, status="Cancelled", cancelledAt="2026-03-02T10:41:07.5131337Z")
            await b.poll()
            run = await b.poll(SHIPMENTS, follow_ups_only=True)
            assert run.follow_ups > 0
            truth = sandbox.world.truth("shipments")
            events = await b.events("shipments")
            assert {event.subject: event.data for event in events} == truth
            assert len({event.id for event in events}) == len(events) >= before
            assert (await b.poll(SHIPMENTS)).published == 0
            assert await answer(b.redis.zcard(b.account.keys.refresh_queue("shipments"))) == 0
