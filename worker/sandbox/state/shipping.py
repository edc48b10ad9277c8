"""The shipments of all orders, which change with their orders.

A shipment from before the start is created when it is first read, or when its order is about to change, so that a long
history costs no time at the start. After that, every change of an order changes its shipments too, and every change
adds entries to the audit logs of the shipment, of its packages, and of the messages to the facility.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from worker.sandbox.answers import refusal
from worker.sandbox.data.mutations import OPEN_STATUSES, set_status
from worker.sandbox.data.order_fields import items_of
from worker.sandbox.data.orders import format_ticks
from worker.sandbox.data.record import Record
from worker.sandbox.data.shipment_data import LIVE, ShipmentStatus, derive, item_status, ship
from worker.sandbox.data.times import format_unzoned
from worker.sandbox.state.audit import CREATED, DELETED, UPDATED
from worker.sandbox.state.records import Records
from worker.sandbox.state.store import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.sandbox.data.orders import Order
    from worker.sandbox.state.store import Store

TIMES = ("lastModifiedDate", "createdDate")
"""The fields with the times of the last change and of the creation."""

_METHODS = ("Standard", "Expedited", "Overnight")
_UNZONED = len("2022-04-03T12:00:00")

MESSAGE = "OutboundShipmentUpdate"
"""The action of the audit entry for a message to the facility."""

Work: TypeAlias = Callable[[Record, str], None]
"""Changes a shipment in place; its second argument is the time in the format of the shipment service."""


class _Announced(msgspec.Struct, rename="camel"):
    shipment_ids: list[str]
    shipment_created_dates: list[str]
    updated_at: str | None


_read_announced = msgspec.json.Decoder(_Announced).decode


class ShipmentRecords(Records):
    """All shipments with their packages; every method may be called from any thread and is atomic.

    Args:
        store: The orders. The shipments of existing orders are announced.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store.lock, times=TIMES, make=self._derived)
        self._store = store
        self._rng = Random(len(store))
        self._order_of: dict[str, str] = {}
        self.announce(self._history())
        store.watch(self._follow)

    def of_order(self, order: Order) -> list[Record]:
        """Return copies of the shipments of an order, in the same sequence as in the order."""
        result = map(self.get, _shipment_ids(order))
        return [shipment for shipment in result if shipment is not None]

    def begin(self, shipment: Record, actor: str, at: int) -> None:
        """Add a shipment. Its order contains its id, or will contain it after this change."""
        with self._lock:
            self.add(shipment)
            self._order_of[shipment["id"]] = shipment["orderId"]
            self._note(None, shipment, actor=actor, action=CREATED, at=at)

    def edit(self, shipment_id: str, work: Work, *, actor: str, action: str = UPDATED) -> Record:
        """Change one shipment, or the packages in it, and return it.

        Args:
            shipment_id: The id of the shipment.
            work: Changes a copy in place; `lastModifiedDate` is set before. If it raises an exception, the shipment
                does not change.
            actor: The actor for the audit log.
            action: The action for the audit log.

        Raises:
            Refusal: 404, no shipment has this id.
        """
        with self._lock:
            before, after = self.get(shipment_id), self.get(shipment_id)
            if before is None or after is None:
                raise refusal(404, "The shipment was not found.", "shipmentId", shipment_id)
            at = self._store.stamp()
            now = format_unzoned(at)
            after["lastModifiedDate"] = now
            work(after, now)
            self.put(after)
            self._note(before, after, actor=actor, action=action, at=at)
            return after

    def drop(self, shipment_id: str, *, actor: str) -> None:
        """Remove a shipment with its packages, but keep its audit logs.

        Raises:
            Refusal: 404, no shipment has this id.
        """
        with self._lock:
            before = self.get(shipment_id)
            if before is None:
                raise refusal(404, "The shipment was not found.", "shipmentId", shipment_id)
            self.remove(shipment_id)
            self._order_of.pop(shipment_id, None)
            self._note(before, None, actor=actor, action=DELETED, at=self._store.stamp())

    def change(self, which: int | str = 1, /) -> list[str]:
        """Change shipments without their orders, and return their ids.

        The tracking link changes if the shipment has been sent, otherwise the shipping method.

        Args:
            which: An id, or how many to select at random (fewer if fewer exist).

        Raises:
            Refusal: 404, no shipment has this id.
        """
        with self._lock:
            chosen = [which] if isinstance(which, str) else self._rng.sample(self._ids, min(which, len(self)))
            for shipment_id in chosen:
                self.edit(shipment_id, self._change_one, actor=SYSTEM)
            return chosen

    def _change_one(self, shipment: Record, _now: str) -> None:
        for package in shipment["packages"]:
            package["carrierLink"] = f"https://tracking.example.com/{self._rng.getrandbits(40):010x}"
        if not shipment["packages"]:
            others = [item for item in _METHODS if item != shipment["shippingMethod"]]
            shipment["shippingMethod"] = self._rng.choice(others)

    def fulfil(self, order_id: str, *, actor: str) -> None:
        """Set an order to Fulfilled if all of its items have been sent."""
        with self._lock:
            order = self._store.read(order_id)
            if order is None or order.get("status") not in OPEN_STATUSES:
                return
            sent = {
                item
                for shipment in self.of_order(order)
                if shipment["shipmentStatus"] == ShipmentStatus.SHIPPED
                for item in shipment["orderItemIDs"]
            }
            if all(each["id"] in sent for each in items_of(order) if each["status"] != "Cancelled"):
                self._move_order(order_id, "Fulfilled", actor)

    def unfulfil(self, order_id: str, *, actor: str) -> None:
        """Set a fulfilled order back to In Production, because some of its items have not been sent."""
        with self._lock:
            order = self._store.read(order_id)
            if order is not None and order.get("status") == "Fulfilled":
                self._move_order(order_id, "In Production", actor)

    # Internal

    def _history(self) -> Iterator[tuple[str, str, str]]:
        for order_id, raw in self._store.truth().items():
            order = _read_announced(raw)
            for shipment_id, created in zip(order.shipment_ids, order.shipment_created_dates, strict=True):
                self._order_of[shipment_id] = order_id
                # An order of the history has one shipment, which changed last when the order did.
                yield shipment_id, (order.updated_at or created)[:_UNZONED], created[:_UNZONED]

    def _move_order(self, order_id: str, status: str, actor: str) -> None:
        def work(order: Order, at: int) -> None:
            set_status(order, status, format_ticks(at))

        self._store.edit(order_id, work, actor=actor)

    def _derived(self, shipment_id: str) -> Record:
        order_id = self._order_of[shipment_id]
        return self._from(self._store.read(order_id) or {"id": order_id}, shipment_id)

    def _from(self, order: Order, shipment_id: str) -> Record:
        ids = _shipment_ids(order)
        return derive(order, ids.index(shipment_id) if shipment_id in ids else 0, shipment_id)

    def _follow(self, order_id: str, before: Order | None, after: Order | None, at: int, actor: str) -> None:
        """Change the shipments of an order that has changed."""
        for shipment_id in _shipment_ids(before):
            if before is not None and self.is_announced(shipment_id):
                self.put(self._from(before, shipment_id))
        if after is None:
            for shipment_id in _shipment_ids(before):
                if shipment_id in self:
                    self.drop(shipment_id, actor=actor)
            return
        for shipment_id in _shipment_ids(after):
            if shipment_id not in self:
                self.begin(self._from(after, shipment_id) | {"orderId": order_id}, actor, at)
            elif before is not None:
                self._copy_statuses(shipment_id, before, after)

    def _copy_statuses(self, shipment_id: str, before: Order, after: Order) -> None:
        """Copy changed statuses of an order and its items to one of its shipments."""
        shipment = self.get(shipment_id)
        if shipment is None or shipment["shipmentStatus"] not in LIVE:
            return
        new_status = after.get("status") if after.get("status") != before.get("status") else None
        if new_status == "Fulfilled" and shipment["orderItemIDs"]:
            self.edit(shipment_id, ship, actor=SYSTEM, action="Shipped")
            return
        statuses = {item["id"]: item_status(item.get("status")) for item in items_of(after)}
        lines = shipment["orderItems"]
        changed = [line for line in lines if statuses.get(line["id"], line["status"]) != line["status"]]
        is_cancelled = new_status == "Cancelled"
        if not changed and not is_cancelled:
            return

        def work(record: Record, _now: str) -> None:
            for line in record["orderItems"]:
                line["status"] = statuses.get(line["id"], line["status"])
            cancelled = item_status("Cancelled")
            if is_cancelled or (
                record["orderItems"] and all(each["status"] == cancelled for each in record["orderItems"])
            ):
                record["shipmentStatus"] = ShipmentStatus.CANCELLED

        self.edit(shipment_id, work, actor=SYSTEM, action="Cancelled" if is_cancelled else UPDATED)

    def _note(self, before: Record | None, after: Record | None, *, actor: str, action: str, at: int) -> None:
        """Add audit entries for the shipment, for packages that changed, and for the message to the facility."""
        audit = self._store.audit
        shipment_id: str = (after or before or {})["id"]
        audit.note("shipment", shipment_id, action, actor=actor, before=before, after=after, at=at)
        old_packages, new_packages = _packages(before), _packages(after)
        for package_id in {**old_packages, **new_packages}:
            old, new = old_packages.get(package_id), new_packages.get(package_id)
            if old != new:
                package_action = CREATED if old is None else DELETED if new is None else UPDATED
                audit.note("package", package_id, package_action, actor=actor, before=old, after=new, at=at)
        old_message, new_message = (
            {} if item is None else {"shipmentStatus": item["shipmentStatus"]} for item in (before, after)
        )
        audit.note(
            "message", shipment_id, MESSAGE, actor=SYSTEM, before=old_message, after=new_message, at=at
        )


def _shipment_ids(order: Order | None) -> list[str]:
    ids: Any = (order or {}).get("shipmentIds")
    return [item for item in ids if isinstance(item, str)] if isinstance(ids, list) else []


def _packages(shipment: Record | None) -> dict[str, Record]:
    return {item["id"]: item for item in (shipment or {}).get("packages", [])}
