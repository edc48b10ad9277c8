"""Product categories. Their shape is not documented: a name, which every category has to itself, and a text.

The catalog service names no schema for a conflict, unlike orders and shipments, so what contradicts the state is
answered with 400 here.
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
    """Update category; products that are in it show its new name and count as changed."""
    world = sandbox.world
    with world.lock:
        before = CATEGORIES.get(sandbox, call.params["id"], "id")
        fields = _fields(sandbox, call.fields(), before["id"])
        at = world.stamp()
        after = CATEGORIES.put(sandbox, call, before, fields, at)
        if after["name"] != before["name"]:
            shown = {"id": after["id"], "name": after["name"]}
            for product in _products_in(sandbox, after["id"]):
                categories = [shown if item["id"] == shown["id"] else item for item in product["categories"]]
                PRODUCTS.put(sandbox, call, product, {"categories": categories}, at)
        return json_answer(after)


def delete(sandbox: Sandbox, call: Call) -> Answer:
    """Delete category: refused while products are in it."""
    world = sandbox.world
    with world.lock:
        before = CATEGORIES.get(sandbox, call.params["id"], "id")
        used = len(_products_in(sandbox, before["id"]))
        if used:
            raise refusal(400, f"The category has products: {used}.", "id", before["id"])
        CATEGORIES.remove(sandbox, call, before)
    return Answer(204, b"")


def _products_in(sandbox: Sandbox, category_id: str) -> list[Record]:
    return [
        product
        for product in sandbox.world.products.values()
        if any(item["id"] == category_id for item in product["categories"])
    ]


def _fields(sandbox: Sandbox, body: Record, own_id: str | None = None) -> Record:
    """The fields of a body; its name must belong to no other category."""
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
