"""The order service: changes of existing orders.

A closed order, cancelled or fulfilled, accepts no change except refunds (409). The bodies of cancellations are not
documented: items are listed by id, with any of the field names that the API uses elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from worker.sandbox.answers import Answer, json_answer, refusal
from worker.sandbox.data.mutations import OPEN_STATUSES, cancel, set_status
from worker.sandbox.data.orders import format_ticks, make_uuid
from worker.sandbox.services import bulk
from worker.sandbox.services.naming import listed_items
from worker.sandbox.services.order_models import CHANGEABLE, changes
from worker.sandbox.services.orders import not_found, wrapped
from worker.sandbox.state.audit import UPDATED

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.sandbox.calls import Call, Handler, Sandbox
    from worker.sandbox.data.orders import Order

HELD = "Customer Care Hold"

_CENT = 0.005


def update(sandbox: Sandbox, call: Call) -> Answer:
    """Update order data."""
    order_id = call.params["orderId"]
    _update(sandbox, call, order_id, call.fields())
    return _order(sandbox, order_id)


def update_many(sandbox: Sandbox, call: Call) -> Answer:
    """Update multiple orders, each with its `id` or `safeId`."""

    def one(body: dict[str, Any]) -> str:
        order_id = body.get("id") or body.get("orderId")
        if order_id is None and isinstance(body.get("safeId"), str):
            order = sandbox.store.order_of_safe_id(body["safeId"])
            order_id = None if order is None else order["id"]
        if not isinstance(order_id, str):
            raise refusal(404, "The order was not found: send its 'id' or 'safeId'.", "id")
        names = ("id", "orderId", "safeId")
        _update(sandbox, call, order_id, {key: value for key, value in body.items() if key not in names})
        return order_id

    return bulk.answer(call, one)


def cancel_order(sandbox: Sandbox, call: Call) -> Answer:
    """Cancel Order or order items: the items that the body lists, or all items if it lists none."""
    order_id = call.params["orderId"]
    listed = listed_items(call.fields(), empty_is_all=False)

    def work(order: Order, at: int) -> None:
        _must_be_open(order, "cancelled")
        stamp = format_ticks(at)
        remaining = [each for each in order["items"] if each["status"] != "Cancelled"]
        for item_id in listed:
            item = next((each for each in order["items"] if each["id"] == item_id), None)
            if item is None:
                raise refusal(400, "The order has no such item.", "items", item_id)
            if item["status"] == "Cancelled":
                raise refusal(409, "The item is cancelled already.", "items", item_id)
            if item["status"] == "Fulfilled":
                raise refusal(409, "The item is fulfilled already.", "items", item_id)
        if not listed or len(listed) == len(remaining):
            cancel(order, stamp)
            return
        for item in remaining:
            if item["id"] in listed:
                item |= {"status": "Cancelled", "cancelledAt": stamp, "updatedAt": stamp}

    _edit(sandbox, call, order_id, work, "Cancelled")
    return _order(sandbox, order_id)


def hold(sandbox: Sandbox, call: Call) -> Answer:
    """Change the order status to Customer Care Hold."""
    order_id = call.params["orderId"]

    def work(order: Order, at: int) -> None:
        _must_be_open(order, "put on hold")
        if order["status"] == HELD:
            raise refusal(409, "The order is on hold already.", "status", HELD)
        set_status(order, HELD, format_ticks(at))
        order["statusDesc"] = "Put on hold by customer care"

    _edit(sandbox, call, order_id, work, "CustomerCareHold")
    return _order(sandbox, order_id)


def refund(sandbox: Sandbox, call: Call) -> Answer:
    """Add a Refund Request: all refunds of the body, or none of them if one is refused."""
    body = call.fields()
    order_id: str = body["orderId"]
    refunds: list[dict[str, Any]] = []

    def work(order: Order, at: int) -> None:
        if not body["refunds"]:
            raise refusal(400, "'refunds' must not be empty.", "refunds")
        for position, item in enumerate(body["refunds"]):
            refunds.append(_refund(sandbox, order, item, f"refunds[{position}].", format_ticks(at)))

    _edit(sandbox, call, order_id, work, "RefundRequested")
    return json_answer({"orderId": order_id, "refunds": refunds}, 201)


def _refund(sandbox: Sandbox, order: Order, body: dict[str, Any], prefix: str, stamp: str) -> dict[str, Any]:
    item = next((each for each in order["items"] if each["id"] == body["itemId"]), None)
    if item is None:
        raise refusal(404, "The order has no such item.", f"{prefix}itemId", body["itemId"])
    shipping, amount = bool(body.get("isShippingRefund")), body["amount"]
    data = item["refundData"] or {
        "refunds": [],
        "remainingShippingBalance": order["merchantShippingTotal"]["amount"],
        "remainingPriceBalance": item["merchantItemTotal"]["amount"],
    }
    balance = "remainingShippingBalance" if shipping else "remainingPriceBalance"
    if not 0 < amount < data[balance] + _CENT:
        sentence = f"'{prefix}amount' must be above 0 and at most {data[balance]}."
        raise refusal(400, sentence, f"{prefix}amount", amount)
    entry = {
        "transactionId": make_uuid(sandbox.store.factory.rng),
        "isShippingRefund": shipping,
        "amount": amount,
        "reason": body.get("reason"),
    }
    data["refunds"].append(entry)
    data[balance] = round(data[balance] - amount, 2)
    item |= {"refundData": data, "updatedAt": stamp}
    return {"itemId": item["id"]} | entry


def _update(sandbox: Sandbox, call: Call, order_id: str, body: dict[str, Any]) -> None:
    def work(order: Order, _at: int) -> None:
        _must_be_open(order, "changed")
        order |= changes(body, order, CHANGEABLE, "GetOrderModel")

    _edit(sandbox, call, order_id, work, UPDATED)


def _must_be_open(order: Order, done: str) -> None:
    if order["status"] not in OPEN_STATUSES:
        sentence = f"An order that is {order['status'].lower()} cannot be {done}."
        raise refusal(409, sentence, "status", order["status"])


def _edit(
    sandbox: Sandbox,
    call: Call,
    order_id: str,
    work: Callable[[Order, int], None],
    action: str,
) -> None:
    with sandbox.world.lock:
        if sandbox.store.read(order_id) is None:
            raise not_found("orderId", order_id)
        sandbox.store.edit(order_id, work, actor=call.actor, action=action)


def _order(sandbox: Sandbox, order_id: str) -> Answer:
    record = sandbox.store.get(order_id)
    if record is None:
        raise not_found("orderId", order_id)
    return wrapped(record)


HANDLERS: dict[str, Handler] = {
    "orders.update": update,
    "orders.update_many": update_many,
    "orders.cancel": cancel_order,
    "orders.hold": hold,
    "orders.refund": refund,
}
