"""Resyncs that fail or have to wait: ids that fail, a gateway that is down, jobs that nobody can do."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from arq.worker import Retry

from jobs.resync import ORPHANED_TRIES, resync
from tests.support.reads_by_id import answered, believe
from tests.support.resyncing import ask, found, work
from tests.support.worker import BenchMaker
from worker.capture.gate import Stop, StopCause
from worker.capture.registry import ORDERS
from worker.capture.resync.requests import ResyncRequest, ResyncState
from worker.capture.state.store import StateStore
from worker.errors import Forbidden, LeaseLost, ServerError
from worker.ordermesh.http.reply import Reply
from worker.queue.backpressure import PressureReport
from worker.redis.connections import answer
from worker.sandbox import FaultRule, SandboxServer, ServedContract

pytestmark = pytest.mark.anyio


async def test_a_single_read_with_other_fields_is_not_published(
    bench: BenchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its fields are not those of the list: the record is taken from there, or left to the next complete read."""
    async with bench() as b:
        await b.poll()
        await believe(b, "orders", single_alike=False)
        one, two = b.sandbox.store.ids()[:2]

        def more(reply: Reply) -> Reply:
            order = json.loads(reply.raw)
            order.get("order", order)["computed"] = 1
            return Reply(reply.key, reply.status, json.dumps(order).encode(), reply.media_type, reply.date)

        for each in (one, two):
            answered(b, monkeypatch, "orders.get", each, more)
        b.sandbox.store.change(one, status="Cancelled")
        done = await work(b, await ask(b, ids=(one, two)))
        assert (done.published, done.unchanged, done.missed) == (1, 1, 0)
        event = (await b.events())[-1]
        assert (event.subject, event.data) == (one, b.sandbox.store.truth()[one])
        assert (await b.poll()).published == 0
        # Where the list cannot be asked for one record either, everything is read.
        b.sandbox.store.change(two, status="Cancelled")
        b.sandbox.faults.replace([FaultRule("empty", operation="orders.search", times=20)])
        done = await work(b, await ask(b, ids=(two,)))
        assert (done.published, done.missed, (await b.cursor()).swept_at) == (0, 0, 0)
        b.sandbox.faults.replace([])
        assert (await b.poll()).updated == 1


@pytest.mark.parametrize("error", [ServerError("orders.get", 500, "x"), Forbidden("orders.get", 403, "x")])
async def test_one_id_that_fails_does_not_hold_up_the_others(
    bench: BenchMaker, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """It is tried for a while, and then told among those that were not found."""
    async with bench(attempts=1) as b:
        await b.poll()
        bad, *good = b.sandbox.store.ids()[:25]

        def refuse(_: Reply) -> Reply:
            raise error

        answered(b, monkeypatch, "orders.get", bad, refuse)
        name = await ask(b, ids=(bad, *good), force=True)
        await b.account.resyncer.slice(ORDERS, name)
        assert (await found(b, name)).failures == 1
        done = await work(b, name)
        assert (done.state, done.missing, done.published) == (ResyncState.DONE, (bad,), 24)


async def test_a_gateway_that_is_down_is_waited_for(bench: BenchMaker) -> None:
    """That nothing can be read says nothing of the ids."""
    async with bench(attempts=1) as b:
        await b.poll()
        b.sandbox.faults.replace([FaultRule("status", operation="*", code=503)])
        name = await ask(b, ids=tuple(b.sandbox.store.ids()[:3]))
        for _ in range(10):
            await b.account.resyncer.slice(ORDERS, name)
        assert ((await found(b, name)).missed, (await found(b, name)).failures) == (0, 10)
        b.sandbox.faults.replace([])
        assert (await work(b, name)).missed == 0


async def test_cancelled_while_a_slice_begins(bench: BenchMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the worker writes of it does not bring it back, nor one that nobody remembers any more."""
    async with bench() as b:
        await b.poll()
        resyncs, name = b.account.resyncer.resyncs, await ask(b, all=True, force=True)
        mark_of = StateStore.mark_of

        async def meanwhile(store: StateStore, field: str) -> str:
            await resyncs.cancel(name, 1.0)
            return await mark_of(store, field)

        monkeypatch.setattr(StateStore, "mark_of", meanwhile)
        await b.account.resyncer.slice(ORDERS, name)
        assert (await found(b, name)).state is ResyncState.CANCELLED
        assert len(await b.events()) == 50
        await b.redis.unlink(b.account.keys.resync(name))
        await resyncs.update(name, failures=1)
        assert not await b.redis.exists(b.account.keys.resync(name))


async def test_before_the_first_read_there_is_room_for_all(
    bench: BenchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many hashes keep the states is settled by the first commit, for good: the list is asked for its total."""
    async with bench() as b:
        read = b.account.client.read_page

        async def large(*args: Any, **options: Any) -> bytes:
            body = json.loads(await read(*args, **options))
            return json.dumps({**body, "total": 200_000}).encode()

        monkeypatch.setattr(b.account.client, "read_page", large)
        done = await work(b, await ask(b, ids=(b.sandbox.store.ids()[0],)))
        assert (done.published, (await b.cursor()).buckets) == (1, 8192)


async def test_a_dry_run_says_what_would_be(bench: BenchMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each record once, what is not found, no more than the share of the budget, and not a word is written."""
    with SandboxServer(orders=30, contract=ServedContract(descending=True)) as sandbox:
        async with bench(sandbox, page_size=10) as b:
            await b.poll()
            keys = {key: await b.redis.dump(key) for key in await b.redis.keys("ordersync:{default}:*")}
            sandbox.store.change(sandbox.store.ids()[20], status="Cancelled", somethingNew=1)
            sandbox.faults.replace([FaultRule("create", operation="orders.search", page=1, count=1, times=1)])
            preview = await b.account.resyncer.preview(
                ORDERS, ResyncRequest(resource="orders", all=True, force=True)
            )
            assert Counter(row["id"] for row in preview.rows).most_common(1)[0][1] == 1
            assert len(preview.rows) == 31  # with the new one
            slept: list[float] = []

            async def sleep(seconds: float) -> None:
                slept.append(seconds)

            monkeypatch.setattr(b.account.resyncer._clock, "sleep", sleep)
            monkeypatch.setattr(b.account.resyncer, "_rate", 0.5)
            ids = ("NOPE", *sandbox.store.ids())
            preview = await b.account.resyncer.preview(ORDERS, ResyncRequest(resource="orders", ids=ids))
            assert (len(preview.rows), preview.missing) == (2, ["NOPE"])  # the changed and the new one
            assert sum(slept) > 5
            same = {b"budget", b"contract", b"token"}
            for key, value in keys.items():
                if not any(part in key for part in same):
                    assert await b.redis.dump(key) == value, key


async def test_what_it_waits_for_is_told(bench: BenchMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Consumers that have to catch up, a lease that was lost, a cursor of another hand: no traceback, no hurry."""
    async with bench() as b:
        await b.poll()
        name = await ask(b, all=True)

        async def pressed(*_: Any) -> Stop:
            report = PressureReport("group x has 5 unread", "x", 5, 0, 0, 0)
            return Stop(StopCause.BACKPRESSURE, report=report)

        with monkeypatch.context() as patch:
            patch.setattr("worker.capture.gate.ReadGate.check", pressed)
            await b.account.resyncer.slice(ORDERS, name)
        waits = await found(b, name)
        assert "group x" in waits.error
        assert waits.due_at > b.services.clock.now() + 1

        async def lost(*_: Any, **__: Any) -> bool:
            raise LeaseLost("orders", 1)

        with monkeypatch.context() as patch:
            patch.setattr(StateStore, "commit", lost)
            await b.account.resyncer.slice(ORDERS, name)
        assert (await found(b, name)).failures == 1
        await answer(b.redis.hset(b.account.keys.cursor("orders"), "tracked", "many"))
        await b.account.resyncer.slice(ORDERS, name)
        assert "cursor" in (await found(b, name)).error
        await answer(b.redis.hset(b.account.keys.cursor("orders"), "tracked", "50"))
        assert (await work(b, name)).error == ""


async def test_a_record_that_is_no_utf_8(bench: BenchMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is none of those that were asked for, as far as anybody can tell, and ends nothing."""
    async with bench() as b:
        await b.poll()
        one, two = b.sandbox.store.ids()[:2]

        def spoil(reply: Reply) -> Reply:
            return Reply(reply.key, reply.status, b'{"id":"\xff"}', reply.media_type, reply.date)

        answered(b, monkeypatch, "orders.get", one, spoil)
        done = await work(b, await ask(b, ids=(one, two), force=True))
        assert (done.missing, done.published) == ((one,), 1)


async def test_what_is_due_is_found_without_the_ids(bench: BenchMaker) -> None:
    """The tick looks every second: it does not take a hundred thousand ids out of Redis each time."""
    async with bench() as b:
        name = await ask(b, ids=tuple(f"id-{at}" for at in range(5)))
        await b.redis.hset(b.account.keys.resync(name), "request", "not looked at")
        ((*which, wait),) = await b.account.resyncer.resyncs.due(b.services.clock.now())
        assert (which, wait <= 0) == ([name, "orders"], True)
        await b.account.resyncer.resyncs.update(name, due_at=b.services.clock.now() + 60)
        ((*which, wait),) = await b.account.resyncer.resyncs.due(b.services.clock.now())
        assert (which, 50 < wait <= 60) == ([name, "orders"], True)


async def test_what_nobody_has_thought_of_waits_longer_each_time(
    bench: BenchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not come again each second: the job fails, and the next slice has to wait."""
    async with bench() as b:
        await b.poll()

        def breaks(*_: object, **__: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr("worker.capture.writer.decide", breaks)
        name = await ask(b, all=True, force=True)
        waits = []
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await b.account.resyncer.slice(ORDERS, name)
            found = await b.account.resyncer.resyncs.get(name)
            assert found is not None
            waits.append(round(found.due_at - b.services.clock.now()))
        assert found is not None
        assert (waits, found.failures, found.error) == ([1, 2, 4], 3, "ZeroDivisionError")


async def test_a_job_that_nobody_can_do_is_told(bench: BenchMaker, caplog: pytest.LogCaptureFixture) -> None:
    """An account that no worker serves: it waits for one, and after a minute the log says so, once."""
    async with bench() as b:
        for at in range(1, ORPHANED_TRIES + 3):
            ctx = {"services": b.services, "job_id": "x", "job_try": at}
            with pytest.raises(Retry):
                await resync(ctx, "typo", "orders", {"all": True})
        lines = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
        told = [line for line in lines if line["event"] == "job_not_for_this_worker"]
        assert [line["account"] for line in told] == ["typo"]
