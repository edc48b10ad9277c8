"""The orders of the sandbox as JSON bytes in creation order, and where to find one by another id.

An order is encoded when it changes and served unchanged, so that a page is a single join of bytes.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec

from worker.sandbox.data.mutations import OPEN_STATUSES
from worker.sandbox.data.order_fields import decode, items_of, matches
from worker.sandbox.state import lists
from worker.sandbox.state.records import Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from worker.sandbox.contract import ServedContract
    from worker.sandbox.data.orders import Order


class OrderTable(Source):
    """Encoded orders, with their times, and the ids of their items. `Store` changes them and holds the lock for it.

    Args:
        contract: Layout of pages.
    """

    def __init__(self, contract: ServedContract) -> None:
        self.contract = contract
        self._lock = threading.RLock()
        self._ids: list[str] = []
        self._records: dict[str, bytes] = {}
        self._times: dict[str, tuple[object, object]] = {}
        self._order_of_item: dict[str, str] = {}
        # The order in which a safe id was seen last. It is checked before use.
        self._order_of_safe_id: dict[str, str] = {}
        self._open: set[str] = set()
        self._encode = msgspec.json.Encoder().encode

    @property
    def lock(self) -> threading.RLock:
        """The lock of the sandbox."""
        return self._lock

    def page(self, page: int, size: int, filters: Mapping[str, str] | None = None) -> bytes:
        """Return the body of one page of a search, in the layout of the contract.

        Args:
            page: Number of the page, counted from `contract.page_base`.
            size: Records per page.
            filters: Values of `FILTERS` that a record must have; unreadable records never match.
        """
        with self._lock:
            ids = self.matching(filters) if filters else None
            return lists.page(self.contract, self, page, size, ids, key="orders")

    def get(self, order_id: str) -> bytes | None:
        """Return the order as served; None if it does not exist."""
        return self._records.get(order_id)

    def read(self, order_id: str) -> Order | None:
        """Return the order decoded; None if it does not exist or is unreadable."""
        raw = self._records.get(order_id)
        return None if raw is None else decode(raw)

    def order_of_item(self, item_id: str) -> Order | None:
        """Return the order that has an item with this id."""
        return self.read(self._order_of_item.get(item_id, ""))

    def order_of_safe_id(self, safe_id: str) -> Order | None:
        """Return the order with this safe id."""
        order = self.read(self._order_of_safe_id.get(safe_id, ""))
        return order if order and order.get("safeId") == safe_id else None

    @property
    def items(self) -> Mapping[str, str]:
        """The ids of all items, in creation order, each with the id of its order; the caller holds the lock."""
        return self._order_of_item

    def window(self, start: int, stop: int) -> list[bytes]:
        """Return the orders at positions `[start, stop)`."""
        records = self._records
        return [records[item] for item in self._ids[start:stop]]

    def rows(self, ids: Iterable[str]) -> list[bytes]:
        """Return the orders with these ids."""
        records = self._records
        return [records[item] for item in ids]

    def times(self, record_id: str) -> tuple[object, object]:
        """Return the time of the last change (of an unchanged order, of its creation) and of the creation."""
        return self._times[record_id]

    def matching(self, filters: Mapping[str, str]) -> list[str]:
        """Return the ids of the orders whose fields have these values; an unreadable order never matches."""
        return [item for item in self._ids if matches(self._records[item], filters)]

    def truth(self) -> dict[str, bytes]:
        """Return every order by id, in creation order, as it would be served now."""
        with self._lock:
            return {item: self._records[item] for item in self._ids}

    def ids(self) -> list[str]:
        """Return every id, in creation order."""
        with self._lock:
            return list(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def _add(self, order: Order) -> str:
        order_id: str = order["id"]
        self._ids.append(order_id)
        # Like `_store`, but faster, since generated orders are always readable: a history is long.
        self._records[order_id] = self._encode(order)
        created = order["createdAt"]
        self._times[order_id] = (order["updatedAt"] or created, created)
        for item in order["items"]:
            self._order_of_item[item["id"]] = order_id
        self._order_of_safe_id[order["safeId"]] = order_id
        if order["status"] in OPEN_STATUSES:
            self._open.add(order_id)
        return order_id

    def _store(self, order_id: str, order: Order, before: Order) -> None:
        self._records[order_id] = self._encode(order)
        self._index(order_id, order, before)
        if order.get("status") in OPEN_STATUSES:
            self._open.add(order_id)
        else:
            self._open.discard(order_id)

    def _index(self, order_id: str, order: Order, before: Order) -> None:
        self._forget_items(order_id, before, order)
        created = order.get("createdAt")
        self._times[order_id] = (order.get("updatedAt") or created, created)
        for item in items_of(order):
            self._order_of_item[item["id"]] = order_id
        safe_id = order.get("safeId")
        if isinstance(safe_id, str):
            self._order_of_safe_id[safe_id] = order_id

    def _forget_items(self, order_id: str, before: Order, after: Order) -> None:
        """Remove the items that an order no longer has, unless a record set by `replace` has them too."""
        remaining = {each["id"] for each in items_of(after)}
        for item in items_of(before):
            if item["id"] not in remaining and self._order_of_item.get(item["id"]) == order_id:
                del self._order_of_item[item["id"]]

    def _remove(self, order_id: str, before: Order) -> None:
        del self._records[order_id]
        del self._times[order_id]
        self._ids.remove(order_id)
        self._forget_items(order_id, before, {})
        self._open.discard(order_id)
