"""The shipment service: reading shipments, their packing slips and their audit logs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.sandbox import listing
from worker.sandbox.answers import Answer, json_answer, refusal
from worker.sandbox.data.shipment_data import LIVE, ShipmentStatus
from worker.sandbox.data.times import sortable
from worker.sandbox.documents.packing_slip import packing_slip
from worker.sandbox.state.shipping import TIMES

if TYPE_CHECKING:
    from worker.sandbox.calls import Call, Handler, Sandbox
    from worker.sandbox.data.orders import Order
    from worker.sandbox.data.record import Record
    from worker.sandbox.state.records import Source

FILTERS = (
    "orderId",
    "merchantId",
    "vendorId",
    "facilityId",
    "shipmentStatus",
    "safeId",
    "orderExternalId",
    "shortId",
)
"""Query parameters that filter a search, named after the fields that they compare (inferred)."""


def search(sandbox: Sandbox, call: Call) -> Answer:
    """Search shipments: a page of complete records."""
    source: Source | list[Record] = sandbox.world.shipments
    if "orderId" in call.query:
        # The order contains the ids of its shipments, so not all shipments have to be searched.
        source = sandbox.world.shipments.of_order(sandbox.store.read(call.query["orderId"]) or {})
    return listing.answer(sandbox, call, call.key, source, modified=TIMES, filters=FILTERS)


def get(sandbox: Sandbox, call: Call) -> Answer:
    """Get details of a specific shipment by Shipment ID: not wrapped, as in the vendor's sample."""
    return json_answer(shipment_of(sandbox, call))


def for_order(sandbox: Sandbox, call: Call) -> Answer:
    """Get all shipments for an order by Order ID."""
    result = sandbox.world.shipments.of_order(order_of(sandbox, call))
    return listing.answer(sandbox, call, call.key, result, modified=TIMES)


def for_order_and_vendor(sandbox: Sandbox, call: Call) -> Answer:
    """Get shipment with packages for order and vendor: the newest one."""
    vendor = call.params["vendorId"]
    result = sandbox.world.shipments.of_order(order_of(sandbox, call))
    matching = [item for item in result if item["vendorId"] == vendor]
    if not matching:
        raise refusal(404, "The order has no shipment at this vendor.", "vendorId", vendor)
    return json_answer(matching[-1])


def for_order_item(sandbox: Sandbox, call: Call) -> Answer:
    """Get shipment details by Order Item ID: the newest one that is not cancelled, or else the newest."""
    item_id = call.params["orderItemId"]
    order = sandbox.store.order_of_item(item_id)
    result = [] if order is None else sandbox.world.shipments.of_order(order)
    matching = [item for item in result if item_id in item["orderItemIDs"]]
    if not matching:
        raise refusal(404, "There is no shipment with this order item.", "orderItemId", item_id)
    active = [each for each in matching if each["shipmentStatus"] in LIVE | {ShipmentStatus.SHIPPED}]
    return json_answer((active or matching)[-1])


def slip(sandbox: Sandbox, call: Call) -> Answer:
    """Generates a packing slip for a specific shipment by Shipment ID: a PDF."""
    shipment = shipment_of(sandbox, call)
    order = sandbox.store.read(shipment["orderId"]) or {}
    name = f'inline; filename="packing-slip-{shipment["shortId"]}.pdf"'
    pdf = packing_slip(shipment, order)
    return Answer(200, pdf, {"content-disposition": name}, media_type="application/pdf")


def audit_logs(sandbox: Sandbox, call: Call) -> Answer:
    """Get shipment audit logs, also of a deleted shipment."""
    shipment_id = call.params["shipmentId"]
    shipment = sandbox.world.shipments.get(shipment_id)
    _must_have_existed(sandbox, shipment_id, shipment)
    return listing.audit_answer(
        sandbox, call, "shipment", shipment_id, sortable((shipment or {}).get("createdDate")) or None
    )


def message_audit_logs(sandbox: Sandbox, call: Call) -> Answer:
    """Get message audit logs for shipment updates: the messages to the facility since the start."""
    shipment_id = call.params["shipmentId"]
    _must_have_existed(sandbox, shipment_id, sandbox.world.shipments.get(shipment_id))
    return listing.audit_answer(sandbox, call, "message", shipment_id)


def package_audit_logs(sandbox: Sandbox, call: Call) -> Answer:
    """Get package audit logs, also of a deleted package."""
    shipment_id, package_id = call.params["shipmentId"], call.params["packageId"]
    shipment = sandbox.world.shipments.get(shipment_id)
    _must_have_existed(sandbox, shipment_id, shipment)
    packages = [] if shipment is None else shipment["packages"]
    package = next((item for item in packages if item["id"] == package_id), None)
    if package is None and not sandbox.world.audit.entries("package", package_id):
        raise refusal(404, "The package was not found.", "packageId", package_id)
    return listing.audit_answer(
        sandbox, call, "package", package_id, sortable((package or {}).get("shippedDate")) or None
    )


def shipment_of(sandbox: Sandbox, call: Call) -> Record:
    """Return the shipment in the path.

    Raises:
        Refusal: 404, no shipment has this id.
    """
    shipment_id = call.params["shipmentId"]
    shipment = sandbox.world.shipments.get(shipment_id)
    if shipment is None:
        raise refusal(404, "The shipment was not found.", "shipmentId", shipment_id)
    return shipment


def order_of(sandbox: Sandbox, call: Call) -> Order:
    """Return the order in the path.

    Raises:
        Refusal: 404, no order has this id.
    """
    order = sandbox.store.read(call.params["orderId"])
    if order is None:
        raise refusal(404, "The order was not found.", "orderId", call.params["orderId"])
    return order


def _must_have_existed(sandbox: Sandbox, shipment_id: str, shipment: Record | None) -> None:
    if shipment is None and not sandbox.world.audit.entries("shipment", shipment_id):
        raise refusal(404, "The shipment was not found.", "shipmentId", shipment_id)


HANDLERS: dict[str, Handler] = {
    "shipments.search": search,
    "shipments.get": get,
    "shipments.for_order": for_order,
    "shipments.for_order_and_vendor": for_order_and_vendor,
    "shipments.for_order_item": for_order_item,
    "shipments.packing_slip": slip,
    "shipments.audit_logs": audit_logs,
    "shipments.message_audit_logs": message_audit_logs,
    "packages.audit_logs": package_audit_logs,
}
