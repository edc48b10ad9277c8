"""However a gateway numbers its pages, ends its lists and counts them: every order is read, or the poll fails."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.support.faulty_gateway import LIST_PATH, Liar, Query, Reply, orders, reads_all, watching
from worker.capture.registry import ORDERS
from worker.capture.resync.requests import ResyncRequest
from worker.capture.resync.runner import ResyncRunner

pytestmark = pytest.mark.anyio

NO_MORE_THAN = 40
"""Requests of a probe."""


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
