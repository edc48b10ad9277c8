"""Everything of the sandbox beside its orders: shipments, notes, the catalog, and the audit logs of all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.sandbox.state.items import ItemSource
from worker.sandbox.state.records import Records
from worker.sandbox.state.shipping import ShipmentRecords

if TYPE_CHECKING:
    import threading

    from worker.sandbox.state.audit import AuditLogs
    from worker.sandbox.state.records import Source
    from worker.sandbox.state.store import Store

KINDS = (
    "orders",
    "order_items",
    "shipments",
    "notes",
    "categories",
    "products",
    "variants",
    "merchant_catalogs",
)
"""Kinds of records that the sandbox has, named as resources of the worker."""


class World:
    """The records of all services, behind the one lock of the orders.

    Args:
        store: The orders; lock, moments and audit logs are theirs.

    Attributes:
        orders: The orders.
        shipments: Shipments with their packages inside; most are made only when they are asked for.
        notes: Notes.
        categories: Product categories.
        products: Products.
        variants: Product variants.
        merchant_catalogs: Merchant catalogs with their variants inside.
    """

    def __init__(self, store: Store) -> None:
        self.orders: Store = store
        self.shipments: ShipmentRecords = ShipmentRecords(store)
        self.notes: Records = Records(store.lock)
        self.categories: Records = Records(store.lock)
        self.products: Records = Records(store.lock)
        self.variants: Records = Records(store.lock)
        self.merchant_catalogs: Records = Records(store.lock)

    @property
    def lock(self) -> threading.RLock:
        """Held by a handler for as long as its work must not be seen half done; may be taken again."""
        return self.orders.lock

    @property
    def audit(self) -> AuditLogs:
        """The audit logs."""
        return self.orders.audit

    def stamp(self) -> int:
        """The present moment in ticks of 100 ns, later than every one given out before."""
        return self.orders.stamp()

    def sources(self) -> dict[str, Source]:
        """All records by kind, in the order of `KINDS`."""
        return {
            "orders": self.orders,
            "order_items": ItemSource(self.orders),
            "shipments": self.shipments,
            "notes": self.notes,
            "categories": self.categories,
            "products": self.products,
            "variants": self.variants,
            "merchant_catalogs": self.merchant_catalogs,
        }

    def truth(self, kind: str) -> dict[str, bytes]:
        """Every record of one of the `KINDS` by its id, in creation order, as it would be served now in a list."""
        with self.lock:
            source = self.sources()[kind]
            ids = source.ids()
            return dict(zip(ids, source.rows(ids), strict=True))
