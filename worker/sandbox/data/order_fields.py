"""Reading orders that may be anything: tests plant records that break the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.sandbox.data.orders import Order

FILTERS = ("status", "merchantId", "externalId", "safeId", "shortId")
"""Query parameters by which a search is narrowed; named after the fields they compare [inferred]."""


UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding bytes that are no JSON raises: each of these has been seen."""


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
    """Whether a record has these values of `FILTERS`; one that cannot be read never does."""
    try:
        keys = _read_keys(record)
    except UNREADABLE:
        return False
    return all(getattr(keys, _ATTRIBUTES[name]) == value for name, value in filters.items())


def decode(raw: bytes) -> Order | None:
    """The order; None where the bytes are no JSON object."""
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except UNREADABLE:
        return None


def items_of(order: Order) -> list[Order]:
    """The items of an order that have an id; none where a planted record has something else there."""
    items = order.get("items")
    if not isinstance(items, list):
        return []
    return [item for item in items if isinstance(item, dict) and isinstance(item.get("id"), str)]
