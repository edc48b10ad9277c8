"""Whatever a gateway lies about, every order as served stands as the last event of it, or the poll says why not."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.support.faulty_gateway import (
    FILTER,
    LIST_PATH,
    Liar,
    Query,
    Record,
    Reply,
    Watch,
    orders,
    since_modified,
    watching,
)
from worker.capture.probe.registry import FINISH_AFTER
from worker.capture.registry import ORDERS
from worker.capture.resync.requests import ResyncRequest
from worker.capture.resync.runner import ResyncRunner

pytestmark = pytest.mark.anyio

NO_MORE_THAN = 40
"""Requests of a probe."""


async def reads_all(watch: Watch, *, plan: str = "sweep") -> None:
    """The next poll ends in order, and brings everything."""
    run = await watch.poll()
    assert (run.outcome, run.plan, run.error) == ("complete", plan, "")
    assert await watch.missing() == []


async def believed(watch: Watch) -> str | None:
    """The filter that is in use."""
    found = await watch.found()
    assert found is not None
    return found.since


def refused(status: int) -> Reply:
    return status, {"message": "made-up trouble"}


# Responses with a good status that are no usual pages

NO_PAGES: dict[str, Reply] = {
    "errors": (200, {"orders": [], "errors": [{"errorMessage": "Search index unavailable"}]}),
    "no success": (200, {"success": False, "orders": []}),
}


@pytest.mark.parametrize("reply", NO_PAGES)
async def test_an_error_with_a_good_status_is_no_first_read(redis_url: str, reply: str) -> None:
    """It does not end the first read: what there was before is `snapshot`, not `created`."""
    liar = Liar(records=orders(30), interfere=lambda path, _: NO_PAGES[reply] if path == LIST_PATH else None)
    async with watching(liar, redis_url) as watch:
        run = await watch.poll()
        assert (run.outcome, run.published) != ("complete", 0)
        liar.interfere = None
        while (await watch.poll()).outcome != "complete":
            pass
        assert {event.action for event in await watch.events()} == {"snapshot"}
        assert await watch.missing() == []


@pytest.mark.parametrize("status", [200, 204])
async def test_a_list_that_ends_without_a_body(redis_url: str, status: int) -> None:
    """Behind it, new orders are created, and orders that are gone are deleted."""
    liar = Liar(records=orders(60), beyond=status, total=False)
    async with watching(liar, redis_url, page_size=20) as watch:
        await reads_all(watch)
        liar.add(2)
        await reads_all(watch)
        assert [event.action for event in await watch.events()][-2:] == ["created", "created"]
        gone = liar.records.pop(7)
        await reads_all(watch)
        due = watch.account.keys.refresh_queue("orders")
        for _ in range(2):
            for member in await watch.place.redis.zrange(due, 0, -1):
                await watch.place.redis.zadd(due, {member: 0})
            await watch.poll()
        assert [event.subject for event in await watch.events() if event.action == "deleted"] == [gone["id"]]


async def test_a_record_that_is_too_large(redis_url: str) -> None:
    """It alone goes to the dead letters, without its content; once it is smaller it is published."""
    liar = Liar(records=orders(30))
    liar.records[7]["note"] = "x" * 2_000_000
    async with watching(liar, redis_url) as watch:
        run = await watch.poll()
        assert (run.published, run.unreadable) == (29, 1)
        assert await watch.missing() == [liar.records[7]["id"]]
        ((_, letter),) = await watch.place.redis.xrange(watch.account.keys.dead("orders"))
        assert b"ORDERSYNC_API__MAX_RECORD_BYTES" in letter[b"reason"]
        assert letter[b"subject"].decode() == liar.records[7]["id"]
        assert b"data" not in letter
        assert len(letter[b"reason"]) < 300
        liar.change(7, note="short")
        await watch.poll()
        assert await watch.missing() == []


async def test_a_response_that_is_too_large(redis_url: str) -> None:
    """The probe finds pages that are small enough, and everything is read."""
    liar = Liar(records=[record | {"note": "x" * 5000} for record in orders(40)])
    async with watching(liar, redis_url, max_response_bytes=65_536) as watch:
        await reads_all(watch)


async def test_a_record_that_is_nested_deeply(redis_url: str) -> None:
    """It alone goes to the dead letters, with its id; the rest of its page is published."""
    liar = Liar(records=orders(30))
    deep: list[Any] = []
    for _ in range(400):
        deep = [deep]
    liar.records[7]["note"] = {"deep": deep}
    liar.wrap = lambda body: (
        json.dumps(body).encode().replace(b"[" * 400, b"[" * 1_000).replace(b"]" * 400, b"]" * 1_000)
    )
    async with watching(liar, redis_url) as watch:
        run = await watch.poll()
        assert (run.published, run.unreadable) == (29, 1)
        ((_, letter),) = await watch.place.redis.xrange(watch.account.keys.dead("orders"))
        assert letter[b"subject"].decode() == liar.records[7]["id"]
        assert b"the record is nested too deeply" in letter[b"reason"]


async def test_a_list_without_end(redis_url: str) -> None:
    """The scan fails after the pages that the settings permit, and says so; what it has read is published."""
    numbers = itertools.count()

    def endless(path: str, _query: Query) -> Reply | None:
        if path != LIST_PATH:
            return None
        return 200, {"orders": [{**one, "id": f"{next(numbers):024x}"} for one in orders(20)]}

    liar = Liar(records=orders(20))
    async with watching(liar, redis_url, max_scan_pages=10, page_size=20) as watch:
        await reads_all(watch)
        liar.interfere = endless
        run = await watch.poll()
        assert (run.outcome, run.error_code) == ("failed", "response_too_large")
        assert "orders.search page 10: the list has more than 10 pages" in run.error
        assert "ORDERSYNC_API__MAX_SCAN_PAGES" in run.error
        liar.interfere = None
        while (await watch.poll()).outcome == "failed":
            pass
        assert await watch.missing() == []


# Pages

PAGINGS: dict[str, tuple[dict[str, Any], int]] = {
    "from 0": ({"base": 0}, 0),
    "from 0, no total": ({"base": 0, "total": False}, 0),
    "from 0, clamped": ({"base": 0, "clamps": True}, 0),
    "from 0, clamped, no total": ({"base": 0, "clamps": True, "total": False}, 0),
    "from 0, newest first, a cap, no total": (
        {"base": 0, "newest_first": True, "cap": 20, "total": False},
        0,
    ),
    "from 0, 404 past the end, no total": ({"base": 0, "beyond": 404, "total": False}, 0),
    "from 1, clamped, no total": ({"clamps": True, "total": False}, 1),
    "from 1, lenient": ({"lenient": True}, 1),
    "from 1, lenient, no total": ({"lenient": True, "total": False}, 1),
    "from 1, lenient, clamped, no total": ({"lenient": True, "clamps": True, "total": False}, 1),
    "from 1, 404 past the end": ({"beyond": 404}, 1),
    "from 1, 404 past the end, no total": ({"beyond": 404, "total": False}, 1),
    "from 1, 400 past the end, no total": ({"beyond": 400, "total": False}, 1),
    "from 1, 204 past the end": ({"beyond": 204}, 1),
    "from 1, 204 past the end, no total": ({"beyond": 204, "total": False}, 1),
    "from 0, 204 past the end, no total": ({"base": 0, "beyond": 204, "total": False}, 0),
    "from 1, no body past the end, no total": ({"beyond": 200, "total": False}, 1),
    "from 0, page 0 past the end": ({"base": 0, "restarts": True}, 0),
    "from 0, page 0 past the end, no total": ({"base": 0, "restarts": True, "total": False}, 0),
    "from 1, page 1 past the end": ({"restarts": True}, 1),
    "from 1, lenient, page 1 past the end": ({"lenient": True, "restarts": True}, 1),
    "from 1, lenient, page 1 past the end, no total": (
        {"lenient": True, "restarts": True, "total": False},
        1,
    ),
    "from 1, a cap, no total": ({"cap": 20, "total": False}, 1),
    "from 1, a cap, clamped, no total": ({"cap": 20, "clamps": True, "total": False}, 1),
}


@pytest.mark.parametrize("count", [15, 200])
@pytest.mark.parametrize("paging", PAGINGS)
async def test_a_way_of_paging(redis_url: str, paging: str, count: int) -> None:
    """However pages are counted and however a list ends, everything is read, also when it has grown since."""
    lies, first_page = PAGINGS[paging]
    liar = Liar(records=orders(count), **lies)
    async with watching(liar, redis_url) as watch:
        await reads_all(watch)
        found = await watch.found()
        assert found is not None
        assert (found.state, found.first_page) == ("found", first_page)
        assert found.requests <= NO_MORE_THAN
        liar.add(135)
        liar.change(3)
        await reads_all(watch)


@pytest.mark.parametrize(
    "paging",
    [
        "from 0, clamped, no total",
        "from 1, 404 past the end, no total",
        "from 1, page 1 past the end",
        "from 0, page 0 past the end, no total",
    ],
)
async def test_a_list_that_ends_with_a_full_page(redis_url: str, paging: str) -> None:
    """Where the last page is full and no total says so, what lies behind it ends the read and does not fail it."""
    lies, _ = PAGINGS[paging]
    async with watching(Liar(records=orders(40), **lies), redis_url, page_size=10) as watch:
        await reads_all(watch)
        await reads_all(watch)


@pytest.mark.parametrize(
    "told", [lambda _: 100, lambda _: 0, lambda _: -1], ids=["capped", "zero", "minus one"]
)
async def test_a_total_that_is_too_low(redis_url: str, told: Callable[[int], int]) -> None:
    """A total alone never ends a read: one that is capped, or means that it is not known, hides nothing."""
    liar = Liar(records=orders(330), told=told)
    async with watching(liar, redis_url) as watch:
        await reads_all(watch)
        liar.change(320)
        await reads_all(watch)


@pytest.mark.parametrize(
    "told",
    [lambda shown: shown + 4000, lambda _: 10_000, lambda _: 10**15],
    ids=["counts what is hidden", "constant", "a quadrillion"],
)
@pytest.mark.parametrize("lies", [{}, {"clamps": True}, {"restarts": True}, {"beyond": 404}], ids=str)
@pytest.mark.parametrize("page_size", [100, 250, 1000])
async def test_a_total_that_is_too_high(
    redis_url: str, told: Callable[[int], int], lies: dict[str, Any], page_size: int
) -> None:
    """Of a total that counts what the token may not see, two full scans that agree say that the list is whole."""
    liar = Liar(records=orders(250), told=told, **lies)
    async with watching(liar, redis_url, page_size=page_size) as watch:
        first = await watch.poll()
        assert (first.outcome, first.error_code) == ("failed", "unreadable_answer")
        with structlog.testing.capture_logs() as log:
            await reads_all(watch)
            liar.change(120)
            await reads_all(watch)
        (said,) = (line for line in log if line["event"] == "total_not_trusted")
        assert said["resource"] == "orders"
        # It is said once, and a probe does not bring the total back.
        await watch.account.capabilities.mark_stale(ORDERS)
        with structlog.testing.capture_logs() as log:
            liar.add(1)
            await reads_all(watch)
        assert "total_not_trusted" not in [line["event"] for line in log]


async def test_a_total_that_the_contract_does_not_trust(redis_url: str, tmp_path: Path) -> None:
    """With `total = "untrusted"` the first full scan is believed."""
    file = tmp_path / "contract.toml"
    file.write_text('[operations."orders.search"]\ntotal = "untrusted"\n')
    liar = Liar(records=orders(250), told=lambda shown: shown + 4000)
    async with watching(liar, redis_url, contract_file=file) as watch:
        await reads_all(watch)
        liar.change(120)
        await reads_all(watch)


async def test_a_list_cut_at_a_round_number_is_not_believed(redis_url: str) -> None:
    """500 records of 4,500 are what a server shows that limits its lists: more scans do not make it whole."""
    async with watching(Liar(records=orders(500), told=lambda _: 4500), redis_url) as watch:
        for _ in range(4):
            run = await watch.poll()
            assert (run.outcome, run.error_code) == ("failed", "unreadable_answer")
        watch.liar.add(1)  # a list that lives grows past that number
        assert (await watch.poll()).outcome == "complete"
        assert await watch.missing() == []


async def test_totals_that_change_with_each_page(redis_url: str) -> None:
    """Numbers that mean nothing, and none that are numbers, neither end a list nor keep it from its end."""
    lies = itertools.cycle([7, 10**6, 260, 0])
    for told in (lambda _: next(lies), str, lambda _: "many", lambda _: 1.5):
        liar = Liar(records=orders(250), told=told)
        async with watching(liar, redis_url, page_size=100) as watch:
            await watch.place.redis.flushdb()
            runs = [await watch.poll() for _ in range(3)]
            assert runs[-1].outcome == "complete"
            assert await watch.missing() == []


@pytest.mark.parametrize("total", [True, False])
@pytest.mark.parametrize("count", [25, 40])
async def test_a_forced_resync_of_a_list_that_begins_again(
    redis_url: str, count: int, *, total: bool
) -> None:
    """Page 1 behind the last one is the end there too: each order is published once more, and none twice."""
    liar = Liar(records=orders(count), restarts=True, total=total)
    async with watching(liar, redis_url, page_size=10) as watch:
        await reads_all(watch)
        runner = ResyncRunner(watch.account.poller.context)
        await runner.resyncs.create(
            ResyncRequest(resource="orders", all=True, force=True), watch.clock.now(), "again"
        )
        await runner.slice(ORDERS, "again")
        resync = await runner.resyncs.get("again")
        assert resync is not None
        assert (resync.state, resync.published, resync.error) == ("done", count, "")


GROWING: dict[str, dict[str, Any]] = {
    "from 0": {"base": 0},
    "from 0, clamped": {"base": 0, "clamps": True},
    "from 1": {},
    "from 1, lenient": {"lenient": True},
    "from 1, lenient, clamped": {"lenient": True, "clamps": True},
}


@pytest.mark.parametrize("total", [True, False])
@pytest.mark.parametrize("paging", GROWING)
async def test_a_list_of_one_record_that_grows(redis_url: str, paging: str, *, total: bool) -> None:
    """One record does not say how pages are counted; whatever was taken from it, no later order is passed by."""
    liar = Liar(records=orders(1), total=total, **GROWING[paging])
    async with watching(liar, redis_url) as watch:
        await reads_all(watch)
        for _ in range(3):
            liar.add(75)
            await reads_all(watch)


# The server is ill while it is asked


@pytest.mark.parametrize("status", [503, 504, 403])
async def test_page_0_is_out_of_order_during_the_probe(redis_url: str, status: int) -> None:
    """A refusal of the moment is no answer to a bad page number: nothing is kept, and the next poll asks again."""
    liar = Liar(records=orders(230), base=0, total=False)
    liar.interfere = lambda _, query: refused(status) if query.get("page") == "0" else None
    async with watching(liar, redis_url) as watch:
        run = await watch.poll()
        assert (run.outcome, run.published) == ("failed", 0)
        assert f"status {status}" in run.error
        assert await watch.found() is None
        liar.interfere = None
        await reads_all(watch)
        found = await watch.found()
        assert found is not None
        assert found.first_page == 0


def arriving(liar: Liar, each: int, *, times: int = 1_000, when: Callable[[Query], bool] = bool) -> None:
    """Let so many orders arrive before each request of the probe for the list that `when` names."""
    left = iter(range(times))

    def interfere(path: str, query: Query) -> None:
        if path == liar.path and query.get("pageSize") == "10" and when(query):
            liar.add(each if next(left, None) is not None else 0)

    liar.interfere = interfere


MOVING: dict[str, dict[str, Any]] = {
    "from 0": {"base": 0},
    "from 0, no total": {"base": 0, "total": False},
    "from 1, lenient": {"lenient": True},
    "from 1, lenient, no total": {"lenient": True, "total": False},
    "from 1, no total": {"total": False},
}


@pytest.mark.parametrize("each", [1, 4])
@pytest.mark.parametrize("paging", MOVING)
async def test_orders_arrive_between_the_requests_of_a_probe(redis_url: str, paging: str, each: int) -> None:
    """Pages that move by less than half while they are compared are judged rightly."""
    liar = Liar(records=orders(230), newest_first=True, **MOVING[paging])
    arriving(liar, each)
    async with watching(liar, redis_url) as watch:
        assert (await watch.poll()).outcome == "complete"
        found = await watch.found()
        assert found is not None
        assert (found.first_page, found.page_parameter) == (liar.base, "page")
        liar.interfere = None
        await reads_all(watch)


@pytest.mark.parametrize("each", [6, 10])
@pytest.mark.parametrize("paging", MOVING)
async def test_a_list_that_moves_faster_than_it_is_asked(redis_url: str, paging: str, each: int) -> None:
    """What cannot be judged may fail polls but never hides an order: once the list is calm, it is all read."""
    liar = Liar(records=orders(230), newest_first=True, **MOVING[paging])
    arriving(liar, each)
    async with watching(liar, redis_url) as watch:
        await watch.poll()
        liar.interfere = None
        runs = [await watch.poll() for _ in range(3)]
        assert runs[-1].outcome == "complete"
        assert await watch.missing() == []


async def test_many_orders_arrive_at_the_worst_moment(redis_url: str) -> None:
    """One burst between page 0 and page 1 makes the two alike: a verdict that is reached once is not believed."""
    liar = Liar(records=orders(230), base=0, total=False, newest_first=True)
    arriving(liar, 8, times=1, when=lambda query: query.get("page") == "1" and len(liar.asked) > 2)
    async with watching(liar, redis_url) as watch:
        await reads_all(watch)
        assert len(liar.records) == 238
        found = await watch.found()
        assert found is not None
        assert (found.first_page, found.page_parameter) == (0, "page")


async def test_a_rate_limit_in_the_second_half_of_a_probe(redis_url: str) -> None:
    """What a read needs is asked first: the orders are read, the rest is left open and looked at before long."""
    liar = Liar(records=orders(230), keeps=since_modified)
    liar.interfere = lambda path, _: refused(429) if path != LIST_PATH else None
    async with watching(liar, redis_url) as watch:
        await reads_all(watch)
        found = await watch.found()
        assert found is not None
        assert "status 429" in found.unfinished
        assert found.since is None
        liar.interfere = None
        await reads_all(watch)
        assert await believed(watch) is None
        watch.clock.offset += FINISH_AFTER + 1
        await reads_all(watch, plan="window")
        assert await believed(watch) == FILTER


async def test_a_rate_limit_in_the_first_half_of_a_probe(redis_url: str) -> None:
    """Without the numbers of the pages nothing can be read: the poll fails, and nothing is kept of the probe."""
    liar = Liar(records=orders(230), base=0)
    liar.interfere = lambda _, query: refused(429) if query.get("page") == "2" else None
    async with watching(liar, redis_url) as watch:
        run = await watch.poll()
        assert (run.outcome, run.error_code) == ("failed", "rate_limited")
        assert await watch.found() is None
        liar.interfere = None
        await reads_all(watch)


# Where the list is, and what stands in it


@pytest.mark.parametrize("status", [500, 503])
@pytest.mark.parametrize("failing", [LIST_PATH, "/v1/orders"])
async def test_a_path_that_fails_does_not_hide_the_right_one(
    redis_url: str, failing: str, status: int
) -> None:
    """A candidate that fails says nothing of the others: the list is found behind it."""
    liar = Liar(records=orders(23), path="/order/v1/orders/search")
    liar.interfere = lambda path, _: refused(status) if path == failing else None
    async with watching(liar, redis_url) as watch:
        await reads_all(watch)
        found = await watch.found()
        assert found is not None
        assert found.path == "/order/v1/orders/search"


async def test_a_path_that_fails_where_there_is_no_other(redis_url: str) -> None:
    """If no other path has the list, it is the failing one that is to blame, and it is asked again."""
    liar = Liar(records=orders(23))
    liar.interfere = lambda path, _: refused(500) if path == LIST_PATH else None
    async with watching(liar, redis_url) as watch:
        run = await watch.poll()
        assert (run.outcome, run.error_code) == ("failed", "server_error")
        assert await watch.found() is None
        liar.interfere = None
        await reads_all(watch)


FACETS = [{"id": "f1", "count": 1}, {"id": "f2", "count": 2}]


def with_facets(body: Record) -> Record:
    return {**body, "facets": FACETS, "errors": []}


def with_facets_alone(body: Record) -> Record:
    """No list of orders where there are none, which some services write as null."""
    return {"facets": FACETS, **body, "orders": body["orders"] or None}


WRAPS: dict[str, Callable[[Record], Any]] = {
    "facets and errors beside": with_facets,
    "null for none": lambda body: {**body, "orders": body["orders"] or None},
    "null for none, facets beside": with_facets_alone,
    "nested": lambda body: {"data": body},
    "nested, total outside": lambda body: {"data": {"orders": body["orders"]}, "total": body["total"]},
    "nested twice": lambda body: {"response": {"data": body}},
    "another name beside facets": lambda body: {"rows": body["orders"], "facets": FACETS},
}


@pytest.mark.parametrize(
    "wrap",
    [*WRAPS],
)
async def test_lists_beside_and_around_the_orders(redis_url: str, wrap: str) -> None:
    """Only orders become events, wherever their list stands, and also where the list was empty at first."""
    liar = Liar(wrap=WRAPS[wrap])
    async with watching(liar, redis_url) as watch:
        assert (await watch.poll()).outcome == "complete"
        assert await watch.events() == []
        liar.records += orders(150)
        await reads_all(watch)
        liar.change(3)
        await reads_all(watch)
        assert {event.subject for event in await watch.events()} == {one["id"] for one in liar.records}


@pytest.mark.parametrize(
    "body",
    [
        {"status": "error", "errors": ["merchantId is required"]},
        {"message": "nothing found", "errors": []},
        {"facets": FACETS},
        {"links": [{"id": "self"}], "warnings": [{"id": "w1"}]},
    ],
    ids=["errors", "no errors", "facets", "links and warnings"],
)
async def test_something_else_in_the_place_of_the_orders(redis_url: str, body: Record) -> None:
    """A list of errors or facets is no list of orders: the poll fails and says so, and goes on once they are there."""
    liar = Liar(records=orders(30))
    liar.interfere = lambda path, _: (200, body) if path == LIST_PATH else None
    async with watching(liar, redis_url) as watch:
        run = await watch.poll()
        assert (run.outcome, run.error_code) == ("failed", "contract_mismatch")
        assert next(iter(body)) in run.error
        assert await watch.events() == []
        liar.interfere = None
        await reads_all(watch)
