"""The order service: creating orders, reading them singly, in bulk and in lists, and their audit logs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from worker.sandbox import listing
from worker.sandbox.answers import Answer, refusal
from worker.sandbox.data.order_fields import FILTERS
from worker.sandbox.services import bulk
from worker.sandbox.services.order_models import new_order

if TYPE_CHECKING:
    from worker.sandbox.calls import Call, Handler, Sandbox
    from worker.sandbox.data.orders import Order


def search(sandbox: Sandbox, call: Call) -> Answer:
    """Search for orders: a page of complete records, filtered by fields."""
    return listing.answer(sandbox, call, call.key, sandbox.store, filters=FILTERS)


def list_all(sandbox: Sandbox, call: Call) -> Answer:
    """Retrieve a list of orders: complete records, since the fields of `ListOrderModel` are not documented."""
    return listing.answer(sandbox, call, call.key, sandbox.store)


def get(sandbox: Sandbox, call: Call) -> Answer:
    """Retrieve an order by Order ID: wrapped in `order`, as in the vendor's sample by safe id."""
    return wrapped(_record(sandbox, call.params["orderId"]))


def get_by_safe_id(sandbox: Sandbox, call: Call) -> Answer:
    """Retrieve an order by Safe ID."""
    order = by_safe_id(sandbox, call)
    return wrapped(_record(sandbox, order["id"]))


def get_many(sandbox: Sandbox, call: Call) -> Answer:
    """Retrieve multiple orders by `ids`, a parameter that occurs several times or has commas between the ids."""
    ids = call.many("ids")
    if not 1 <= len(ids) <= bulk.MAX_AT_ONCE:
        raise refusal(400, f"'ids' must have from 1 to {bulk.MAX_AT_ONCE} ids.", "ids", len(ids))

    def one(order_id: str) -> bulk.Done:
        return bulk.Done(order_id, data=msgspec.Raw(_record(sandbox, order_id)))

    return bulk.results(ids, one)


def create(sandbox: Sandbox, call: Call) -> Answer:
    """Create a New Order. A `safeId` that another order has is a conflict, so a repeated create does no harm."""
    order_id = _create(sandbox, call, call.fields())
    return wrapped(_record(sandbox, order_id), 201)


def create_many(sandbox: Sandbox, call: Call) -> Answer:
    """Create multiple orders."""
    return bulk.answer(call, lambda body: bulk.Done(_create(sandbox, call, body), 201))


def audit_logs(sandbox: Sandbox, call: Call) -> Answer:
    """Retrieve audit logs for a specific order, also of a deleted one."""
    order_id = call.params["orderId"]
    order = sandbox.store.read(order_id)
    if order is None and not sandbox.world.audit.entries("order", order_id):
        raise not_found("orderId", order_id)
    return listing.audit_answer(sandbox, call, "order", order_id, (order or {}).get("createdAt"))


def audit_logs_by_safe_id(sandbox: Sandbox, call: Call) -> Answer:
    """Retrieve audit logs for a specific order by its safe id."""
    order = by_safe_id(sandbox, call)
    return listing.audit_answer(sandbox, call, "order", order["id"], order.get("createdAt"))


def by_safe_id(sandbox: Sandbox, call: Call) -> Order:
    """Return the order with the safe id in the path.

    Raises:
        Refusal: 404, no order has this safe id.
    """
    safe_id = call.params["safeId"]
    order = sandbox.store.order_of_safe_id(safe_id)
    if order is None:
        raise not_found("safeId", safe_id)
    return order


def wrapped(record: bytes, status: int = 200) -> Answer:
    """Return a response with one order, wrapped in `order`."""
    return Answer(status, b'{"order":' + record + b"}")


def not_found(parameter: str, value: str) -> Exception:
    """Return the refusal of a request for an order that does not exist."""
    return refusal(404, "The order was not found.", parameter, value)


def _record(sandbox: Sandbox, order_id: str) -> bytes:
    record = sandbox.store.get(order_id)
    if record is None:
        raise not_found("orderId", order_id)
    return record


def _create(sandbox: Sandbox, call: Call, body: dict[str, Any]) -> str:
    store = sandbox.store
    safe_id = body.get("safeId")
    with store.lock:
        if safe_id and store.order_of_safe_id(safe_id) is not None:
            raise refusal(409, "There is an order with this safeId already.", "safeId", safe_id)
        at = store.stamp()
        return store.add(new_order(body, store.factory, at), at, call.actor)


HANDLERS: dict[str, Handler] = {
    "orders.search": search,
    "orders.list": list_all,
    "orders.get": get,
    "orders.get_by_safe_id": get_by_safe_id,
    "orders.get_many": get_many,
    "orders.create": create,
    "orders.create_many": create_many,
    "orders.audit_logs": audit_logs,
    "orders.audit_logs_by_safe_id": audit_logs_by_safe_id,
}
