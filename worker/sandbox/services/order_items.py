"""The order service: items, which are parts of their orders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.sandbox import listing
from worker.sandbox.answers import Answer, json_answer, refusal
from worker.sandbox.services.order_models import change_item
from worker.sandbox.state.items import FILTERS, ItemSource

if TYPE_CHECKING:
    from worker.sandbox.calls import Call, Handler, Sandbox
    from worker.sandbox.data.orders import Order


def search(sandbox: Sandbox, call: Call) -> Answer:
    """Search for order items: the items of all orders, each with the id of its order."""
    return listing.answer(sandbox, call, call.key, ItemSource(sandbox.store), filters=FILTERS)


def get(sandbox: Sandbox, call: Call) -> Answer:
    """Retrieve order item by Order Item ID: in `orderItem`, without the id of its order, as in the vendor's sample."""
    return _wrapped(_item(sandbox, call.params["itemId"]))


def update(sandbox: Sandbox, call: Call) -> Answer:
    """Update an item within an order, as long as the item is open."""
    order_id, item_id = call.params["orderId"], call.params["itemId"]
    body = call.fields()
    store = sandbox.store

    def work(order: Order, _at: int) -> None:
        item = _in(order, item_id)
        if item["status"] != "Open":
            sentence = f"An item that is {item['status'].lower()} cannot be changed."
            raise refusal(409, sentence, "status", item["status"])
        change_item(order, item, body)
        item["updatedAt"] = order["updatedAt"]

    with store.lock:
        order = store.read(order_id)
        if order is None:
            raise refusal(404, "The order was not found.", "orderId", order_id)
        _in(order, item_id)
        return _wrapped(_in(store.edit(order_id, work, actor=call.actor), item_id))


def audit_logs(sandbox: Sandbox, call: Call) -> Answer:
    """Retrieve audit logs for a specific order item, also of a deleted order."""
    item_id = call.params["itemId"]
    order = sandbox.store.order_of_item(item_id)
    if order is None and not sandbox.world.audit.entries("orderItem", item_id):
        raise _not_found(item_id)
    created = None if order is None else _in(order, item_id).get("createdAt")
    return listing.audit_answer(sandbox, call, "orderItem", item_id, created)


def _item(sandbox: Sandbox, item_id: str) -> Order:
    order = sandbox.store.order_of_item(item_id)
    if order is None:
        raise _not_found(item_id)
    return _in(order, item_id)


def _in(order: Order, item_id: str) -> Order:
    item: Order | None = next((each for each in order["items"] if each.get("id") == item_id), None)
    if item is None:
        raise _not_found(item_id)
    return item


def _not_found(item_id: str) -> Exception:
    return refusal(404, "The order item was not found.", "itemId", item_id)


def _wrapped(item: Order) -> Answer:
    return json_answer({"orderItem": item})


HANDLERS: dict[str, Handler] = {
    "order_items.search": search,
    "order_items.get": get,
    "order_items.update": update,
    "order_items.audit_logs": audit_logs,
}
