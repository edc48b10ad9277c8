"""The clock of Redis is put back or on by an hour: what was written before must neither wait for it nor end early."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.support.faulty_gateway import Liar, orders, watching
from tests.support.worker import Bench, BenchMaker
from worker.capture.registry import CATEGORIES
from worker.capture.resync.requests import ResyncRequest
from worker.capture.state.lease import LEASE_SECONDS, acquire
from worker.capture.state.put_back import PutBack
from worker.capture.state.refresh_queue import RefreshQueue
from worker.clock import SystemClock
from worker.errors import LeaseHeld
from worker.keys import KeySpace
from worker.ordermesh.http.budget import use_of

pytestmark = pytest.mark.anyio

HOUR = 3600.0


class Settable(SystemClock):
    """A clock that the test may set; it can say that it has jumped ahead."""

    def __init__(self) -> None:
        self.offset, self.steady = 0.0, float("inf")

    def now(self) -> float:
        """Return the time, as this clock is set."""
        return super().now() + self.offset

    def steady_for(self) -> float:
        """Return what the test says."""
        return self.steady


async def test_a_lease_does_not_outlive_its_holder_by_an_hour(bench: BenchMaker) -> None:
    """Taken before the clock was put back, by a worker that has died since: held for one lease at most."""
    async with bench() as b:
        key = b.account.keys.lease("orders")
        ahead = (time.time() + HOUR) * 1000
        await b.redis.hset(key, mapping={"fence": 7, "owner": "dead", "until": ahead})
        with pytest.raises(LeaseHeld) as held:
            async with acquire(b.redis, key, resource="orders", owner="me", clock=b.services.clock):
                pass
        assert 0 < held.value.seconds_left <= LEASE_SECONDS
        left = float(await b.redis.hget(key, "until")) / 1000 - time.time()
        assert 0 < left <= LEASE_SECONDS + 1


async def test_reads_by_id_wait_no_longer_than_they_were_to(bench: BenchMaker) -> None:
    """The worker that notices it moves them all, once; whoever looks next has nothing to move."""
    async with bench() as b:
        key, now = b.account.keys.refresh_queue("orders"), time.time()
        back, space = PutBack(b.redis, KeySpace()), KeySpace()
        assert await back.follow(b.account.keys, ["orders", "notes"], await back.look()) == 0
        await b.redis.hset(space.clock, "seen", now + 3000)
        await b.redis.zadd(key, {"id:due": now - 5, "id:was-due": now + 2990, "id:later": now + 3030})
        total = await back.look()
        assert await back.follow(b.account.keys, ["orders", "notes"], total) == pytest.approx(3000, abs=20)
        scores = dict(await b.redis.zrange(key, 0, -1, withscores=True))
        assert scores[b"id:due"] == pytest.approx(now - 5)
        assert scores[b"id:was-due"] == pytest.approx(now - 10, abs=20)
        assert scores[b"id:later"] - scores[b"id:was-due"] == pytest.approx(40)
        assert await back.look() == total
        assert await back.follow(b.account.keys, ["orders", "notes"], total) == 0


async def test_the_time_of_an_earlier_version_is_left_alone(bench: BenchMaker) -> None:
    """Workers of layout 2, which may run beside this one, keep a time in a key; with anything else each tick fails."""
    async with bench() as b:
        back, theirs = PutBack(b.redis, KeySpace()), f"{b.account.keys.base}clock"
        for time_of_theirs in (None, "1796063817.467140"):
            if time_of_theirs is not None:
                await b.redis.set(theirs, time_of_theirs)
            await back.follow(b.account.keys, ["orders"], await back.look())
            assert await b.redis.get(theirs) == (time_of_theirs.encode() if time_of_theirs else None)


async def test_a_worker_that_comes_late(bench: BenchMaker) -> None:
    """It looked at the clock before another one noticed and moved the times: nothing is moved twice."""
    async with bench() as b:
        key, now = b.account.keys.refresh_queue("orders"), time.time()
        back, space = PutBack(b.redis, KeySpace()), KeySpace()
        late = await back.look()
        await back.follow(b.account.keys, ["orders"], late)
        await b.redis.zadd(key, {"id:later": now + 9000})
        for behind in (3000, 2000):
            await b.redis.hset(space.clock, "seen", time.time() + behind)
            total = await back.look()
            assert await back.follow(b.account.keys, ["orders"], total) == pytest.approx(behind, abs=20)
            assert await back.follow(b.account.keys, ["orders"], late) == 0
            assert await back.follow(b.account.keys, ["orders"], total) == 0
            late = total
        assert await b.redis.zscore(key, "id:later") == pytest.approx(now + 4000, abs=40)


async def test_the_count_of_the_clock_is_lost(bench: BenchMaker) -> None:
    """A new count begins at 0: it is not taken for an old result, and no time is moved by the difference of both."""
    async with bench() as b:
        key, now = b.account.keys.refresh_queue("orders"), time.time()
        back, space = PutBack(b.redis, KeySpace()), KeySpace()
        await back.follow(b.account.keys, ["orders"], await back.look())
        await b.redis.hset(space.clock, "seen", time.time() + 3000)
        await back.follow(b.account.keys, ["orders"], await back.look())
        await b.redis.delete(space.clock)
        await b.redis.zadd(key, {"id:later": now + 900})
        assert await back.follow(b.account.keys, ["orders"], await back.look()) == 0
        await b.redis.hset(space.clock, "seen", time.time() + 600)
        assert await back.follow(b.account.keys, ["orders"], await back.look()) == pytest.approx(600, abs=20)
        assert await b.redis.zscore(key, "id:later") == pytest.approx(now + 300, abs=20)


async def test_a_read_that_is_to_wait_longer_than_any_is_due(bench: BenchMaker) -> None:
    """No worker was there to notice; the commit of the read removes it from the queue, as any other."""
    async with bench() as b:
        await b.poll()
        key, (first, *_) = b.account.keys.refresh_queue("orders"), b.sandbox.store.ids()
        await b.redis.zadd(key, {f"id:{first}": time.time() + 86_400, "id:other": time.time() + 3000})
        queue = RefreshQueue(b.redis, b.account.keys, "orders")
        assert (await queue.fetch(10, HOUR)).members == (f"id:{first}",)
        assert (await b.poll(follow_ups_only=True)).follow_ups == 1
        assert await b.redis.zrange(key, 0, -1) == [b"id:other"]


async def test_workers_of_another_time_do_not_share_the_budget(bench: BenchMaker) -> None:
    """One that sent requests before the clock was put back, and has ended, would halve the share of the others."""
    async with bench() as b:
        budget = b.account.keys.budget
        await b.redis.hset(budget, "sharing", f"dead={(time.time() + HOUR) * 1000:.0f}")
        assert (await use_of(b.redis, b.account.keys, time.time())).workers == 0
        await b.poll()
        assert (await use_of(b.redis, b.account.keys, time.time())).workers == 1
        assert b"dead=" not in await b.redis.hget(budget, "sharing")


async def test_a_resync_goes_on(bench: BenchMaker) -> None:
    """Its next slice lies further ahead than any slice waits."""
    async with bench() as b:
        resyncs, now = b.account.resyncer.resyncs, time.time()
        resync = await resyncs.create(ResyncRequest(resource="orders", all=True), now)
        for due_at, due in ((now + 60, False), (now + HOUR, True)):
            await resyncs.update(resync.id, due_at=due_at)
            ((name, resource, wait),) = await resyncs.due(now)
            assert (name, resource, wait <= 0) == (resync.id, "orders", due)


async def test_a_clock_that_jumps_ahead_confirms_no_deletion(bench: BenchMaker) -> None:
    """Two answers need real time between them: the second one counts when the clock has run steadily for as long."""
    clock = Settable()
    async with bench(clock=clock) as b:
        await b.poll()
        victim = b.sandbox.store.ids()[0]
        b.sandbox.store.delete(victim)
        await b.poll()
        await b.poll(follow_ups_only=True)
        assert await b.store.all_absent() == {victim: 1}
        queue = b.account.keys.refresh_queue("orders")
        clock.steady = 100.0
        await _due_now(b, victim)
        assert (await b.poll(follow_ups_only=True)).deleted == 0
        assert await b.store.all_absent() == {victim: 1}
        wait = float(await b.redis.zscore(queue, f"id:{victim}")) - time.time()
        assert wait == pytest.approx(b.account.account.confirm_deletes - 100, abs=20)
        clock.steady = b.account.account.confirm_deletes + 1
        await _due_now(b, victim)
        assert (await b.poll(follow_ups_only=True)).deleted == 1


async def _due_now(b: Bench, identifier: str, resource: str = "orders") -> None:
    await b.redis.zadd(b.account.keys.refresh_queue(resource), {f"id:{identifier}": 1})


async def test_it_confirms_none_where_two_scans_tell_either(bench: BenchMaker) -> None:
    """Categories cannot be read by id."""
    clock = Settable()
    async with bench(clock=clock, probe=True, intervals={"categories": 1.0}) as b:
        await b.poll(CATEGORIES)
        categories = b.sandbox.world.categories
        victim = categories.ids()[0]
        categories.remove(victim)
        for steady, deleted in ((100.0, 0), (100.0, 0), (b.account.account.confirm_deletes + 1, 1)):
            clock.steady = steady
            await _due_now(b, victim, "categories")
            assert (await b.poll(CATEGORIES)).deleted == deleted


async def test_it_confirms_no_empty_first_list(redis_url: str) -> None:
    """Two empty lists need real time between them: all records would seem to be created after an outage."""
    liar = Liar(records=[])
    async with watching(liar, redis_url) as watch:
        await watch.poll()
        watch.clock.offset += HOUR
        watch.clock.steady = 10.0
        await watch.poll()
        liar.records = orders(3)
        assert (await watch.poll()).snapshot == 3


async def test_what_was_read_does_not_look_younger(bench: BenchMaker) -> None:
    """An hour ago, by a clock that was put back by 50 minutes since, is not ten minutes ago."""
    async with bench() as b:
        await b.poll()
        back, key, now = PutBack(b.redis, KeySpace()), b.account.keys.cursor("orders"), time.time()
        await back.follow(b.account.keys, ["orders"], await back.look())
        ages = {"fresh_as_of": 600.0, "part_as_of": 590.0, "sweep_started": 580.0, "last_success": 0.0}
        await b.redis.hset(key, mapping={name: now - age if age else 0 for name, age in ages.items()})
        await b.redis.hset(KeySpace().clock, "seen", now + 3000)
        await back.follow(b.account.keys, ["orders"], await back.look())
        cursor = await b.cursor()
        assert now - cursor.fresh_as_of == pytest.approx(3600, abs=20)
        assert now - cursor.part_as_of == pytest.approx(3590, abs=20)
        assert now - cursor.scan.started == pytest.approx(3580, abs=20)
        assert cursor.last_success == 0


async def test_a_scan_during_which_nobody_looks_at_the_clock(
    bench: BenchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`run --once` has no tick: a full scan asks at its end what time it is, and is as old as by the new clock."""

    class Unaware(Settable):
        moved = 0.0

        async def sync(self, **_: Any) -> None:
            self.offset = self.moved

    clock = Unaware()
    async with bench(clock=clock, page_size=10) as b:
        read_page = b.account.client.read_page

        async def set_the_clock(*arguments: Any, **options: Any) -> Any:
            clock.moved = -HOUR
            return await read_page(*arguments, **options)

        monkeypatch.setattr(b.account.client, "read_page", set_the_clock)
        await b.poll(complete=True)
        assert (await b.cursor()).fresh_as_of <= time.time() - HOUR


@pytest.mark.parametrize("moved", [-HOUR, HOUR])
async def test_a_clock_that_is_set_during_a_scan(
    bench: BenchMaker, monkeypatch: pytest.MonkeyPatch, moved: float
) -> None:
    """When the scan began is told by the new clock: no time lies in the future, and the next poll is one interval away.

    Read by the old clock, the scan would seem to have taken no time, and the mark would pass changes it has missed.
    """
    clock = Settable()
    async with bench(clock=clock, page_size=10) as b:
        read_page = b.account.client.read_page

        async def set_the_clock(*arguments: Any, **options: Any) -> Any:
            clock.offset = moved
            return await read_page(*arguments, **options)

        await b.poll()
        monkeypatch.setattr(b.account.client, "read_page", set_the_clock)
        began = time.monotonic()
        await b.poll()
        took, cursor, now = time.monotonic() - began, await b.cursor(), clock.now()
        assert now - took - 1 <= cursor.swept_at <= now
        assert cursor.fresh_as_of <= now if moved < 0 else cursor.fresh_as_of == cursor.swept_at
        assert cursor.due_at == pytest.approx(cursor.swept_at + 1.0)
