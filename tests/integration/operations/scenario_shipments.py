"""Scenarios of the shipment service."""

from __future__ import annotations

import pytest

from tests.integration.operations.scenario import Record, Walk, walks
from worker.errors import ApiError, Conflict, NotFound
from worker.ordermesh.bodies import CreatePackageDTO, Reroute, RerouteOrderItem, UpdatePackageDTO

ASSIGNED, UNASSIGNED, REJECTED, SHIPPED, CANCELLED = 1, 2, 3, 4, 5
"""Statuses of the sandbox: those of OrderMesh are not documented."""


async def facilities(walk: Walk) -> dict[str, str]:
    """Facilities and the vendor of each, as the shipments tell them."""
    found = (await walk.client.shipments.search(page_size=100)).values
    return dict(sorted({each["facilityId"]: each["vendorId"] for each in found}.items()))


async def other_facility(walk: Walk, shipment: Record) -> str:
    return next(each for each in await facilities(walk) if each != shipment["facilityId"])


async def new_shipment(walk: Walk) -> Record:
    """A shipment of both items of a new order."""
    order = await walk.order()
    facility, vendor = next(iter((await facilities(walk)).items()))
    reply = await walk.client.shipments.create(order["id"], vendor, {"facilityId": facility})
    return (await walk.client.shipments.get(reply.fields["id"])).fields


async def read(walk: Walk, shipment: Record) -> Record:
    return (await walk.client.shipments.get(shipment["id"])).fields


@walks("shipments.packing_slip")
async def packing_slip(walk: Walk) -> None:
    shipment = await new_shipment(walk)
    reply = await walk.client.shipments.packing_slip(shipment["id"])
    assert reply.media_type == "application/pdf"
    assert reply.raw.startswith(b"%PDF-")
    assert reply.raw.rstrip().endswith(b"%%EOF")
    with pytest.raises(NotFound):
        await walk.client.shipments.packing_slip("nobody")


@walks("shipments.get")
async def get(walk: Walk) -> None:
    shipment = (await walk.client.shipments.search(page_size=1)).values[0]
    reply = await walk.client.shipments.get(shipment["id"])
    assert reply.fields == reply.value == shipment  # not wrapped
    assert isinstance(shipment["shipmentStatus"], int)
    assert not shipment["lastModifiedDate"].endswith("Z")
    with pytest.raises(NotFound):
        await walk.client.shipments.get("nobody")


@walks("shipments.update")
async def update(walk: Walk) -> None:
    shipment = await new_shipment(walk)
    async with (
        walk.leaves("shipment", shipment["id"], shippingMethod="Overnight"),
        walk.leaves_message(shipment["id"]),
    ):
        await walk.client.shipments.update(shipment["id"], {"shippingMethod": "Overnight"})
    after = await read(walk, shipment)
    assert (after["shippingMethod"], after["orderItems"]) == ("Overnight", shipment["orderItems"])
    assert after["lastModifiedDate"] >= shipment["lastModifiedDate"]  # whole seconds


@walks("packages.create")
async def create_package(walk: Walk) -> None:
    shipment = await new_shipment(walk)
    item = shipment["orderItemIDs"][0]
    body = CreatePackageDTO(
        carrier_name="UPS",
        carrier_method_name="Ground",
        carrier_tracking_number="1Z-1",
        carrier_link="https://tracking.example.com/1Z-1",
        shipped_date="2026-02-27T12:00:00",
        order_item_ids=[item],
    )
    async with walk.leaves("shipment", shipment["id"], action="PackagesCreated"):
        await walk.client.packages.create(shipment["id"], body)
    (package,) = (await read(walk, shipment))["packages"]
    assert (package["carrierName"], package["carrierTrackingNumber"]) == ("UPS", "1Z-1")
    assert (package["orderItemIDs"], package["shippedDate"]) == ([item], "2026-02-27T12:00:00")
    await walk.was_made("package", shipment["id"], package["id"])


@walks("shipments.delete")
async def delete(walk: Walk) -> None:
    shipment = await new_shipment(walk)
    async with walk.leaves("shipment", shipment["id"], action="Deleted"):
        await walk.client.shipments.delete(shipment["id"])
    with pytest.raises(NotFound):
        await walk.client.shipments.get(shipment["id"])
    assert (await walk.client.orders.get(shipment["orderId"])).fields["shipmentIds"] == []


@walks("shipments.for_order")
async def for_order(walk: Walk) -> None:
    shipment = await new_shipment(walk)
    found = await walk.client.shipments.for_order(shipment["orderId"])
    assert found.values == [shipment]
    with pytest.raises(NotFound):
        await walk.client.shipments.for_order("nobody")


@walks("shipments.create")
async def create(walk: Walk) -> None:
    order = await walk.order()
    one, other = (each["id"] for each in order["items"])
    facility, vendor = next(iter((await facilities(walk)).items()))
    body = {"facilityId": facility, "shippingMethod": "Overnight", "orderItemIDs": [one]}
    async with walk.leaves("order", order["id"], action="ShipmentCreated"):
        made = (await walk.client.shipments.create(order["id"], vendor, body)).fields
    assert (made["facilityId"], made["vendorId"], made["orderItemIDs"]) == (facility, vendor, [one])
    assert (made["shippingMethod"], made["shipmentStatus"]) == ("Overnight", ASSIGNED)
    assert await read(walk, made) == made
    rest = (await walk.client.shipments.create(order["id"], vendor)).fields
    assert rest["orderItemIDs"] == [other]
    shown = (await walk.client.orders.get(order["id"])).fields
    assert shown["shipmentIds"] == [made["id"], rest["id"]]
    await walk.was_made("shipment", made["id"])


@walks("shipments.for_order_and_vendor")
async def for_order_and_vendor(walk: Walk) -> None:
    shipment = await new_shipment(walk)
    by_vendor = walk.client.shipments.for_order_and_vendor
    assert (await by_vendor(shipment["orderId"], shipment["vendorId"])).fields == shipment
    with pytest.raises(NotFound):
        await by_vendor(shipment["orderId"], "nobody")


@walks("shipments.for_order_item")
async def for_order_item(walk: Walk) -> None:
    shipment = await new_shipment(walk)
    for item in shipment["orderItemIDs"]:
        assert (await walk.client.shipments.for_order_item(item)).fields == shipment


async def new_package(walk: Walk) -> tuple[str, str]:
    """Ids of a shipment and of its package."""
    shipment = await new_shipment(walk)
    body = CreatePackageDTO(carrier_name="UPS", order_item_ids=[shipment["orderItemIDs"][0]])
    await walk.client.packages.create(shipment["id"], body)
    return shipment["id"], (await read(walk, shipment))["packages"][0]["id"]


@walks("packages.update")
async def update_package(walk: Walk) -> None:
    shipment_id, package_id = await new_package(walk)
    body = UpdatePackageDTO(carrier_tracking_number="1Z-2")
    async with walk.leaves("package", shipment_id, package_id, carrierTrackingNumber="1Z-2"):
        await walk.client.packages.update(shipment_id, package_id, body)
    (package,) = (await walk.client.shipments.get(shipment_id)).fields["packages"]
    assert (package["carrierTrackingNumber"], package["carrierName"]) == ("1Z-2", "UPS")


@walks("packages.delete")
async def delete_package(walk: Walk) -> None:
    shipment_id, package_id = await new_package(walk)
    async with walk.leaves("package", shipment_id, package_id, action="Deleted"):
        await walk.client.packages.delete(shipment_id, package_id)
    assert (await walk.client.shipments.get(shipment_id)).fields["packages"] == []
    with pytest.raises(NotFound):
        await walk.client.packages.delete(shipment_id, package_id)


@walks("shipments.cancel")
async def cancel(walk: Walk) -> None:
    shipment = await new_shipment(walk)
    async with walk.leaves("shipment", shipment["id"], action="Cancelled", shipmentStatus=CANCELLED):
        await walk.client.shipments.cancel(shipment["id"])
    assert (await read(walk, shipment))["shipmentStatus"] == CANCELLED
    with pytest.raises(Conflict):
        await walk.client.shipments.cancel(shipment["id"])


@walks("shipments.unassign")
async def unassign(walk: Walk) -> None:
    shipment = await new_shipment(walk)
    one, other = shipment["orderItemIDs"]
    async with walk.leaves("shipment", shipment["id"], action="Unassigned"):
        await walk.client.shipments.unassign(shipment["id"], {"orderItems": [{"id": one}]})
    assert (await read(walk, shipment))["orderItemIDs"] == [other]
    async with walk.leaves("shipment", shipment["id"], action="Unassigned", shipmentStatus=UNASSIGNED):
        await walk.client.shipments.unassign(shipment["id"])
    assert (await read(walk, shipment))["orderItemIDs"] == []


@walks("shipments.resubmit")
async def resubmit(walk: Walk) -> None:
    shipment = await new_shipment(walk)
    await walk.client.shipments.reject(shipment["id"])
    async with walk.leaves("shipment", shipment["id"], action="Resubmitted", shipmentStatus=ASSIGNED):
        await walk.client.shipments.resubmit(shipment["id"])
    after = await read(walk, shipment)
    assert (after["shipmentStatus"], after["isRejectedByVendor"]) == (ASSIGNED, False)


@walks("shipments.retry_polling")
async def retry_polling(walk: Walk) -> None:
    shipment = await new_shipment(walk)
    await walk.client.shipments.update(shipment["id"], {"isPollingStopped": True})
    assert (await read(walk, shipment))["isPollingStopped"] is True
    async with (
        walk.leaves("shipment", shipment["id"], action="PollingRetried", isPollingStopped=False),
        walk.leaves_message(shipment["id"]),
    ):
        await walk.client.shipments.retry_polling(shipment["id"])
    assert (await read(walk, shipment))["isPollingStopped"] is False


@walks("shipments.search")
async def search(walk: Walk) -> None:
    whole = await walk.client.shipments.search(page_size=200)
    assert whole.total == len(whole.records) > 10
    assert (await walk.client.shipments.search(page=1, page_size=5)).records == whole.records[5:10]
    facility = whole.values[0]["facilityId"]
    found = (await walk.client.shipments.search(facility_id=facility, page_size=200)).values
    assert found == [each for each in whole.values if each["facilityId"] == facility]
    shipment = await new_shipment(walk)
    assert (await walk.client.shipments.search(order_id=shipment["orderId"])).values == [shipment]
    none = await walk.client.shipments.search(order_id=shipment["orderId"], shipment_status=CANCELLED)
    assert none.records == ()


@walks("shipments.reroute")
async def reroute(walk: Walk) -> None:
    shipment = await new_shipment(walk)
    other = await other_facility(walk, shipment)
    async with walk.leaves("shipment", shipment["id"], action="Rerouted", facilityId=other):
        await walk.client.shipments.reroute(Reroute(shipment["id"], other, "closed for stocktaking"))
    assert (await read(walk, shipment))["facilityId"] == other
    # A part of the items makes a shipment of its own.
    part = [RerouteOrderItem(shipment["orderItemIDs"][0], 1)]
    body = Reroute(shipment["id"], shipment["facilityId"], "half", part)
    made = (await walk.client.shipments.reroute(body)).fields
    assert [(each["id"], each["quantity"]) for each in made["orderItems"]] == [(part[0].id, 1)]
    assert made["facilityId"] == shipment["facilityId"]
    left = {each["id"]: each["quantity"] for each in (await read(walk, shipment))["orderItems"]}
    assert left == {shipment["orderItemIDs"][0]: 1, shipment["orderItemIDs"][1]: 2}


@walks("shipments.reject")
async def reject(walk: Walk) -> None:
    shipment = await new_shipment(walk)
    async with walk.leaves("shipment", shipment["id"], action="Rejected", isRejectedByVendor=True):
        await walk.client.shipments.reject(shipment["id"], {"reason": "out of stock"})
    assert (await read(walk, shipment))["shipmentStatus"] == REJECTED


@walks("shipments.reroute_many")
async def reroute_many(walk: Walk) -> None:
    one, other = await new_shipment(walk), await new_shipment(walk)
    goal = await other_facility(walk, one)
    bodies = [Reroute(one["id"], goal), Reroute("nobody", goal), Reroute(other["id"], goal)]
    async with (
        walk.leaves("shipment", one["id"], action="Rerouted", facilityId=goal),
        walk.leaves("shipment", other["id"], action="Rerouted", facilityId=goal),
    ):
        reply = await walk.client.shipments.reroute_many(bodies, most_in_bulk=2)
    assert [(item.ok, item.status) for item in reply.items] == [(True, 200), (False, 404), (True, 200)]
    assert reply.items[1].errors[0].property_name == "shipmentId"
    assert (await read(walk, other))["facilityId"] == goal


@walks("shipments.audit_logs")
async def audit_logs(walk: Walk) -> None:
    shipment = await new_shipment(walk)
    await walk.client.shipments.reject(shipment["id"])
    made, changed = (await walk.client.shipments.audit_logs(shipment["id"])).entries
    assert (made.time or "") < (changed.time or "")
    assert b'"Rejected"' in changed.raw
    with pytest.raises(NotFound):
        await walk.client.shipments.audit_logs("nobody")


@walks("packages.audit_logs")
async def package_audit_logs(walk: Walk) -> None:
    shipment_id, package_id = await new_package(walk)
    await walk.client.packages.update(shipment_id, package_id, {"carrierName": "DHL"})
    made, changed = (await walk.client.packages.audit_logs(shipment_id, package_id)).entries
    assert b'"Created"' in made.raw
    assert b'"DHL"' in changed.raw
    with pytest.raises(NotFound):
        await walk.client.packages.audit_logs(shipment_id, "nobody")


@walks("shipments.message_audit_logs")
async def message_audit_logs(walk: Walk) -> None:
    shipment = await new_shipment(walk)
    before = (await walk.client.shipments.message_audit_logs(shipment["id"])).entries
    await walk.client.shipments.cancel(shipment["id"])
    after = (await walk.client.shipments.message_audit_logs(shipment["id"])).entries
    assert after[: len(before)] == before
    assert len(after) == len(before) + 1
    assert b"OutboundShipmentUpdate" in after[-1].raw


@walks("shipments.assign")
async def assign(walk: Walk) -> None:
    shipment = await new_shipment(walk)
    await walk.client.shipments.reject(shipment["id"])
    other = await other_facility(walk, shipment)
    async with walk.leaves("shipment", shipment["id"], action="Assigned", facilityId=other):
        await walk.client.shipments.assign(shipment["id"], {"facilityId": other})
    after = await read(walk, shipment)
    assert (after["facilityId"], after["shipmentStatus"]) == (other, ASSIGNED)
    with pytest.raises(ApiError, match="facilityId"):
        await walk.client.shipments.assign(shipment["id"], {"facilityId": "nowhere"})
