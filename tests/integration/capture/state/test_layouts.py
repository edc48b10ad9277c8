"""State that was recorded is read, and that of earlier layouts taken over in place: nothing again, nothing missed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ordersync_consumer.envelope import PREDECESSOR_FIELD
from tests.support import layouts
from tests.support.servers import Server
from tests.support.streams import KEYS, STREAM
from tests.support.worker import Bench, BenchContext
from worker.capture.erasure import Eraser
from worker.capture.records.fingerprint import RecordState, bucket_of, pack_id
from worker.capture.registry import ORDERS
from worker.capture.state import layout as layout_of
from worker.capture.state.layout import BUCKETS_AT_ONCE, LAYOUT, TAKING_OVER
from worker.capture.state.lease import acquire
from worker.capture.state.run import Outcome
from worker.clock import SystemClock
from worker.errors import DataError, LeaseLost
from worker.redis import scripts
from worker.redis.connections import connect
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio


@pytest.fixture
async def redis(shared_server: Server) -> AsyncIterator[Any]:
    client: Any = connect(shared_server.url)
    await client.flushall()
    yield client
    await client.aclose()


async def states(redis: Any, identifiers: list[str]) -> list[RecordState]:
    found: list[RecordState] = []
    buckets = int(await redis.hget(KEYS.cursor("orders"), "buckets"))
    for identifier in identifiers:
        key = pack_id(identifier)
        packed: Any = await redis.hget(f"{KEYS.states('orders')}:{bucket_of(key, buckets)}", key)
        found.append(RecordState.unpack(packed))
    return found


async def changed(b: Bench, identifier: str, **fields: Any) -> dict[bytes, bytes]:
    """Change an order, poll, and return the entry of its event."""
    record = json.loads(b.sandbox.store.truth()[identifier]) | fields
    b.sandbox.store.replace(identifier, json.dumps(record).encode())
    before = await b.redis.xlen(STREAM)
    run = await b.poll(complete=True)
    assert (run.outcome, run.updated, await b.redis.xlen(STREAM)) == ("complete", 1, before + 1)
    ((_, entry),) = await b.redis.xrevrange(STREAM, count=1)
    return dict(entry)


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
async def test_recorded_state_is_taken_over(layout: str, redis: Any, shared_server: Server) -> None:
    """A poll publishes nothing of what was known, and the next change gets the next version; a link from then on."""
    events = await layouts.restore(redis, layout)
    assert await redis.get(KEYS.layout) == layout.encode()
    with SandboxServer(orders=0) as sandbox:
        layouts.serve(sandbox, events)
        async with BenchContext(sandbox, shared_server.url, {}) as b:
            count = await redis.xlen(STREAM)
            run = await b.poll(complete=True)
            assert (run.outcome, run.unchanged, run.missing) == ("complete", len(events), 0), run.error
            assert (await redis.xlen(STREAM), await redis.get(KEYS.layout)) == (count, LAYOUT.encode())
            kept = await states(redis, list(events))
            assert [state.version for state in kept] == [len(own) for own in events.values()]
            assert sorted(state.place for state in kept) == list(range(len(events)))
            identifier, own = max(events.items(), key=lambda item: len(item[1]))
            entry = await changed(b, identifier, status="First", updatedAt="2030-01-01T00:00:00Z")
            has_link = layout == LAYOUT
            assert (entry[b"version"], PREDECESSOR_FIELD.encode() in entry) == (
                b"%d" % (len(own) + 1),
                has_link,
            )
            assert {b"status", b"updatedAt"} == set(entry[b"changed"].split(b","))
            entry_after = await changed(b, identifier, status="Second", updatedAt="2030-01-02T00:00:00Z")
            assert entry_after[PREDECESSOR_FIELD.encode()] == entry[b"sequence"]
            sandbox.store.replace("new", b'{"id":"new","createdAt":"2030-01-03T00:00:00Z"}')
            run = await b.poll(complete=True)
            assert (run.created, run.unchanged, (await b.cursor()).places) == (1, 6, 7)


async def test_rewriting_goes_on_after_a_kill(redis: Any, shared_server: Server) -> None:
    """A worker that is killed between two calls leaves the rest to the next; a state is rewritten once."""
    events = await layouts.restore(redis, "1")
    with SandboxServer(orders=0) as sandbox:
        layouts.serve(sandbox, events)
        async with BenchContext(sandbox, shared_server.url, {}) as b:
            lease = acquire(
                redis, KEYS.lease("orders"), resource="orders", owner="killed", clock=b.services.clock
            )
            script = scripts.load(redis, "worker.capture", "rewrite")
            names = [KEYS.lease("orders"), KEYS.cursor("orders"), KEYS.states("orders"), KEYS.layout]
            async with lease as held:
                await redis.set(KEYS.layout, TAKING_OVER)
                for _ in range(512 // BUCKETS_AT_ONCE):
                    assert await script(keys=names, args=[held.fence, BUCKETS_AT_ONCE]) == b"more"
            assert await script(keys=names, args=[held.fence - 1, 1]) == b"fenced"
            assert 0 < int(await redis.hget(KEYS.cursor("orders"), "places")) < len(events)
            run = await b.poll(complete=True)
            assert (run.outcome, run.unchanged) == ("complete", len(events)), run.error
            kept = await states(redis, list(events))
            assert sorted(state.place for state in kept) == list(range(len(events)))
            assert await redis.hget(KEYS.cursor("orders"), "rewritten") is None


async def test_an_erasure_waits_for_a_worker(redis: Any, shared_server: Server) -> None:
    """Outside of a session states of an earlier layout are not changed."""
    await layouts.restore(redis, "2")
    with SandboxServer(orders=0) as sandbox:
        async with BenchContext(sandbox, shared_server.url, {}) as b:
            eraser = Eraser(redis, KEYS, b.services.clock, "me")
            async with eraser.lease() as lease:
                with pytest.raises(DataError, match="takes over with its first poll"):
                    await eraser.mark(lease, ORDERS, {"x": ("x",)})


async def test_a_session_of_an_earlier_version_commits_nothing_more(
    redis: Any, shared_server: Server
) -> None:
    """It began before the layout was taken over, in a session of another source, and does not know erased records."""
    await layouts.restore(redis, "2")
    clock = SystemClock()
    async with acquire(redis, KEYS.lease("orders"), resource="orders", owner="old", clock=clock) as old:
        key = KEYS.lease("shipments")
        async with acquire(redis, key, resource="shipments", owner="new", clock=clock) as new:
            await layout_of.take_over(redis, KEYS, "shipments", new, await redis.get(KEYS.layout))
            await new.renew()
            new.check()
        await old.renew()
        with pytest.raises(LeaseLost):
            old.check()
        assert int(await redis.hget(KEYS.lease("orders"), "fence")) > old.fence
    with SandboxServer(orders=0) as sandbox:
        async with BenchContext(sandbox, shared_server.url, {}) as b:
            assert (await b.poll(complete=True)).outcome is not Outcome.HELD


@pytest.mark.parametrize("layout", ["1", "2"])
async def test_a_session_that_was_frozen_takes_over_nothing(
    layout: str, redis: Any, shared_server: Server
) -> None:
    """It has read the layout, and lost its lease, before another session has taken over the keys."""
    events = await layouts.restore(redis, layout)
    clock, name = SystemClock(), KEYS.lease("orders")
    async with acquire(redis, name, resource="orders", owner="frozen", clock=clock) as frozen:
        await redis.hset(name, mapping={"owner": "", "until": 0})  # it has expired
        with SandboxServer(orders=0) as sandbox:
            layouts.serve(sandbox, events)
            async with BenchContext(sandbox, shared_server.url, {}) as b:
                assert (await b.poll(complete=True)).unchanged == len(events)
                kept = [(each.version, each.place) for each in await states(redis, list(events))]
                with pytest.raises(LeaseLost):
                    await layout_of.take_over(redis, KEYS, "orders", frozen, layout.encode())
                assert await redis.get(KEYS.layout) == LAYOUT.encode()
                assert [(each.version, each.place) for each in await states(redis, list(events))] == kept
                assert (await b.poll(complete=True)).unchanged == len(events)


def test_each_layout_was_recorded() -> None:
    """A new layout comes with a recording of it: what is written from now on is read by what comes later."""
    readable = {name for name in layout_of.READABLE if name.isdecimal()}
    assert sorted(readable) == list(layouts.LAYOUTS) == [str(n) for n in range(1, int(LAYOUT) + 1)]
