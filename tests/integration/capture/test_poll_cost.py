"""What a poll that finds nothing new asks of Redis: commands that it sends, and commands within its scripts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.monitored import Commands, watched
from tests.support.worker import Bench, BenchMaker
from worker.capture.registry import AUDIT_LOGS, ORDERS
from worker.capture.state.known_bytes import KnownBytesPool
from worker.capture.state.lease import acquire
from worker.capture.state.pauses import Pause
from worker.clock import SystemClock
from worker.sandbox import SandboxServer, ServedContract

pytestmark = pytest.mark.anyio

FILTERS = ServedContract(since_honoured=True)
INTERVALS = {"orders": 60.0, "order_audit": 60.0}


@asynccontextmanager
async def quiet(bench: BenchMaker, contract: ServedContract, **settings: Any) -> AsyncIterator[Bench]:
    """A worker whose orders and their audit logs are read, in a shop where nothing changes."""
    with SandboxServer(orders=30, contract=contract) as sandbox:
        parts = {
            "probe": True,
            "requests_per_second": 50,
            "intervals": INTERVALS,
            "audit_history": "changed",
            **settings,
        }
        async with bench(sandbox, **parts) as b:
            for _ in range(3):
                await b.poll(ORDERS)
                await b.poll(AUDIT_LOGS["order_audit"])
            await b.redis.delete(b.account.keys.budget)  # the next request need not wait for its turn
            yield b


def within(commands: Commands) -> int:
    """The commands within scripts, but for what polls share: the memory of the server, the end of the budget."""
    shared = commands.inside["INFO"] + commands.inside["PEXPIRE"]
    assert commands.inside["INFO"] <= 1
    return commands.inside.total() - shared


async def test_a_quiet_poll_by_the_filter(bench: BenchMaker) -> None:
    """It is opened, with the permit for its request, asks for the records of the overlap, and is ended."""
    async with quiet(bench, FILTERS, known=KnownBytesPool(0)) as b:
        async with watched(b.redis) as commands:
            run = await b.poll(ORDERS)
        assert (run.plan, run.usage.requests) == ("window", 1)
        assert commands.sent == {"EVALSHA": 3}
        assert commands.lookups == run.records == 1
        assert within(commands) <= 19


async def test_records_of_the_overlap_that_are_known_are_not_looked_up(bench: BenchMaker) -> None:
    """A poll asks Redis for a known record only after another worker has committed."""
    async with quiet(bench, FILTERS) as b, bench(b.sandbox, probe=True) as other:
        async with watched(b.redis) as commands:
            run = await b.poll(ORDERS)
        assert (run.plan, run.records, run.unchanged) == ("window", 1, 1)
        assert commands.sent == {"EVALSHA": 2, "HMGET": 1}
        assert commands.lookups == 0
        (order,) = b.sandbox.store.touch(1)
        before = b.sandbox.store.truth()[order]
        assert (await other.poll(ORDERS)).published == 1
        b.sandbox.store.change(order, status="Odd")
        assert (await other.poll(ORDERS)).published == 1
        b.sandbox.store.replace(order, before)  # as this process may still know it
        async with watched(b.redis) as commands:
            run = await b.poll(ORDERS)
        assert commands.lookups > 0
        assert run.stale == 1  # and so it is not taken for unchanged


async def test_a_window_marks_nothing_as_seen_by_a_full_scan(bench: BenchMaker) -> None:
    """A record that is missing from the list is missed, though a window has shown it while the scan went on."""
    contract = ServedContract(since_honoured=True, max_page_size=10)
    async with quiet(bench, contract, page_size=10) as b:
        b.adjust(complete_every=0.0)
        b.sandbox.store.touch(1)
        stops = iter([False, False, False, True])
        run = await b.poll(ORDERS, stop=lambda: next(stops, True))
        assert run.plan == "window+sweep"
        b.adjust(complete_every=3600.0)
        seen = await b.redis.bitcount(b.account.keys.scan_bitmap("orders"))
        assert (await b.poll(ORDERS)).plan.startswith("window")
        assert seen % 10 == 0


async def test_a_quiet_full_scan_of_one_page(bench: BenchMaker) -> None:
    """Likewise; what it has seen is not noted in Redis, since it ends before anybody could ask.

    The states that are in one hash are looked up with one command.
    """
    async with quiet(bench, ServedContract(), known=KnownBytesPool()) as b:
        before = await b.redis.dump(b.account.keys.scan_bitmap("orders"))
        async with watched(b.redis) as commands:
            run = await b.poll(ORDERS)
        assert (run.plan, run.outcome, run.unchanged) == ("sweep", "complete", 30)
        assert commands.sent == {"EVALSHA": 3}
        hashes = len(await b.redis.keys(f"{b.account.keys.states('orders')}:*"))
        assert commands.lookups == hashes <= 16
        assert within(commands) <= 19 + hashes
        assert await b.redis.dump(b.account.keys.scan_bitmap("orders")) == before


async def test_a_quiet_poll_of_audit_logs(bench: BenchMaker) -> None:
    """It is opened and ended."""
    async with quiet(bench, FILTERS) as b:
        async with watched(b.redis) as commands:
            assert (await b.poll(AUDIT_LOGS["order_audit"])).outcome == "complete"
        assert commands.sent == {"EVALSHA": 2}
        assert within(commands) <= 14
        assert not await b.redis.exists(b.account.keys.budget)  # no permit is taken where none is needed


async def test_a_read_that_sends_no_request_gives_its_permit_back(bench: BenchMaker) -> None:
    """Such as a job that runs too early: other reads get the permit, and it does not count as a request."""
    async with quiet(bench, FILTERS) as b:
        budget, key = b.account.client.budget, b.account.keys.budget
        await b.poll(ORDERS)
        async with watched(b.redis) as commands:
            run = await b.poll(ORDERS, scheduled=True)
        assert (run.usage.requests, commands.sent) == (0, {"EVALSHA": 3})
        assert await b.redis.hget(key, "used") == b"1"
        assert budget.request is not None  # it has none left
        async with watched(b.redis) as commands:
            await budget.give_back()
        assert commands.sent == {}


async def test_a_request_that_waits_does_not_go_by_an_old_permit(bench: BenchMaker) -> None:
    """A permit is valid for a moment: used later, it would be a burst. Then one is asked for as ever."""
    async with quiet(bench, FILTERS, known=KnownBytesPool(0)) as b:
        budget = b.account.client.budget
        noted = budget.note

        def late(granted: int, sharing: int) -> None:
            noted(granted, sharing)
            budget._permits_until = 0.0

        budget.note = late  # type: ignore[method-assign] # the time between opening and request
        async with watched(b.redis) as commands:
            run = await b.poll(ORDERS)
        assert (run.usage.requests, commands.sent) == (1, {"EVALSHA": 4})


async def test_a_poll_that_is_paused_or_held(bench: BenchMaker) -> None:
    """Nothing is read but what says so, and no lease is taken."""
    async with quiet(bench, FILTERS) as b:
        keys, pauses = b.account.keys, b.account.poller.context.pauses
        await pauses.begin([Pause("*", "stocktaking", "ada", 0.0)])
        async with watched(b.redis) as commands:
            assert (await b.poll(ORDERS)).outcome == "paused"
        assert commands.sent == {"EVALSHA": 1}
        assert commands.inside == {"EXISTS": 1, "HMGET": 1, "HGET": 1}
        await pauses.end(["*"])
        held = acquire(b.redis, keys.lease("orders"), resource="orders", owner="w2", clock=SystemClock())
        async with held, watched(b.redis) as commands:
            assert (await b.poll(ORDERS)).outcome == "held"
        assert commands.sent == {"EVALSHA": 1}
        assert commands.inside == {"EXISTS": 1, "TIME": 1, "HMGET": 1}


async def test_the_stream_is_looked_at_closely_only_if_a_group_is_behind(bench: BenchMaker) -> None:
    """A group that has read everything cannot reach a mark."""
    async with quiet(bench, FILTERS) as b:
        stream = b.account.keys.stream("orders")
        for group, begin in (("reads", "0"), ("waits", "0")):
            await b.account.groups.create("orders", group, begin)
            await b.redis.xreadgroup(group, "c", {stream: ">"}, count=1000)
        async with watched(b.redis) as commands:
            await b.poll(ORDERS)
        assert (commands.sent["FCALL"], commands.inside["XPENDING"]) == (0, 0)
        await b.redis.xgroup_setid(stream, "waits", "0")
        async with watched(b.redis) as commands:
            await b.poll(ORDERS)
        assert commands.inside["XPENDING"] == 2


async def test_the_last_commit_releases_the_lease(bench: BenchMaker) -> None:
    """So the next worker need not wait; a poll with a change does so with its last commit as well."""
    async with quiet(bench, FILTERS) as b:
        for _ in range(2):
            async with watched(b.redis) as commands:
                await b.poll(ORDERS)
            held = await b.redis.hmget(b.account.keys.lease("orders"), ["owner", "until"])
            assert held == [b"", b"0"]
            assert commands.inside["XADD"] >= 1
            b.sandbox.store.change(1)
