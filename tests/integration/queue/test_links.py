"""The links from the state of a record to its events: complete, whatever is gone, and at a cost that does not grow."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from redis.asyncio import Redis

from ordersync_consumer.envelope import FIELDS, PREDECESSOR_FIELD, parse_flat, sequence_text
from tests.support.streams import KEYS, STREAM, Writer, fields_of
from tests.support.worker import BenchMaker
from worker.admin.timeline_search import OrderEvents, Related
from worker.capture.records.fingerprint import RecordState, bucket_of, link_of, pack_id, unpack_id
from worker.capture.registry import CAPTURED
from worker.queue.search import LOOKUPS_AT_ONCE, ChainEnd, EventSearch
from worker.redis.connections import connect

pytestmark = pytest.mark.anyio

MOST_LOOKUPS = 12
"""Of an event, on average. By halving the time alone it would be up to 41."""
MOST_WHERE_GAPS_DIFFER = 20
"""Of an event in a stream whose gaps are milliseconds and years: interpolation is of little use there."""
START = 1_700_000_000_000
MONTH = 30 * 86_400_000


def evenly(count: int, chance: random.Random) -> list[int]:
    """Return when events were written, in milliseconds: at any time of a month."""
    return sorted(START + chance.randrange(MONTH) for _ in range(count))


def polled(count: int, chance: random.Random) -> list[int]:
    """One commit every 15 s, mostly of one event, at times of a hundred."""
    commits = [min(100, int(chance.paretovariate(0.8))) for _ in range(count)]
    times = [START + place * 15_000 for place, size in enumerate(commits) for _ in range(size)]
    return times[:count]


def read_at_once(count: int, chance: random.Random) -> list[int]:
    """A first full read in commits of a hundred, and then a month of changes."""
    return sorted([START + place // 100 * 7 for place in range(count // 2)] + evenly(count // 2, chance))


def by_day(count: int, chance: random.Random) -> list[int]:
    """A month in which nothing happens at night."""
    days = (START + chance.randrange(30) * 86_400_000 for _ in range(count))
    return sorted(day + int(max(0.0, chance.gauss(50_000_000, 10_000_000))) for day in days)


def at_all_scales(count: int, chance: random.Random) -> list[int]:
    """Gaps of a millisecond and gaps of years."""
    times = [START]
    for _ in range(count - 1):
        times.append(min(2**45, times[-1] + int(chance.paretovariate(0.5))))
    return times


Shape = Callable[[int, random.Random], list[int]]


async def write(redis: Redis, times: Sequence[int], own: Sequence[int] = (), foreign: float = 0.0) -> None:
    """Write events at these times; those with the sequences `own` are of one record, and linked.

    Args:
        redis: The client.
        times: When, in milliseconds.
        own: Sequences of the events of the record "mine".
        foreign: Share of entries of another program.

    """
    chance, pipe = random.Random(4), redis.pipeline(transaction=False)
    versions, ms, number = {sequence: place for place, sequence in enumerate(own)}, 0, 0
    for sequence, time in enumerate(times, start=1):
        is_foreign = True
        while is_foreign:
            ms, number = time, number + 1 if time == ms else 0
            is_foreign = chance.random() < foreign
            values = {"other": "program"} if is_foreign else fields_of(sequence)
            if not is_foreign and (version := versions.get(sequence)) is not None:
                values |= {"subject": "mine", "version": str(version + 1)}
                values |= {PREDECESSOR_FIELD: sequence_text(own[version - 1])} if version else {}
            pipe.xadd(STREAM, values, id=f"{ms}-{number}")  # type: ignore[arg-type] # invariant dict
        if sequence % 1000 == 0:
            await pipe.execute()
    await pipe.execute()


async def lookups(redis: Redis) -> int:
    """How often an entry was looked up since the statistics were reset."""
    stats: Any = await redis.info("commandstats")
    names = ("cmdstat_xrange", "cmdstat_xrevrange")
    return sum(stats[name]["calls"] for name in names if name in stats)


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


@pytest.mark.parametrize("shape", [evenly, polled, read_at_once, by_day, at_all_scales])
@pytest.mark.parametrize("spread", [True, False])
async def test_an_event_takes_few_lookups(redis: Redis, shape: Shape, *, spread: bool) -> None:
    """However the events of the stream and those of the record are distributed over time."""
    chance, count = random.Random(5), 10_000
    times = shape(count, chance)
    own = sorted(chance.sample(range(1, count + 1) if spread else range(count // 2, count // 2 + 900), 100))
    await write(redis, times, own)
    await redis.config_resetstat()
    chain = await EventSearch(redis).follow(STREAM, "mine", own[-1])
    assert ([event.sequence for event in chain.events], chain.end) == (own, ChainEnd.COMPLETE)
    most = MOST_WHERE_GAPS_DIFFER if shape is at_all_scales else MOST_LOOKUPS
    assert await lookups(redis) <= most * len(own)


@pytest.mark.parametrize("shape", [evenly, polled, read_at_once, by_day, at_all_scales])
@pytest.mark.parametrize("foreign", [0.0, 0.1, 0.5])
async def test_each_event_is_found_and_no_other(redis: Redis, shape: Shape, foreign: float) -> None:
    """Between entries of another program, and beside events that were removed from the stream."""
    chance, count = random.Random(6), 300
    await write(redis, shape(count, chance), foreign=foreign)
    entries = await redis.xrange(STREAM)
    ids = {int(values[b"sequence"]): entry for entry, values in entries if b"sequence" in values}
    single, row = chance.sample(range(1, count), 40), chance.randrange(count - 60)
    removed = {*single, *range(row, row + 50)} - {0}
    await redis.xdel(STREAM, *(ids[sequence] for sequence in removed))
    oldest, search = min(ids.keys() - removed), EventSearch(redis)
    for sequence in ids:
        await redis.config_resetstat()
        chain = await search.follow(STREAM, f"{sequence:024x}", sequence)
        found = [event.sequence for event in chain.events]
        if sequence not in removed:
            assert (found, chain.end) == ([sequence], ChainEnd.COMPLETE)
        else:
            assert (found, chain.end) == ([], ChainEnd.TRIMMED if sequence < oldest else ChainEnd.MISSING)
        if not foreign:
            assert await lookups(redis) <= 2 * MOST_WHERE_GAPS_DIFFER


async def test_the_cost_does_not_grow_with_the_stream(redis: Redis) -> None:
    """An event is found wherever it is, in calls of some milliseconds; entries of other programs are passed over."""
    writer = Writer(redis)
    versions, sequence, links = LOOKUPS_AT_ONCE // 2, 0, list[int]()
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
    assert await lookups(redis) <= MOST_LOOKUPS * versions
    calls = sum(row["calls"] for name, row in looked.items() if "eval" in name or "fcall" in name)
    assert calls >= await lookups(redis) // (LOOKUPS_AT_ONCE + 50)
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
