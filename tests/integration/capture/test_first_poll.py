"""The main job in its smallest form: what is in OrderMesh stands in Redis, once."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.worker import BenchMaker

pytestmark = pytest.mark.anyio


async def test_first_read_publishes_each_order_once_as_snapshot(bench: BenchMaker) -> None:
    """The first complete read publishes every order once, as served, byte for byte."""
    async with bench(page_size=7) as b:
        run = await b.poll()
        events = await b.events()
        truth = b.sandbox.store.truth()
        assert run.outcome == "complete"
        assert Counter(event.action for event in events) == {"snapshot": 50}
        assert {event.subject: event.data for event in events} == truth


async def test_nothing_changed_publishes_nothing(bench: BenchMaker) -> None:
    """A read in which nothing changed writes no event and costs no decoding."""
    async with bench() as b:
        await b.poll()
        before = await b.events()
        run = await b.poll()
        assert (run.published, run.unchanged) == (0, 50)
        assert await b.events() == before


async def test_changes_and_new_orders(bench: BenchMaker) -> None:
    """After the first read a new order is `created`, a changed one `updated` with the names of its fields."""
    async with bench() as b:
        await b.poll()
        (changed,) = b.sandbox.store.change(1, status="Fulfilled")
        (created,) = b.sandbox.store.create(1)
        await b.poll()
        first, second = (await b.events())[-2:]
        assert {first.subject: first.action, second.subject: second.action} == {
            changed: "updated",
            created: "created",
        }
        update = first if first.subject == changed else second
        assert {"status", "updatedAt"} <= set(update.changed)
        assert update.version == 2
