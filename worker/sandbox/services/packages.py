"""The shipment service: packages, which are parts of their shipments.

A shipment is sent when all of its items are packed and each package has a tracking number. An order is fulfilled when
all of its items are sent.
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
from worker.sandbox.services.naming import listed_items
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
"""Fields of a package that a client may change. Its items are changed with `orderItemIDs`."""

_DATES = ("shippedDate", "fulfilledDate")


def create(sandbox: Sandbox, call: Call) -> Answer:
    """Create packages for a specific shipment: one, or several under `packages`.

    A package without a list of items gets all items that are not packed yet.
    """
    bodies = _bodies(call)
    ids = [make_uuid(sandbox.store.factory.rng) for _ in bodies]

    def work(shipment: Record, now: str) -> None:
        if shipment["shipmentStatus"] != ShipmentStatus.ASSIGNED:
            sentence = f"A shipment in status {shipment['shipmentStatus']} cannot be packed."
            raise refusal(409, sentence, "shipmentStatus", shipment["shipmentStatus"])
        for package_id, body in zip(ids, bodies, strict=True):
            items = _items(shipment, listed_items(body), excluded=None)
            package = new_package(shipment, package_id, body | _dates(body), items)
            _set_shipped_date(package, now)
            shipment["packages"].append(package)
        _ship_if_complete(shipment, now)

    after = _edit(sandbox, call, work, "PackagesCreated")
    created = [item for item in after["packages"] if item["id"] in ids]
    return json_answer({"packages": created}, 201)


def update(sandbox: Sandbox, call: Call) -> Answer:
    """Update a specific shipment package: its tracking, and its items until it is sent."""
    body, package_id = call.fields(), call.params["packageId"]
    listed = listed_items(body)
    fields = {
        name: value for name, value in body.items() if name not in ("orderItemIDs", "packageOrderItems")
    }

    def work(shipment: Record, now: str) -> None:
        package = _package(shipment, package_id)
        if shipment["shipmentStatus"] == ShipmentStatus.CANCELLED:
            raise refusal(409, "The shipment is cancelled.", "shipmentStatus", shipment["shipmentStatus"])
        if listed and list(listed) != package["orderItemIDs"]:
            if shipment["shipmentStatus"] == ShipmentStatus.SHIPPED:
                raise refusal(409, "The package has been sent.", "orderItemIDs")
            rebuilt = new_package(shipment, package_id, {}, _items(shipment, listed, excluded=package_id))
            package |= {name: rebuilt[name] for name in ("orderItemIDs", "packageOrderItems")}
        package |= changes(fields | _dates(fields), package, CHANGEABLE, "PackageDTO")
        _set_shipped_date(package, now)
        _ship_if_complete(shipment, now)

    after = _edit(sandbox, call, work, "PackageUpdated")
    return json_answer(_package(after, package_id))


def delete(sandbox: Sandbox, call: Call) -> Answer:
    """Delete a specific shipment package; if its shipment was sent, the shipment goes back to its facility."""
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
    """Return the packages of a body, each checked against the schema of a package."""
    body = call.fields()
    packages = body.get("packages")
    if packages is None:
        return [body]
    if not isinstance(packages, list) or not packages or not all(isinstance(each, dict) for each in packages):
        raise refusal(400, "'packages' must be a list of packages.", "packages")
    for item in packages:
        rejection = check_body(OPERATIONS[call.key], msgspec.json.encode(item))
        if rejection is not None:
            raise Refusal(rejection)
    return packages


def _items(shipment: Record, listed: dict[str, int | None], *, excluded: str | None) -> dict[str, int | None]:
    """Return the items to pack: the given ones, or all that are in no package except the excluded one."""
    packed = {
        item
        for package in shipment["packages"]
        if package["id"] != excluded
        for item in package["orderItemIDs"]
    }
    quantities = {line["id"]: line["quantity"] for line in shipment["orderItems"]}
    for item_id, quantity in listed.items():
        if item_id not in quantities:
            raise refusal(400, "The shipment has no such item.", "orderItemIDs", item_id)
        if item_id in packed:
            raise refusal(409, "The item is packed already.", "orderItemIDs", item_id)
        if quantity is not None and quantity > quantities[item_id]:
            sentence = "The shipment does not have that many of this item."
            raise refusal(400, sentence, "packageOrderItems", quantity)
    free = [item for item in quantities if item not in packed]
    if not free:
        raise refusal(409, "Every item of the shipment is packed already.", "orderItemIDs")
    return listed or dict.fromkeys(free)


def _dates(body: dict[str, Any]) -> dict[str, str | None]:
    """Return the dates of a body in the format of the shipment service."""
    dates: dict[str, str | None] = {}
    for name in _DATES:
        if body.get(name) is not None:
            dates[name] = unzoned(body[name])
            if dates[name] is None:
                raise refusal(400, f"'{name}' must be a date and time.", name, str(body[name]))
    return dates


def _set_shipped_date(package: Record, now: str) -> None:
    """Set the date of a package with a tracking number to now, unless it has one."""
    if package["carrierTrackingNumber"]:
        package["shippedDate"] = package["shippedDate"] or now


def _ship_if_complete(shipment: Record, now: str) -> None:
    """Send the shipment if all items are packed and all packages have a tracking number."""
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
