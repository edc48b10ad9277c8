"""Polls against a real OrderMesh and a real Redis that go wrong in every way: nothing missed, nothing twice."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import Any

import pytest

from ordersync_consumer.envelope import Event
from tests.support.polling import after_pages, check, fault
from tests.support.worker import Bench, BenchMaker
from worker.capture.health import Health, judge
from worker.capture.state.refresh_queue import RefreshQueue, record
from worker.sandbox import SandboxServer, ServedContract

pytestmark = pytest.mark.anyio


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
        b.adjust(ignore_fields={"orders": ("updatedAt",)})
        await b.poll()
        (order,) = b.sandbox.store.touch(1)
        run = await b.poll()
        assert (run.noise, run.published) == (1, 0)
        b.sandbox.store.change(order, status="Odd")
        await b.poll()
        assert (await versions_of(b, order))[-1].changed == ("status",)
        assert (await versions_of(b, order))[-1].data == b.sandbox.store.get(order)


async def test_stale_page(bench: BenchMaker) -> None:
    """A list that lags behind what was published takes nothing back: each record is read by its id, which decides."""
    async with bench() as b:
        await b.poll()
        order = b.sandbox.store.ids()[3]
        b.sandbox.hide("orders", order)
        b.sandbox.store.change(order, status="Fulfilled")
        await RefreshQueue(b.redis, b.account.keys, "orders").add([record(order)])
        run = await b.poll()
        assert (run.updated, run.stale, run.outcome) == (1, 1, "complete")
        for _ in range(3):
            run = await b.poll()
            assert (run.stale, run.published, run.follow_ups, (await b.cursor()).stale) == (1, 0, 1, 1)
        b.sandbox.show("orders")
        run = await b.poll()
        assert (run.unchanged, run.stale, (await b.cursor()).stale) == (51, 0, 0)


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
        b.sandbox.store.replace(order, json.dumps(newer).encode())
        for _ in range(3):  # the older one is stale from then on, as the read by id says
            assert (await b.poll()).outcome == "complete"
        events = await versions_of(b, order)
        assert [json.loads(each.data)["status"] for each in events] == [json.loads(same)["status"], "Newer"]


async def test_two_states_on_two_pages_at_first_sight(bench: BenchMaker) -> None:
    """Both looked up before either is committed: the second is compared anew, and gets the next version."""
    async with bench(page_size=10) as b:
        order = b.sandbox.store.ids()[2]
        newer = json.loads(b.sandbox.store.truth()[order]) | {
            "status": "Newer",
            "updatedAt": "2025-06-01T00:00:00Z",
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
        ((_, letter),) = await b.redis.xrange(b.account.keys.dead("orders"))
        assert reason in letter[b"reason"].decode()
        assert (letter[b"where"], letter[b"data"]) == (b"orders.search page 5", raw)
        for _ in range(2):
            run = await b.poll()
            assert (run.outcome, run.published, run.unreadable) == ("complete", 0, 0)
            assert await verdict(b) is Health.DEGRADED
            assert (await b.cursor()).unreadable == 1
        assert await b.redis.xlen(b.account.keys.dead("orders")) == 1
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
        assert (cursor.scan.page < page, cursor.failures) == (True, int(believed))
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
    """One page that cannot be had hides neither the pages before it nor what smaller pages in its place show."""
    async with bench(page_size=10) as b:
        await b.poll()
        fault(b, "garbage", page=4, times=None)
        for _ in range(3):
            b.sandbox.store.change_silently(b.sandbox.store.ids())
            outcomes = [(await b.poll()).outcome for _ in range(2)]
            assert outcomes == ["failed", "complete"]
            truth = b.sandbox.store.truth()
            assert {each.subject: each.data for each in await b.events()} == truth
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
    with SandboxServer(orders=50, contract=ServedContract(wrapper_key=None)) as server:
        async with bench(server, page_size=10) as b:
            await b.poll()
            for order in b.sandbox.store.ids()[:20]:
                b.sandbox.store.delete(order)
            run = await b.poll()
            assert (run.outcome, "5 pages" in run.error) == ("failed", True)
            assert [(await b.poll()).outcome for _ in range(2)] == ["complete", "complete"]
            await check(b)
