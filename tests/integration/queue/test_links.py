"""The links from the state of a record to its events: complete, whatever is gone, and at a cost that does not grow."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from ordersync_consumer.envelope import FIELDS, PREDECESSOR_FIELD, parse_flat, sequence_text
from tests.support.streams import KEYS, STREAM, Writer, fields_of
from tests.support.worker import BenchMaker
from worker.admin.timeline_search import OrderEvents, Related
from worker.capture.records.fingerprint import RecordState, bucket_of, link_of, pack_id, unpack_id
from worker.capture.registry import CAPTURED
from worker.queue.search import FOLLOWED_AT_ONCE, ChainEnd, EventSearch
from worker.redis.connections import connect

pytestmark = pytest.mark.anyio

MOST_LOOKUPS = 45
"""Of an event in a stream: some 41 bits of milliseconds, and what is looked at beside it."""


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url)
    yield client
    await client.aclose()


async def last_events(redis: Any, resource: str) -> dict[str, RecordState]:
    """The state of each record of a resource."""
    buckets = int(await redis.hget(KEYS.cursor(resource), "buckets") or 0)
    states = {}
    for bucket in range(buckets):
        for key, packed in (await redis.hgetall(f"{KEYS.states(resource)}:{bucket}")).items():
            states[str(unpack_id(key))] = RecordState.unpack(packed)
    return states


async def test_links_lead_to_what_a_scan_finds(bench: BenchMaker) -> None:
    """For each record and audit log, before and after a trim, and up to an event that was removed alone."""
    names = ("orders", "order_audit", "shipments", "shipment_audit")
    async with bench(intervals=dict.fromkeys(names, 1.0)) as b:
        some = [
            item["id"]
            for item in map(json.loads, b.sandbox.store.truth().values())
            if item["status"] not in {"Fulfilled", "Cancelled"}
        ][:4]
        for turn in range(3):
            for name in names:
                await b.account.poller.poll(CAPTURED[name], complete=True)
            for order in some[turn:]:
                await b.account.client.orders.update(order, {"externalId": f"turn-{turn}"})
        search, most = EventSearch(b.redis), 0
        for name in names:
            stream = KEYS.stream(name)
            states = await last_events(b.redis, name)
            assert len(states) > 3
            for subject, state in states.items():
                scanned = (await search.search(stream, {subject}, {"\0"}, limit=100_000)).events
                chain = await search.follow(stream, subject, state.last_event)
                assert (chain.events, chain.end) == (scanned, ChainEnd.COMPLETE)
                assert [event.version for event in scanned] == list(range(1, state.version + 1))
                most = max(most, len(scanned))
            entries = [entry for entry, _ in await b.redis.xrange(stream)]
            await b.redis.xtrim(stream, minid=entries[-3].decode(), approximate=False)
            for subject, state in states.items():
                scanned = (await search.search(stream, {subject}, {"\0"}, limit=100_000)).events
                chain = await search.follow(stream, subject, state.last_event)
                full = len(scanned) == state.version
                assert chain == type(chain)(scanned, ChainEnd.COMPLETE if full else ChainEnd.TRIMMED)
            await b.redis.xdel(stream, entries[-2])
            ends = {
                (await search.follow(stream, subject, state.last_event)).end
                for subject, state in states.items()
            }
            assert ChainEnd.MISSING in ends
        assert most > 2


async def test_a_change_without_event_keeps_the_link(bench: BenchMaker) -> None:
    """A record that only looks different leads to its last event as before; layout 2 wrote no link."""
    async with bench() as b:
        await b.poll()
        states = await last_events(b.redis, "orders")
        subject, state = next(iter(states.items()))
        key = pack_id(subject)
        bucket = f"{KEYS.states('orders')}:{bucket_of(key, int(await b.redis.hget(KEYS.cursor('orders'), 'buckets')))}"
        packed = await b.redis.hget(bucket, key)
        served = b.sandbox.store.truth()[subject]
        b.sandbox.store.replace(subject, served.replace(b":", b" :", 1))
        run = await b.poll(complete=True)
        after = await b.redis.hget(bucket, key)
        assert (run.noise, after[8:], RecordState.unpack(after).last_event) == (
            1,
            packed[8:],
            state.last_event,
        )
        await b.redis.hset(bucket, key, after.removesuffix(link_of(after)))
        b.sandbox.store.replace(subject, served)
        run = await b.poll(complete=True)
        assert (run.noise, await b.redis.hget(bucket, key)) == (1, packed.removesuffix(link_of(packed)))
        found = OrderEvents(b.redis, KEYS, scan=1000)
        await found.find_order(Related(subject))
        assert ([event.version for _, event in found.events], found.remarks) == ([1], [])


async def test_the_cost_does_not_grow_with_the_stream(redis: Redis) -> None:
    """An event is found with some 40 look-ups, wherever it is; entries of other programs are passed over."""
    writer = Writer(redis)
    versions, sequence, links = 2 * FOLLOWED_AT_ONCE + 1, 0, list[int]()
    for version in range(1, versions + 1):
        await writer.add(200)
        await redis.xadd(STREAM, {"other": "program"})
        sequence = len(writer.ids) + 1
        values = {**fields_of(sequence), "subject": "mine", "version": str(version)}
        values |= {PREDECESSOR_FIELD: sequence_text(links[-1])} if links else {}
        writer.ids.append((await redis.xadd(STREAM, values)).decode())  # type: ignore[arg-type] # invariant dict
        links.append(sequence)
    await redis.config_resetstat()
    chain = await EventSearch(redis).follow(STREAM, "mine", sequence)
    assert [event.sequence for event in chain.events] == links
    assert chain.end is ChainEnd.COMPLETE
    looked: Any = await redis.info("commandstats")
    assert looked["cmdstat_xrange"]["calls"] <= MOST_LOOKUPS * versions
    nothing = await EventSearch(redis).follow(STREAM, "mine", sequence + 7)
    assert (nothing.events, nothing.end) == ((), ChainEnd.MISSING)
    other = await EventSearch(redis).follow(STREAM, "another", sequence)
    assert (other.events, other.end) == ((), ChainEnd.MISSING)
    none = await EventSearch(redis).follow("nowhere", "mine", sequence)
    assert (none.events, none.end) == ((), ChainEnd.TRIMMED)


def test_an_update_is_parsed_as_fast_as_a_snapshot() -> None:
    """The field of the link does not send an entry through the slower way, and is no part of the event."""
    flat = [
        word if isinstance(word, bytes) else str(word).encode()
        for pair in fields_of(7).items()
        for word in pair
    ]
    plain = parse_flat(b"1-0", flat)
    assert parse_flat(b"1-0", [*flat, b"predecessor", b"0000000000000003"]) == plain
    assert len(flat) == 2 * len(FIELDS)
