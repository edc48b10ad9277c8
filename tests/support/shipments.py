"""Shipments of a sandbox."""

import re
from typing import Any

from tests.support.sandbox_api import SandboxApi
from tests.support.sandbox_orders import created
from worker.sandbox import SandboxServer
from worker.sandbox.data.shipment_data import VENDORS

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
FIRST, SECOND, THIRD = VENDORS
VENDOR = VENDORS[FIRST][0]


def shipped(api: SandboxApi, *skus: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A new order and a shipment of all its items, assigned to the first facility."""
    order = created(api, *(skus or ("A", "B")))
    return order, api.do("shipments.create", {}, orderId=order["id"], vendorId=VENDOR)


def agree(server: SandboxServer, order_id: str) -> list[dict[str, Any]]:
    """The shipments of an order, which must be as the order tells."""
    order = server.store.read(order_id) or {}
    found = [server.world.shipments.get(each) for each in order["shipmentIds"]]
    shipments = [each for each in found if each is not None]
    assert [each["id"] for each in shipments] == order["shipmentIds"]
    assert [each["facilityName"] for each in shipments] == order["facilityNames"]
    assert [each["createdDate"] for each in shipments] == [
        each[:19] for each in order["shipmentCreatedDates"]
    ]
    assert all(each["orderId"] == order_id for each in shipments)
    return shipments
