"""The shipments of all orders, kept in step with them.

A shipment from before the start is made when it is asked for first, from its order as it stands then or as it
stood before it changed: a long history costs no time at the start. From then on what happens to an order happens
to its shipments, and every change leaves entries in the audit logs of the shipment, of its packages, and of the
messages that go out to the facility.
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
"""Where a shipment has its times."""

_METHODS = ("Standard", "Expedited", "Overnight")
_UNZONED = len("2022-04-03T12:00:00")

MESSAGE = "OutboundShipmentUpdate"
"""Action of the entry that a message to the facility leaves."""

Work: TypeAlias = Callable[[Record, str], None]
"""Changes a shipment in place; the time is given as the shipment service writes it."""


class _Announced(msgspec.Struct, rename="camel"):
    shipment_ids: list[str]
    shipment_created_dates: list[str]
    updated_at: str | None


_read_announced = msgspec.json.Decoder(_Announced).decode


class ShipmentRecords(Records):
    """All shipments with their packages inside; every method may be called from any thread and is atomic.

    Args:
        store: The orders; those that are there have their shipments announced.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store.lock, times=TIMES, make=self._derived)
        self._store = store
        self._rng = Random(len(store))
        self._order_of: dict[str, str] = {}
        self.announce(self._history())
        store.watch(self._follow)

    def of_order(self, order: Order) -> list[Record]:
        """Copies of the shipments of an order, in the order in which it has them."""
        result = map(self.get, _shipment_ids(order))
        return [shipment for shipment in result if shipment is not None]

    def begin(self, shipment: Record, actor: str, at: int) -> None:
        """Adds a shipment that its order names already or is about to."""
        with self._lock:
            self.add(shipment)
            self._order_of[shipment["id"]] = shipment["orderId"]
            self._note(None, shipment, actor=actor, action=CREATED, at=at)

    def edit(self, shipment_id: str, work: Work, *, actor: str, action: str = UPDATED) -> Record:
        """Changes one shipment and gives it as it is then; its packages are changed inside it.

        Args:
            shipment_id: Its id.
            work: Changes a copy; `lastModifiedDate` is set before. What it raises leaves the shipment as it was.
            actor: Who audit logs say has done it.
            action: What they say was done.

        Raises:
            Refusal: 404, there is no such shipment.
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
        """Removes a shipment with its packages; audit logs stay.

        Raises:
            Refusal: 404, there is no such shipment.
        """
        with self._lock:
            before = self.get(shipment_id)
            if before is None:
                raise refusal(404, "The shipment was not found.", "shipmentId", shipment_id)
            self.remove(shipment_id)
            self._order_of.pop(shipment_id, None)
            self._note(before, None, actor=actor, action=DELETED, at=self._store.stamp())

    def change(self, which: int | str = 1, /) -> list[str]:
        """Lets something happen to shipments alone, and gives their ids.

        Args:
            which: An id, or how many to pick at random, fewer when there are fewer. What is at its facility has its
                shipping method changed, what was sent another tracking link.

        Raises:
            Refusal: 404, there is no shipment with this id.
        """
        with self._lock:
            chosen = [which] if isinstance(which, str) else self._rng.sample(self._ids, min(which, len(self)))
            for shipment_id in chosen:
                self.edit(shipment_id, self._happen, actor=SYSTEM)
            return chosen

    def _happen(self, shipment: Record, _now: str) -> None:
        for package in shipment["packages"]:
            package["carrierLink"] = f"https://tracking.example.com/{self._rng.getrandbits(40):010x}"
        if not shipment["packages"]:
            others = [item for item in _METHODS if item != shipment["shippingMethod"]]
            shipment["shippingMethod"] = self._rng.choice(others)

    def fulfil(self, order_id: str, *, actor: str) -> None:
        """Moves an order on when all of its items have been sent; does nothing before."""
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
        """Takes an order back into production when something of it turns out not to be sent."""
        with self._lock:
            order = self._store.read(order_id)
            if order is not None and order.get("status") == "Fulfilled":
                self._move_order(order_id, "In Production", actor)

    # Inside

    def _history(self) -> Iterator[tuple[str, str, str]]:
        for order_id, raw in self._store.truth().items():
            order = _read_announced(raw)
            for shipment_id, created in zip(order.shipment_ids, order.shipment_created_dates, strict=True):
                self._order_of[shipment_id] = order_id
                # In a history the last change of an order is that of its only shipment.
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
        """Lets happen to the shipments what has happened to their order."""
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
                self._carry(shipment_id, before, after)

    def _carry(self, shipment_id: str, before: Order, after: Order) -> None:
        """Carries statuses of an order and its items over to one of its shipments, as far as they changed."""
        shipment = self.get(shipment_id)
        if shipment is None or shipment["shipmentStatus"] not in LIVE:
            return
        moved = after.get("status") if after.get("status") != before.get("status") else None
        if moved == "Fulfilled" and shipment["orderItemIDs"]:
            self.edit(shipment_id, ship, actor=SYSTEM, action="Shipped")
            return
        statuses = {item["id"]: item_status(item.get("status")) for item in items_of(after)}
        lines = shipment["orderItems"]
        changed = [line for line in lines if statuses.get(line["id"], line["status"]) != line["status"]]
        gone = moved == "Cancelled"
        if not changed and not gone:
            return

        def work(record: Record, _now: str) -> None:
            for line in record["orderItems"]:
                line["status"] = statuses.get(line["id"], line["status"])
            cancelled = item_status("Cancelled")
            if gone or (
                record["orderItems"] and all(each["status"] == cancelled for each in record["orderItems"])
            ):
                record["shipmentStatus"] = ShipmentStatus.CANCELLED

        self.edit(shipment_id, work, actor=SYSTEM, action="Cancelled" if gone else UPDATED)

    def _note(self, before: Record | None, after: Record | None, *, actor: str, action: str, at: int) -> None:
        """Leaves entries for the shipment, for packages that changed, and for the message that goes out."""
        audit = self._store.audit
        shipment_id: str = (after or before or {})["id"]
        audit.note("shipment", shipment_id, action, actor=actor, before=before, after=after, at=at)
        olds, news = _packages(before), _packages(after)
        for package_id in {**olds, **news}:
            old, new = olds.get(package_id), news.get(package_id)
            if old != new:
                what = CREATED if old is None else DELETED if new is None else UPDATED
                audit.note("package", package_id, what, actor=actor, before=old, after=new, at=at)
        told = [
            {} if item is None else {"shipmentStatus": item["shipmentStatus"]} for item in (before, after)
        ]
        audit.note("message", shipment_id, MESSAGE, actor=SYSTEM, before=told[0], after=told[1], at=at)


def _shipment_ids(order: Order | None) -> list[str]:
    ids: Any = (order or {}).get("shipmentIds")
    return [item for item in ids if isinstance(item, str)] if isinstance(ids, list) else []


def _packages(shipment: Record | None) -> dict[str, Record]:
    return {item["id"]: item for item in (shipment or {}).get("packages", [])}
