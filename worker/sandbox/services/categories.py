"""Product categories. Their fields are not documented: here a unique name and a description.

Unlike the order and shipment services, the catalog service has no schema for a conflict, so a request that contradicts
the state gets a 400 here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.sandbox import listing
from worker.sandbox.answers import Answer, json_answer, refusal
from worker.sandbox.services.writing import CATEGORIES, PRODUCTS, object_id

if TYPE_CHECKING:
    from worker.sandbox.calls import Call, Handler, Sandbox
    from worker.sandbox.data.record import Record


def list_all(sandbox: Sandbox, call: Call) -> Answer:
    """View all product categories."""
    return listing.answer(sandbox, call, "categories.list", sandbox.world.categories)


def create(sandbox: Sandbox, call: Call) -> Answer:
    """Create a new category."""
    world = sandbox.world
    with world.lock:
        fields = _fields(sandbox, call.fields())
        at = world.stamp()
        return json_answer(CATEGORIES.add(sandbox, call, {"id": object_id(at)} | fields, at), 201)


def update(sandbox: Sandbox, call: Call) -> Answer:
    """Update category. Its products contain its name, so they change too."""
    world = sandbox.world
    with world.lock:
        before = CATEGORIES.get(sandbox, call.params["id"], "id")
        fields = _fields(sandbox, call.fields(), before["id"])
        at = world.stamp()
        after = CATEGORIES.put(sandbox, call, before, fields, at)
        if after["name"] != before["name"]:
            reference = {"id": after["id"], "name": after["name"]}
            for product in _products_in(sandbox, after["id"]):
                categories = [
                    reference if item["id"] == after["id"] else item for item in product["categories"]
                ]
                PRODUCTS.put(sandbox, call, product, {"categories": categories}, at)
        return json_answer(after)


def delete(sandbox: Sandbox, call: Call) -> Answer:
    """Delete category; refused while products are in it."""
    world = sandbox.world
    with world.lock:
        before = CATEGORIES.get(sandbox, call.params["id"], "id")
        products = len(_products_in(sandbox, before["id"]))
        if products:
            raise refusal(400, f"The category has products: {products}.", "id", before["id"])
        CATEGORIES.remove(sandbox, call, before)
    return Answer(204, b"")


def _products_in(sandbox: Sandbox, category_id: str) -> list[Record]:
    return [
        product
        for product in sandbox.world.products.values()
        if any(item["id"] == category_id for item in product["categories"])
    ]


def _fields(sandbox: Sandbox, body: Record, own_id: str | None = None) -> Record:
    """Return the fields of a body.

    Raises:
        Refusal: 400, the name is empty, or another category has it.
    """
    name: str = body["name"]
    if not name.strip():
        raise refusal(400, "'name' must not be empty.", "name", name)
    if any(item["name"] == name and item["id"] != own_id for item in sandbox.world.categories.values()):
        raise refusal(400, "There is a category with this name.", "name", name)
    return {"name": name, "description": body.get("description")}


HANDLERS: dict[str, Handler] = {
    "categories.list": list_all,
    "categories.create": create,
    "categories.update": update,
    "categories.delete": delete,
    "categories.audit_logs": CATEGORIES.audit_logs("id"),
}
