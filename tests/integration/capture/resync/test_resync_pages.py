"""Resyncs of a list whose pages move, end early or begin again: all is published, nothing twice, and each ends."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.polling import after_pages
from tests.support.resyncing import ask, found, versions, work
from tests.support.worker import Bench, BenchMaker
from worker.capture.registry import ORDERS
from worker.capture.resync.requests import Resyncs, ResyncState
from worker.capture.state.store import StateStore
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
