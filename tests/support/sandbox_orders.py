"""Orders of a sandbox: new ones, and those that are there."""

from typing import Any

from tests.support.sandbox_api import SandboxApi
from worker.sandbox import SandboxServer

ADDRESS = {"firstName": "Ines", "lastName": "Example", "line1": "1 Mill Lane", "countryCode": "US"}


def body(*skus: str, **fields: Any) -> dict[str, Any]:
    """The body of a create, one item for each SKU."""
    items = [{"sku": sku, "quantity": 2} for sku in skus or ("MUG-11OZ-WHT",)]
    return {"items": items, "shippingAddress": ADDRESS} | fields


def created(api: SandboxApi, *skus: str, **fields: Any) -> dict[str, Any]:
    order: dict[str, Any] = api.do("orders.create", body(*skus, **fields))["order"]
    return order


def read(api: SandboxApi, order_id: str) -> dict[str, Any]:
    order: dict[str, Any] = api.do("orders.get", orderId=order_id)["order"]
    return order


def some(server: SandboxServer, status: str) -> dict[str, Any]:
    """The order in this status that was made first."""
    for order_id in server.store.ids():
        order = server.store.read(order_id)
        if order is not None and order["status"] == status:
            return order
    raise AssertionError(f"no order is {status}")
