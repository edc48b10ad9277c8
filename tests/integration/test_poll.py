"""Polls against a real OrderMesh and a real Redis that go wrong in every way: nothing missed, nothing twice."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import structlog
from redis.asyncio import Redis

from tests.conftest import Bench, BenchMaker, Server
from worker import scripts
from worker.capture import reader as readers
from worker.capture.health import Health, judge
from worker.capture.plans import Ask
from worker.capture.reader import Reader
from worker.capture.run import Run
from worker.capture.sweep import READ_AHEAD
from worker.clock import SystemClock
from worker.connections import answer
from worker.queue.envelope import Event
from worker.sandbox import Contract, FaultRule, SandboxServer

pytestmark = pytest.mark.anyio


def fault(b: Bench, action: str, **fields: Any) -> None:
    """The orders go wrong like this, once unless told otherwise."""
    b.sandbox.faults.replace([FaultRule(action, operation="orders.search", **{"times": 1} | fields)])


async def check(b: Bench) -> list[Event]:
    """What must hold after every complete poll: nothing missed, nothing twice, no gaps."""
    events = await b.events()
    assert [each.sequence for each in events] == list(range(1, len(events) + 1))
    assert len({each.id for each in events}) == len(events)
    versions = Counter[str]()
    last: dict[str, bytes] = {}
    for each in events:
        versions[each.subject] += 1
        assert each.version == versions[each.subject]
        last[each.subject] = each.data
    readable = {}
    for key, raw in b.sandbox.store.truth().items():
        if key.startswith("odd"):
            continue
        readable[key] = json.loads(raw)
    assert {key: json.loads(last[key]) for key in readable} == readable
    return events


async def versions_of(b: Bench, subject: str) -> list[Event]:
    return [each for each in await b.events() if each.subject == subject]


async def verdict(b: Bench) -> Health:
    return judge(await b.cursor(), time.time()).health


# What is published


async def test_there_and_back(bench: BenchMaker) -> None:
    """A-B-A gives three versions with three ids, though the last says what the first said."""
    async with bench() as b:
        order = b.sandbox.store.ids()[7]
        first = b.sandbox.store.truth()[order]
        await b.poll()
        b.sandbox.store.change_silently(order, safeId="OTHER")
        await b.poll()
        b.sandbox.store.replace(order, first)
        await b.poll()
        events = await versions_of(b, order)
        assert [(each.version, each.action) for each in events] == [
            (1, "snapshot"),
            (2, "updated"),
            (3, "updated"),
        ]
        assert events[0].data == events[2].data == first
        assert events[1].changed == events[2].changed == ("safeId",)
        await check(b)


async def test_noise_is_silent(bench: BenchMaker) -> None:
    """Keys in another order are no change, and cost one look: the next poll finds them unchanged."""
    async with bench() as b:
        await b.poll()
        b.sandbox.store.reorder_keys(20)
        run = await b.poll()
        assert (run.noise, run.published, run.unchanged) == (20, 0, 30)
        run = await b.poll()
        assert (run.noise, run.unchanged) == (0, 50)


async def test_ignored_fields(bench: BenchMaker) -> None:
    """A field that is ignored changes silently; it is in the data of the next event all the same."""
    async with bench() as b:
        b.desk.poller._ignore_fields = {"orders": ("updatedAt",)}
        await b.poll()
        (order,) = b.sandbox.store.touch(1)
        run = await b.poll()
        assert (run.noise, run.published) == (1, 0)
        b.sandbox.store.change(order, status="Odd")
        await b.poll()
        assert (await versions_of(b, order))[-1].changed == ("status",)
        assert (await versions_of(b, order))[-1].data == b.sandbox.store.get(order)


async def test_stale_page(bench: BenchMaker) -> None:
    """A record that is older than the version published, as a lagging replica serves it, is ignored."""
    async with bench() as b:
        order = b.sandbox.store.ids()[3]
        old = b.sandbox.store.truth()[order]
        b.sandbox.store.change(order, status="Fulfilled")
        new = b.sandbox.store.truth()[order]
        await b.poll()
        b.sandbox.store.replace(order, old)
        run = await b.poll()
        assert (run.stale, run.published, run.outcome) == (1, 0, "complete")
        b.sandbox.store.replace(order, new)
        assert (await b.poll()).unchanged == 50


@pytest.mark.parametrize("page_size", [10, 100])
async def test_record_shown_twice(bench: BenchMaker, page_size: int) -> None:
    """A record that stands on two pages, or twice on one, is published once for each state."""
    async with bench(page_size=page_size) as b:
        order = b.sandbox.store.ids()[2]
        same = b.sandbox.store.truth()[order]
        b.sandbox.store.replace("odd-same", same)
        await b.poll()
        assert len(await versions_of(b, order)) == 1
        newer = json.loads(same) | {"status": "Newer", "updatedAt": "2031-01-01T00:00:00.0000000Z"}
        b.sandbox.store.replace("odd-same", json.dumps(newer).encode())
        for _ in range(3):  # the older one is stale from then on
            assert (await b.poll()).outcome == "complete"
        events = await versions_of(b, order)
        assert [json.loads(each.data)["status"] for each in events] == [json.loads(same)["status"], "Newer"]


async def test_two_states_on_two_pages_at_first_sight(bench: BenchMaker) -> None:
    """Both looked up before either is committed: the second is compared anew, and gets the next version."""
    async with bench(page_size=10) as b:
        order = b.sandbox.store.ids()[2]
        newer = json.loads(b.sandbox.store.truth()[order]) | {
            "status": "Newer",
            "updatedAt": "2031-01-01T00:00:00Z",
        }
        b.sandbox.store.replace("odd-newer", json.dumps(newer).encode())
        run = await b.poll()
        assert run.outcome == "complete"
        assert [each.version for each in await versions_of(b, order)] == [1, 2]
        assert (await b.events())[-1].subject == order


ODD_RECORDS = [
    rb'{"id":"x1","text":"\u00e9\ud83d\ude00\/\"","n":1.50}',
    '{"id":"x2","text":"é😀\u2028\u200f\ufffe","a b,c%":"\u0000"}'.replace("\u0000", "\\u0000").encode(),
    b'{"id":"x3","n":123456789012345678901234567890,"m":-1e-400,"f":1e400,"g":0.1000000000000000055511151231}',
    b'{"id":"x4","a":1,"a":2,"a":{"b":1,"b":null}}',
    b'{ "id" : "x5" ,\n\t"list" : [ ] , "none" : null }',
    b'{"id":"x6","n":' + b"9" * 6000 + b"}",
    b'{"id":"x7","deep":' + b"[" * 500 + b"]" * 500 + b"}",
    b'{"id":" x8 ","":"no name","updatedAt":"whenever","createdAt":12}',
    b'{"id":"x9/../?&#%","status":null,"updatedAt":null}',
]


async def test_byte_for_byte(bench: BenchMaker) -> None:
    """Whatever JSON a record is made of, the event carries its very bytes, and it is unchanged from then on."""
    async with bench() as b:
        for number, raw in enumerate(ODD_RECORDS):
            b.sandbox.store.replace(f"odd{number}", raw)
        run = await b.poll()
        assert (run.outcome, run.snapshot, run.unreadable) == ("complete", 50 + len(ODD_RECORDS), 0)
        data = {each.data for each in await b.events()}
        assert set(ODD_RECORDS) <= data
        assert (await b.poll()).unchanged == 50 + len(ODD_RECORDS)
        b.sandbox.store.replace("odd2", ODD_RECORDS[2].replace(b"1e400", b"1e401"))
        await b.poll()
        assert (await b.events())[-1].changed == ("f",)


async def test_unknown_fields_and_values_pass(bench: BenchMaker) -> None:
    """New fields, new statuses and nulls are published like anything else."""
    async with bench() as b:
        await b.poll()
        (order,) = b.sandbox.store.change(1, status="Teleported", brandNew={"a": [None]}, externalId=None)
        await b.poll()
        event = (await versions_of(b, order))[-1]
        assert {"status", "brandNew", "externalId"} <= set(event.changed)
        assert event.data == b.sandbox.store.get(order)


# Records that cannot be read


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'{"status":"Open"}', "has no id"),
        (b'{"id":null}', "has no id"),
        (b'{"id":""}', "has no id"),
        (b'"text"', "Expected `object`"),
        (b"null", "Expected `object`"),
        (b'{"id":"odd","v":"\xff\xfe"}', "utf-8"),
        (b'{"id":"\xff"}', "utf-8"),
    ],
)
async def test_unreadable_record(bench: BenchMaker, raw: bytes, reason: str) -> None:
    """It is parked once, with reason and page, and keeps no other record back.

    The poll that finds it does not claim to be complete; the next ones do, and the health is degraded until
    the record is gone.
    """
    async with bench(page_size=10) as b:
        b.sandbox.store.replace("odd", raw)
        b.sandbox.store.create(3)
        run = await b.poll()
        assert (run.outcome, run.error_code, run.unreadable) == ("failed", "unreadable_answer", 1)
        cursor = await b.cursor()
        assert (cursor.baseline, cursor.fresh_as_of, cursor.failures) == (False, 0.0, 1)
        assert len(await b.events()) == 53
        ((_, letter),) = await b.redis.xrange(b.desk.keys.dead("orders"))
        assert reason in letter[b"reason"].decode()
        assert (letter[b"where"], letter[b"data"]) == (b"orders.search page 5", raw)
        for _ in range(2):
            run = await b.poll()
            assert (run.outcome, run.published, run.unreadable) == ("complete", 0, 0)
            assert await verdict(b) is Health.DEGRADED
            assert (await b.cursor()).unreadable == 1
        assert await b.redis.xlen(b.desk.keys.dead("orders")) == 1
        b.sandbox.store.replace("odd", b'{"id":"odd","v":1}')
        assert (await b.poll()).created == 1
        assert await verdict(b) is Health.OK
        await check(b)


async def test_unreadable_in_a_part_is_remembered(bench: BenchMaker) -> None:
    """A record that cannot be read is counted, though the sweep that saw it was stopped and resumed."""
    async with bench(page_size=10) as b:
        b.sandbox.store.replace(b.sandbox.store.ids()[0], b'{"id":null}')
        await b.poll()
        await b.poll()
        b.sandbox.store.create(1)
        run = await b.poll(stop=after_pages(3))
        assert run.outcome == "stopped"
        assert (await b.poll()).outcome == "complete"
        assert (await b.cursor()).unreadable == 1


# Answers that cannot be read

BAD_ANSWERS: list[tuple[str, dict[str, Any]]] = [
    ("garbage", {}),
    ("not_a_list", {}),
    ("truncate", {}),
    ("empty", {}),
    ("drop", {}),
    ("status", {"code": 500}),
    ("status", {"code": 400}),
    ("status", {"code": 404}),
    ("status", {"code": 429, "retry_after": 120}),
]


@pytest.mark.parametrize(("action", "fields"), BAD_ANSWERS)
@pytest.mark.parametrize("page", [1, 3, 5])
async def test_bad_answer(bench: BenchMaker, action: str, fields: dict[str, Any], page: int) -> None:
    """The poll fails, the cursor does not move beyond the page, and the next poll publishes all the rest."""
    async with bench(page_size=10, attempts=1) as b:
        await b.poll()
        settled = await b.cursor()
        b.sandbox.store.change(15)
        b.sandbox.store.create(2)
        fault(b, action, page=page, **fields)
        run = await b.poll()
        # An empty first page is an answer that can be read, and is not believed.
        believed = (action, page) != ("empty", 1)
        assert run.outcome == ("failed" if believed else "suspicious")
        cursor = await b.cursor()
        assert (cursor.sweep_page < page, cursor.failures) == (True, int(believed))
        assert (cursor.fresh_as_of, cursor.last_success) == (settled.fresh_as_of, settled.last_success)
        assert cursor.due_at > time.time() - 1
        assert await verdict(b) is Health.DEGRADED
        assert (await b.poll()).outcome == "complete"
        assert await verdict(b) is Health.OK
        assert len(await check(b)) == 67


@pytest.mark.parametrize(("action", "fields"), BAD_ANSWERS)
async def test_bad_answer_to_the_first_read(bench: BenchMaker, action: str, fields: dict[str, Any]) -> None:
    """An answer that is no good is not taken for an empty resource: what comes later is still a snapshot."""
    if action == "empty":
        fields = {"page": 2}  # an empty first page of a resource that nobody has seen is the truth
    async with bench(page_size=10, attempts=1) as b:
        fault(b, action, **fields)
        assert (await b.poll()).outcome == "failed"
        assert not (await b.cursor()).baseline
        assert (await b.poll()).outcome == "complete"
        assert Counter(each.action for each in await check(b)) == {"snapshot": 50}


@pytest.mark.parametrize("action", ["garbage", "not_a_list", "empty", "status"])
async def test_pages_before_a_bad_one_are_committed(bench: BenchMaker, action: str) -> None:
    """However early the bad answer comes, the pages before it are committed; the next poll resumes there."""
    async with bench(page_size=5, max_concurrency=8, attempts=1) as b:
        await b.poll()
        b.sandbox.store.change(50)
        fault(b, action, page=7)
        run = await b.poll()
        assert (run.outcome, run.published) == ("failed", 30)
        run = await b.poll()
        assert (run.outcome, run.published) == ("complete", 20)
        await check(b)


async def test_page_that_stays_bad(bench: BenchMaker) -> None:
    """One page that cannot be had does not keep the pages before it from being read again and again."""
    async with bench(page_size=10) as b:
        await b.poll()
        fault(b, "garbage", page=4, times=None)
        for _ in range(3):
            b.sandbox.store.change_silently(b.sandbox.store.ids()[:30])
            outcomes = [(await b.poll()).outcome for _ in range(2)]
            assert outcomes == ["failed", "failed"]
            truth = b.sandbox.store.truth()
            last = {each.subject: each.data for each in await b.events()}
            assert all(last[each] == truth[each] for each in b.sandbox.store.ids()[:30])
        b.sandbox.faults.clear()
        while (await b.poll()).outcome != "complete":
            pass
        await check(b)


async def test_empty_resource_is_not_believed(bench: BenchMaker) -> None:
    """When every page is empty though orders are known, no poll is complete, however often it is tried."""
    async with bench(page_size=10) as b:
        await b.poll()
        fresh = (await b.cursor()).fresh_as_of
        fault(b, "empty", times=None)
        for _ in range(3):
            run = await b.poll()
            assert (run.outcome, run.error_code) == ("suspicious", "suspicious")
            assert "50 records are known" in run.error
        assert (await b.cursor()).fresh_as_of == fresh


async def test_empty_page_of_a_resumed_first_read(bench: BenchMaker) -> None:
    """A first read that was cut short still knows the total: an empty page is not its end."""
    async with bench(page_size=10) as b:
        fault(b, "garbage", page=4)
        assert (await b.poll()).outcome == "failed"
        fault(b, "empty", page=4)
        run = await b.poll()
        assert (run.outcome, "the total is 50" in run.error) == ("failed", True)
        assert (await b.poll()).outcome == "complete"
        assert Counter(each.action for each in await check(b)) == {"snapshot": 50}


async def test_early_end_of_a_bare_list(bench: BenchMaker) -> None:
    """Without a total, a list that has become shorter is believed the second time."""
    with SandboxServer(orders=50, contract=Contract(wrapper_key=None)) as server:
        async with bench(server, page_size=10) as b:
            await b.poll()
            for order in b.sandbox.store.ids()[:25]:
                b.sandbox.store.delete(order)
            run = await b.poll()
            assert (run.outcome, "5 pages" in run.error) == ("failed", True)
            assert [(await b.poll()).outcome for _ in range(2)] == ["complete", "complete"]
            await check(b)


# Stopping, slices, page sizes


def after_pages(count: int) -> Callable[[], bool]:
    """A `stop` that says so behind that many pages. It is asked once before each page."""
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > count

    return stop


async def test_stop_ends_behind_the_page_in_hand(bench: BenchMaker) -> None:
    """A worker that is asked to end commits the page in hand, says so, and its successor carries on there."""
    async with bench(page_size=10) as b:
        run = await b.poll(stop=after_pages(2))
        assert (run.outcome, run.pages, run.published) == ("stopped", 2, 20)
        cursor = await b.cursor()
        assert (cursor.sweep_page, cursor.baseline) == (2, False)
        assert cursor.due_at <= time.time()
        run = await b.poll()
        assert (run.outcome, run.pages, run.snapshot) == ("complete", 4, 30)  # the last page is empty
        assert (await b.cursor()).fresh_as_of == cursor.sweep_started
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
        b.desk.poller._clock = TickingClock()
        runs: list[Run] = []
        while not runs or runs[-1].outcome == "partial":
            runs.append(await b.poll(slice_seconds=3.5))
        assert len(runs) == 4
        assert [run.pages for run in runs] == [3, 3, 3, 2]  # 10 pages, and the empty one behind them
        assert runs[-1].outcome == "complete"
        assert len(await check(b)) == 50


@pytest.mark.parametrize(("page_size", "pages"), [(4, 6), (25, 2), (100, 1)])
async def test_other_page_size_goes_on(bench: BenchMaker, page_size: int, pages: int) -> None:
    """A sweep that was begun with other pages goes on where nothing is left out, and publishes nothing twice."""
    async with bench(page_size=10) as b:
        await b.poll(stop=after_pages(3))
    async with bench(page_size=page_size) as b:
        run = await b.poll()
        assert (run.outcome, run.pages) == ("complete", pages)
        assert len(await check(b)) == 50


async def test_larger_pages_are_not_taken_for_an_early_end(redis_url: str, bench: BenchMaker) -> None:
    """Without a total, fewer pages than last time are doubted; not so when they were asked to be larger."""
    with SandboxServer(orders=50, contract=Contract(total=None)) as server:
        async with bench(server, redis_url, page_size=5) as b:
            assert (await b.poll()).outcome == "complete"
        async with bench(server, redis_url, page_size=25) as b:
            assert (await b.poll()).outcome == "complete"


async def test_workers_with_other_page_sizes_do_not_undo_each_other(bench: BenchMaker) -> None:
    """Two that take turns at one sweep both move it forward."""
    async with bench(page_size=5) as one, bench(page_size=4) as other:
        for _ in range(8):
            await one.poll(stop=after_pages(1))
            await other.poll(stop=after_pages(1))
        assert len(await one.events()) > 40


async def test_pages_in_memory_are_bounded(bench: BenchMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """However large the resource and slow the commits, no more than a window of pages is in hand."""
    most, fetch = 0, Reader._fetch

    async def counted(self: Reader, step: int, ask: Ask) -> Any:
        nonlocal most
        most = max(most, ask.page - self._plan.next_page + 1)
        return await fetch(self, step, ask)

    monkeypatch.setattr(readers.Reader, "_fetch", counted)
    async with bench(page_size=1, max_concurrency=3) as b:
        assert (await b.poll()).outcome == "complete"
    assert most == READ_AHEAD * 3


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
    script = scripts.load(redis, "worker.capture", "lease")
    assert (await script(keys=[key], args=["acquire", "thief", 0]))[0]


async def test_lease_lost_in_the_middle(bench: BenchMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that was frozen past its lease commits nothing more; its successor carries on."""
    async with bench(page_size=10) as b:
        read_page, key = b.desk.client.read_page, b.desk.keys.lease("orders")
        reached, stolen = asyncio.Event(), asyncio.Event()

        async def slow(search: str, number: int, *rest: Any) -> bytes:
            if number == 2:
                reached.set()
                await stolen.wait()
            body: bytes = await read_page(search, number, *rest)
            return body

        monkeypatch.setattr(b.desk.client, "read_page", slow)
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
        assert (cursor.sweep_page <= 2, cursor.failures) == (True, 0)
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


# Errors and what is said of them


class StillClock(SystemClock):
    """A clock whose time of day stands still, so that a pause can be read to the second."""

    def __init__(self) -> None:
        self._at = time.time()

    def now(self) -> float:
        """When it was made."""
        return self._at


async def test_refused_login_pauses(bench: BenchMaker) -> None:
    """Credentials that are refused are tried again after a minute, not after seconds."""
    async with bench() as b:
        b.sandbox.faults.replace([FaultRule("status", operation="clients.token", code=401, times=1)])
        clock = b.desk.poller._clock = StillClock()
        run = await b.poll()
        assert (run.outcome, run.error_code) == ("failed", "login_rejected")
        assert (await b.cursor()).due_at - clock.now() == 60
        assert (await b.poll()).outcome == "complete"


async def test_pause_grows(bench: BenchMaker) -> None:
    """5, 10, 20, 40, 60, 60 seconds between polls that fail; a good one ends it."""
    async with bench(attempts=1) as b:
        fault(b, "garbage", times=None)
        clock = b.desk.poller._clock = StillClock()
        pauses = []
        for _ in range(6):
            await b.poll()
            pauses.append((await b.cursor()).due_at - clock.now())
        assert pauses == [5, 10, 20, 40, 60, 60]
        b.sandbox.faults.clear()
        await b.poll()
        cursor = await b.cursor()
        assert (cursor.failures, cursor.error) == (0, "")


async def test_pause_that_the_server_asks_for(bench: BenchMaker) -> None:
    """A long Retry-After puts the poll off by just that."""
    async with bench() as b:
        fault(b, "status", code=429, retry_after=300)
        clock = b.desk.poller._clock = StillClock()
        assert (await b.poll()).error_code == "rate_limited"
        assert (await b.cursor()).due_at - clock.now() == 300


class SetClock(SystemClock):
    """A clock that stands where the test puts it."""

    at = 1000.0

    def monotonic(self) -> float:
        """Where it was put."""
        return self.at


async def test_error_is_told_once_a_minute(bench: BenchMaker) -> None:
    """The same failure is told once a minute with the number of repetitions, and anew after a good poll."""
    async with bench() as b:
        clock = b.desk.poller._clock = SetClock()
        fault(b, "garbage", times=None)
        with structlog.testing.capture_logs() as lines:
            for _ in range(4):
                await b.poll()
                clock.at += 10
            clock.at += 30
            await b.poll()
            b.sandbox.faults.clear()
            await b.poll()
            fault(b, "garbage", times=None)
            await b.poll()
        told = [line["repeated"] for line in lines if line["event"] == "poll_failed"]
        assert told == [0, 3, 0]


async def test_no_customer_data_is_told(bench: BenchMaker) -> None:
    """What is said of a record that cannot be read does not quote it."""
    async with bench() as b:
        b.sandbox.store.replace("odd", b'{"id":null,"name":"Ada Lovelace"}')
        with structlog.testing.capture_logs() as lines:
            await b.poll()
        assert any(line["event"] == "record_unreadable" for line in lines)
        assert "Lovelace" not in repr(lines)


# Redis in another state than this program left it in


async def test_foreign_cursor(bench: BenchMaker) -> None:
    """A cursor that somebody edited ends the poll with a DataError; put back, it goes on, and nothing is lost."""
    async with bench() as b:
        await b.poll()
        key = b.desk.keys.cursor("orders")
        good = await b.redis.dump(key)
        b.sandbox.store.change(5)
        for edit in (("sequence", "x"), ("sweep_page", "1.5"), ("tracked", "many")):
            await answer(b.redis.hset(key, *edit))
            run = await b.poll()
            assert (run.outcome, run.error_code) == ("failed", "data")
            assert "put the old value back" in run.error
        await b.redis.delete(key)
        await b.redis.set(key, "text")
        run = await b.poll()
        assert (run.outcome, run.error_code) == ("failed", "data")
        assert len(await b.events()) == 50
        await b.redis.restore(key, 0, good, replace=True)
        assert (await b.poll()).published == 5
        await check(b)


@pytest.mark.parametrize("name", ["stream", "dead", "seen", "fields", "lease", "runs"])
async def test_foreign_key(bench: BenchMaker, name: str) -> None:
    """A key of another type ends the poll with a DataError and writes nothing; removed, it goes on."""
    async with bench() as b:
        await b.poll()
        keys = b.desk.keys
        names = {"runs": keys.runs, "seen": f"{keys.seen('orders')}:{await first_bucket(b)}"}
        key = names[name] if name in names else getattr(keys, name)("orders")
        good = await b.redis.dump(key)
        b.sandbox.store.change(50, status="Odd")
        before = replace(await b.cursor(), last_started=0.0)
        kept: bytes | None = await b.redis.dump(keys.stream("orders")) if name != "stream" else None
        await b.redis.delete(key)
        await b.redis.set(key, "text")
        run = await b.poll()
        assert (run.outcome, run.error_code) == ("failed", "data")
        assert replace(await b.cursor(), last_started=0.0) == before
        assert kept is None or await b.redis.dump(keys.stream("orders")) == kept
        await b.redis.delete(key)
        if good is not None:
            await b.redis.restore(key, 0, good)
        assert (await b.poll()).published == 50
        await check(b)


async def first_bucket(b: Bench) -> str:
    """The number of a bucket that holds a state."""
    (key, *_) = await b.redis.keys(b.desk.keys.seen("orders") + ":*")
    return str(key.decode().rpartition(":")[2])


async def test_foreign_state(bench: BenchMaker) -> None:
    """A state that this program did not write counts as none: the record is published rather than lost."""
    async with bench() as b:
        await b.poll()
        key = f"{b.desk.keys.seen('orders')}:{await first_bucket(b)}"
        for field in await answer(b.redis.hkeys(key)):
            await answer(b.redis.hset(key, field, "rubbish"))
        run = await b.poll()
        assert run.outcome == "complete"
        assert run.created >= 1
        assert (await b.poll()).published == 0


async def test_layout_of_another_version(bench: BenchMaker) -> None:
    """Keys of another version are left alone."""
    async with bench() as b:
        await b.redis.set(b.desk.keys.layout, "0")
        run = await b.poll()
        assert (run.outcome, run.error_code, "layout 0" in run.error) == ("failed", "data", True)
        assert await b.events() == []


@pytest.fixture
def slow_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("slow"), None, "--appendfsync", "no")
    server.start()
    yield server
    server.stop(kill=True)


async def test_redis_loses_its_last_writes(bench: BenchMaker, slow_disk: Server) -> None:
    """Read again after a crash of Redis, a version has the same id if it says the same, else another one."""
    log, copy = slow_disk.folder / "appendonlydir", slow_disk.folder / "copy"
    async with bench(url=slow_disk.url) as b:
        await b.poll()
        shutil.copytree(log, copy)
        b.sandbox.store.change(20)
        b.sandbox.store.create(5)
        await b.poll()
        lost = (await b.events())[50:]
    slow_disk.stop(kill=True)
    shutil.rmtree(log)
    copy.rename(log)
    slow_disk.start()
    async with bench(url=slow_disk.url) as b:
        assert len(await b.events()) == 50
        other = [each.subject for each in lost[:7]]
        b.sandbox.store.change(other)
        assert (await b.poll()).published == 25
        again = {each.subject: each for each in (await check(b))[50:]}
    for each in lost:
        twin = again[each.subject]
        assert twin.version == each.version
        assert (twin.id == each.id) == (twin.data == each.data) == (each.subject not in other)


async def test_redis_is_full(bench: BenchMaker, own_server: Server) -> None:
    """While Redis refuses writes nothing is lost; when there is room the next poll publishes it all."""
    async with bench(url=own_server.url) as b:
        await b.poll()
        b.sandbox.store.change(30)
        await b.redis.config_set("maxmemory", 1)
        run = await b.poll()
        assert (run.outcome, run.error_code) == ("failed", "redis_full")
        await b.redis.config_set("maxmemory", 0)
        assert len(await b.events()) == 50
        assert (await b.poll()).published == 30
        await check(b)


async def test_a_defect_of_ours_is_told_and_retried_slowly(
    bench: BenchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that nobody thought of fails the poll, stands in the cursor with a pause, and moves nothing."""
    async with bench() as b:
        with monkeypatch.context() as broken:
            broken.setattr("worker.capture.reader.decide", lambda *_, **__: 1 / 0)
            run = await b.poll()
        cursor = await b.cursor()
        assert (run.outcome, run.error_code, cursor.error_code) == ("failed", "internal", "internal")
        assert cursor.due_at > run.started_at + 1
        assert await b.events() == []
        assert (await b.poll()).snapshot == 50
