"""A gateway that does not tell the truth, or not yet, or not any more: what is published is what was so."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random
from typing import TypeAlias

import pytest

from tests.support.campaign import Worker, settle, worker_at
from tests.support.gateway import OTHER, Gateway, Judge, Serving
from worker.capture.registry import AUDIT_LOGS
from worker.capture.state.run import Outcome

pytestmark = pytest.mark.anyio

Lie: TypeAlias = Callable[[Gateway], None]

CHANCE = Random(7)
TOTALS: dict[str, Callable[[int], int]] = {
    "more than the token may see": lambda real: real + 4000,
    "less than there are": lambda real: real - 30,
    "none": lambda _real: 0,
    "negative": lambda _real: -1,
    "another one each time": lambda real: real + CHANCE.randrange(500),
    "the number of one page": lambda real: min(real, 50),
}


async def happen(gateway: Gateway, worker: Worker, *, deletes: bool = True) -> None:
    """Let orders change, come and go, with a poll after each."""
    history = gateway.history
    ids = history.ids("orders")
    history.change("orders", ids[10:15])
    await worker.poll()
    history.create("orders", 3)
    await worker.poll()
    if deletes:
        history.delete("orders", ids[20:22])
        await worker.poll()


@pytest.mark.parametrize("total", TOTALS)
async def test_a_total_that_lies_from_the_beginning(redis_url: str, total: str) -> None:
    """The records are what counts."""
    serving = Serving(told_total=TOTALS[total])
    with Gateway(orders=250, serving=serving) as gateway, Judge(gateway, redis_url) as judge:
        async with worker_at(gateway, redis_url, page_size=50) as worker:
            await settle(worker, judge)
            await happen(gateway, worker)
            await settle(worker, judge)
        assert judge.verdict().counts == {}


@pytest.mark.parametrize("total", TOTALS)
async def test_a_total_that_begins_to_lie(redis_url: str, total: str) -> None:
    """It was right during the first read."""
    with Gateway(orders=250) as gateway, Judge(gateway, redis_url) as judge:
        async with worker_at(gateway, redis_url, page_size=50) as worker:
            await settle(worker, judge)
            gateway.serving.told_total = TOTALS[total]
            await happen(gateway, worker)
            await settle(worker, judge)
        assert judge.verdict().counts == {}


@pytest.mark.parametrize("past_end", ["empty", "no content", "last", "first", 404, 400, 500])
@pytest.mark.parametrize("total", ["totalCount", None])
@pytest.mark.parametrize("count", [250, 20])
async def test_what_is_served_after_the_last_page(
    redis_url: str, past_end: str | int, total: str | None, count: int
) -> None:
    serving = Serving(past_end=past_end, total=total)
    with Gateway(orders=count, serving=serving) as gateway, Judge(gateway, redis_url) as judge:
        async with worker_at(gateway, redis_url, page_size=50) as worker:
            await settle(worker, judge)
            gateway.history.change("orders", gateway.history.ids("orders")[5:8])
            gateway.history.create("orders", 2)
            await settle(worker, judge)
        assert judge.verdict().counts == {}


def nothing(gateway: Gateway) -> None:
    """Serve empty lists."""
    gateway.serving.nothing = True


def other_tenant(gateway: Gateway) -> None:
    """Serve the records of another tenant."""
    gateway.serving.tenant = OTHER


def shard_away(gateway: Gateway) -> None:
    """Serve a part of the records neither in a list nor by their ids."""
    gateway.serving.away = lambda record: record["revision"] % 3 == 0


def few_away(gateway: Gateway) -> None:
    """Serve one of eighty records less, which is no more than is believed to be deleted."""
    gateway.serving.away = lambda record: record["revision"] % 80 == 0


def few_hidden(gateway: Gateway) -> None:
    """Leave some records out of all lists, but serve them by their ids."""
    gateway.serving.hidden = lambda record: record["revision"] % 80 == 0


def no_times(gateway: Gateway) -> None:
    """Serve no times."""
    gateway.history.set_times("orders", null=True)


def truth(gateway: Gateway) -> None:
    """End every lie."""
    gateway.serving.nothing, gateway.serving.tenant = False, "own"
    gateway.serving.away = gateway.serving.hidden = None


@pytest.mark.parametrize("polls", [1, 4])
@pytest.mark.parametrize("lie", [nothing, other_tenant, shard_away, few_away, few_hidden])
async def test_a_lie_for_a_while(redis_url: str, lie: Lie, polls: int) -> None:
    """No record is published as deleted, and none of another tenant at all."""
    with Gateway(orders=250) as gateway, Judge(gateway, redis_url) as judge:
        gateway.history.create("orders", 250, tenant=OTHER, at=time.time() - 5000)
        async with worker_at(gateway, redis_url, page_size=50, confirm_deletes=300.0) as worker:
            await settle(worker, judge)
            lie(gateway)
            gateway.history.change("orders", gateway.history.ids("orders")[10:15])
            for number in range(polls):
                await worker.poll(complete=number % 2 == 1)
                worker.clock.offset += 30
            truth(gateway)
            await settle(worker, judge)
        assert judge.verdict().counts == {}


async def test_times_that_are_all_null(redis_url: str) -> None:
    """What changes meanwhile is found by its content, and so are the times when they are back."""
    with Gateway(orders=250) as gateway, Judge(gateway, redis_url) as judge:
        async with worker_at(gateway, redis_url, page_size=50) as worker:
            await settle(worker, judge)
            no_times(gateway)
            await settle(worker, judge)
            gateway.history.change("orders", gateway.history.ids("orders")[10:15], silently=True)
            await settle(worker, judge)
            gateway.history.set_times("orders", null=False)
            await settle(worker, judge)
        assert judge.verdict().counts == {}


@pytest.mark.parametrize("number", [0, 2, 4])
async def test_a_page_that_always_fails(redis_url: str, number: int) -> None:
    """What lies after it is published; of the page itself what smaller pages show."""
    with Gateway(orders=500) as gateway, Judge(gateway, redis_url) as judge:
        bad = gateway.history.ids("orders")[number * 100 + 50]
        fault = gateway.faults.add("status", code=500, holds=bad)
        async with worker_at(gateway, redis_url, page_size=100) as worker:
            for _ in range(6):
                run = await worker.poll(complete=True)
                assert run.outcome is not Outcome.COMPLETE
                worker.clock.offset += 60
            missed = [each.partition(":")[0] for each in judge.missed()]
            assert missed in ([bad], []), f"{len(missed)} missed"
            fault.end()
            await settle(worker, judge)
        assert judge.verdict().counts == {}


Switch: TypeAlias = dict[str, object]
SWITCHES: dict[str, tuple[Switch, Switch]] = {
    "another wrapper": ({}, {"wrapper": "data"}),
    "a wrapper in a wrapper": ({}, {"wrapper": "data.orders"}),
    "a bare list": ({}, {"wrapper": "", "total": None}),
    "pages from 0": ({"first_page": 1}, {"first_page": 0}),
    "pages from 1": ({"first_page": 0}, {"first_page": 1}),
    "pages from 0, without a total": ({"first_page": 1, "total": None}, {"first_page": 0}),
    "pages from 1, without a total": ({"first_page": 0, "total": None}, {"first_page": 1}),
    "no total any more": ({}, {"total": None}),
    "a total": ({"total": None}, {"total": "totalCount"}),
    "smaller pages": ({}, {"largest_page": 20}),
    "another order": ({}, {"order": "-modified"}),
    "a refusal after the end": ({}, {"past_end": 404}),
    "the first page after the end": ({}, {"past_end": "first"}),
    "no filter any more": ({"filters": True}, {"filters": False}),
    "no sort any more": ({"sorts": True}, {"sorts": False}),
}


@pytest.mark.parametrize("switch", SWITCHES)
async def test_a_deployment_switches_the_contract(redis_url: str, switch: str) -> None:
    """Changes, new orders and deletions of afterwards are published."""
    before, after = SWITCHES[switch]
    serving = Serving()
    for name, value in before.items():
        setattr(serving, name, value)
    with Gateway(orders=250, serving=serving) as gateway, Judge(gateway, redis_url) as judge:
        async with worker_at(gateway, redis_url, page_size=50) as worker:
            await settle(worker, judge)
            for name, value in after.items():
                setattr(serving, name, value)
            history = gateway.history
            history.change("orders", [*history.ids("orders")[:3], *history.ids("orders")[-3:]])
            history.create("orders", 12)
            await worker.poll()
            history.delete("orders", history.ids("orders")[40:42])
            await settle(worker, judge)
        assert judge.verdict().counts == {}


@pytest.mark.parametrize("which", ["filters", "sorts", "both"])
async def test_filters_and_sorts_that_become_stale(redis_url: str, which: str) -> None:
    """A full scan finds what the stale ones hide; without it, the next complete read is an hour away at most."""
    serving = Serving(filters=which != "sorts", sorts=which != "filters")
    with Gateway(orders=250, serving=serving) as gateway, Judge(gateway, redis_url) as judge:
        history = gateway.history
        for each in history.ids("orders")[:40]:
            history.change("orders", [each])
        async with worker_at(gateway, redis_url, page_size=50) as worker:
            await settle(worker, judge)
            serving.stale_since = time.time()
            history.change("orders", history.ids("orders")[100:110])
            history.create("orders", 5)
            for _ in range(3):
                await worker.poll()
                worker.clock.offset += 60
            worker.clock.offset += 3600
            await settle(worker, judge)
        assert judge.verdict().counts == {}


@pytest.mark.parametrize(("count", "deleted"), [(30, 2), (100, 3), (400, 9), (400, 18)])
async def test_deletions_that_can_be_proven_are_published(redis_url: str, count: int, deleted: int) -> None:
    """Each of them answers 404."""
    with Gateway(orders=count) as gateway, Judge(gateway, redis_url) as judge:
        async with worker_at(gateway, redis_url, page_size=50) as worker:
            await settle(worker, judge)
            gateway.history.delete("orders", gateway.history.ids("orders")[5 : 5 + deleted])
            await settle(worker, judge)
        assert judge.verdict().counts == {}


@pytest.mark.parametrize("order", ["created", "-created", "modified", "-modified"])
@pytest.mark.parametrize("total", ["totalCount", None])
async def test_the_list_moves_while_it_is_read(redis_url: str, order: str, total: str | None) -> None:
    """While it is read orders come, change and go, the oldest first; for three full scans."""
    serving = Serving(total=total)
    serving.order = order  # type: ignore[assignment]
    with Gateway(orders=300, serving=serving) as gateway, Judge(gateway, redis_url) as judge:
        history = gateway.history
        chance = Random(3)

        def move(_kind: str, page: int) -> None:
            ids = history.ids("orders")
            if page % 3 == 1:  # more than twenty deletions wait for a person
                history.delete("orders", ids[:1])
            history.create("orders")
            history.change("orders", [chance.choice(ids[1:])])

        async with worker_at(gateway, redis_url, page_size=50) as worker:
            await settle(worker, judge)
            serving.before_page = move
            for _ in range(3):
                await worker.poll(complete=True)
                worker.clock.offset += 60
            serving.before_page = None
            await settle(worker, judge)
        assert judge.verdict().counts == {}


async def test_the_first_read_of_a_list_that_moves(redis_url: str) -> None:
    """Orders of before the first read are `snapshot`, however they move."""
    with (
        Gateway(orders=600, serving=Serving(order="-modified")) as gateway,
        Judge(gateway, redis_url) as judge,
    ):
        chance = Random(3)

        def move(_kind: str, _page: int) -> None:
            gateway.history.change("orders", [chance.choice(gateway.history.ids("orders"))])

        gateway.serving.before_page = move
        async with worker_at(gateway, redis_url, page_size=20) as worker:
            for _ in range(3):
                await worker.poll()
                worker.clock.offset += 60
            gateway.serving.before_page = None
            await settle(worker, judge)
        assert judge.verdict().counts == {}


async def test_an_audit_log_of_several_pages(redis_url: str) -> None:
    """Every entry is published once."""
    serving = Serving(audit_page=50)
    with (
        Gateway(orders=6, serving=serving) as gateway,
        Judge(gateway, redis_url, "orders", "order_audit") as judge,
    ):
        for each in gateway.history.ids("orders"):
            gateway.history.add_entries("orders", each, 119)
        intervals = {"orders": 1.0, "order_audit": 1.0}
        async with worker_at(gateway, redis_url, page_size=50, intervals=intervals) as worker:
            for _ in range(4):
                await worker.poll()
                await worker.poll(AUDIT_LOGS["order_audit"])
            gateway.history.change("orders", gateway.history.ids("orders"))
            for _ in range(4):
                await worker.poll()
                await worker.poll(AUDIT_LOGS["order_audit"])
        assert judge.verdict().counts == {}
