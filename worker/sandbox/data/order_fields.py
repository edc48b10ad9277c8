"""Reading orders that may be invalid: tests add records that break the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.sandbox.data.orders import Order

FILTERS = ("status", "merchantId", "externalId", "safeId", "shortId")
"""Query parameters that filter a search, named after the fields that they compare (inferred)."""


UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""The exceptions that decoding invalid JSON raises. Each of them has occurred."""


class _Keys(msgspec.Struct, rename="camel"):
    """The fields of `FILTERS`, in the same order."""

    status: str | None = None
    merchant_id: str | None = None
    external_id: str | None = None
    safe_id: str | None = None
    short_id: str | None = None


_read_keys = msgspec.json.Decoder(_Keys).decode
_ATTRIBUTES = dict(zip(FILTERS, _Keys.__struct_fields__, strict=True))


def matches(record: bytes, filters: Mapping[str, str]) -> bool:
    """True if a record has these values of `FILTERS`; an unreadable record never has."""
    try:
        keys = _read_keys(record)
    except UNREADABLE:
        return False
    return all(getattr(keys, _ATTRIBUTES[name]) == value for name, value in filters.items())


def decode(raw: bytes) -> Order | None:
    """Return the order; None if the bytes are not a JSON object."""
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except UNREADABLE:
        return None


def items_of(order: Order) -> list[Order]:
    """Return the items of an order that have an id; an empty list if an invalid record has no list of items."""
    items = order.get("items")
    if not isinstance(items, list):
        return []
    return [item for item in items if isinstance(item, dict) and isinstance(item.get("id"), str)]
