"""Workers with other settings, at the same time and one after the other: nothing missed, nothing twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.campaign import settle, worker_at
from tests.support.gateway import Gateway, Judge
from tests.support.programs import Program
from worker.config.sections import EventSettings, InterestSettings, PrivacySettings

pytestmark = pytest.mark.anyio

MASKED = PrivacySettings(fields={"orders": {"externalId": "mask", "items": "drop"}})
PAIRS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "page sizes": ({"page_size": 20}, {"page_size": 50}),
    "privacy policies": ({}, {"privacy": MASKED}),
    "compressed events": ({}, {"events": EventSettings(compress_above=1)}),
    "old values": ({}, {"events": EventSettings(previous=True, traceparent=True)}),
    "attempts and concurrency": ({"max_concurrency": 1}, {"max_concurrency": 4, "attempts": 5}),
}
"""Settings of two workers, which lead to the same events; a policy leaves fields out."""
WITHOUT = ("externalId", "items")


def work(gateway: Gateway) -> None:
    """Let orders change, come and go."""
    history = gateway.history
    ids = history.ids("orders")
    history.change("orders", ids[5::40])
    history.create("orders", 2)
    history.delete("orders", ids[-4:-3])


@pytest.mark.parametrize("settings", PAIRS)
async def test_at_the_same_time(redis_url: str, settings: str) -> None:
    """Two workers take turns; neither undoes or repeats what the other one has published."""
    one, other = PAIRS[settings]
    with Gateway(orders=230) as gateway, Judge(gateway, redis_url, without=WITHOUT) as judge:
        async with (
            worker_at(gateway, redis_url, **{"page_size": 50, **one}) as first,
            worker_at(gateway, redis_url, **{"page_size": 50, **other}) as second,
        ):
            await settle(first, judge)
            for _ in range(3):
                for worker in (first, second):
                    work(gateway)
                    await worker.poll(complete=True)
                    await worker.poll()
            await settle(second, judge)
            await settle(first, judge)
        assert judge.verdict().counts == {}


@pytest.mark.parametrize("settings", PAIRS)
async def test_one_life_after_the_other(redis_url: str, settings: str) -> None:
    """Changed between two lives, and back again, while orders change."""
    with Gateway(orders=230) as gateway, Judge(gateway, redis_url, without=WITHOUT) as judge:
        for life in range(4):
            async with worker_at(
                gateway, redis_url, **{"page_size": 50, **PAIRS[settings][life % 2]}
            ) as worker:
                await worker.poll(complete=True)
                work(gateway)
                await settle(worker, judge)
            work(gateway)
        async with worker_at(gateway, redis_url, page_size=50) as worker:
            await settle(worker, judge)
        assert judge.verdict().counts == {}


async def test_a_field_that_is_no_longer_ignored(redis_url: str) -> None:
    """What changed in it before is published with the first full scan of the next life."""
    with Gateway(orders=60) as gateway, Judge(gateway, redis_url) as judge:
        ignoring = {"ignore_fields": {"orders": ("status", "revision", "updatedAt")}}
        async with worker_at(gateway, redis_url, page_size=50, **ignoring) as worker:
            await settle(worker, judge)
            gateway.history.change("orders", gateway.history.ids("orders")[3:6])
            await worker.poll(complete=True)
            assert len(judge.missed()) == 3
        async with worker_at(gateway, redis_url, page_size=50) as worker:
            await settle(worker, judge)
        assert judge.verdict().counts == {}


async def test_a_scope_that_is_widened(redis_url: str) -> None:
    """Orders that come into the scope are published, and those within are not published again."""
    narrow = InterestSettings(statuses={"orders": ("Open",)})
    with Gateway(orders=60) as gateway, Judge(gateway, redis_url) as judge:
        gateway.history.change("orders", gateway.history.ids("orders")[3:6])
        async with worker_at(gateway, redis_url, page_size=50, interest=narrow) as worker:
            await worker.poll(complete=True)
            assert len(judge.missed()) == 3
        async with worker_at(gateway, redis_url, page_size=50) as worker:
            await settle(worker, judge)
        assert judge.verdict().twice == []


async def test_two_daemons(redis_url: str, tmp_path: Path) -> None:
    """With other intervals, page sizes and privacy policies; then one of them is replaced by a third."""
    with Gateway(orders=230) as gateway, Judge(gateway, redis_url, without=WITHOUT) as judge:
        one = gateway.settings(redis_url, tmp_path, api__page_size="20")
        other = gateway.settings(
            redis_url,
            tmp_path,
            api__page_size="50",
            poll__intervals='{"orders": 2}',
            privacy__fields='{"orders": {"externalId": "mask", "items": "drop"}}',
        )
        with Program(tmp_path, **one):
            with Program(tmp_path, **other):
                for _ in range(3):
                    await judge.recovered()
                    work(gateway)
            with Program(tmp_path, **{**other, "api__page_size": "100"}):
                for _ in range(2):
                    work(gateway)
                    await judge.recovered()
        assert judge.verdict().counts == {}
