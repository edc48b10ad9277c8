"""The shipment service: creating shipments and changing their status.

A shipment is assigned to a facility, unassigned, rejected by the vendor, sent or cancelled; a step that its status
does not allow is a conflict (409). The order always lists its shipments, their facilities and their dates in three
parallel lists, in creation order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from worker.sandbox.answers import Answer, json_answer, refusal
from worker.sandbox.data.mutations import produce
from worker.sandbox.data.orders import FACILITIES, format_ticks, make_uuid
from worker.sandbox.data.shipment_data import (
    LIVE,
    VENDORS,
    ShipmentStatus,
    build,
    move,
    ship,
)
from worker.sandbox.data.times import format_unzoned
from worker.sandbox.services import bulk
from worker.sandbox.services.naming import listed_items
from worker.sandbox.services.order_models import changes
from worker.sandbox.services.shipments import order_of, shipment_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.sandbox.calls import Call, Handler, Sandbox
    from worker.sandbox.data.orders import Order
    from worker.sandbox.data.record import Record
    from worker.sandbox.state.shipping import Work

CHANGEABLE = frozenset(
    {
        "shippingMethod",
        "shipmentStatus",
        "isPollingStopped",
        "selectedShippingMapping",
        "merchantPaymentId",
    }
)
"""Fields of a shipment that a client may change."""

_ASSIGNED = frozenset({ShipmentStatus.ASSIGNED})
_WAITING = frozenset({ShipmentStatus.UNASSIGNED, ShipmentStatus.REJECTED})
_AT_FACILITY = frozenset({ShipmentStatus.ASSIGNED, ShipmentStatus.REJECTED})
_STEPS = {
    ShipmentStatus.SHIPPED: _ASSIGNED,
    ShipmentStatus.REJECTED: _ASSIGNED,
    ShipmentStatus.CANCELLED: LIVE,
}
"""Statuses that an update may set, each with the statuses from which it may."""


def create(sandbox: Sandbox, call: Call) -> Answer:
    """Create shipment for order, vendor, and order items.

    Without a list of items it gets all that are in no other shipment. An open order goes into production.
    """
    body = call.fields()
    facility = _facility(body.get("facilityId"), call.params["vendorId"])
    listed = listed_items(body)
    shipment_id = make_uuid(sandbox.store.factory.rng)
    with sandbox.world.lock:
        order_id = order_of(sandbox, call)["id"]

        def work(order: Order, at: int) -> None:
            if order["status"] not in ("Open", "In Production"):
                sentence = f"An order that is {order['status'].lower()} cannot get a shipment."
                raise refusal(409, sentence, "status", order["status"])
            items = _free_items(sandbox, order, listed)
            if order["status"] == "Open":
                produce(order, format_ticks(at))
            shipment = build(order, shipment_id, facility, items, format_unzoned(at))
            shipment["shippingMethod"] = body.get("shippingMethod") or shipment["shippingMethod"]
            sandbox.world.shipments.begin(shipment, call.actor, at)
            _add_to_order(order, shipment, at)

        sandbox.store.edit(order_id, work, actor=call.actor, action="ShipmentCreated")
        return json_answer(sandbox.world.shipments.get(shipment_id), 201)


def update(sandbox: Sandbox, call: Call) -> Answer:
    """Update details of a specific shipment: its status, if that step is allowed, and its other fields."""
    body = call.fields()

    def work(shipment: Record, now: str) -> None:
        _must_be(shipment, LIVE | {ShipmentStatus.SHIPPED}, "changed")
        changed = changes(body, shipment, CHANGEABLE, "ShipmentDTO")
        status = changed.pop("shipmentStatus", shipment["shipmentStatus"])
        shipment |= changed
        if status != shipment["shipmentStatus"]:
            _must_be(shipment, _STEPS.get(status, frozenset()), f"moved to status {status}")
            if status == ShipmentStatus.SHIPPED:
                ship(shipment, now)
            shipment["shipmentStatus"] = status
            shipment["isRejectedByVendor"] = status == ShipmentStatus.REJECTED

    return _edited(sandbox, call, work, "Updated")


def assign(sandbox: Sandbox, call: Call) -> Answer:
    """Assign Shipment: an unassigned or rejected one, to the given facility or to its last one.

    A shipment without items gets the given items, or all free items of its order.
    """
    body = call.fields()
    requested = body.get("facilityId"), body.get("vendorId")
    facility = _facility(*requested) if any(requested) else None
    listed = listed_items(body)

    def work(shipment: Record, now: str) -> None:
        _must_be(shipment, _WAITING, "assigned")
        if facility is not None:
            move(shipment, facility)
        if not shipment["orderItemIDs"]:
            order = sandbox.store.read(shipment["orderId"]) or {}
            items = _free_items(sandbox, order, listed)
            rebuilt = build(order, shipment["id"], shipment["facilityId"], items, now)
            shipment |= {name: rebuilt[name] for name in ("orderItemIDs", "orderItems")}
        shipment |= {"shipmentStatus": ShipmentStatus.ASSIGNED, "isRejectedByVendor": False}

    return _edited(sandbox, call, work, "Assigned")


def unassign(sandbox: Sandbox, call: Call) -> Answer:
    """Unassign items to shipment: the given items, or all; without items the shipment becomes unassigned."""
    listed = listed_items(call.fields(), empty_is_all=False)

    def work(shipment: Record, _now: str) -> None:
        _must_be(shipment, _AT_FACILITY, "unassigned")
        items = listed or dict.fromkeys(shipment["orderItemIDs"])
        packed = {item for package in shipment["packages"] for item in package["orderItemIDs"]}
        for item_id in items:
            if item_id in packed:
                raise refusal(409, "The item is packed already.", "orderItems", item_id)
        _remove_items(shipment, items)
        if not shipment["orderItemIDs"]:
            shipment["shipmentStatus"] = ShipmentStatus.UNASSIGNED

    return _edited(sandbox, call, work, "Unassigned")


def reject(sandbox: Sandbox, call: Call) -> Answer:
    """Rejects a shipment: the vendor does not make it until it is assigned, rerouted or submitted again."""

    def work(shipment: Record, _now: str) -> None:
        _must_be(shipment, _ASSIGNED, "rejected")
        shipment |= {"shipmentStatus": ShipmentStatus.REJECTED, "isRejectedByVendor": True}

    return _edited(sandbox, call, work, "Rejected")


def resubmit(sandbox: Sandbox, call: Call) -> Answer:
    """Shipment resubmission to assigned facility, also after the facility has rejected it."""

    def work(shipment: Record, _now: str) -> None:
        _must_be(shipment, _AT_FACILITY, "submitted again")
        shipment |= {
            "shipmentStatus": ShipmentStatus.ASSIGNED,
            "isRejectedByVendor": False,
            "isPollingStopped": False,
        }

    return _edited(sandbox, call, work, "Resubmitted")


def retry_polling(sandbox: Sandbox, call: Call) -> Answer:
    """Retry outbound polling for a shipment: its name suggests that it ends `isPollingStopped`."""

    def work(shipment: Record, _now: str) -> None:
        _must_be(shipment, LIVE | {ShipmentStatus.SHIPPED}, "polled")
        shipment["isPollingStopped"] = False

    return _edited(sandbox, call, work, "PollingRetried")


def cancel(sandbox: Sandbox, call: Call) -> Answer:
    """Cancel shipment; its items stay in the order and may be put into another shipment."""

    def work(shipment: Record, _now: str) -> None:
        _must_be(shipment, LIVE, "cancelled")
        shipment["shipmentStatus"] = ShipmentStatus.CANCELLED

    return _edited(sandbox, call, work, "Cancelled")


def delete(sandbox: Sandbox, call: Call) -> Answer:
    """Delete shipment with packages, also from the lists in its order."""
    with sandbox.world.lock:
        shipment = shipment_of(sandbox, call)
        sandbox.world.shipments.drop(shipment["id"], actor=call.actor)
        order = sandbox.store.read(shipment["orderId"])
        if order is not None and shipment["id"] in order["shipmentIds"]:

            def work(order: Order, _at: int) -> None:
                index = order["shipmentIds"].index(shipment["id"])
                for name in ("shipmentIds", "facilityNames", "shipmentCreatedDates"):
                    del order[name][index : index + 1]

            sandbox.store.edit(order["id"], work, actor=call.actor, action="ShipmentDeleted")
    return Answer(204, b"")


def reroute(sandbox: Sandbox, call: Call) -> Answer:
    """Reroute shipment to another facility; if only some of its items are listed, these become a new shipment."""
    return json_answer(_reroute(sandbox, call, call.fields()))


def reroute_many(sandbox: Sandbox, call: Call) -> Answer:
    """Bulk reroute shipments."""
    return bulk.answer(call, lambda body: str(_reroute(sandbox, call, body)["id"]))


def _reroute(sandbox: Sandbox, call: Call, body: dict[str, Any]) -> Record:
    shipments, shipment_id = sandbox.world.shipments, body["shipmentId"]
    facility = _facility(body["facilityId"], None)
    listed = listed_items({"orderItems": body.get("orderItems")})
    with sandbox.world.lock:
        before = shipments.get(shipment_id)
        if before is None:
            raise refusal(404, "The shipment was not found.", "shipmentId", shipment_id)
        _must_be(before, _AT_FACILITY, "rerouted")
        if before["packages"]:
            raise refusal(409, "The shipment has packages already.", "shipmentId", shipment_id)
        if before["facilityId"] == facility:
            raise refusal(409, "The shipment is at this facility.", "facilityId", facility)
        if listed and _is_part(before, listed):
            return _split(sandbox, call, before, facility, listed)

        def work(shipment: Record, _now: str) -> None:
            move(shipment, facility)
            shipment |= {
                "shipmentStatus": ShipmentStatus.ASSIGNED,
                "isRejectedByVendor": False,
                "isPollingStopped": False,
            }

        after = shipments.edit(shipment_id, work, actor=call.actor, action="Rerouted")
        _update_facility(sandbox, call, after, "ShipmentRerouted")
        return after


def _split(
    sandbox: Sandbox, call: Call, before: Record, facility: str, items: dict[str, int | None]
) -> Record:
    """Move items of a shipment into a new one at another facility, and return the new shipment."""
    shipments, new_id = sandbox.world.shipments, make_uuid(sandbox.store.factory.rng)
    quantities = {line["id"]: line["quantity"] for line in before["orderItems"]}
    moved = {item: quantities[item] if quantity is None else quantity for item, quantity in items.items()}
    shipments.edit(
        before["id"],
        lambda shipment, _now: _remove_items(shipment, items),
        actor=call.actor,
        action="Rerouted",
    )

    def work(order: Order, at: int) -> None:
        shipment = build(order, new_id, facility, moved, format_unzoned(at))
        shipments.begin(shipment, call.actor, at)
        _add_to_order(order, shipment, at)

    sandbox.store.edit(before["orderId"], work, actor=call.actor, action="ShipmentRerouted")
    return shipments.get(new_id) or {}


def _is_part(shipment: Record, items: dict[str, int | None]) -> bool:
    """True if these are some of a shipment's items or quantities, but not all.

    Raises:
        Refusal: 400, the shipment does not have that many of an item.
    """
    rest = {line["id"]: line["quantity"] for line in shipment["orderItems"]}
    for item_id, quantity in items.items():
        if rest.get(item_id, 0) < (quantity or 1):
            raise refusal(400, "The shipment does not have that many of this item.", "orderItems", item_id)
        rest[item_id] -= rest[item_id] if quantity is None else quantity
    return any(rest.values())


def _remove_items(shipment: Record, items: Iterable[str] | dict[str, int | None]) -> None:
    """Remove items from a shipment, or the given quantities of them."""
    quantities = dict(items) if isinstance(items, dict) else dict.fromkeys(items)
    for item_id in quantities:
        if item_id not in shipment["orderItemIDs"]:
            raise refusal(400, "The shipment has no such item.", "orderItems", item_id)
    for line in shipment["orderItems"]:
        if line["id"] in quantities:
            quantity = quantities[line["id"]]
            line["quantity"] -= line["quantity"] if quantity is None else min(quantity, line["quantity"])
    shipment["orderItems"] = [line for line in shipment["orderItems"] if line["quantity"]]
    shipment["orderItemIDs"] = [line["id"] for line in shipment["orderItems"]]


def _edited(sandbox: Sandbox, call: Call, work: Work, action: str) -> Answer:
    """Change the shipment in the path and return it; its order is fulfilled if all items are sent."""
    with sandbox.world.lock:
        shipments = sandbox.world.shipments
        after = shipments.edit(call.params["shipmentId"], work, actor=call.actor, action=action)
        _update_facility(sandbox, call, after, f"Shipment{action}")
        shipments.fulfil(after["orderId"], actor=call.actor)
        return json_answer(after)


def _update_facility(sandbox: Sandbox, call: Call, shipment: Record, action: str) -> None:
    """Set the facility of the shipment in its order, if it has changed."""
    order = sandbox.store.read(shipment["orderId"])
    if order is None or shipment["id"] not in order["shipmentIds"]:
        return
    index = order["shipmentIds"].index(shipment["id"])
    if order["facilityNames"][index : index + 1] == [shipment["facilityName"]]:
        return

    def work(order: Order, _at: int) -> None:
        order["facilityNames"][index : index + 1] = [shipment["facilityName"]]

    sandbox.store.edit(order["id"], work, actor=call.actor, action=action)


def _must_be(shipment: Record, allowed: frozenset[ShipmentStatus], done: str) -> None:
    status = shipment["shipmentStatus"]
    if status not in allowed:
        sentence = f"A shipment in status {status} cannot be {done}."
        raise refusal(409, sentence, "shipmentStatus", status)


def _facility(facility_id: object, vendor_id: object) -> str:
    """Return the given facility, or the first one of the vendor.

    Raises:
        Refusal: 400, the facility does not exist, or belongs to another vendor; 404, the vendor does not exist.
    """
    if vendor_id is not None and vendor_id not in {item for item, _ in VENDORS.values()}:
        raise refusal(404, "The vendor was not found.", "vendorId", str(vendor_id))
    if facility_id is None:
        return next(each for each, (vendor, _) in VENDORS.items() if vendor == vendor_id)
    if not isinstance(facility_id, str) or facility_id not in VENDORS:
        known = ", ".join(each for each, _ in FACILITIES)
        raise refusal(400, f"'facilityId' must be one of {known}.", "facilityId", str(facility_id))
    if vendor_id is not None and VENDORS[facility_id][0] != vendor_id:
        raise refusal(400, "The facility belongs to another vendor.", "facilityId", facility_id)
    return facility_id


def _free_items(sandbox: Sandbox, order: Order, listed: dict[str, int | None]) -> dict[str, int | None]:
    """Return the given items, or all items that are not cancelled and not in a shipment.

    Raises:
        Refusal: 400, the order has no such item; 409, an item is in a shipment or cancelled, or no item is free.
    """
    in_shipments = {
        item
        for shipment in sandbox.world.shipments.of_order(order)
        if shipment["shipmentStatus"] != ShipmentStatus.CANCELLED
        for item in shipment["orderItemIDs"]
    }
    statuses = {each["id"]: each["status"] for each in order.get("items", [])}
    for item_id in listed:
        if item_id not in statuses:
            raise refusal(400, "The order has no such item.", "orderItemIDs", item_id)
        if item_id in in_shipments or statuses[item_id] == "Cancelled":
            raise refusal(409, "The item is in a shipment or cancelled already.", "orderItemIDs", item_id)
    free = [item for item, status in statuses.items() if status != "Cancelled" and item not in in_shipments]
    if not free:
        raise refusal(409, "Every item of the order is in a shipment or cancelled already.", "orderItemIDs")
    return listed or dict.fromkeys(free)


def _add_to_order(order: Order, shipment: Record, at: int) -> None:
    order["shipmentIds"].append(shipment["id"])
    order["facilityNames"].append(shipment["facilityName"])
    order["shipmentCreatedDates"].append(format_ticks(at))


HANDLERS: dict[str, Handler] = {
    "shipments.create": create,
    "shipments.update": update,
    "shipments.assign": assign,
    "shipments.unassign": unassign,
    "shipments.reject": reject,
    "shipments.resubmit": resubmit,
    "shipments.retry_polling": retry_polling,
    "shipments.cancel": cancel,
    "shipments.delete": delete,
    "shipments.reroute": reroute,
    "shipments.reroute_many": reroute_many,
}
