"""A worker that has published an order of a customer with all that belongs to it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.erasing import POLLED, SECRET, Case
from tests.support.reconciling import SOON
from tests.support.worker import BenchMaker
from worker.app import announce
from worker.config.sections import EventSettings
from worker.sandbox import SandboxServer


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    """Few orders: each test reads everything several times."""
    with SandboxServer(orders=16) as server:
        yield server


@pytest.fixture
async def case(bench: BenchMaker, redis_url: str, tmp_path: Path) -> AsyncIterator[Case]:
    """An order with a shipment, packages, a note and audit logs; old values are stored."""
    options = {
        "events": EventSettings(previous=True),
        "intervals": dict.fromkeys(POLLED, 1.0),
        "reconcile": SOON,
    }
    async with bench(**options) as b:
        await announce(b.services)
        order = next(
            each for each in map(json.loads, b.sandbox.store.truth().values())
            if each["shipmentIds"] and each["status"] == "In Production"
        )  # fmt: skip
        note = {"text": f"for {SECRET}", "resource": {"id": order["id"], "type": "order"}}
        made = await b.account.client.notes.create(note)
        one = Case(b, redis_url, tmp_path, order["id"], str(made.fields["id"]), order["shipmentIds"][0])
        await one.read_all()
        await b.account.client.orders.hold(order["id"])
        await one.read_all()
        yield one
