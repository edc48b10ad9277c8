"""The shipment service: packages, which live inside their shipments.

A shipment whose items are all packed, each package with a tracking number, is sent; when all items of an order are
sent, it is fulfilled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from worker.ordermesh.contract.operations import OPERATIONS
from worker.sandbox.answers import Answer, Refusal, json_answer, refusal
from worker.sandbox.data.orders import make_uuid
from worker.sandbox.data.shipment_data import ShipmentStatus, new_package, ship, take_back
from worker.sandbox.data.times import unzoned
from worker.sandbox.openapi.validation import check_body
from worker.sandbox.services.naming import named_items
from worker.sandbox.services.order_models import changes
from worker.sandbox.services.shipments import shipment_of

if TYPE_CHECKING:
    from worker.sandbox.calls import Call, Handler, Sandbox
    from worker.sandbox.data.record import Record
    from worker.sandbox.state.shipping import Work

CHANGEABLE = frozenset(
    {
        "carrierName",
        "carrierMethodName",
        "shippedDate",
        "fulfilledDate",
        "carrierTrackingNumber",
        "carrierLink",
        "carrierAccount",
    }
)
"""Fields of a package that a client may change; its items are changed with `orderItemIDs`."""

_DATES = ("shippedDate", "fulfilledDate")


def create(sandbox: Sandbox, call: Call) -> Answer:
    """Create packages for a specific shipment: one, or several under `packages`.

    A package that names no items takes all that are not packed yet.
    """
    bodies = _bodies(call)
    ids = [make_uuid(sandbox.store.factory.rng) for _ in bodies]

    def work(shipment: Record, now: str) -> None:
        if shipment["shipmentStatus"] != ShipmentStatus.ASSIGNED:
            sentence = f"A shipment in status {shipment['shipmentStatus']} cannot be packed."
            raise refusal(409, sentence, "shipmentStatus", shipment["shipmentStatus"])
        for package_id, body in zip(ids, bodies, strict=True):
            items = _items(shipment, named_items(body), but=None)
            package = new_package(shipment, package_id, body | _dates(body), items)
            _date(package, now)
            shipment["packages"].append(package)
        _send(shipment, now)

    after = _edit(sandbox, call, work, "PackagesCreated")
    made = [item for item in after["packages"] if item["id"] in ids]
    return json_answer({"packages": made}, 201)


def update(sandbox: Sandbox, call: Call) -> Answer:
    """Update a specific shipment package: what is known of its way, and until it is sent also its items."""
    body, package_id = call.fields(), call.params["packageId"]
    named = named_items(body)
    sent = {name: value for name, value in body.items() if name not in ("orderItemIDs", "packageOrderItems")}

    def work(shipment: Record, now: str) -> None:
        package = _package(shipment, package_id)
        if shipment["shipmentStatus"] == ShipmentStatus.CANCELLED:
            raise refusal(409, "The shipment is cancelled.", "shipmentStatus", shipment["shipmentStatus"])
        if named and list(named) != package["orderItemIDs"]:
            if shipment["shipmentStatus"] == ShipmentStatus.SHIPPED:
                raise refusal(409, "The package has been sent.", "orderItemIDs")
            fresh = new_package(shipment, package_id, {}, _items(shipment, named, but=package_id))
            package |= {name: fresh[name] for name in ("orderItemIDs", "packageOrderItems")}
        package |= changes(sent | _dates(sent), package, CHANGEABLE, "PackageDTO")
        _date(package, now)
        _send(shipment, now)

    after = _edit(sandbox, call, work, "PackageUpdated")
    return json_answer(_package(after, package_id))


def delete(sandbox: Sandbox, call: Call) -> Answer:
    """Delete a specific shipment package: a shipment that was sent with it goes back to its facility."""
    package_id = call.params["packageId"]

    def work(shipment: Record, _now: str) -> None:
        shipment["packages"].remove(_package(shipment, package_id))
        if shipment["shipmentStatus"] == ShipmentStatus.SHIPPED:
            take_back(shipment)

    with sandbox.world.lock:
        before = shipment_of(sandbox, call)
        after = _edit(sandbox, call, work, "PackageDeleted")
        if before["shipmentStatus"] != after["shipmentStatus"]:
            sandbox.world.shipments.unfulfil(after["orderId"], actor=call.actor)
    return Answer(204, b"")


def _bodies(call: Call) -> list[dict[str, Any]]:
    """The packages of a body, each checked against the schema of one."""
    body = call.fields()
    listed = body.get("packages")
    if listed is None:
        return [body]
    if not isinstance(listed, list) or not listed or not all(isinstance(each, dict) for each in listed):
        raise refusal(400, "'packages' must be a list of packages.", "packages")
    for item in listed:
        wrong = check_body(OPERATIONS[call.key], msgspec.json.encode(item))
        if wrong is not None:
            raise Refusal(wrong)
    return listed


def _items(shipment: Record, named: dict[str, int | None], *, but: str | None) -> dict[str, int | None]:
    """The items to pack: those named, or all that are in no package but this one."""
    packed = {
        item for package in shipment["packages"] if package["id"] != but for item in package["orderItemIDs"]
    }
    quantities = {line["id"]: line["quantity"] for line in shipment["orderItems"]}
    for item_id, quantity in named.items():
        if item_id not in quantities:
            raise refusal(400, "The shipment has no such item.", "orderItemIDs", item_id)
        if item_id in packed:
            raise refusal(409, "The item is packed already.", "orderItemIDs", item_id)
        if quantity is not None and quantity > quantities[item_id]:
            raise refusal(400, "The shipment has not so many of this item.", "packageOrderItems", quantity)
    free = [item for item in quantities if item not in packed]
    if not free:
        raise refusal(409, "Every item of the shipment is packed already.", "orderItemIDs")
    return named or dict.fromkeys(free)


def _dates(body: dict[str, Any]) -> dict[str, str | None]:
    """The dates of a body as the shipment service writes them."""
    dates: dict[str, str | None] = {}
    for name in _DATES:
        if body.get(name) is not None:
            dates[name] = unzoned(body[name])
            if dates[name] is None:
                raise refusal(400, f"'{name}' must be a date and time.", name, str(body[name]))
    return dates


def _date(package: Record, now: str) -> None:
    """A package with a tracking number has been handed over, now if nobody says when."""
    if package["carrierTrackingNumber"]:
        package["shippedDate"] = package["shippedDate"] or now


def _send(shipment: Record, now: str) -> None:
    """Sends the shipment when everything is packed and can be tracked."""
    packed = {item for package in shipment["packages"] for item in package["orderItemIDs"]}
    if packed >= set(shipment["orderItemIDs"]) and all(
        package["carrierTrackingNumber"] for package in shipment["packages"]
    ):
        ship(shipment, now)


def _package(shipment: Record, package_id: str) -> Record:
    package: Record | None = next((item for item in shipment["packages"] if item["id"] == package_id), None)
    if package is None:
        raise refusal(404, "The package was not found.", "packageId", package_id)
    return package


def _edit(sandbox: Sandbox, call: Call, work: Work, action: str) -> Record:
    shipments = sandbox.world.shipments
    with shipments.lock:
        after = shipments.edit(call.params["shipmentId"], work, actor=call.actor, action=action)
        shipments.fulfil(after["orderId"], actor=call.actor)
        return after


HANDLERS: dict[str, Handler] = {
    "packages.create": create,
    "packages.update": update,
    "packages.delete": delete,
}
