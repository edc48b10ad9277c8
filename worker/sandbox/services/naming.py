"""Items named in a body, in each of the ways in which the API names them somewhere."""

from __future__ import annotations

from typing import Any

from worker.sandbox.answers import refusal

_LISTS = ("orderItemIDs", "orderItemIds", "itemIds", "items", "orderItems", "packageOrderItems")
_IDS = ("id", "itemId", "orderItemId")


def named_items(body: dict[str, Any], *, empty_is_all: bool = True) -> dict[str, int | None]:
    """Ids of the items that a body names, each with the quantity that it gives or None; empty when it names none.

    Shipments name items by `orderItemIDs`, reroutes by `orderItems` with `id` and `quantity`, refunds by
    `itemId`: each of these lists may have plain ids or objects.

    Args:
        body: What was sent.
        empty_is_all: Whether an empty list is the same as none; where it is not, it is refused.

    Raises:
        Refusal: 400, a list has something else in it, or names an item twice.
    """
    name = next((each for each in _LISTS if body.get(each)), None)
    if name is None:
        empty = next((each for each in _LISTS if body.get(each) is not None), None)
        if empty is not None and not empty_is_all:
            raise refusal(400, f"'{empty}' must not be empty: leave it out to name all items.", empty)
        return {}
    listed = body[name]
    if not isinstance(listed, list):
        raise refusal(400, f"'{name}' must be a list.", name)
    result: dict[str, int | None] = {}
    for position, item in enumerate(listed):
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
