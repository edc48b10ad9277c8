"""The shipment service of the sandbox over real HTTP: shipments made from orders, their steps, and packages."""

import re

import pytest

from tests.support.sandbox_api import SandboxApi
from tests.support.sandbox_orders import created, read, some
from tests.support.shipments import FIRST, SECOND, THIRD, TIME, VENDOR, agree, shipped
from worker.sandbox import SandboxServer, ShipmentStatus
from worker.sandbox.data.shipment_data import VENDORS

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[45][0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
KEYS = [
    "id",
    "merchantId",
    "merchantName",
    "vendorId",
    "vendorName",
    "facilityId",
    "facilityName",
    "orderId",
    "shortId",
    "orderExternalId",
    "merchantOrderId",
    "safeId",
    "customerId",
    "customerShippingAddressId",
    "merchantPaymentId",
    "shippingCountryCodeISO",
    "shippingCountryCode",
    "shipmentStatus",
    "isRejectedByVendor",
    "shippingMethod",
    "isPollingStopped",
    "currencyCode",
    "languageCodeISO",
    "languageCode",
    "transactionalCostModel",
    "createdDate",
    "orderCreatedDate",
    "lastModifiedDate",
    "merchantOrderTotal",
    "merchantPackageTotal",
    "merchantTaxTotal",
    "merchantShippingTotal",
    "packageTotal",
    "taxTotal",
    "shippingTotal",
    "total",
    "costTotal",
    "costTaxTotal",
    "costShippingTotal",
    "costShippingTaxTotal",
    "packages",
    "orderItemIDs",
    "orderItems",
    "selectedShippingMapping",
]


# Reading


def test_orders_that_are_made_have_a_shipment(server: SandboxServer) -> None:
    """At the start every order in production or fulfilled has a shipment, every open one none, and they agree."""
    seen = set()
    for order_id in server.store.ids():
        order = server.store.read(order_id) or {}
        shipments = agree(server, order_id)
        seen.add((order["status"], tuple(each["shipmentStatus"] for each in shipments)))
    assert ("Open", ()) in seen
    assert ("In Production", (ShipmentStatus.ASSIGNED,)) in seen
    assert ("Fulfilled", (ShipmentStatus.SHIPPED,)) in seen
    assert {len(statuses) for status, statuses in seen if status in ("In Production", "Fulfilled")} == {1}


def test_a_shipment_has_the_fields_of_the_sample(server: SandboxServer, api: SandboxApi) -> None:
    """A single shipment is not wrapped, has the sample's fields in their order, integers and times without zone."""
    order = some(server, "Fulfilled")
    shipment = api.do("shipments.get", shipmentId=order["shipmentIds"][0])
    assert list(shipment) == KEYS
    assert type(shipment["shipmentStatus"]) is int
    for name in ("createdDate", "orderCreatedDate", "lastModifiedDate"):
        assert TIME.fullmatch(shipment[name])
    assert re.fullmatch(r"S\d{10}", shipment["shortId"])
    assert (shipment["orderId"], shipment["safeId"]) == (order["id"], order["safeId"])
    assert shipment["orderItemIDs"] == [each["id"] for each in order["items"]]
    assert [type(each["status"]) for each in shipment["orderItems"]] == [int] * len(order["items"])
    (package,) = shipment["packages"]
    assert UUID.fullmatch(package["id"])
    assert re.fullmatch(r"P\d{10}", package["shortId"])
    assert package["shipmentId"] == shipment["id"]
    assert package["orderItemIDs"] == shipment["orderItemIDs"]
    assert package["carrierTrackingNumber"]
    assert TIME.fullmatch(package["shippedDate"])


def test_ids_of_shipments_and_packages_are_unique(server: SandboxServer) -> None:
    """No two shipments or packages share an id or a short id."""
    shipments = server.world.shipments.values()
    records = shipments + [package for each in shipments for package in each["packages"]]
    assert len({each["id"] for each in records}) == len(records) > 80
    assert len({each["shortId"] for each in records}) == len(records)


def test_a_search_walks_through_all_shipments(api: SandboxApi) -> None:
    """Pages in turn hold every shipment once, in the order in which they were made, whole."""
    walked = [
        each
        for page in range(1, 9)
        for each in api.do("shipments.search", query={"page": page, "pageSize": 10})["shipments"]
    ]
    whole = api.do("shipments.search", query={"pageSize": 1000})
    assert walked == whole["shipments"][:80]
    assert whole["total"] == len(whole["shipments"])
    assert walked[0] == api.do("shipments.get", shipmentId=walked[0]["id"])


@pytest.mark.parametrize(
    "name", ["orderId", "merchantId", "vendorId", "facilityId", "shipmentStatus", "safeId", "shortId"]
)
def test_filters_narrow_a_search(api: SandboxApi, name: str) -> None:
    """Each filter gives the shipments with that value, and no others."""
    everything = api.do("shipments.search", query={"pageSize": 1000})["shipments"]
    value = everything[5][name]
    found = api.do("shipments.search", query={"pageSize": 1000, name: value})["shipments"]
    assert found == [each for each in everything if each[name] == value]
    assert 0 < len(found) < len(everything)


def test_shipments_are_found_by_order_vendor_and_item(server: SandboxServer, api: SandboxApi) -> None:
    """An order gives a list of its shipments, order and vendor or an item a single one; what is unknown is 404."""
    order, shipment = shipped(api)
    path = {"orderId": order["id"]}
    assert api.do("shipments.for_order", **path) == {"shipments": [shipment]}
    assert api.do("shipments.for_order_and_vendor", vendorId=VENDOR, **path) == shipment
    for item_id in shipment["orderItemIDs"]:
        assert api.do("shipments.for_order_item", orderItemId=item_id) == shipment
    assert api.do("shipments.for_order", orderId=some(server, "Open")["id"]) == {"shipments": []}
    other = VENDORS[SECOND][0]
    assert api.refused(404, "shipments.for_order_and_vendor", vendorId=other, **path)
    assert api.refused(404, "shipments.for_order", orderId="nobody")
    assert api.refused(404, "shipments.for_order_item", orderItemId="nobody")


def test_a_packing_slip_is_a_pdf(server: SandboxServer, api: SandboxApi) -> None:
    """The slip is a PDF that names the order, the address and the items."""
    order = some(server, "Fulfilled")
    answer = api.send("shipments.packing_slip", shipmentId=order["shipmentIds"][0])
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.content.startswith(b"%PDF-1.")
    address = order["shippingAddress"]
    for text in (order["shortId"], address["line1"], address["lastName"], order["items"][0]["sku"]):
        assert f"{text}".encode("cp1252") in answer.content
    assert api.refused(404, "shipments.packing_slip", shipmentId="nobody")


# Making


def test_a_shipment_takes_the_order_into_production(server: SandboxServer, api: SandboxApi) -> None:
    """A create answers 201 with the new shipment; the order names it, its facility and its date from then on."""
    order = created(api, "A", "B")
    sent = {"facilityId": THIRD, "shippingMethod": "Overnight", "orderItemIDs": [order["items"][1]["id"]]}
    answer = api.send("shipments.create", sent, orderId=order["id"], vendorId=VENDOR)
    assert answer.status_code == 201
    shipment = answer.json()
    assert list(shipment) == KEYS
    assert (shipment["facilityId"], shipment["shippingMethod"]) == (THIRD, "Overnight")
    assert shipment["orderItemIDs"] == sent["orderItemIDs"]
    assert agree(server, order["id"]) == [shipment]
    now = read(api, order["id"])
    assert (now["status"], now["updatedAt"] > order["createdAt"]) == ("In Production", True)
    rest = api.do("shipments.create", {}, orderId=order["id"], vendorId=VENDORS[SECOND][0])
    assert rest["orderItemIDs"] == [order["items"][0]["id"]]
    assert agree(server, order["id"]) == [shipment, rest]


def test_items_are_shipped_once(api: SandboxApi) -> None:
    """Items that are in a shipment, or are not there, get no other one."""
    order, shipment = shipped(api)
    path = {"orderId": order["id"], "vendorId": VENDOR}
    assert api.refused(409, "shipments.create", {}, **path)
    assert api.refused(409, "shipments.create", {"orderItemIDs": shipment["orderItemIDs"]}, **path)
    assert api.refused(400, "shipments.create", {"orderItemIDs": ["nobody"]}, **path)


def test_a_shipment_needs_an_open_order_and_a_vendor(server: SandboxServer, api: SandboxApi) -> None:
    """Unknown orders and vendors are 404, a facility of somebody else 400, a closed order 409."""
    order = created(api)
    key = "shipments.create"
    assert api.refused(404, key, {}, orderId="nobody", vendorId=VENDOR)["propertyName"] == "orderId"
    assert api.refused(404, key, {}, orderId=order["id"], vendorId="nobody")["propertyName"] == "vendorId"
    for facility in (SECOND, "nowhere"):
        error = api.refused(400, key, {"facilityId": facility}, orderId=order["id"], vendorId=VENDOR)
        assert error["propertyName"] == "facilityId"
    for status in ("Fulfilled", "Cancelled"):
        assert api.refused(409, key, {}, orderId=some(server, status)["id"], vendorId=VENDOR)
    assert read(api, order["id"]) == order


# Steps


def test_a_rejected_shipment_can_be_assigned_again(api: SandboxApi) -> None:
    """The vendor rejects, somebody assigns to another facility; each step only from where it makes sense."""
    _, shipment = shipped(api)
    path = {"shipmentId": shipment["id"]}
    assert api.refused(409, "shipments.assign", {}, **path)
    rejected = api.do("shipments.reject", {"reason": "no stock"}, **path)
    assert (rejected["shipmentStatus"], rejected["isRejectedByVendor"]) == (ShipmentStatus.REJECTED, True)
    assert api.refused(409, "shipments.reject", {}, **path)
    assigned = api.do("shipments.assign", {"facilityId": SECOND}, **path)
    assert (assigned["shipmentStatus"], assigned["isRejectedByVendor"]) == (ShipmentStatus.ASSIGNED, False)
    assert (assigned["facilityId"], assigned["vendorId"]) == (SECOND, VENDORS[SECOND][0])


def test_an_assignment_is_told_by_the_order(server: SandboxServer, api: SandboxApi) -> None:
    """A shipment that moves to another facility moves in the order's list of facilities too."""
    order, shipment = shipped(api)
    api.do("shipments.reject", {}, shipmentId=shipment["id"])
    api.do("shipments.assign", {"facilityId": SECOND}, shipmentId=shipment["id"])
    agree(server, order["id"])


def test_a_shipment_is_submitted_again(api: SandboxApi) -> None:
    """Resubmission takes back a rejection and lets polling go on; what was sent is not submitted again."""
    _, shipment = shipped(api)
    path = {"shipmentId": shipment["id"]}
    api.do("shipments.update", {"isPollingStopped": True}, **path)
    api.do("shipments.reject", {}, **path)
    again = api.do("shipments.resubmit", **path)
    assert again["shipmentStatus"] == ShipmentStatus.ASSIGNED
    assert (again["isRejectedByVendor"], again["isPollingStopped"]) == (False, False)
    api.do("shipments.update", {"shipmentStatus": ShipmentStatus.SHIPPED}, **path)
    assert api.refused(409, "shipments.resubmit", **path)


def test_polling_is_tried_again(api: SandboxApi) -> None:
    """Retrying ends `isPollingStopped`."""
    _, shipment = shipped(api)
    path = {"shipmentId": shipment["id"]}
    assert api.do("shipments.update", {"isPollingStopped": True}, **path)["isPollingStopped"] is True
    assert api.do("shipments.retry_polling", **path)["isPollingStopped"] is False
    api.do("shipments.cancel", {}, **path)
    assert api.refused(409, "shipments.retry_polling", **path)


def test_items_are_unassigned_and_assigned_again(api: SandboxApi) -> None:
    """Items leave a shipment by name; without any it waits, and gets back what is free when it is assigned."""
    _, shipment = shipped(api)
    first, second = shipment["orderItemIDs"]
    path = {"shipmentId": shipment["id"]}
    one = api.do("shipments.unassign", {"orderItems": [{"id": first}]}, **path)
    assert (one["orderItemIDs"], one["shipmentStatus"]) == ([second], ShipmentStatus.ASSIGNED)
    assert api.refused(400, "shipments.unassign", {"orderItems": [{"id": first}]}, **path)
    none = api.do("shipments.unassign", {}, **path)
    assert (none["orderItemIDs"], none["shipmentStatus"]) == ([], ShipmentStatus.UNASSIGNED)
    assert api.refused(409, "shipments.unassign", {}, **path)
    both = api.do("shipments.assign", {}, **path)
    assert (both["orderItemIDs"], both["shipmentStatus"]) == ([first, second], ShipmentStatus.ASSIGNED)
    assert both["orderItems"] == shipment["orderItems"]


def test_a_cancelled_shipment_frees_its_items(api: SandboxApi) -> None:
    """After a cancellation the items can go into another shipment; the cancelled one takes no step any more."""
    order, shipment = shipped(api)
    path = {"shipmentId": shipment["id"]}
    assert api.do("shipments.cancel", {}, **path)["shipmentStatus"] == ShipmentStatus.CANCELLED
    for key in ("cancel", "update", "reject", "assign", "unassign", "resubmit"):
        assert api.refused(409, f"shipments.{key}", {}, **path)["propertyName"] == "shipmentStatus"
    other = api.do("shipments.create", {}, orderId=order["id"], vendorId=VENDOR)
    assert other["orderItemIDs"] == shipment["orderItemIDs"]
    assert api.do("shipments.for_order_item", orderItemId=other["orderItemIDs"][0]) == other


def test_an_update_keeps_to_the_allowed_steps(api: SandboxApi) -> None:
    """An update sets what a client may set, and the status only along its steps."""
    _, shipment = shipped(api)
    path = {"shipmentId": shipment["id"]}
    changed = api.do("shipments.update", {"shippingMethod": "Expedited"}, **path)
    assert changed == shipment | {
        "shippingMethod": "Expedited",
        "lastModifiedDate": changed["lastModifiedDate"],
    }
    assert api.refused(400, "shipments.update", {"orderId": "other"}, **path)["propertyName"] == "orderId"
    assert api.refused(400, "shipments.update", {"shippingMethod": 5}, **path)
    assert api.refused(409, "shipments.update", {"shipmentStatus": ShipmentStatus.UNASSIGNED}, **path)
    sent = api.do("shipments.update", {"shipmentStatus": ShipmentStatus.SHIPPED}, **path)
    assert sent["packages"][0]["orderItemIDs"] == shipment["orderItemIDs"]
    assert api.refused(409, "shipments.update", {"shipmentStatus": ShipmentStatus.REJECTED}, **path)
    assert api.refused(409, "shipments.cancel", {}, **path)


def test_a_shipment_is_deleted_with_its_packages(server: SandboxServer, api: SandboxApi) -> None:
    """A deletion takes the shipment out of the order too; a second one is 404, the audit logs stay."""
    order, shipment = shipped(api)
    path = {"shipmentId": shipment["id"]}
    (package,) = api.do("packages.create", {"carrierName": "UPS"}, **path)["packages"]
    answer = api.send("shipments.delete", **path)
    assert (answer.status_code, answer.content) == (204, b"")
    for key in ("shipments.delete", "shipments.get", "shipments.packing_slip"):
        assert api.refused(404, key, **path)["propertyName"] == "shipmentId"
    assert agree(server, order["id"]) == []
    assert read(api, order["id"])["facilityNames"] == []
    assert api.audited("shipments.audit_logs", **path) == ["Created", "PackagesCreated", "Deleted"]
    assert api.audited("packages.audit_logs", packageId=package["id"], **path) == ["Created", "Deleted"]


# Reroutes


def test_a_shipment_is_rerouted(server: SandboxServer, api: SandboxApi) -> None:
    """A reroute moves the whole shipment to another facility and its vendor, and the order says so."""
    order, shipment = shipped(api)
    sent = {"shipmentId": shipment["id"], "facilityId": SECOND, "reason": "capacity"}
    moved = api.do("shipments.reroute", sent)
    assert (moved["id"], moved["facilityId"], moved["vendorId"]) == (
        shipment["id"],
        SECOND,
        VENDORS[SECOND][0],
    )
    assert agree(server, order["id"]) == [moved]
    assert api.refused(409, "shipments.reroute", sent)["propertyName"] == "facilityId"


def test_a_part_of_a_shipment_is_rerouted(server: SandboxServer, api: SandboxApi) -> None:
    """Named items or quantities become a shipment of their own; nothing is lost and nothing doubled."""
    order, shipment = shipped(api)
    first, second = shipment["orderItemIDs"]
    part = [{"id": first, "quantity": 1}, {"id": second}]
    made = api.do(
        "shipments.reroute", {"shipmentId": shipment["id"], "facilityId": SECOND, "orderItems": part}
    )
    left, other = agree(server, order["id"])
    assert other == made
    assert [(each["id"], each["quantity"]) for each in left["orderItems"]] == [(first, 1)]
    assert [(each["id"], each["quantity"]) for each in made["orderItems"]] == [(first, 1), (second, 2)]
    assert (left["facilityId"], made["facilityId"]) == (FIRST, SECOND)
    too_many = {"shipmentId": made["id"], "facilityId": THIRD, "orderItems": [{"id": first, "quantity": 2}]}
    assert api.refused(400, "shipments.reroute", too_many)


def test_a_bulk_reroute_is_never_all_or_nothing(api: SandboxApi) -> None:
    """Each reroute of a bulk has its own result."""
    _, shipment = shipped(api)
    sent = [
        {"shipmentId": shipment["id"], "facilityId": "nowhere"},
        {"shipmentId": "nobody", "facilityId": SECOND},
        {"facilityId": SECOND},
        {"shipmentId": shipment["id"], "facilityId": SECOND},
    ]
    results = api.do("shipments.reroute_many", {"bulk": sent})["items"]
    assert [each["statusCode"] for each in results] == [400, 404, 400, 200]
    assert results[3]["id"] == shipment["id"]
    assert api.do("shipments.get", shipmentId=shipment["id"])["facilityId"] == SECOND
