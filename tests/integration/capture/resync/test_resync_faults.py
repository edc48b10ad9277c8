"""Resyncs where things go wrong: none ends before it has read what it should, and none goes on for ever."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from arq.worker import Retry

from jobs.resync import ORPHANED_TRIES, resync
from tests.integration.capture.refresh.test_refresh_faults import answered, believe
from tests.integration.capture.resync.test_resync import ask, work
from tests.support.polling import after_pages
from tests.support.worker import Bench, BenchMaker
from worker.capture.gate import Stop, StopCause
from worker.capture.registry import ORDERS
from worker.capture.resync.requests import Resync, ResyncRequest, Resyncs, ResyncState
from worker.capture.state.store import StateStore
from worker.errors import Forbidden, LeaseLost, ServerError
from worker.ordermesh.http.reply import Reply
from worker.queue.backpressure import PressureReport
from worker.redis.connections import answer
from worker.sandbox import FaultRule, SandboxServer, ServedContract

pytestmark = pytest.mark.anyio


class Died(BaseException):
    """As a SIGKILL: nothing that follows it is done."""


def dies_after(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, times: int = 1) -> None:
    """The worker dies so many times right behind a call."""
    call, died = getattr(owner, name), list[int]()

    async def dies(*args: Any, **options: Any) -> Any:
        result = await call(*args, **options)
        if len(died) < times and any(
            each.startswith("resync_") for each in options.get("cursor", {"resync_": 0})
        ):
            died.append(1)
            raise Died
        return result

    monkeypatch.setattr(owner, name, dies)


async def found(b: Bench, name: str) -> Resync:
    resync_ = await b.account.resyncer.resyncs.get(name)
    assert resync_ is not None
    return resync_


async def versions(b: Bench) -> Counter[str]:
    return Counter(event.subject for event in await b.events())


async def marks(b: Bench) -> list[bytes]:
    names = await answer(b.redis.hkeys(b.account.keys.cursor("orders")))
    return [each for each in names if each.startswith(b"resync")]


async def test_what_was_counted_outlives_the_worker(
    bench: BenchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An id under which nothing was found is told, also if the worker died right behind the commit that says so."""
    async with bench() as b:
        await b.poll()
        one = b.sandbox.store.ids()[0]
        name = await ask(b, ids=(one, "NOPE"), force=True)
        with monkeypatch.context() as patch:
            dies_after(patch, StateStore, "commit")
            with pytest.raises(Died):
                await b.account.resyncer.slice(ORDERS, name)
        done = await work(b, name)
        assert (done.missing, done.missed, done.read, done.published) == (("NOPE",), 1, 2, 1)
        assert done.requests > 0
        assert (await versions(b))[one] == 2
        assert await marks(b) == []


@pytest.mark.parametrize("dead", [(StateStore, "commit"), (Resyncs, "end"), (StateStore, "drop_mark")])
async def test_the_last_page_is_published_once(
    bench: BenchMaker, monkeypatch: pytest.MonkeyPatch, dead: tuple[Any, str]
) -> None:
    """Wherever at its end the worker dies, and though the gateway gives the last page for every page behind it."""
    async with bench(page_size=50) as b:
        await b.poll()
        read = b.account.client.read_page

        async def clamps(search: str, page: int, *args: Any) -> bytes:
            return bytes(await read(search, 0, *args))

        monkeypatch.setattr(b.account.client, "read_page", clamps)
        name = await ask(b, all=True, force=True)
        with monkeypatch.context() as patch:
            dies_after(patch, *dead)
            with pytest.raises(Died):
                await b.account.resyncer.slice(ORDERS, name)
        if await b.account.resyncer.resyncs.open():
            await work(b, name)
        assert set((await versions(b)).values()) == {2}
        await work(b, await ask(b, ids=(b.sandbox.store.ids()[0],)))
        assert await marks(b) == []


async def test_pages_of_another_size(bench: BenchMaker) -> None:
    """One that goes on with other settings leaves nothing out, and publishes nothing twice."""
    for before, after in ((10, 25), (25, 10)):
        with SandboxServer(orders=50) as sandbox:
            async with bench(sandbox, page_size=before) as b:
                await b.redis.flushall()
            async with bench(sandbox, page_size=before) as b:
                await b.poll()
                name = await ask(b, all=True, force=True)
                await b.account.resyncer.slice(ORDERS, name, stop=after_pages(1))
                assert 50 < len(await b.events()) < 100
            async with bench(sandbox, page_size=after) as b:
                assert (await work(b, name)).state is ResyncState.DONE
                assert await versions(b) == dict.fromkeys(sandbox.store.ids(), 2)


@pytest.mark.parametrize("total", ["total", None])
async def test_a_gateway_that_does_not_turn_pages(bench: BenchMaker, total: str | None) -> None:
    """It gives the first page for ever: nothing is published for ever, and the resync says why it does not go on."""
    with SandboxServer(orders=50, contract=ServedContract(ignore_page=True, total=total)) as sandbox:
        async with bench(sandbox, page_size=10) as b:
            await b.account.poller.poll(ORDERS)
            name = await ask(b, all=True, force=True)
            before = len(await b.events())
            for _ in range(3):
                await b.account.resyncer.slice(ORDERS, name)
            assert (await found(b, name)).state is ResyncState.RUNNING
            assert "of the previous page again" in (await found(b, name)).error
            assert len(await b.events()) - before <= 10


async def test_an_empty_page_is_no_end(bench: BenchMaker) -> None:
    """Where the total says that there is more, or records are known: it is asked for again."""
    async with bench(page_size=10) as b:
        await b.poll()
        for page in (1, 4):
            b.sandbox.faults.replace([FaultRule("empty", operation="orders.search", page=page, times=1)])
            name = await ask(b, all=True)
            await b.account.resyncer.slice(ORDERS, name)
            assert "empty" in (await found(b, name)).error
            assert (await work(b, name)).read == 50


async def test_a_refused_page_before_the_total_is_no_end(bench: BenchMaker) -> None:
    """Behind the last page it is one; where the server shows no more than the beginning, that is told."""
    contract = ServedContract(result_cap=30, refuse_deep=True, choices_honoured=False)
    with SandboxServer(orders=50, contract=contract) as sandbox:
        async with bench(sandbox, probe=True, page_size=10) as b:
            await b.poll()
            name = await ask(b, all=True)
            for _ in range(2):
                await b.account.resyncer.slice(ORDERS, name)
            found = await b.account.resyncer.resyncs.get(name)
            assert found is not None
            assert (found.state, found.read) == (ResyncState.RUNNING, 30)
            assert "the list should contain 50 records" in found.error


async def test_records_that_went_meanwhile_end_it_nevertheless(bench: BenchMaker) -> None:
    """An end that is the same each time is believed, though the total was once larger."""
    with SandboxServer(orders=50, contract=ServedContract(total=None)) as sandbox:
        async with bench(sandbox, page_size=10) as b:
            await b.poll()
            b.sandbox.faults.replace([FaultRule("empty", operation="orders.search")])
            name = await ask(b, all=True)
            assert (await work(b, name)).state is ResyncState.DONE


async def test_pages_that_move_do_not_force_twice(bench: BenchMaker) -> None:
    """Orders that are created while the newest come first push others to the next page, where they come again."""
    with SandboxServer(orders=50, contract=ServedContract(descending=True)) as sandbox:
        async with bench(sandbox, page_size=10) as b:
            await b.poll()
            known = sandbox.store.ids()
            sandbox.faults.replace(
                [FaultRule("create", operation="orders.search", page=page, count=3) for page in (1, 2, 3)]
            )
            await work(b, await ask(b, all=True, force=True))
            counted = await versions(b)
            assert {each: counted[each] for each in known} == dict.fromkeys(known, 2)


async def test_a_change_on_a_record_that_comes_again_is_published(
    bench: BenchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it was forced once is no reason to leave out what has happened since."""
    with SandboxServer(orders=20, contract=ServedContract(descending=True)) as sandbox:
        async with bench(sandbox, page_size=10) as b:
            await b.poll()
            read, oldest_of_page = b.account.client.read_page, sandbox.store.ids()[10]

            async def moves(search: str, page: int, *args: Any) -> bytes:
                if page == 1:
                    sandbox.store.create(1)
                    sandbox.store.change(oldest_of_page, status="Cancelled")
                return bytes(await read(search, page, *args))

            monkeypatch.setattr(b.account.client, "read_page", moves)
            await work(b, await ask(b, all=True, force=True))
            told = [event for event in await b.events() if event.subject == oldest_of_page]
            assert [(event.version, bool(event.changed)) for event in told] == [
                (1, False),
                (2, False),
                (3, True),
            ]


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
