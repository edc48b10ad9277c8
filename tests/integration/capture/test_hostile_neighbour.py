"""A gateway that answers so as to take the memory and the time of the worker, beside an account with a good gateway.

`python -m tests.bench.hostile` measures a daemon beside more of such gateways.
"""

from __future__ import annotations

import asyncio

import msgspec
import psutil
import pytest

from tests.support.hostile_gateway import ATTACKS, HostileGateway
from tests.support.worker import account_for, know_contract
from worker.app import open_services
from worker.capture.registry import ORDERS
from worker.clock import SystemClock
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio

BAD_POLLS = 2
"""Polls of the bad account; as many of the good one end meanwhile, at least."""
MOST_MEMORY = 300 << 20
"""Bytes of memory that are in use at most, beside those before: a few bodies of 16 MiB, and what they are made of."""


@pytest.mark.parametrize("attack", ["1,000,000 records", "15 MB of keys", "tiny chunks"])
async def test_the_polls_of_another_account_go_on(
    redis_url: str, sandbox: SandboxServer, attack: str
) -> None:
    """While answers of the bad gateway are refused, the good account is polled several times; memory is bounded."""
    before, most = psutil.Process().memory_info().rss, 0
    with HostileGateway(ATTACKS[attack]) as hostile:
        good, bad = account_for(sandbox, "good"), account_for(sandbox, "bad", attempts=1)
        bad = msgspec.structs.replace(bad, api=bad.api.model_copy(update={"base_url": hostile.url}))
        async with open_services([good, bad], redis_url, SystemClock()) as place:
            await know_contract(place)
            await place.accounts["good"].poller.poll(ORDERS)
            outcomes = set[str]()

            async def attacked() -> None:
                for _ in range(BAD_POLLS):
                    run = await place.accounts["bad"].poller.poll(ORDERS)
                    outcomes.add(run.error_code)

            task, polls = asyncio.ensure_future(attacked()), 0
            while not task.done():
                polls += (await place.accounts["good"].poller.poll(ORDERS)).outcome == "complete"
                most = max(most, psutil.Process().memory_info().rss)
            await task
    assert outcomes == {"response_too_large"}
    assert polls >= BAD_POLLS
    assert most - before < MOST_MEMORY
