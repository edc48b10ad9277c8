"""Answers that are no usual pages: errors with a good status, records that are too large, lists in odd places."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.faulty_gateway import LIST_PATH, Liar, Record, Reply, orders, reads_all, watching

pytestmark = pytest.mark.anyio

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
