"""Polls that end behind a page and go on with another, and two workers at once."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.support.polling import after_pages, check
from tests.support.worker import BenchMaker
from worker.capture.scan.offset import READ_AHEAD
from worker.capture.scan.pages import PageQueue
from worker.capture.scan.strategy import PageRequest
from worker.capture.state.run import Run
from worker.clock import SystemClock
from worker.ordermesh.client import OrderMeshClient
from worker.ordermesh.http.transport import Http
from worker.redis import scripts
from worker.redis.connections import answer
from worker.sandbox import SandboxServer, ServedContract

pytestmark = pytest.mark.anyio


# Stopping, slices, page sizes


async def test_stop_ends_behind_the_page_in_hand(bench: BenchMaker) -> None:
    """A worker that is asked to end commits the page in hand, says so, and its successor carries on there."""
    async with bench(page_size=10) as b:
        run = await b.poll(stop=after_pages(2))
        assert (run.outcome, run.pages, run.published) == ("stopped", 2, 20)
        cursor = await b.cursor()
        assert (cursor.scan.page, cursor.baseline) == (2, False)
        assert cursor.due_at <= time.time()
        run = await b.poll()
        assert (run.outcome, run.pages, run.snapshot) == ("complete", 4, 30)  # the last page is empty
        assert (await b.cursor()).fresh_as_of == cursor.scan.started
        await check(b)


class TickingClock(SystemClock):
    """Each look at it takes a second."""

    def __init__(self) -> None:
        self.looks = 0.0

    def monotonic(self) -> float:
        """One second later than at the last look."""
        self.looks += 1
        return self.looks


async def test_slices(bench: BenchMaker) -> None:
    """A long read is a chain of slices, each of which goes on where the one before ended."""
    async with bench(page_size=5) as b:
        b.account.poller.context.clock = TickingClock()
        runs: list[Run] = []
        while not runs or runs[-1].outcome == "partial":
            runs.append(await b.poll(slice_seconds=5.5))
        assert len(runs) == 4
        assert [run.pages for run in runs] == [3, 3, 3, 2]  # 10 pages, and the empty one behind them
        assert runs[-1].outcome == "complete"
        assert len(await check(b)) == 50


@pytest.mark.parametrize(("page_size", "pages"), [(4, 6), (25, 2), (100, 1)])
async def test_other_page_size(bench: BenchMaker, page_size: int, pages: int) -> None:
    """A scan starts over with other pages, once; later it goes on where nothing is left out. Nothing comes twice."""
    async with bench(page_size=5) as b:
        await b.poll(stop=after_pages(4))
    async with bench(page_size=10) as b:
        assert (await b.poll(stop=after_pages(3))).records == 30
    async with bench(page_size=page_size) as b:
        run = await b.poll()
        assert (run.outcome, run.pages) == ("complete", pages)
        assert len(await check(b)) == 50


async def test_larger_pages_are_not_taken_for_an_early_end(redis_url: str, bench: BenchMaker) -> None:
    """Without a total, fewer pages than last time are doubted; not so when they were asked to be larger."""
    with SandboxServer(orders=50, contract=ServedContract(total=None)) as server:
        async with bench(server, redis_url, page_size=5) as b:
            assert (await b.poll()).outcome == "complete"
        async with bench(server, redis_url, page_size=25) as b:
            assert (await b.poll()).outcome == "complete"


async def test_workers_with_other_page_sizes_do_not_undo_each_other(bench: BenchMaker) -> None:
    """Two that take turns at one sweep both move it forward."""
    async with bench(page_size=5) as one, bench(page_size=4) as other:
        for _ in range(10):
            await one.poll(stop=after_pages(1))
            await other.poll(stop=after_pages(1))
        assert len(await one.events()) > 40


async def test_pages_in_memory_are_bounded(bench: BenchMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """However large the resource and slow the commits, no more than a window of pages is in hand."""
    most, fetch = 0, PageQueue._fetch

    async def counted(self: PageQueue, step: int, ask: PageRequest) -> Any:
        nonlocal most
        most = max(most, ask.page - self._paginator.next_page + 1)
        return await fetch(self, step, ask)

    monkeypatch.setattr(PageQueue, "_fetch", counted)
    async with bench(page_size=1, max_concurrency=3) as b:
        assert (await b.poll()).outcome == "complete"
    assert most == READ_AHEAD * 3


async def test_a_waiting_request_is_sent_before_a_page_is_worked_on(
    bench: BenchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one request at a time the next one is under way while a page is split, not after it."""
    sent, at_split = 0, list[int]()
    send, split = Http.send, OrderMeshClient.split

    async def counted(self: Http, *args: Any, **named: Any) -> Any:
        nonlocal sent
        sent += "/orders" in args[1]
        return await send(self, *args, **named)

    def noted(self: OrderMeshClient, *args: Any) -> Any:
        at_split.append(sent)
        return split(self, *args)

    monkeypatch.setattr(Http, "send", counted)
    monkeypatch.setattr(OrderMeshClient, "split", noted)
    async with bench(page_size=10, max_concurrency=1) as b:
        assert (await b.poll()).outcome == "complete"
    # The first page says how many there are; then two are requested, of which one waits.
    assert at_split[:2] == [1, 3]


# Two workers


async def test_two_at_once(bench: BenchMaker) -> None:
    """Of two pollers one reads, the other is told that it is held; nothing is published twice."""
    async with bench(page_size=5) as one, bench(page_size=5) as other:
        for _ in range(5):
            runs = await asyncio.gather(one.poll(), other.poll())
            assert sorted(run.outcome for run in runs) == ["complete", "held"]
            assert {run.error_code for run in runs} == {"", "lease_held"}
            one.sandbox.store.change(5)
            one.sandbox.store.create(1)
        await one.poll()
        await check(one)


async def steal(redis: Redis, key: str) -> None:
    """Another worker takes the lease, as if it had run out."""
    await answer(redis.hset(key, "until", "0"))
    script = scripts.load(redis, "worker.capture", "lease", begin=("leases",))
    assert (await script(keys=[key], args=["acquire", "thief", 0]))[0]


async def test_lease_lost_in_the_middle(bench: BenchMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that was frozen past its lease commits nothing more; its successor carries on."""
    async with bench(page_size=10) as b:
        read_page, key = b.account.client.read_page, b.account.keys.lease("orders")
        reached, stolen = asyncio.Event(), asyncio.Event()

        async def slow(search: str, number: int, *rest: Any) -> bytes:
            if number == 2:
                reached.set()
                await stolen.wait()
            body: bytes = await read_page(search, number, *rest)
            return body

        monkeypatch.setattr(b.account.client, "read_page", slow)
        polling = asyncio.ensure_future(b.poll())
        await reached.wait()
        await steal(b.redis, key)
        at_theft = {each: await b.redis.dump(each) for each in await b.redis.keys("*orders*")}
        stolen.set()
        run = await polling
        assert (run.outcome, run.error_code) == ("failed", "lease_lost")
        after = {each: await b.redis.dump(each) for each in await b.redis.keys("*orders*")}
        assert after == at_theft or run.pages == 2
        cursor = await b.cursor()
        assert (cursor.scan.page <= 2, cursor.failures) == (True, 0)
        assert len(await b.events()) <= 20
        assert (await b.poll()).outcome == "complete"
        assert len(await check(b)) == 50


async def test_two_accounts(bench: BenchMaker) -> None:
    """Two accounts in one Redis share no key, no event and no lease."""
    with SandboxServer(orders=20, seed=7) as server:
        async with bench() as one, bench(server, name="second") as other:
            runs = await asyncio.gather(one.poll(), other.poll())
            assert [run.snapshot for run in runs] == [50, 20]
            await check(one)
            assert {each.source for each in await check(other)} == {"/ordersync/second/orders"}
            keys = await one.redis.keys("*")
            assert all(b"{default}" in key or b"{second}" in key for key in keys)
            one.sandbox.store.change(5)
            assert [(await each.poll()).published for each in (one, other)] == [5, 0]
