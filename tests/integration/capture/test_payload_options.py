"""What events hold on request: compressed records, and the old values of what changed."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis.exceptions

from ordersync_consumer import envelope
from ordersync_consumer.envelope import FIELDS, Event
from tests.support.commands import ordersync
from tests.support.programs import login_settings
from tests.support.worker import Bench, BenchMaker
from worker.capture.records.actions import UNWRITTEN
from worker.capture.records.decoding import decode
from worker.capture.records.diff import Change, decide
from worker.capture.records.fields import FieldIndex
from worker.capture.records.payload import EncodedRecord, PayloadOptions, unpack_last
from worker.capture.records.privacy import RecordPolicy
from worker.capture.records.raw_records import observe
from worker.capture.records.rules import Rule
from worker.capture.registry import ORDERS
from worker.capture.state.commit import Commit
from worker.capture.state.lease import acquire
from worker.capture.state.store import StateStore
from worker.clock import SystemClock
from worker.config.sections import EventSettings, PrivacySettings
from worker.errors import DataError
from worker.keys import Keys
from worker.redis.connections import answer
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio

STREAM = "ordersync:{default}:stream:orders"
LAST = "ordersync:{default}:last:orders"
PREVIOUS = EventSettings(previous=True)


async def entries(b: Bench) -> list[dict[str, bytes]]:
    """The entries of the orders as they stand in Redis."""
    return [
        {name.decode(): value for name, value in fields.items()} for _, fields in await b.redis.xrange(STREAM)
    ]


async def kept(b: Bench) -> int:
    """How many records are kept for their old values."""
    keys = await b.redis.keys(f"{LAST}:*")
    return sum([await answer(b.redis.hlen(key.decode())) for key in keys])


# Compression


async def test_large_records_are_compressed(bench: BenchMaker) -> None:
    """Above the limit `data` is gzip and says so, up to it it is as served; whoever parses an event sees neither."""
    async with bench(events=EventSettings(compress_above=2500)) as b:
        await b.poll()
        truth = b.sandbox.store.truth()
        encodings = set()
        for entry in await entries(b):
            served = truth[entry["subject"].decode()]
            assert tuple(entry) == (*FIELDS, "dataencoding")
            encodings.add(entry["dataencoding"])
            if len(served) > 2500:
                assert entry["dataencoding"] == b"gzip"
                assert gzip.decompress(entry["data"]) == served
                assert len(entry["data"]) < len(served) / 2
            else:
                assert (entry["dataencoding"], entry["data"]) == (b"identity", served)
        assert encodings == {b"gzip", b"identity"}
        assert {event.subject: event.data for event in await b.events()} == truth


async def test_off_means_off(bench: BenchMaker) -> None:
    """Without the options an entry has the fields that are always there, and nothing is kept beside the states."""
    async with bench() as b:
        await b.poll()
        b.sandbox.store.change(5, status="Odd")
        await b.poll()
        assert {tuple(entry) for entry in await entries(b)} == {FIELDS, (*FIELDS, "predecessor")}
        assert await b.redis.keys(f"{LAST}*") == []


def test_compression_never_adds_and_never_varies() -> None:
    """What would not get smaller stays as it is; the same record gives the same bytes."""
    noise = random.Random(1).randbytes(500)
    assert EncodedRecord(noise).stored(0) == (noise, "identity")
    assert EncodedRecord(b"a" * 100).stored(100) == (b"a" * 100, "identity")
    packed, encoding = EncodedRecord(b"a" * 101).stored(100)
    assert (EncodedRecord(b"a" * 101).stored(100), encoding) == ((packed, "gzip"), "gzip")
    assert gzip.decompress(packed) == b"a" * 101
    assert subprocess.run(["gunzip"], input=packed, capture_output=True, check=True).stdout == b"a" * 101


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        (b"zstd", b"x"),
        (b"gzip", b"not gzip"),
        (b"gzip", gzip.compress(b"{}", mtime=0)[:-6]),
        (b"", b"{}"),
        (b"\xff", b"{}"),
    ],
)
async def test_odd_encodings_are_refused(bench: BenchMaker, encoding: bytes, data: bytes) -> None:
    """Data of an encoding that this version does not know, or that is broken, is an error that names the entry."""
    async with bench() as b:
        await b.poll()
        ((_, fields),) = await b.redis.xrange(STREAM, count=1)
    with pytest.raises(DataError, match="entry 5-0 is not an event"):
        envelope.parse(b"5-0", fields | {b"dataencoding": encoding, b"data": data})


# Old values


def as_promised(events: list[Event], *, all_of_them: bool = True) -> int:
    """See that `previous` of every update is what the event before it said; how many have one."""
    before: dict[str, dict[str, Any]] = {}
    found = 0
    for event in events:
        data, old = msgspec.json.decode(event.data, type=dict[str, msgspec.Raw]), before.get(event.subject)
        if event.action == "updated" and old is not None and (event.previous or all_of_them):
            expected = {name: bytes(old[name]) for name in event.changed if name in old}
            told = msgspec.json.decode(event.previous, type=dict[str, msgspec.Raw])
            assert {name: bytes(value) for name, value in told.items()} == expected
            found += 1
        else:
            assert event.previous == ""
        before[event.subject] = dict(data)
    return found


async def test_updates_tell_the_old_values(bench: BenchMaker) -> None:
    """`previous` holds the values of the changed fields as they were published before, byte for byte."""
    async with bench(events=PREVIOUS) as b:
        await b.poll()
        order, other = b.sandbox.store.ids()[:2]
        b.sandbox.store.change(order, status="Odd", giftWrap=True)
        b.sandbox.store.create(1)
        await b.poll()
        b.sandbox.store.change(order, status="Even", giftWrap=None)
        served = b.sandbox.store.truth()[other]
        b.sandbox.store.replace(other, served.replace(b'"customerTotal":', b'"customerTotal": 1.50,"was":'))
        await b.poll()
        b.sandbox.store.replace(other, served)
        await b.poll()
        by_subject: dict[str, list[Event]] = {}
        for event in await b.events():
            by_subject.setdefault(event.subject, []).append(event)
        first, second, third = by_subject[order]
        assert first.previous == ""
        old = json.loads(second.previous)
        assert old.keys() == {"status", "updatedAt"}
        assert json.loads(first.data) | json.loads(second.data) | old == json.loads(second.data) | old
        assert json.loads(third.previous).items() >= {"status": "Odd", "giftWrap": True}.items()
        assert b'"customerTotal":1.50' in by_subject[other][2].previous.encode()
        assert as_promised(await b.events()) == 4
        assert tuple((await entries(b))[-1]) == (*FIELDS, "previous", "predecessor")


@pytest.mark.parametrize("compress_above", [None, 1])
async def test_old_values_of_any_changes(bench: BenchMaker, compress_above: int | None) -> None:
    """Whatever changes, is ignored, becomes unreadable and comes back: old values are those published before."""
    rng = random.Random(7)
    async with bench(events=EventSettings(previous=True, compress_above=compress_above), page_size=20) as b:
        b.adjust(ignore_fields={"orders": ("processedAt",)})
        await b.poll()
        for _ in range(12):
            store = b.sandbox.store
            for order in rng.sample(store.ids(), 6):
                what = rng.choice(["change", "silently", "ignored", "reorder", "shape", "break"])
                served = store.truth()[order]
                if what == "change":
                    store.change(order, status=rng.choice(["Open", "Odd"]), meta={"n": rng.random()})
                elif what == "silently":
                    store.change_silently(order, externalId=rng.choice([None, "x", "y"]))
                elif what == "ignored":
                    store.change_silently(order, processedAt=f"2031-01-01T00:00:{rng.randrange(60):02d}Z")
                elif what == "reorder":
                    store.reorder_keys(order)
                elif what == "shape":
                    store.replace(order, served.replace(b'"items":', b'"items2":', 1))
                else:
                    store.replace(order, served[:-1] + b',"odd":"\xff"}')
                    await b.poll()
                    store.replace(order, served)
            await b.poll()
        assert as_promised(await b.events()) > 30


async def test_switched_on_later(bench: BenchMaker) -> None:
    """Old values are missing until a record has been published since; other events are as ever."""
    async with bench() as b:
        await b.poll()
    async with bench(events=PREVIOUS) as b:
        order = b.sandbox.store.ids()[0]
        for status in ("Odd", "Even", "Odd"):
            b.sandbox.store.change(order, status=status)
            await b.poll()
        *_, second, third, fourth = await b.events()
        assert second.previous == ""
        assert json.loads(third.previous)["status"] == "Odd"
        assert json.loads(fourth.previous)["status"] == "Even"
        assert await kept(b) == 1


async def test_switched_off_and_on_again(bench: BenchMaker) -> None:
    """Switched off, what was kept is dropped; on again, nothing outdated is told."""
    async with bench(events=PREVIOUS) as b:
        await b.poll()
        order = b.sandbox.store.ids()[0]
        assert await kept(b) == 50
    async with bench() as b:
        b.sandbox.store.change(order, status="Odd")
        await b.poll()
        assert await b.redis.keys(f"{LAST}*") == []
    async with bench(events=PREVIOUS) as b:
        b.sandbox.store.change(order, status="Even")
        await b.poll()
        b.sandbox.store.change(order, status="Last")
        await b.poll()
        *_, missing, last = await b.events()
        assert missing.previous == ""
        assert json.loads(last.previous)["status"] == "Even"


async def test_old_values_under_a_new_policy(bench: BenchMaker) -> None:
    """With another policy what was kept is dropped: what it hides is not told as an old value, nor kept."""
    async with bench(events=PREVIOUS) as b:
        await b.poll()
        order = b.sandbox.store.ids()[0]
        address = json.loads(b.sandbox.store.truth()[order])["shippingAddress"]
    async with bench(events=PREVIOUS, privacy=PrivacySettings(policy="minimal")) as b:
        b.sandbox.store.change(order, shippingAddress=address | {"countryCode": "XX"})
        await b.poll()
        assert await kept(b) == 1
        b.sandbox.store.change(
            order, shippingAddress=address | {"countryCode": "YY", "email": "x@example.com"}
        )
        await b.poll()
        *_, missing, last = await b.events()
        assert missing.previous == ""
        assert json.loads(last.previous)["shippingAddress"] == {"countryCode": "XX"}


async def test_tail_shows_both(sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> None:
    """The program does the same by its settings; `ordersync tail --json` shows the record, and old values as JSON."""
    settings = login_settings(
        sandbox, redis_url, tmp_path, events__compress_above="1", events__previous="true"
    )
    assert ordersync("run", "--once", cwd=tmp_path, **settings).returncode == 0
    sandbox.store.change(sandbox.store.ids()[0], status="Odd")
    assert ordersync("run", "--once", cwd=tmp_path, **settings).returncode == 0
    done = ordersync("tail", "--json", "--no-follow", "--from", "0", cwd=tmp_path, redis__url=redis_url)
    *first, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["data"]["id"] for event in first] == [event["subject"] for event in first]
    assert len(first) == 50
    assert all("previous" not in event for event in first)
    assert last["data"]["status"] == "Odd"
    assert ",".join(json.loads(last["previous"])) == last["changed"]


# The commit


class Desk:
    """A store and a lease, used by hand."""

    def __init__(self, store: StateStore, fence: int) -> None:
        self.store, self.fence, self.fields = store, fence, FieldIndex()

    async def changes(self, *records: dict[str, Any]) -> list[Change]:
        """What a poll would commit for these records."""
        raws = [msgspec.Raw(json.dumps(each).encode()) for each in records]
        observed = observe(ORDERS, raws)
        found = await self.store.differing(observed, 8)
        decoded = [decode(ORDERS, observed[at], state, frozenset()) for at, state in found.items()]
        names = [name for one in decoded if one.content for name in one.content.names]
        await self.store.extend_fields(self.fields, list(dict.fromkeys(names)))
        decided = [decide(one, self.fields, baseline=True) for one in decoded]
        return [change for change in decided if change.action not in UNWRITTEN]

    async def commit(self, changes: list[Change]) -> bool:
        """Commit them."""
        return await self.store.commit(
            Commit(fence=self.fence, buckets=8, reason="poll", observed_at=0.0, changes=changes)
        )


@asynccontextmanager
async def desk(b: Bench, payload: PayloadOptions) -> AsyncIterator[Desk]:
    """Holds the lease on the orders."""
    key = b.account.keys.lease("orders")
    async with acquire(b.redis, key, resource="orders", owner="me", clock=SystemClock()) as lease:
        yield Desk(StateStore(b.redis, b.account.keys, ORDERS, payload), lease.fence)


async def test_a_conflict_keeps_old_values_true(bench: BenchMaker) -> None:
    """If a record was committed by somebody else meanwhile, neither its event nor its last record is written."""
    async with bench() as b, desk(b, PayloadOptions(previous=True)) as d:
        await d.commit(await d.changes({"id": "a", "v": 1}))
        late = await d.changes({"id": "a", "v": 2})
        assert await d.commit(await d.changes({"id": "a", "v": 3}))
        assert not await d.commit(late)
        assert await d.commit(await d.changes({"id": "a", "v": 2}))
        assert [event.previous for event in await b.events()] == ["", '{"v":1}', '{"v":3}']


async def test_workers_with_other_policies(bench: BenchMaker) -> None:
    """While a policy is rolled out, no worker tells an old value that another one has kept by other rules."""
    strict = PayloadOptions(RecordPolicy({"mail": Rule.DROP}), previous=True)
    async with bench() as b, desk(b, PayloadOptions(previous=True)) as d:
        other = Desk(StateStore(b.redis, b.account.keys, ORDERS, strict), d.fence)
        for number, each in enumerate((d, other, other, d, d)):
            await each.commit(await each.changes({"id": "a", "v": number, "mail": number}))
        told = [event.previous for event in await b.events()]
        assert told == ["", "", '{"v":1}', "", '{"v":3,"mail":3}']


async def test_a_wrong_type_writes_nothing(bench: BenchMaker) -> None:
    """A key of another type in the place of the last records ends the commit before it has written anything."""
    async with bench() as b, desk(b, PayloadOptions(previous=True)) as d:
        changes = await d.changes(*({"id": f"r{number}"} for number in range(64)))
        for bucket in range(8):
            await b.redis.set(f"{LAST}:{bucket}", "foreign")
            with pytest.raises(redis.exceptions.ResponseError, match="WRONGTYPE"):
                await d.commit(changes)
            assert await b.redis.xlen(STREAM) == 0
            assert await b.redis.keys(b.account.keys.states("orders") + ":*") == []
            await b.redis.delete(f"{LAST}:{bucket}")
        assert await d.commit(changes)


async def test_foreign_last_records_are_passed_over(bench: BenchMaker) -> None:
    """A last record that this program did not write counts as none."""
    async with bench() as b, desk(b, PayloadOptions(previous=True)) as d:
        await d.commit(await d.changes({"id": "a", "v": 1}))
        ((key, (field, packed)),) = [
            (key.decode(), pair)
            for key in await b.redis.keys(f"{LAST}:*")
            for pair in (await answer(b.redis.hgetall(key.decode()))).items()
        ]
        for number, foreign in enumerate((b"", b"x", packed[:8], packed[:8] + b"xyz", b"abcd" + packed[4:])):
            await answer(b.redis.hset(key, field, foreign))
            await d.commit(await d.changes({"id": "a", "v": number + 2}))
            assert (await b.events())[-1].previous == ""


def test_a_last_record_is_that_of_a_version_and_a_policy() -> None:
    """Kept under another policy or as another version it is none."""
    packed = EncodedRecord(b'{"a":1}').kept(7, b"tag.")
    assert unpack_last(packed, 7, b"tag.") == b'{"a":1}'
    assert unpack_last(packed, 8, b"tag.") is None
    assert unpack_last(packed, 7, b"gat.") is None
    one, other = RecordPolicy({"a": Rule.DROP}), RecordPolicy({"a": Rule.MASK})
    assert len({PayloadOptions().tag, PayloadOptions(one).tag, PayloadOptions(other).tag}) == 3


async def test_settling_is_for_all_buckets(bench: BenchMaker) -> None:
    """What is dropped are the last records in every bucket, of this resource alone."""
    async with bench() as b:
        keys = Keys("default")
        for bucket in (0, 1, 999, 1000, 2047):
            await answer(b.redis.hset(f"{LAST}:{bucket}", "a", "b"))
        await b.redis.set(LAST, "00000000")
        await answer(b.redis.hset(f"{keys.last_published('notes')}:0", "a", "b"))
        await StateStore(b.redis, keys, ORDERS).settle(2048)
        assert await b.redis.keys("*last*") == [f"{keys.last_published('notes')}:0".encode()]
