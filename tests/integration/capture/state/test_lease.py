"""The script of the lease, and the heartbeat that renews it."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.commit_table import Table
from tests.support.streams import KEYS
from worker.capture.state import lease as leases
from worker.capture.state.lease import acquire
from worker.clock import SystemClock
from worker.errors import LeaseHeld, LeaseLost

pytestmark = pytest.mark.anyio


async def test_lease_is_held_by_one(table: Table) -> None:
    """While it lasts, another one is told who holds it and for how long."""
    fence, owner, left = await table.lease("acquire", "other")
    assert (fence, owner) == (0, b"me")
    assert 0 < left <= 60_000


async def test_lease_passes_on_when_released_or_expired(table: Table) -> None:
    """The fence grows with each new holder, after a release as after an expiry."""
    fences = [table.fence]
    assert await table.lease("release") == [table.fence, b"", 0]
    fences.append((await table.lease("acquire", "second", 0))[0])
    fences.append((await table.lease("acquire", "third", 0))[0])
    assert fences == sorted(set(fences))
    assert 0 not in fences


async def test_holder_that_asks_again_holds_it(table: Table) -> None:
    """One whose answer was lost on the way asks again and gets the same fence."""
    assert (await table.lease("acquire", "me"))[0] == table.fence


async def test_late_renewal(table: Table) -> None:
    """A holder may renew after the end as long as nobody else has come; then no more."""
    await table.lease("renew", "me", 0)
    assert await table.lease("renew", "me", 0) == [table.fence, b"", 0]
    successor = (await table.lease("acquire", "other"))[0]
    assert await table.lease("renew", "me") == [0, b"other", 0]
    assert await table.lease("release", "me") == [0, b"other", 0]
    assert (await table.lease("renew", "other"))[0] == successor


async def test_fence_is_not_given_out_twice(table: Table) -> None:
    """A fence is never below the time: if Redis loses its last writes, the next one is another all the same."""
    await table.lease("release")
    key = KEYS.lease("orders")
    before = await table.redis.dump(key)
    seconds, micros = await table.redis.time()
    lost = (await table.lease("acquire", "lost"))[0]
    assert lost >= seconds * 1000 + micros // 1000
    await table.redis.restore(key, 0, before, replace=True)
    while (await table.redis.time()) < (lost // 1000, lost % 1000 * 1000 + 1000):
        pass  # until the millisecond is over
    assert (await table.lease("acquire", "next"))[0] > lost


class SteppingClock(SystemClock):
    """A clock whose sleepers wake when the test says so."""

    def __init__(self) -> None:
        self.wake = asyncio.Event()

    async def sleep(self, seconds: float) -> None:  # noqa: ARG002 - the name is the protocol's
        """Until the next step."""
        await self.wake.wait()
        self.wake.clear()


async def test_hold_renews_and_notices_the_loss(table: Table) -> None:
    """The heartbeat renews; when somebody else has come, `check` says so; the release leaves him alone."""
    await table.lease("release")
    clock, renewed = SteppingClock(), asyncio.Event()

    async def on_renew() -> None:
        renewed.set()

    key = KEYS.lease("orders")
    async with acquire(
        table.redis, key, resource="orders", owner="w1", clock=clock, on_renew=on_renew
    ) as lease:
        clock.wake.set()
        await renewed.wait()
        lease.check()
        await table.lease("renew", "w1", 0)
        await table.lease("acquire", "thief")
        renewed.clear()
        clock.wake.set()
        await renewed.wait()
        with pytest.raises(LeaseLost):
            lease.check()
    assert (await table.lease("renew", "thief"))[1] == b""


async def test_hold_is_refused_and_released(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second holder is refused; behind the block the lease is free, also after an error."""
    key = KEYS.lease("orders")
    with pytest.raises(LeaseHeld, match="me holds the lease on orders"):
        async with acquire(table.redis, key, resource="orders", owner="w1", clock=SystemClock()):
            raise AssertionError("not reached")
    await table.lease("release")
    monkeypatch.setattr(leases, "LEASE_SECONDS", 60.0)
    with pytest.raises(ValueError, match="inside"):
        async with acquire(table.redis, key, resource="orders", owner="w1", clock=SystemClock()):
            raise ValueError("inside")
    assert (await table.lease("acquire", "w2"))[0]
