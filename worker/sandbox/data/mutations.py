"""What happens to an order after its creation, as plain changes of the decoded record.

Each function changes the order in place, in a way a merchant or a facility would, and always leaves
it different from before. `stamp` is the moment of the change as the API writes it; the caller sets
`updatedAt` of the order itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.sandbox.data.orders import FACILITIES, make_uuid

if TYPE_CHECKING:
    from random import Random

    from worker.sandbox.data.orders import Order

OPEN_STATUSES = frozenset({"Open", "In Production", "Customer Care Hold"})
"""Statuses from which an order still moves on by itself."""


def mutate(order: Order, stamp: str, rng: Random) -> None:
    """The next thing that happens to the order: mostly a step of its life, at times a correction."""
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
    """One step of a normal life: Open, In Production, Fulfilled; a hold is lifted."""
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
    """The order goes into production at the facility of its shipment."""
    order["processedAt"] = stamp
    set_status(order, "In Production", stamp)
    for item in order["items"]:
        if item["status"] != "Cancelled":
            item["processedAt"] = stamp
            item["fulfillmentReady"] = True


def add_shipment(order: Order, stamp: str, rng: Random) -> None:
    """One shipment more: its id, the join key to the shipment service, its facility and its date, side by side."""
    order["shipmentIds"].append(make_uuid(rng))
    order["facilityNames"].append(FACILITIES[int(rng.random() * len(FACILITIES))][1])
    order["shipmentCreatedDates"].append(stamp)


def correct_address(order: Order, rng: Random) -> None:
    """A corrected house number: never the one that stood there."""
    address = order["shippingAddress"]
    number, _, street = address["line1"].partition(" ")
    address["line1"] = f"{int(number) + 1 + int(rng.random() * 20)} {street}"


def hold(order: Order, stamp: str) -> None:
    """Customer care stops the order, or lets it go on when it was stopped."""
    if order["status"] == "Customer Care Hold":
        set_status(order, "Open", stamp)
        return
    set_status(order, "Customer Care Hold", stamp)
    order["statusDesc"] = "Address could not be verified"


def cancel(order: Order, stamp: str) -> None:
    """The order ends before it is made."""
    order["cancelledAt"] = stamp
    for item in order["items"]:
        item["cancelledAt"] = item["cancelledAt"] or stamp
    set_status(order, "Cancelled", stamp)


def refund(order: Order, stamp: str, rng: Random) -> None:
    """A refund on one item; the fields follow `refundData` of the item sample."""
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
    """Another status of the order, and of its items but those that were cancelled for themselves."""
    order["status"] = status
    order["statusDesc"] = None
    # Items know no hold in any sample: they stay as they are until the order moves on.
    if status != "Customer Care Hold":
        for item in order["items"]:
            if item["status"] != "Cancelled":
                item["status"] = status
                item["updatedAt"] = stamp
