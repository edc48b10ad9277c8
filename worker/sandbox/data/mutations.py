"""Realistic changes of an order after its creation.

Each function changes the decoded order in place, as a merchant or a facility would, and always makes a difference.
`stamp` is the time of the change in the format of the API. The caller sets `updatedAt` of the order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.sandbox.data.orders import FACILITIES, make_uuid

if TYPE_CHECKING:
    from random import Random

    from worker.sandbox.data.orders import Order

OPEN_STATUSES = frozenset({"Open", "In Production", "Customer Care Hold"})
"""Statuses of an order that still changes without a client."""


def mutate(order: Order, stamp: str, rng: Random) -> None:
    """Make a random change: usually the next step of the order's life, sometimes a correction."""
    chance = rng.random()
    if order.get("status") not in OPEN_STATUSES:
        if chance < 0.5 or order["status"] == "Cancelled":
            refund(order, stamp, rng)
        else:
            add_shipment(order, stamp, rng)
    elif chance < 0.6:
        advance(order, stamp, rng)
    elif chance < 0.8:
        correct_address(order, rng)
    elif chance < 0.9:
        hold(order, stamp)
    elif chance < 0.95 or order["status"] != "In Production":
        cancel(order, stamp)
    else:
        add_shipment(order, stamp, rng)


def advance(order: Order, stamp: str, rng: Random) -> None:
    """Move the order to its next status: from Open to In Production to Fulfilled, or from on hold to Open."""
    status = order["status"]
    if status == "Open":
        if not order["shipmentIds"]:
            add_shipment(order, stamp, rng)
        produce(order, stamp)
    elif status == "In Production":
        set_status(order, "Fulfilled", stamp)
    else:
        set_status(order, "Open", stamp)


def produce(order: Order, stamp: str) -> None:
    """Put the order into production at the facility of its shipment."""
    order["processedAt"] = stamp
    set_status(order, "In Production", stamp)
    for item in order["items"]:
        if item["status"] != "Cancelled":
            item["processedAt"] = stamp
            item["fulfillmentReady"] = True


def add_shipment(order: Order, stamp: str, rng: Random) -> None:
    """Add a shipment: its id, which is the key in the shipment service, its facility and its date."""
    order["shipmentIds"].append(make_uuid(rng))
    order["facilityNames"].append(FACILITIES[int(rng.random() * len(FACILITIES))][1])
    order["shipmentCreatedDates"].append(stamp)


def correct_address(order: Order, rng: Random) -> None:
    """Change the house number, always to another one."""
    address = order["shippingAddress"]
    number, _, street = address["line1"].partition(" ")
    address["line1"] = f"{int(number) + 1 + int(rng.random() * 20)} {street}"


def hold(order: Order, stamp: str) -> None:
    """Put the order on hold; if it is on hold already, open it again."""
    if order["status"] == "Customer Care Hold":
        set_status(order, "Open", stamp)
        return
    set_status(order, "Customer Care Hold", stamp)
    order["statusDesc"] = "Address could not be verified"


def cancel(order: Order, stamp: str) -> None:
    """Cancel the order and its items."""
    order["cancelledAt"] = stamp
    for item in order["items"]:
        item["cancelledAt"] = item["cancelledAt"] or stamp
    set_status(order, "Cancelled", stamp)


def refund(order: Order, stamp: str, rng: Random) -> None:
    """Refund one item. The fields follow `refundData` in the vendor's sample of an item."""
    item = order["items"][int(rng.random() * len(order["items"]))]
    data = item["refundData"] or {
        "refunds": [],
        "remainingShippingBalance": 3.99,
        "remainingPriceBalance": 5.0,
    }
    data["refunds"].append(
        {
            "transactionId": f"rf-{rng.getrandbits(40):010x}",
            "isShippingRefund": False,
            "amount": 1.25,
            "reason": "Print quality",
        }
    )
    item["refundData"] = data
    item["updatedAt"] = stamp


def set_status(order: Order, status: str, stamp: str) -> None:
    """Set the status of the order, and of its items except cancelled ones."""
    order["status"] = status
    order["statusDesc"] = None
    # No sample shows an item on hold, so items keep their status during a hold.
    if status != "Customer Care Hold":
        for item in order["items"]:
            if item["status"] != "Cancelled":
                item["status"] = status
                item["updatedAt"] = stamp
