"""A forced resync of all records while the list moves: every record that stays is published again."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import msgspec
import pytest

from tests.support.campaign import Worker, settle, worker_at
from tests.support.gateway import Gateway, Judge, Serving
from worker.capture.registry import ORDERS
from worker.capture.resources import Resource
from worker.capture.resync.requests import Resync, ResyncRequest, ResyncState
from worker.redis.connections import answer

pytestmark = pytest.mark.anyio


async def resync(worker: Worker, resource: Resource = ORDERS, **request: Any) -> Resync:
    """Carry out a resync of all orders, slice by slice."""
    resyncs = worker.account.resyncer.resyncs
    wanted = ResyncRequest(resource="orders", all=True, **request)
    name = (await resyncs.create(wanted, worker.clock.now())).id
    for _ in range(200):
        await worker.account.resyncer.slice(resource, name)
        found = await resyncs.get(name)
        assert found is not None
        if found.state is ResyncState.DONE:
            return found
    raise AssertionError("it never ends")


@pytest.mark.parametrize("order", ["created", "modified", "-modified"])
async def test_nothing_is_passed_over(redis_url: str, order: str) -> None:
    """With each page a new order comes and one changes, and with some the oldest one goes."""
    serving = Serving()
    serving.order = order  # type: ignore[assignment]
    with Gateway(orders=1150, serving=serving) as gateway, Judge(gateway, redis_url) as judge:
        history, chance = gateway.history, Random(7)

        def move(_kind: str, _page: int) -> None:
            ids = history.ids("orders")
            if not chance.randrange(8):  # no more than is believed to be deleted
                history.delete("orders", ids[:1])
            history.create("orders")
            history.change("orders", [chance.choice(ids[1:])])

        async with worker_at(gateway, redis_url, page_size=20) as worker:
            await settle(worker, judge)
            before = set(history.ids("orders"))
            judge.take()
            told = len(judge.told["orders"])
            serving.before_page = move
            done = await resync(worker, force=True)
            serving.before_page = None
            judge.take()
            again = Counter(each.subject for each in judge.told["orders"][told:] if each.reason == "resync")
            stayed = before & set(history.ids("orders"))
            assert len(stayed) > 1000
            assert stayed - set(again) == set()
            assert (done.read >= len(stayed), done.passed_over) == (True, 0)
            assert not await answer(worker.place.redis.exists(worker.account.keys.resync_shown(done.id)))
            await settle(worker, judge)
        assert judge.verdict().counts == {}


async def test_a_quiet_list_needs_no_reads_by_id(redis_url: str) -> None:
    """Each record once, and what was deleted since is not asked for twice."""
    with Gateway(orders=100) as gateway, Judge(gateway, redis_url) as judge:
        async with worker_at(gateway, redis_url, page_size=20) as worker:
            await settle(worker, judge)
            done = await resync(worker, force=True)
            assert (done.read, done.published, done.by_id, done.missed) == (100, 100, 0, 0)
            gateway.history.delete("orders", gateway.history.ids("orders")[:2])
            done = await resync(worker, force=True)
            assert (done.published, done.by_id, done.missed) == (98, 0, 2)


async def test_what_cannot_be_read_by_id_is_said(redis_url: str) -> None:
    """Where records have no read by id, the summary says how many no page has shown."""
    with Gateway(orders=100) as gateway, Judge(gateway, redis_url) as judge:
        async with worker_at(gateway, redis_url, page_size=20) as worker:
            await settle(worker, judge)
            hidden = set(gateway.history.ids("orders")[:3])
            gateway.serving.hidden = lambda record: record["id"] in hidden
            done = await resync(worker, msgspec.structs.replace(ORDERS, single=None), force=True)
            assert (done.published, done.passed_over) == (97, 3)
