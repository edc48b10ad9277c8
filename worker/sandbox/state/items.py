"""The items of all orders as one list. Only the orders that a page needs are read."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from worker.sandbox.data.order_fields import items_of
from worker.sandbox.state.records import Source, has_values

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Iterator, Mapping

    from worker.sandbox.data.record import Record
    from worker.sandbox.state.store import Store

FILTERS = ("orderId", "status", "sku", "merchantId")
"""Query parameters that filter a search for items; the merchant is that of the order."""


class _ItemTimes(msgspec.Struct, rename="camel"):
    id: Any = None
    updated_at: Any = None
    created_at: Any = None


class _OrderTimes(msgspec.Struct):
    items: list[_ItemTimes] = []


_read_times = msgspec.json.Decoder(_OrderTimes).decode


class ItemSource(Source):
    """Items in creation order, each as in its order and with `orderId`. Create one for each request.

    Args:
        store: The orders.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        # The order that was read last, because the items of an order follow each other.
        self._last_order: tuple[str, dict[str, Record]] = ("", {})

    @property
    def lock(self) -> threading.RLock:
        """The sandbox's one lock."""
        return self._store.lock

    def __len__(self) -> int:
        return len(self._store.items)

    def ids(self) -> list[str]:
        """Return every id, in creation order."""
        return list(self._store.items)

    def window(self, start: int, stop: int) -> list[bytes]:
        """Return the items at positions `[start, stop)`."""
        return self.rows(list(islice(self._store.items, start, stop)))

    def rows(self, ids: Iterable[str]) -> list[bytes]:
        """Return the items with these ids."""
        return [msgspec.json.encode(self._item(item)) for item in ids]

    def times(self, record_id: str) -> tuple[object, object]:
        """Return the time of the last change (of an unchanged item, of its creation) and of the creation."""
        raw = self._store.get(self._store.items[record_id]) or b"{}"
        item = next(each for each in _read_times(raw).items if each.id == record_id)
        return item.updated_at or item.created_at, item.created_at

    def matching(self, filters: Mapping[str, str]) -> list[str]:
        """Return the ids of the items with these values."""
        item_filters = {name: value for name, value in filters.items() if name != "merchantId"}
        return [item for item in self._of(filters) if has_values(self._item(item), item_filters)]

    def _of(self, filters: Mapping[str, str]) -> Iterator[str]:
        """Yield the ids of the items of one order, of the orders of one merchant, or of all orders."""
        merchant, order_id = filters.get("merchantId"), filters.get("orderId")
        if merchant is None and order_id is None:
            yield from self._store.items
            return
        orders = self._store.ids() if order_id is None else [order_id]
        for each in orders:
            order = self._store.read(each) or {}
            if merchant in (None, order.get("merchantId")):
                yield from (item["id"] for item in items_of(order))

    def _item(self, item_id: str) -> Record:
        order_id = self._store.items[item_id]
        if self._last_order[0] != order_id:
            order = self._store.read(order_id) or {}
            items = {item["id"]: item | {"orderId": order_id} for item in items_of(order)}
            self._last_order = (order_id, items)
        return self._last_order[1][item_id]
