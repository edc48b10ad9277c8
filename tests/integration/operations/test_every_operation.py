"""All 79 operations, one after the other: the typed method against the sandbox, and what it leaves behind."""

from __future__ import annotations

import pytest

from tests.integration.operations import (
    scenario_catalog,
    scenario_notes,
    scenario_orders,
    scenario_shipments,
    scenario_users,
)
from tests.integration.operations.scenario import WALKS, Ledger, Walk, new_order
from tests.support.scripted_server import at_work
from tests.support.worker import account_for
from worker.clock import SystemClock, parse_time
from worker.ordermesh.contract.operations import OPERATIONS
from worker.ordermesh.contract.profile import ContractProfile, Listing
from worker.sandbox import SandboxServer, ServedContract

pytestmark = pytest.mark.anyio

MODULES = (scenario_catalog, scenario_notes, scenario_orders, scenario_shipments, scenario_users)
"""Importing them has filled the table of walks."""


def test_no_operation_is_left_out() -> None:
    """Every operation of the table has its walk, and there is no walk of anything else."""
    assert len(OPERATIONS) == 79
    assert set(WALKS) == set(OPERATIONS)
    assert {walker.__module__ for walker in WALKS.values()} == {module.__name__ for module in MODULES}


@pytest.mark.parametrize("key", OPERATIONS)
async def test_operation(
    key: str, redis_url: str, sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is called by its typed method, answers well, and, if it writes, stands in the audit logs of all it touched."""
    async with at_work(account_for(sandbox), redis_url, SystemClock()) as desk:
        ledger = Ledger(desk.client, sandbox)
        monkeypatch.setattr(desk.client, "call", ledger.call)
        walk = Walk(key, desk.client, sandbox)
        await WALKS[key](walk)
    assert ledger.unnoted == set()
    assert bool(ledger.effects[key]) == OPERATIONS[key].writes
    assert any(sandbox.requests.count(key, status) for status in (200, 201, 202, 204))
    assert sandbox.requests.count(status=500) == sandbox.requests.count(status=501) == 0
    assert sandbox.requests.count("unknown") == 0
    assert bool(walk.entries_checked) == OPERATIONS[key].writes


@pytest.mark.parametrize("wrapper", [None, "hits"], ids=["bare", "another wrapper"])
async def test_other_layouts(redis_url: str, wrapper: str | None) -> None:
    """Lists and audit logs are read whatever they are called and wherever pages begin, once the profile says where."""
    contract = ServedContract(wrapper_key=wrapper, page_base=0, total=None, paging=False, audit_shape="bare")
    with SandboxServer(orders=20, contract=contract) as sandbox:
        async with at_work(account_for(sandbox), redis_url, SystemClock()) as desk:
            client = desk.client
            client.profile = ContractProfile(listing=Listing(first_page=0))
            first, second = [await client.orders.search(page=number, page_size=8) for number in (0, 1)]
            assert [bytes(record) for record in (*first.records, *second.records)] == list(
                sandbox.store.truth().values()
            )[:16]
            assert first.total is None
            order = next(each for each in first.values if each["shipmentIds"])
            shipments = (await client.shipments.for_order(order["id"])).values
            assert [each["id"] for each in shipments] == order["shipmentIds"]
            made = (await client.orders.create(new_order("layout-1"))).fields
            await client.orders.update(made["id"], {"externalId": "changed"})
            entries = (await client.orders.audit_logs(made["id"])).entries
            assert len({entry.id for entry in entries}) == len(entries) == 2
            assert all(parse_time(entry.time) for entry in entries)
