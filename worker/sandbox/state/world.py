"""All records of the sandbox: orders, shipments, notes, the catalog, and their audit logs."""

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
"""Kinds of records of the sandbox, with the names of the worker's resources."""


class World:
    """The records of all services. They share the lock of the orders.

    Args:
        store: The orders, whose lock, clock and audit logs all records use.

    Attributes:
        orders: The orders.
        shipments: Shipments with their packages; most are created when they are first read.
        notes: Notes.
        categories: Product categories.
        products: Products.
        variants: Product variants.
        merchant_catalogs: Merchant catalogs with their variants.
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
        """The lock of the sandbox. A handler holds the lock while its change is incomplete; the lock is reentrant."""
        return self.orders.lock

    @property
    def audit(self) -> AuditLogs:
        """The audit logs."""
        return self.orders.audit

    def stamp(self) -> int:
        """Return the current time in ticks of 100 ns, later than every time returned before."""
        return self.orders.stamp()

    def sources(self) -> dict[str, Source]:
        """Return all records by kind, in the order of `KINDS`."""
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
        """Return every record of one of the `KINDS` by id, in creation order, as a list would serve it now."""
        with self.lock:
            source = self.sources()[kind]
            ids = source.ids()
            return dict(zip(ids, source.rows(ids), strict=True))
