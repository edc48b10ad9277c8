"""What is published: of which merchants, in which statuses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.worker import Bench, BenchMaker
from worker.capture.registry import SHIPMENTS
from worker.config.sections import InterestSettings
from worker.sandbox import SandboxServer, ServedContract

pytestmark = pytest.mark.anyio

ACTIVE = InterestSettings(statuses={"orders": ("Open", "In Production")})


async def told(b: Bench) -> set[str]:
    """Who was published."""
    return {event.subject for event in await b.events()}


def having(sandbox: SandboxServer, field: str, *values: str) -> set[str]:
    """Orders of the sandbox with one of these values."""
    return {each for each, raw in sandbox.store.truth().items() if json.loads(raw)[field] in values}


@pytest.mark.parametrize(
    "contract", [{"choices_honoured": False}, {"since_honoured": True}, {"sort_honoured": True}]
)
async def test_orders_in_some_statuses(bench: BenchMaker, contract: dict[str, Any]) -> None:
    """Others are known and not published; one that comes in is, and one that goes out is once more."""
    with SandboxServer(orders=80, contract=ServedContract(**contract)) as sandbox:
        inside, outside = (
            having(sandbox, "status", "Open", "In Production"),
            having(sandbox, "status", "Fulfilled"),
        )
        assert inside
        assert outside
        async with bench(sandbox, probe=True, page_size=20, interest=ACTIVE) as b:
            run = await b.poll()
            assert (run.outcome, run.snapshot) == ("complete", len(inside))
            assert (await told(b), (await b.cursor()).tracked) == (inside, 80)
            one = min(outside)
            sandbox.store.change(one, externalId="seen by nobody")
            run = await b.poll()
            assert (run.published, run.outside) == (0, 1)
            sandbox.store.change(one, status="Open")
            assert (await b.poll()).created == 1
            for status, published in (("Fulfilled", 1), ("Fulfilled", 0), ("Open", 1)):
                sandbox.store.change(one, status=status, externalId=f"{status} {published}")
                assert (await b.poll()).published == published
            mine = [event for event in await b.events() if event.subject == one]
            assert [event.version for event in mine] == [1, 2, 3]
            assert mine[-1].data == sandbox.store.truth()[one]


async def test_orders_of_a_merchant(bench: BenchMaker) -> None:
    """Of other merchants nothing is published, whatever happens to their orders."""
    with SandboxServer(orders=60) as sandbox:
        merchant = json.loads(next(iter(sandbox.store.truth().values())))["merchantId"]
        mine = having(sandbox, "merchantId", merchant)
        assert 0 < len(mine) < 60
        async with bench(sandbox, interest=InterestSettings(merchants=(merchant,))) as b:
            await b.poll()
            sandbox.store.change(sandbox.store.ids())
            await b.poll()
            assert await told(b) == mine


async def test_another_interest(bench: BenchMaker) -> None:
    """When the settings change, what is of interest now is published with the next read, and nothing else again."""
    with SandboxServer(orders=60) as sandbox:
        async with bench(sandbox, interest=ACTIVE) as b:
            await b.poll()
            before = await told(b)
        async with bench(sandbox) as b:
            run = await b.poll()
            assert (run.created, run.updated) == (60 - len(before), 0)
            assert await told(b) == set(sandbox.store.ids())
            assert (await b.poll()).published == 0


async def test_an_order_outside_that_is_deleted(bench: BenchMaker) -> None:
    """It goes without an event: nobody was told that there was one."""
    with SandboxServer(orders=60) as sandbox:
        async with bench(sandbox, probe=True, interest=ACTIVE) as b:
            await b.poll()
            published = len(await b.events())
            sandbox.store.delete(min(having(sandbox, "status", "Fulfilled")))
            b.account.poller.context.clock = b.services.clock
            for _ in range(4):
                await b.poll()
                for key in await b.redis.keys("*:due:orders"):
                    for member in await b.redis.zrange(key, 0, -1):
                        await b.redis.zadd(key, {member: 1})  # the pause before it is confirmed is over
            assert (await b.cursor()).tracked == 59
            assert len(await b.events()) == published


async def test_statuses_that_are_numbers(bench: BenchMaker) -> None:
    """Those of shipments are, and are set as such or as text."""
    with SandboxServer(orders=40) as sandbox:
        records = [json.loads(raw) for raw in sandbox.world.truth("shipments").values()]
        wanted = records[0]["shipmentStatus"]
        expected = sum(each["shipmentStatus"] == wanted for each in records)
        async with bench(
            sandbox, probe=True, interest=InterestSettings(statuses={"shipments": (wanted,)})
        ) as b:
            run = await b.account.poller.poll(SHIPMENTS)
            assert (run.snapshot, run.outside) == (expected, len(records) - expected)
