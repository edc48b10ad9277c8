"""Packages of the sandbox's shipments, what shipments do to their orders, and what the audit logs say."""

from typing import Any

import pytest

from tests.support.sandbox_api import SandboxApi
from tests.support.sandbox_orders import created, read, some
from tests.support.shipments import SECOND, TIME, VENDOR, agree, shipped
from worker.sandbox import CLIENT_ID, SandboxServer, ShipmentStatus

# Packages


def test_packages_send_a_shipment_and_fulfil_the_order(server: SandboxServer, api: SandboxApi) -> None:
    """When all is packed and can be tracked the shipment is sent, and with its last shipment the order is done."""
    order = created(api, "A", "B")
    first, second = (each["id"] for each in order["items"])
    one, two = (
        api.do("shipments.create", {"orderItemIDs": [each]}, orderId=order["id"], vendorId=VENDOR)
        for each in (first, second)
    )
    (package,) = api.do("packages.create", {"carrierName": "UPS"}, shipmentId=one["id"])["packages"]
    assert package["orderItemIDs"] == [first]
    path = {"shipmentId": one["id"], "packageId": package["id"]}
    assert api.do("shipments.get", shipmentId=one["id"])["shipmentStatus"] == ShipmentStatus.ASSIGNED
    tracked = api.do("packages.update", {"carrierTrackingNumber": "1Z"}, **path)
    assert TIME.fullmatch(tracked["shippedDate"])
    sent = api.do("shipments.get", shipmentId=one["id"])
    assert (sent["shipmentStatus"], sent["packages"]) == (ShipmentStatus.SHIPPED, [tracked])
    assert read(api, order["id"])["status"] == "In Production"
    api.do("packages.create", {"carrierTrackingNumber": "2Z"}, shipmentId=two["id"])
    now = read(api, order["id"])
    assert (now["status"], {each["status"] for each in now["items"]}) == ("Fulfilled", {"Fulfilled"})
    assert [each["shipmentStatus"] for each in agree(server, order["id"])] == [ShipmentStatus.SHIPPED] * 2


def test_several_packages_are_made_at_once(api: SandboxApi) -> None:
    """A list of packages shares out the items; an item is packed once."""
    _, shipment = shipped(api)
    first, second = shipment["orderItemIDs"]
    path = {"shipmentId": shipment["id"]}
    sent = [{"packageOrderItems": [{"orderItemId": first, "quantity": 2}]}, {"carrierName": "DHL"}]
    answer = api.send("packages.create", {"packages": sent}, **path)
    assert answer.status_code == 201
    made = answer.json()["packages"]
    assert [each["orderItemIDs"] for each in made] == [[first], [second]]
    assert made[0]["packageOrderItems"] == [{"orderItemId": first, "quantity": 2}]
    assert api.refused(409, "packages.create", {}, **path)
    assert api.refused(409, "packages.create", {"orderItemIDs": [first]}, **path)
    assert api.refused(400, "packages.create", {"orderItemIDs": ["nobody"]}, **path)
    assert api.refused(400, "packages.create", {"packages": []}, **path)
    assert api.refused(400, "packages.create", {"packages": [{"carrierName": 5}]}, **path)
    assert api.refused(404, "packages.create", {}, shipmentId="nobody")


def test_a_package_is_changed(api: SandboxApi) -> None:
    """Times are taken in any form of ISO 8601 and served without zone; items move while nothing is sent."""
    _, shipment = shipped(api)
    first, second = shipment["orderItemIDs"]
    (package,) = api.do("packages.create", {}, shipmentId=shipment["id"])["packages"]
    path = {"shipmentId": shipment["id"], "packageId": package["id"]}
    sent = {"shippedDate": "2026-05-01T12:00:00.5+02:00", "orderItemIDs": [second]}
    changed = api.do("packages.update", sent, **path)
    assert changed["shippedDate"] == "2026-05-01T10:00:00"
    assert changed["orderItemIDs"] == [second]
    assert changed["packageOrderItems"] == [{"orderItemId": second, "quantity": 2}]
    assert (
        api.refused(400, "packages.update", {"shippedDate": "soon"}, **path)["propertyName"] == "shippedDate"
    )
    assert api.refused(400, "packages.update", {"shortId": "P1"}, **path)["propertyName"] == "shortId"
    assert api.refused(404, "packages.update", {}, **(path | {"packageId": "nobody"}))
    assert api.do("packages.create", {}, shipmentId=shipment["id"])["packages"][0]["orderItemIDs"] == [first]


def test_a_deleted_package_brings_the_shipment_back(server: SandboxServer, api: SandboxApi) -> None:
    """Without its package a shipment is at its facility again, and its order in production; gone is gone."""
    order, shipment = shipped(api)
    sent = {"carrierTrackingNumber": "1Z"}
    (package,) = api.do("packages.create", sent, shipmentId=shipment["id"])["packages"]
    assert read(api, order["id"])["status"] == "Fulfilled"
    path = {"shipmentId": shipment["id"], "packageId": package["id"]}
    assert api.send("packages.delete", **path).status_code == 204
    (now,) = agree(server, order["id"])
    assert (now["shipmentStatus"], now["packages"]) == (ShipmentStatus.ASSIGNED, [])
    assert now["orderItems"] == shipment["orderItems"]
    assert read(api, order["id"])["status"] == "In Production"
    assert api.refused(404, "packages.delete", **path)["propertyName"] == "packageId"


# Orders and shipments


def test_shipments_follow_their_order(server: SandboxServer, api: SandboxApi) -> None:
    """What happens to an order in the store happens to its shipments: made, sent, cancelled, gone."""
    order, _ = shipped(api)
    server.store.change(order["id"], status="Fulfilled")
    assert [each["shipmentStatus"] for each in agree(server, order["id"])] == [ShipmentStatus.SHIPPED]
    other, shipment = shipped(api)
    api.do("orders.cancel", {"items": [other["items"][0]["id"]]}, orderId=other["id"])
    (partly,) = agree(server, other["id"])
    assert [each["status"] for each in partly["orderItems"]] == [4, 2]
    assert partly["shipmentStatus"] == ShipmentStatus.ASSIGNED
    api.do("orders.cancel", orderId=other["id"])
    assert [each["shipmentStatus"] for each in agree(server, other["id"])] == [ShipmentStatus.CANCELLED]
    server.store.delete(other["id"])
    assert api.refused(404, "shipments.get", shipmentId=shipment["id"])


def test_a_shipment_changes_without_its_order(server: SandboxServer) -> None:
    """Something may happen to a shipment alone: it moves on, its order stays as it is."""
    order = some(server, "In Production")
    (before,) = agree(server, order["id"])
    assert server.world.shipments.change(before["id"]) == [before["id"]]
    (after,) = agree(server, order["id"])
    assert after["lastModifiedDate"] > before["lastModifiedDate"]
    assert after["shippingMethod"] != before["shippingMethod"]
    assert server.store.read(order["id"]) == order
    assert len(set(server.world.shipments.change(5))) == 5


# Audit logs


def test_every_write_leaves_an_entry(api: SandboxApi) -> None:
    """Each step is noted on the shipment with actor and values, and a message for each goes to the facility."""
    order, shipment = shipped(api)
    path = {"shipmentId": shipment["id"]}
    api.do("shipments.update", {"shippingMethod": "Expedited"}, **path)
    api.do("shipments.reject", {}, **path)
    api.do("shipments.resubmit", **path)
    api.do("shipments.retry_polling", **path)
    api.do("shipments.unassign", {}, **path)
    api.do("shipments.assign", {}, **path)
    api.do("shipments.reroute", {"shipmentId": shipment["id"], "facilityId": SECOND})
    api.do("shipments.cancel", {}, **path)
    entries = api.do("shipments.audit_logs", **path)["auditLogs"]
    assert [each["action"] for each in entries] == [
        "Created",
        "Updated",
        "Rejected",
        "Resubmitted",
        "PollingRetried",
        "Unassigned",
        "Assigned",
        "Rerouted",
        "Cancelled",
    ]
    assert {each["user"] for each in entries} == {CLIENT_ID}
    assert {each["resourceType"] for each in entries} == {"shipment"}
    assert entries[1]["changes"] == [
        {"property": "shippingMethod", "oldValue": "Standard", "newValue": "Expedited"}
    ]
    messages = api.do("shipments.message_audit_logs", **path)["auditLogs"]
    assert [each["timestamp"] for each in messages] == [each["timestamp"] for each in entries]
    assert {(each["action"], each["resourceType"]) for each in messages} == {
        ("OutboundShipmentUpdate", "message")
    }
    assert api.audited("orders.audit_logs", orderId=order["id"]) == [
        "Created",
        "ShipmentCreated",
        "ShipmentRerouted",
    ]


def test_packages_have_their_own_entries(api: SandboxApi) -> None:
    """Creation, change and deletion of a package are noted on the package, and on its shipment."""
    _, shipment = shipped(api)
    path = {"shipmentId": shipment["id"]}
    (package,) = api.do("packages.create", {"carrierName": "UPS"}, **path)["packages"]
    whole = path | {"packageId": package["id"]}
    api.do("packages.update", {"carrierName": "DHL"}, **whole)
    api.do("packages.delete", **whole)
    entries = api.do("packages.audit_logs", **whole)["auditLogs"]
    assert [each["action"] for each in entries] == ["Created", "Updated", "Deleted"]
    assert entries[1]["changes"] == [{"property": "carrierName", "oldValue": "UPS", "newValue": "DHL"}]
    assert api.audited("shipments.audit_logs", **path)[1:] == [
        "PackagesCreated",
        "PackageUpdated",
        "PackageDeleted",
    ]


def test_a_shipment_from_before_the_start_has_its_creation(server: SandboxServer, api: SandboxApi) -> None:
    """Logs of the history begin with the creation of the shipment; no message has gone out since the start."""
    order_id = next(
        each
        for each in server.store.ids()
        if (server.store.read(each) or {})["status"] == "Fulfilled"
        and not server.world.audit.entries("order", each)
        and not server.world.audit.entries("shipment", (server.store.read(each) or {})["shipmentIds"][0])
    )
    (shipment,) = agree(server, order_id)
    path = {"shipmentId": shipment["id"]}
    (entry,) = api.do("shipments.audit_logs", **path)["auditLogs"]
    assert (entry["action"], entry["timestamp"]) == ("Created", f"{shipment['createdDate']}.0000000Z")
    assert api.do("shipments.message_audit_logs", **path) == {"auditLogs": []}
    assert api.audited("packages.audit_logs", packageId=shipment["packages"][0]["id"], **path) == ["Created"]
    assert api.refused(404, "packages.audit_logs", packageId="nobody", **path)
    for key in ("shipments.audit_logs", "shipments.message_audit_logs"):
        assert api.refused(404, key, shipmentId="nobody")


@pytest.mark.parametrize(
    "key", ["get", "update", "assign", "unassign", "reject", "resubmit", "retry_polling", "cancel", "delete"]
)
def test_an_unknown_shipment_is_404(api: SandboxApi, key: str) -> None:
    """Every operation on a shipment that is not there says so."""
    sent: dict[str, Any] | None = None if key in ("get", "delete") else {}
    assert api.refused(404, f"shipments.{key}", sent, shipmentId="nobody")["propertyName"] == "shipmentId"
