"""The note service: notes on orders, items, shipments and records of the catalog.

The names of the schemas show that a note refers to a resource and a user; the fields are invented.
"""

from __future__ import annotations

import uuid
from random import Random
from typing import TYPE_CHECKING

from worker.sandbox import listing
from worker.sandbox.answers import Answer, json_answer, refusal
from worker.sandbox.data.catalog_data import make_notes, user_reference
from worker.sandbox.services.writing import NOTES
from worker.sandbox.state.records import as_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.sandbox.calls import Call, Handler, Sandbox
    from worker.sandbox.data.record import Record
    from worker.sandbox.state.world import World

_FILTERS = {"resourceId": "id", "resourceType": "type"}

_RESOURCES: dict[str, Callable[[World, str], bool]] = {
    "order": lambda world, id_: world.orders.get(id_) is not None,
    "orderItem": lambda world, id_: world.orders.order_of_item(id_) is not None,
    "shipment": lambda world, id_: id_ in world.shipments,
    "category": lambda world, id_: id_ in world.categories,
    "product": lambda world, id_: id_ in world.products,
    "variant": lambda world, id_: id_ in world.variants,
    "merchantCatalog": lambda world, id_: id_ in world.merchant_catalogs,
}
"""The kinds of records that can have notes, each with a function that is true if a record exists."""


def fill(world: World, seed: int) -> None:
    """Add notes on some of the orders."""
    for note in make_notes(Random(seed), world.orders.ids(), lambda item: world.orders.times(item)[1]):
        world.notes.add(note)


def create(sandbox: Sandbox, call: Call) -> Answer:
    """Create a New Note on an existing record."""
    body = call.fields()
    resource = body["resource"]
    kind, resource_id = resource["type"], resource["id"]
    exists = _RESOURCES.get(kind)
    if exists is None:
        sentence = f"'resource.type' must be one of {', '.join(_RESOURCES)}."
        raise refusal(400, sentence, "resource.type", kind)
    with sandbox.world.lock:
        if not exists(sandbox.world, resource_id):
            raise refusal(404, f"There is no {kind} with this id.", "resource.id", resource_id)
        note = {
            "id": str(uuid.uuid4()),
            "resource": {"id": resource_id, "type": kind},
            "user": user_reference(call.actor),
            "text": _text(body),
        }
        return json_answer(NOTES.add(sandbox, call, note, sandbox.world.stamp()), 201)


def search(sandbox: Sandbox, call: Call) -> Answer:
    """Search All Notes, of all resources or of one."""
    notes = sandbox.world.notes
    requested = {field: call.query[name] for name, field in _FILTERS.items() if name in call.query}
    if not requested:
        return listing.answer(sandbox, call, "notes.search", notes)
    result = [
        item
        for item in notes.values()
        if all(as_text(item["resource"][field]) == value for field, value in requested.items())
    ]
    return listing.answer(sandbox, call, "notes.search", result)


def get(sandbox: Sandbox, call: Call) -> Answer:
    """View Note by ID."""
    return json_answer(_note(sandbox, call, "noteId"))


def update(sandbox: Sandbox, call: Call) -> Answer:
    """Update Note: its text."""
    with sandbox.world.lock:
        before, at = _note(sandbox, call, "id"), sandbox.world.stamp()
        text = _text(call.fields())
        return json_answer(NOTES.put(sandbox, call, before, {"text": text}, at))


def delete(sandbox: Sandbox, call: Call) -> Answer:
    """Delete Note."""
    with sandbox.world.lock:
        NOTES.remove(sandbox, call, _note(sandbox, call, "id"))
    return Answer(204, b"")


def _note(sandbox: Sandbox, call: Call, parameter: str) -> Record:
    return NOTES.get(sandbox, call.params[parameter], parameter)


def _text(body: Record) -> str:
    text: str = body["text"]
    if not text.strip():
        raise refusal(400, "'text' must not be empty.", "text", text)
    return text


HANDLERS: dict[str, Handler] = {
    "notes.create": create,
    "notes.search": search,
    "notes.get": get,
    "notes.update": update,
    "notes.delete": delete,
    "notes.audit_logs": NOTES.audit_logs("id"),
}
