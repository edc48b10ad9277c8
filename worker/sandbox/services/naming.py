"""Reading the items that a body lists, in all the forms that the API uses."""

from __future__ import annotations

from typing import Any

from worker.sandbox.answers import refusal

_LISTS = ("orderItemIDs", "orderItemIds", "itemIds", "items", "orderItems", "packageOrderItems")
_IDS = ("id", "itemId", "orderItemId")


def listed_items(body: dict[str, Any], *, empty_is_all: bool = True) -> dict[str, int | None]:
    """Return the ids of the items that a body lists, each with its quantity or None; empty if it has no list.

    Shipments list items in `orderItemIDs`, reroutes in `orderItems` with `id` and `quantity`, refunds with `itemId`.
    Each of these lists may contain ids or objects.

    Args:
        body: The body.
        empty_is_all: True if an empty list means the same as no list; otherwise it is refused.

    Raises:
        Refusal: 400, a list contains something else, or contains an item twice.
    """
    name = next((each for each in _LISTS if body.get(each)), None)
    if name is None:
        empty = next((each for each in _LISTS if body.get(each) is not None), None)
        if empty is not None and not empty_is_all:
            raise refusal(400, f"'{empty}' must not be empty: leave it out to name all items.", empty)
        return {}
    items = body[name]
    if not isinstance(items, list):
        raise refusal(400, f"'{name}' must be a list.", name)
    result: dict[str, int | None] = {}
    for position, item in enumerate(items):
        fields = item if isinstance(item, dict) else {"id": item}
        item_id = next((fields[key] for key in _IDS if isinstance(fields.get(key), str)), None)
        quantity = fields.get("quantity")
        if item_id is None:
            raise refusal(400, f"'{name}[{position}]' must be or have the id of an item.", name)
        if item_id in result:
            raise refusal(400, f"'{name}' names an item twice.", name, item_id)
        if quantity is not None and (
            isinstance(quantity, bool) or not isinstance(quantity, int) or quantity < 1
        ):
            raise refusal(400, "'quantity' must be a whole number from 1.", f"{name}[{position}].quantity")
        result[item_id] = quantity
    return result
