"""A gateway that fails, or whose list moves, while it is probed: nothing wrong is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.faulty_gateway import (
    FILTER,
    LIST_PATH,
    Liar,
    Query,
    believed,
    orders,
    reads_all,
    refused,
    since_modified,
    watching,
)
from worker.capture.probe.registry import FINISH_AFTER

pytestmark = pytest.mark.anyio


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
