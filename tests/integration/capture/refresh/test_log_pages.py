"""Audit logs are lists: whatever pages a gateway makes of them, each entry is published, or the poll says why not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.support.faulty_gateway import START, Liar, Query, Record, Reply, Watch, orders, watching
from worker.capture.health import Health, judge
from worker.capture.probe.registry import FINISH_AFTER
from worker.capture.reconcile.progress import CUT, Coverage, ReconcileProgress
from worker.capture.refresh.reader import CUT_SECONDS
from worker.capture.registry import AUDIT_LOGS, ORDERS
from worker.capture.state.store import StateStore
from worker.clock import rfc3339
from worker.redis.connections import answer

pytestmark = pytest.mark.anyio

ORDER_AUDIT = AUDIT_LOGS["order_audit"]
RECORDS, ENTRIES = 6, 120


def entry(order: str, number: int) -> Record:
    """An entry of the log of an order, a second after the one before."""
    return {"id": f"{order}-{number:05d}", "timestamp": rfc3339(START / 1000 + number), "action": "Changed"}


def logs(entries: int = ENTRIES) -> dict[str, list[Record]]:
    """The logs of all orders, the oldest entry first."""
    return {one["id"]: [entry(one["id"], number) for number in range(entries)] for one in orders(RECORDS)}


def pages(
    *,
    base: int = 1,
    size: int = 50,
    sized: bool = True,
    largest: int = 1000,
    name: str = "page",
    newest_first: bool = False,
    past_end: str = "empty",
    total: Callable[[int], Any] | None = int,
    turned: bool = True,
    cap: int | None = None,
    link: str = "",
) -> Callable[[list[Record], Query], Reply]:
    """A way of serving a log: `size` entries by default, `largest` at most, from page `base` on.

    `sized`: the requested page size is honoured; `turned`: the page is; `cap`: so many entries of any log are shown.
    `link`: pages have no numbers, and this field has the address of the next one.
    """

    def answer_to(entries: list[Record], query: Query) -> Reply:
        rows = list(reversed(entries)) if newest_first else entries
        rows = rows[:cap]
        width = min(int(query.get("pageSize", size)), largest) if sized else size
        number = int(query.get(name, base)) - base if turned else 0
        number = int(query.get("skipToken", 0)) if link else number
        last = max(0, (len(rows) - 1) // width)
        if number < 0 or (number > last and past_end == "404"):
            return 404, {"message": "there is no such page"}
        if number > last and past_end in {"repeats", "restarts"}:
            number = last if past_end == "repeats" else 0
        body: Record = {"auditLogs": rows[number * width : (number + 1) * width], "page": number + base}
        if total is not None:
            body |= {"pageSize": width, "totalCount": total(len(entries))}
        if link and (number + 1) * width < len(rows):
            body[link] = f"?{urlencode({**query, 'skipToken': number + 1})}"
        return 200, body

    return answer_to


@asynccontextmanager
async def serving(redis_url: str, **ways: Any) -> AsyncIterator[Watch]:
    """A worker at a gateway that serves the logs of six orders like this."""
    liar = Liar(records=orders(RECORDS), logs=logs(ways.pop("entries", ENTRIES)), paged=pages(**ways))
    async with watching(liar, redis_url) as watch:
        yield watch


async def told(watch: Watch) -> dict[str, list[str]]:
    """The ids of the entries that were published, by order; versions count them."""
    result: dict[str, list[str]] = {one: [] for one in watch.liar.logs}
    for event in await watch.events("order_audit"):
        result[event.subject].append(json.loads(event.data)["id"])
        assert event.version == len(result[event.subject])
    return result


def served(watch: Watch) -> dict[str, list[str]]:
    """The ids of the entries that there are."""
    return {order: [one["id"] for one in entries] for order, entries in watch.liar.logs.items()}


async def all_is_told(watch: Watch, *, in_order: bool = True) -> None:
    """The next polls publish every entry, once and in order, and say that they are complete."""
    assert (await watch.poll()).outcome == "complete"
    run = await watch.poll(ORDER_AUDIT)
    assert (run.outcome, run.error) == ("complete", "")
    found = await told(watch)
    assert (found if in_order else {name: sorted(ids) for name, ids in found.items()}) == served(watch)


async def judged(watch: Watch, name: str) -> tuple[Health, str]:
    """The health of a source."""
    source = ORDER_AUDIT if name == "order_audit" else ORDERS
    cursor = await StateStore(watch.place.redis, watch.account.keys, source).load_cursor()
    verdict = judge(cursor, watch.clock.now())
    return verdict.health, verdict.cause


async def proof(watch: Watch) -> ReconcileProgress:
    """What a pass of the reconciliation ends with."""
    await answer(watch.place.redis.hset(watch.account.keys.reconcile("orders"), "due_at", "0"))
    await watch.account.reconciler.run([ORDERS])
    return await Coverage(watch.place.redis, watch.account.keys, "orders").load()


WAYS: dict[str, dict[str, Any]] = {
    "from 1": {},
    "from 0": {"base": 0},
    "no total": {"total": None},
    "from 0, no total": {"base": 0, "total": None},
    "newest first": {"newest_first": True},
    "newest first, no total": {"newest_first": True, "total": None},
    "another name": {"name": "pageNumber", "base": 0},
    "a page size of its own": {"sized": False},
    "a page size of its own, no total": {"sized": False, "total": None},
    "at most 25": {"largest": 25, "size": 25},
    "404 past the end": {"past_end": "404"},
    "404 past the end, no total": {"past_end": "404", "total": None},
    "the last page past the end": {"past_end": "repeats"},
    "the last page past the end, no total": {"past_end": "repeats", "total": None},
    "the first page past the end": {"past_end": "restarts"},
    "the first page past the end, no total": {"past_end": "restarts", "total": None},
    "all on one page": {"size": 10_000, "turned": False, "sized": False},
    "all on one page, no total": {"size": 10_000, "turned": False, "sized": False, "total": None},
    "an address of the next page": {"turned": False, "link": "nextLink"},
    "an address of the next page, no total": {"turned": False, "link": "nextLink", "total": None, "size": 25},
    "a total that is zero": {"total": lambda _: 0},
    "a total of text": {"total": str},
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_way_of_serving_logs(redis_url: str, way: str) -> None:
    """Six orders with 120 entries each: 720 events, and each new entry, however the pages are made."""
    async with serving(redis_url, **WAYS[way]) as watch:
        await all_is_told(watch)
        assert sum(map(len, (await told(watch)).values())) == RECORDS * ENTRIES
        for order, entries in watch.liar.logs.items():
            entries += [entry(order, len(entries)), entry(order, len(entries) + 1)]
        for number in range(RECORDS):
            watch.liar.change(number)
        await all_is_told(watch)
        progress = await proof(watch)
        assert (progress.off, progress.error) == ("", "")


@pytest.mark.parametrize("way", WAYS)
async def test_logs_that_grow_past_a_page(redis_url: str, way: str) -> None:
    """Logs with one entry show no pages to the probe; when they have grown, they are read to their end all the same."""
    if {"name", "link"} & WAYS[way].keys():
        pytest.skip("how the next page is requested is found by the next probe")
    async with serving(redis_url, entries=1, **WAYS[way]) as watch:
        await all_is_told(watch)
        for order, entries in watch.liar.logs.items():
            entries += [entry(order, number) for number in range(1, ENTRIES)]
        for number in range(RECORDS):
            watch.liar.change(number)
        await all_is_told(watch)


@pytest.mark.parametrize("sized", [True, False])
async def test_pages_of_a_few_entries(redis_url: str, sized: bool) -> None:
    """Pages of three entries without a total: when the probe has seen a second one, logs are read to their end."""
    async with serving(redis_url, entries=4, total=None, size=3, largest=3, sized=sized) as watch:
        await all_is_told(watch)
        for order, entries in watch.liar.logs.items():
            entries += [entry(order, number) for number in range(4, 11)]
        for number in range(RECORDS):
            watch.liar.change(number)
        await all_is_told(watch)


async def test_logs_that_grow_a_next_page(redis_url: str) -> None:
    """A log whose last page names another one is not taken for whole, before the probe has seen how it is requested."""
    ways = WAYS["an address of the next page, no total"]
    async with serving(redis_url, entries=1, **ways) as watch:
        await all_is_told(watch)
        for order, entries in watch.liar.logs.items():
            entries += [entry(order, number) for number in range(1, ENTRIES)]
        for number in range(RECORDS):
            watch.liar.change(number)
        assert (await watch.poll()).outcome == "complete"
        run = await watch.poll(ORDER_AUDIT)
        assert run.outcome == "suspicious"
        assert "it names a next page" in run.error
        key = watch.account.keys.refresh_queue("order_audit")
        await answer(watch.place.redis.zadd(key, dict.fromkeys(await waiting(watch), 0)))
        await watch.account.capabilities.mark_stale(ORDERS)
        await all_is_told(watch)


CUTS: dict[str, tuple[dict[str, Any], int]] = {
    "the page is ignored": ({"turned": False}, 50),
    "the page is ignored, newest first": ({"turned": False, "newest_first": True}, 50),
    "the page is ignored, no total": ({"turned": False, "sized": False, "total": None}, 50),
    "100 of any log": ({"cap": 100}, 100),
    "100 of any log, 404 past the end": ({"cap": 100, "past_end": "404"}, 100),
}


@pytest.mark.parametrize("way", CUTS)
async def test_a_log_that_is_cut(redis_url: str, way: str) -> None:
    """What is shown is published; the stream is degraded, nothing is proven, and it ends when the rest can be had."""
    ways, shown = CUTS[way]
    async with serving(redis_url, **ways) as watch:
        assert (await watch.poll()).outcome == "complete"
        run = await watch.poll(ORDER_AUDIT)
        assert (run.outcome, run.recorded) == ("suspicious", RECORDS * shown)
        assert "of 6 audit logs only a part can be read" in run.error
        health, cause = await judged(watch, "order_audit")
        assert health is Health.DEGRADED
        assert "entries are missing" in cause
        assert (await proof(watch)).complete_until == 0
        gaps = await Coverage(watch.place.redis, watch.account.keys, "orders").gaps()
        assert {order: gap.why for order, gap in gaps.items()} == dict.fromkeys(watch.liar.logs, CUT)
        health, cause = await judged(watch, "orders")
        assert health is Health.DEGRADED
        assert "cannot be proven that every change of 6 records was published" in cause
        # A poll that reads nothing is not complete either.
        assert (await watch.poll(ORDER_AUDIT)).outcome == "suspicious"
        watch.liar.paged = pages()
        await answer(
            watch.place.redis.zadd(
                watch.account.keys.refresh_queue("order_audit"), dict.fromkeys(await waiting(watch), 0)
            )
        )
        await watch.account.capabilities.mark_stale(ORDERS)
        # Entries that were not shown come late, after those that were.
        await all_is_told(watch, in_order=not ways.get("newest_first"))
        assert (await judged(watch, "order_audit"))[0] is Health.OK
        assert (await proof(watch)).complete_until > 0
        assert (await judged(watch, "orders"))[0] is Health.OK


async def waiting(watch: Watch) -> list[str]:
    """The logs that wait for another try, each for at most as long as a probe that is repeated."""
    key = watch.account.keys.refresh_queue("order_audit")
    found = await answer(watch.place.redis.zrange(key, 0, -1, withscores=True))
    seconds, _ = await answer(watch.place.redis.time())
    assert len(found) == RECORDS
    assert all(score <= seconds + CUT_SECONDS + 1 for _, score in found)
    assert CUT_SECONDS <= FINISH_AFTER
    return [member.decode() for member, _ in found]
