"""Jobs that fail where nothing can be recorded of it: they are tried again, and not all the time."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import structlog
from redis.exceptions import ResponseError

from tests.support.arq_worker import working
from tests.support.servers import Server
from tests.support.waiting import eventually
from tests.support.worker import Bench, BenchMaker
from worker.capture.poll import Poller
from worker.capture.reconcile.progress import LEASE
from worker.capture.reconcile.reconciler import Reconciler
from worker.capture.registry import ORDERS
from worker.capture.resync.requests import ResyncRequest

pytestmark = pytest.mark.anyio

LEAST_SECONDS = 0.7
"""Between two tries: a second, but for what the clocks round."""
TRIES = 4


class Tries:
    """When jobs began, by the monotonic clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        self.at: list[float] = []
        real: Callable[..., Coroutine[Any, Any, Any]] = getattr(owner, name)

        async def counted(*args: Any, **options: Any) -> Any:
            self.at.append(time.monotonic())
            return await real(*args, **options)

        monkeypatch.setattr(owner, name, counted)

    async def are_apart(self) -> bool:
        """Wait for some more tries; return whether there was time between them."""
        self.at.clear()
        await eventually(lambda: len(self.at) > TRIES)
        # The first one may have been claimed before the job began to fail.
        return all(after - before >= LEAST_SECONDS for before, after in itertools.pairwise(self.at[1:]))


async def spoil_lease(b: Bench) -> None:
    """As another program would."""
    await b.redis.delete(b.account.keys.lease("orders"))
    await b.redis.set(b.account.keys.lease("orders"), "not ours")


async def fill(b: Bench) -> None:
    """Let Redis refuse what takes memory."""
    await b.redis.config_set("maxmemory", "1")


@pytest.mark.parametrize("trouble", [spoil_lease, fill])
async def test_a_poll_that_cannot_say_why_it_fails(
    bench: BenchMaker, redis_url: str, own_server: Server, monkeypatch: pytest.MonkeyPatch,
    trouble: Callable[[Bench], Coroutine[Any, Any, None]],
) -> None:  # fmt: skip
    """Its cursor still says that it is due. The schedule is on another server, which has room."""
    async with bench(probe=True) as b, working(b, own_server.url) as worker:
        await eventually(lambda: worker.jobs_complete and b.redis.exists(b.account.keys.stream("orders")))
        tries = Tries(monkeypatch, Poller, "poll")
        try:
            await trouble(b)
            await eventually(lambda: b.account.poller.unrecorded)
            assert await tries.are_apart()
        finally:
            await b.redis.config_set("maxmemory", "0")
        await b.redis.delete(b.account.keys.lease("orders"))
        b.sandbox.store.change(1, status="Fulfilled")
        await eventually(lambda: _has_told_change(b))


async def _has_told_change(b: Bench) -> bool:
    return "updated" in {event.action for event in await b.events()}


async def test_a_reconciliation_whose_lease_is_held(
    bench: BenchMaker, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where another worker has died with the lease."""
    async with bench(probe=True) as b:
        while not (await b.cursor()).baseline:
            await b.poll()
        ends = int(time.time() * 1000) + 1_000_000
        lease = {"owner": "another", "until": ends, "fence": ends}
        await b.redis.hset(b.account.keys.lease(LEASE), mapping=lease)
        tries = Tries(monkeypatch, Reconciler, "run")
        async with working(b, redis_url):
            assert await tries.are_apart()


async def test_a_resync_that_finds_redis_full(bench: BenchMaker) -> None:
    """The worker leaves its job alone then, and the claim expires: it is not due again at once. Later it goes on."""
    async with bench(probe=True) as b:
        while not (await b.cursor()).baseline:
            await b.poll()
        resyncer = b.account.resyncer
        request = ResyncRequest(resource="orders", all=True, force=True)
        resync = await resyncer.resyncs.create(request, b.services.clock.now())
        await fill(b)
        try:
            with structlog.testing.capture_logs() as lines, pytest.raises(ResponseError, match="maxmemory"):
                await resyncer.slice(ORDERS, resync.id)
        finally:
            await b.redis.config_set("maxmemory", "0")
        assert [line["error_code"] for line in lines if line["event"] == "resync_failed"] == ["redis_full"]
        while not await resyncer.resyncs.is_over(resync.id):
            await resyncer.slice(ORDERS, resync.id)
