"""Accounts that are idle: their services are dropped, with what they take, and built again when a job comes."""

from __future__ import annotations

import gc
import weakref

import pytest

from tests.support.worker import account_for, know_contract
from worker.app import open_services
from worker.capture.registry import ORDERS
from worker.capture.state.run import Outcome
from worker.clock import SystemClock
from worker.sandbox import SandboxServer
from worker.services import OpenAccounts

pytestmark = pytest.mark.anyio


async def test_the_account_that_was_used_least_recently_is_dropped_and_built_again(
    redis_url: str, sandbox: SandboxServer
) -> None:
    """Nothing keeps its client and its poller in memory, and its next poll goes on with what is in Redis."""
    accounts = [account_for(sandbox, name) for name in ("a", "b", "c")]
    async with open_services(accounts, redis_url, SystemClock(), most_open=2) as services:
        await know_contract(services)
        opened = services.accounts
        assert isinstance(opened, OpenAccounts)
        assert (await opened["a"].poller.poll(ORDERS)).snapshot == 50
        left = [weakref.ref(part) for part in (opened["a"], opened["a"].client, opened["a"].poller)]
        assert (await opened["b"].poller.poll(ORDERS)).outcome is Outcome.COMPLETE
        assert opened["a"] is left[0]()  # used after b, so b is dropped before it
        assert (await opened["c"].poller.poll(ORDERS)).outcome is Outcome.COMPLETE
        gc.collect()
        assert sorted(each.account.name for each in opened.built) == ["a", "c"]
        assert (await opened["b"].poller.poll(ORDERS)).outcome is Outcome.COMPLETE
        gc.collect()
        assert [ref() for ref in left] == [None, None, None]
        run = await opened["a"].poller.poll(ORDERS)
        assert (run.outcome, run.published, run.unchanged) == (Outcome.COMPLETE, 0, 50)
        assert await services.redis.xlen(accounts[0].keys.of("a").stream("orders")) == 50
