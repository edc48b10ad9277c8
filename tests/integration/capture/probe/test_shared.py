"""One account probes a gateway for all: the others take over what is true of it, and keep what is of themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import structlog

from tests.support.worker import account_for
from worker.app import open_services
from worker.capture.registry import ORDERS
from worker.capture.state.lease import acquire
from worker.clock import SystemClock
from worker.ordermesh.contract.findings import Capabilities, fingerprint
from worker.redis.connections import answer
from worker.sandbox import SandboxServer, ServedContract
from worker.services import AccountServices, Services

pytestmark = pytest.mark.anyio

CONTRACT = ServedContract(since_honoured=True)
NAMES = ("one", "two", "three")


@asynccontextmanager
async def accounts(sandbox: SandboxServer, url: str) -> AsyncIterator[tuple[Services, list[AccountServices]]]:
    """Three accounts of one gateway, which nobody has probed."""
    async with open_services([account_for(sandbox, name) for name in NAMES], url, SystemClock()) as services:
        yield services, list(services.accounts.values())


async def known(account: AccountServices) -> Capabilities:
    return (await account.capabilities.load())["orders"]


async def test_accounts_that_start_together_probe_once(redis_url: str) -> None:
    """One of them probes, the others wait for it: each reads its list with the first request."""
    with SandboxServer(orders=50, contract=CONTRACT) as sandbox:
        async with accounts(sandbox, redis_url) as (_, all_three):
            with structlog.testing.capture_logs() as lines:
                runs = await asyncio.gather(*(each.poller.poll(ORDERS) for each in all_three))
            assert [run.outcome for run in runs] == ["complete"] * 3
            assert len([line for line in lines if line["event"] == "contract_probed"]) == 1
            assert sorted(run.usage.requests for run in runs) == [1, 1, 1]
            assert sorted([(await known(each)).origin for each in all_three]) == [
                "gateway",
                "gateway",
                "probe",
            ]
            assert {(await known(each)).since for each in all_three} == {"updatedFrom"}


async def test_what_an_account_contradicts_is_probed_again_by_another(redis_url: str) -> None:
    """A filter that lies to one account is withdrawn for it; another one looks whether that is so for all."""
    with SandboxServer(orders=50, contract=CONTRACT) as sandbox:
        async with accounts(sandbox, redis_url) as (_, (one, two, three)):
            await one.capabilities.ensure(ORDERS)
            await two.capabilities.ensure(ORDERS)
            await two.capabilities.withdrawals.disable_filter(ORDERS, "it lies")
            with structlog.testing.capture_logs() as lines:
                await two.capabilities.ensure(ORDERS)
                assert not [line for line in lines if line["event"] == "contract_probed"]
                await three.capabilities.ensure(ORDERS)
                await one.capabilities.ensure(ORDERS)
                await two.capabilities.ensure(ORDERS)
            probed = [line["account"] for line in lines if line["event"] == "contract_probed"]
            assert probed == ["three"]
            assert [(await known(each)).since for each in (one, two, three)] == [
                "updatedFrom",
                None,
                "updatedFrom",
            ]
            assert (await known(two)).origin == "contradicted"
            # The list of an account has moved: it asks for itself, and publishes nothing that others did not find.
            await two.capabilities.mark_stale(ORDERS)
            assert (await two.capabilities.ensure(ORDERS)).origin == "probe"


async def test_permissions_are_of_an_account(redis_url: str) -> None:
    """Who may not read the list is told so, without a probe, and reads it as soon as it may."""
    with SandboxServer(orders=50, contract=CONTRACT) as sandbox:
        async with accounts(sandbox, redis_url) as (_, (one, two, _three)):
            assert (await one.poller.poll(ORDERS)).outcome == "complete"
            sandbox.auth.permit({"shipment": {"get"}})
            before = sandbox.requests.count("orders.search")
            runs = [await two.poller.poll(ORDERS) for _ in range(2)]
            assert [(run.outcome, run.error_code) for run in runs] == [("failed", "forbidden")] * 2
            assert sandbox.requests.count("orders.search") <= before + 3
            assert ((await known(one)).state, (await known(two)).state) == ("found", "forbidden")
            sandbox.auth.permit({"order": {"get"}})
            assert (await two.poller.poll(ORDERS)).outcome == "complete"


async def test_a_probe_that_showed_nothing_keeps_nobody_waiting(redis_url: str) -> None:
    """The first account has an empty list. The others look for themselves, and the first with records tells all."""
    with SandboxServer(orders=0, contract=CONTRACT) as sandbox:
        async with accounts(sandbox, redis_url) as (services, (one, two, three)):
            assert (await one.capabilities.ensure(ORDERS)).state == "empty"
            sandbox.store.create(30)
            believed = fingerprint(one.capabilities.store.configured)
            key = services.keys.gateway(sandbox.url, believed).lease("orders")
            async with acquire(services.redis, key, resource="x", owner="x", clock=services.clock):
                assert (await two.capabilities.ensure(ORDERS)).origin == "probe"
                assert (await three.capabilities.ensure(ORDERS)).origin == "gateway"
                assert (await one.capabilities.ensure(ORDERS)).origin == "gateway"


async def test_a_shared_key_of_another_type_stops_nobody(redis_url: str) -> None:
    """Accounts of one process still share what was found; the value is left alone."""
    with SandboxServer(orders=20, contract=CONTRACT) as sandbox:
        async with accounts(sandbox, redis_url) as (services, (one, two, _)):
            key = services.keys.gateway(sandbox.url, fingerprint(one.capabilities.store.configured)).contract
            await answer(services.redis.set(key, "mine"))
            for each in (one, two):
                assert (await each.poller.poll(ORDERS)).outcome == "complete"
            assert await services.redis.get(key) == b"mine"
