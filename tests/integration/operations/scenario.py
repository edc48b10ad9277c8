"""What the scenarios of the operations have in common: a client at the sandbox, and a look at the audit logs."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from worker.clock import parse_time
from worker.errors import NotFound
from worker.ordermesh.bodies import (
    AddressModel,
    CreateOrderItemImageModel,
    CreateOrderItemModel,
    CreateOrderModel,
)
from worker.ordermesh.client import OrderMeshClient
from worker.ordermesh.contract.operations import OPERATIONS
from worker.ordermesh.http.reply import AuditEntry, AuditReply, Reply
from worker.sandbox import CLIENT_ID, SandboxServer
from worker.sandbox.state.audit import Kind

Record = dict[str, Any]
SKUS = ("MUG-11OZ-WHT", "POSTER-18X24-MAT", "TOTE-CTN-NAT")
"""Variants that the sandbox's catalog has."""


KINDS: dict[str, Kind] = {
    "orders": "order",
    "order_items": "orderItem",
    "shipments": "shipment",
    "notes": "note",
    "categories": "category",
    "products": "product",
    "variants": "variant",
    "merchant_catalogs": "merchantCatalog",
}
"""What the audit logs call each kind of record that the sandbox has."""


class Ledger:
    """Looks at the whole sandbox before and after each write of a client.

    `unnoted`: what was made, changed or removed without an entry in its audit log, as (operation, kind, id).
    `effects`: how many records each operation has made, changed or removed.
    """

    def __init__(self, client: OrderMeshClient, sandbox: SandboxServer) -> None:
        self._call, self._world = client.call, sandbox.world
        self.unnoted: set[tuple[str, str, str]] = set()
        self.effects: Counter[str] = Counter()

    async def call(self, key: str, **how: Any) -> Reply:
        """Send an operation, as the client does."""
        if not OPERATIONS[key].writes:
            return await self._call(key, **how)
        before = self._records()
        noted = {name: self._entries(*name) for name in before}
        try:
            return await self._call(key, **how)
        finally:
            after = self._records()
            for name in before.keys() | after.keys():
                if before.get(name) != after.get(name):
                    self.effects[key] += 1
                    if self._entries(*name) == noted.get(name, []):
                        self.unnoted.add((key, *name))

    def _records(self) -> dict[tuple[Kind, str], bytes]:
        found: dict[tuple[Kind, str], bytes] = {}
        for resource, kind in KINDS.items():
            for record_id, record in self._world.truth(resource).items():
                found[kind, record_id] = record
                if kind == "shipment":
                    for package in msgspec.json.decode(record)["packages"]:
                        found["package", package["id"]] = msgspec.json.encode(package)
        return found

    def _entries(self, kind: Kind, record_id: str) -> list[str]:
        return [entry["id"] for entry in self._world.audit.entries(kind, record_id)]


@dataclass
class Walk:
    """One operation at work: the client, the sandbox that it talks to, and how many audit entries were checked."""

    key: str
    client: OrderMeshClient
    sandbox: SandboxServer
    entries_checked: int = 0
    made: int = field(default=0)

    async def entries(self, kind: str, *ids: str) -> tuple[AuditEntry, ...]:
        """The audit log of a record, by the typed method; nothing where the record is not known yet."""
        client = self.client
        methods: dict[str, Callable[..., Awaitable[AuditReply]]] = {
            "order": client.orders.audit_logs,
            "orderItem": client.order_items.audit_logs,
            "shipment": client.shipments.audit_logs,
            "package": client.packages.audit_logs,
            "message": client.shipments.message_audit_logs,
            "note": client.notes.audit_logs,
            "category": client.categories.audit_logs,
            "product": client.products.audit_logs,
            "variant": client.variants.audit_logs,
            "merchantCatalog": client.merchant_catalogs.audit_logs,
        }
        try:
            return (await methods[kind](*ids)).entries
        except NotFound:
            return ()

    @asynccontextmanager
    async def leaves(
        self, kind: str, *ids: str, action: str = "Updated", **changes: Any
    ) -> AsyncIterator[None]:
        """What is done inside leaves one more entry in this audit log, with this action and these new values.

        A name of `changes` is that of a top-level field.
        """
        before = await self.entries(kind, *ids)
        yield
        after = await self.entries(kind, *ids)
        assert after[: len(before)] == before
        assert len(after) == len(before) + 1, (
            f"{self.key} leaves {len(after) - len(before)} entries on {kind}"
        )
        self._check(after[-1], ids[-1], action, changes)

    @asynccontextmanager
    async def leaves_message(self, shipment_id: str) -> AsyncIterator[None]:
        """What is done inside sends one message to the facility, which stands in the log of messages."""
        before = await self.entries("message", shipment_id)
        yield
        after = await self.entries("message", shipment_id)
        assert after[: len(before)] == before
        assert [b"OutboundShipmentUpdate" in entry.raw for entry in after[len(before) :]] == [True]

    async def was_made(self, kind: str, *ids: str) -> None:
        """The audit log of a record begins with its creation, by this client."""
        entries = await self.entries(kind, *ids)
        assert entries, f"{self.key} leaves no entry on {kind}"
        self._check(entries[0], ids[-1], "Created", {})

    def _check(self, entry: AuditEntry, record_id: str, action: str, changes: Record) -> None:
        told = msgspec.json.decode(entry.raw)
        assert (told["resourceId"], told["action"], told["user"]) == (record_id, action, CLIENT_ID)
        assert entry.id == told["id"]
        assert parse_time(entry.time) is not None
        new = {each["property"]: each["newValue"] for each in told["changes"]}
        assert {name: new.get(name) for name in changes} == changes
        self.entries_checked += 1

    async def order(self, *, items: int = 2, **fields: Any) -> Record:
        """A new order, as it is read back."""
        self.made += 1
        body = new_order(f"walk-{self.made}", items=items)
        for name, value in fields.items():
            setattr(body, name, value)
        reply = await self.client.orders.create(body)
        return (await self.client.orders.get(reply.fields["id"])).fields

    async def some_order(self) -> Record:
        """An order that was there before."""
        found: Record = (await self.client.orders.search(page_size=1)).values[0]
        return found


Walker = Callable[[Walk], Awaitable[None]]
WALKS: dict[str, Walker] = {}


def walks(key: str) -> Callable[[Walker], Walker]:
    """The decorated function walks this operation."""

    def register(walker: Walker) -> Walker:
        assert key not in WALKS, f"{key} is walked twice"
        WALKS[key] = walker
        return walker

    return register


def new_order(safe_id: str, *, items: int = 2) -> CreateOrderModel:
    """A body for an order that the sandbox takes."""
    return CreateOrderModel(
        safe_id=safe_id,
        external_id=f"SHOP-{safe_id}",
        shipping_address=AddressModel(
            first_name="Ada",
            last_name="Example",
            line1="1 Maple Street",
            city="Springfield",
            state="IL",
            zip="62701",
            country_code="US",
            email="ada@example.com",
        ),
        currency_code="USD",
        items=[
            CreateOrderItemModel(
                sku=sku,
                quantity=2,
                images=[CreateOrderItemImageModel(url="https://cdn.example.com/1.png", area="Front")],
            )
            for sku in SKUS[:items]
        ],
    )


async def check_log(walk: Walk, log: AuditReply) -> None:
    """The log of a record that was just made has one entry, its creation; an unknown record has no log."""
    (entry,) = log.entries
    assert b'"Created"' in entry.raw
    assert entry.id is not None
    group = getattr(walk.client, walk.key.split(".")[0])
    with pytest.raises(NotFound):
        await group.audit_logs("nobody")
