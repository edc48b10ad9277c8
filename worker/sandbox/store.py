"""The orders of the sandbox: rendered bytes in creation order, and every way in which they change.

A record is rendered when it changes and served as it stands, so a page is one join of prepared bytes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, TypeAlias

import msgspec

from worker.sandbox.contract import Contract
from worker.sandbox.data import (
    DEFAULT_RECORD_BYTES,
    HISTORY_START,
    HISTORY_STEP,
    TICKS_PER_SECOND,
    Order,
    OrderFactory,
    format_ticks,
)
from worker.sandbox.mutations import OPEN_STATUSES, advance, cancel, correct_address, mutate

Which: TypeAlias = int | str | Iterable[str]
"""Orders to work on: one id, several ids, or a number of orders picked at random."""

FILTERS = ("status", "merchantId", "externalId", "safeId", "shortId")
"""Query parameters by which a search is narrowed; named after the fields they compare [inferred]."""

_HOUR = 3_600 * TICKS_PER_SECOND


class UnknownOrderError(LookupError):
    """There is no order with this id in the store."""

    def __init__(self, order_id: str) -> None:
        self.order_id = order_id
        super().__init__(f"the sandbox has no order {order_id!r}")


class _Keys(msgspec.Struct, rename="camel"):
    """The fields of `FILTERS`, in the same order."""

    status: str | None = None
    merchant_id: str | None = None
    external_id: str | None = None
    safe_id: str | None = None
    short_id: str | None = None


_read_keys = msgspec.json.Decoder(_Keys).decode
_ATTRIBUTES = dict(zip(FILTERS, _Keys.__struct_fields__, strict=True))


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """Counts since the start; `orders` is how many there are now, `created` leaves out the history."""

    orders: int
    created: int
    changed: int
    deleted: int


class Store:
    """All orders, behind one lock: every method may be called from any thread and is atomic.

    Args:
        orders: Orders to begin with: a history with fixed times, the same bytes for the same seed.
        seed: Seed of made-up data and of random choices.
        contract: Layout of pages.
        record_bytes: Approximate size of an order, see `OrderFactory`.
        clock: Nanoseconds since 1970; new times are taken from it but never stand still or go back.
    """

    def __init__(
        self,
        orders: int = 0,
        *,
        seed: int = 1,
        contract: Contract | None = None,
        record_bytes: int = DEFAULT_RECORD_BYTES,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.contract = contract or Contract()
        self._lock = threading.RLock()
        self._factory = OrderFactory(seed, record_bytes)
        self._rng = Random(seed + 1)
        self._clock = clock
        self._ids: list[str] = []
        self._records: dict[str, bytes] = {}
        self._open: set[str] = set()
        self._planted: set[str] = set()
        self._last = 0
        self._created = self._changed = self._deleted = 0
        self._encode = msgspec.json.Encoder().encode
        self._fill(orders)

    # What the API serves

    def page(self, page: int, size: int, filters: Mapping[str, str] | None = None) -> bytes:
        """The body of one page of a search, in the layout of the contract.

        Args:
            page: Number of the page, counted from `contract.page_base`.
            size: Records in a page.
            filters: Values of `FILTERS` that a record must have; records that cannot be read never match.
        """
        contract = self.contract
        with self._lock:
            ids = self._matching(filters) if filters else self._ids
            total = len(ids)
            start, stop = contract.bounds(page, size, total)
            records = self._records
            rows = [records[each] for each in ids[start:stop]]
        if contract.descending:
            rows.reverse()
        return contract.render(rows, page, size, total)

    def get(self, order_id: str) -> bytes | None:
        """The record as served, or None when there is none."""
        return self._records.get(order_id)

    # What tests and people look at

    def truth(self) -> dict[str, bytes]:
        """Every record by its id, in creation order, as it would be served now."""
        with self._lock:
            return {each: self._records[each] for each in self._ids}

    def ids(self) -> list[str]:
        """Every id, in creation order."""
        with self._lock:
            return list(self._ids)

    def statistics(self) -> StoreStatistics:
        """What the store holds and what was done to it."""
        with self._lock:
            return StoreStatistics(len(self._ids), self._created, self._changed, self._deleted)

    def __len__(self) -> int:
        return len(self._ids)

    # What happens to orders

    def create(self, n: int = 1) -> list[str]:
        """Adds `n` new open orders, created now, and gives their ids."""
        with self._lock:
            made = [self._add(self._factory.make(self._stamp())) for _ in range(n)]
            self._created += n
            return made

    def change(self, which: Which = 1, /, **fields: object) -> list[str]:
        """Changes orders and moves their `updatedAt` to a moment later than every earlier one.

        Args:
            which: Ids, or how many to pick at random, recent open orders first (fewer when there are fewer).
            fields: Top-level fields to set, named as on the wire; without any, something realistic happens.
                An `updatedAt` among them stands as given.

        Returns:
            Ids of the changed orders.

        Raises:
            UnknownOrderError: An id is not in the store.
            msgspec.DecodeError: A record planted by `replace` is no JSON object.
        """

        def work(order: Order, stamp: str) -> Order:
            if fields:
                return order | {"updatedAt": stamp} | fields
            mutate(order, stamp, self._rng)
            order["updatedAt"] = stamp
            return order

        return self._rewrite(which, work)

    def touch(self, which: Which = 1, /) -> list[str]:
        """Moves `updatedAt` and nothing else."""
        return self._rewrite(which, lambda order, stamp: order | {"updatedAt": stamp})

    def change_silently(self, which: Which = 1, /, **fields: object) -> list[str]:
        """Changes orders without moving `updatedAt`: the given fields, else a corrected address."""

        def work(order: Order, _stamp: str) -> Order:
            if fields:
                return order | fields
            correct_address(order, self._rng)
            return order

        return self._rewrite(which, work)

    def reorder_keys(self, which: Which = 1, /) -> list[str]:
        """Renders orders with their top-level keys in another order: other bytes, the same content."""
        return self._rewrite(which, lambda order, _stamp: dict(reversed(order.items())), counted=False)

    def replace(self, order_id: str, raw: bytes) -> None:
        """Serves `raw` for this id, readable or not; an unknown id becomes the newest record.

        Random picks leave such a record alone.
        """
        with self._lock:
            if order_id not in self._records:
                self._ids.append(order_id)
            self._records[order_id] = bytes(raw)
            self._planted.add(order_id)
            self._open.discard(order_id)

    def delete(self, order_id: str) -> None:
        """Removes an order: absent from pages, 404 by id.

        Raises:
            UnknownOrderError: There is no such order.
        """
        with self._lock:
            if order_id not in self._records:
                raise UnknownOrderError(order_id)
            del self._records[order_id]
            self._ids.remove(order_id)
            self._open.discard(order_id)
            self._planted.discard(order_id)
            self._deleted += 1

    # Inside

    def _fill(self, orders: int) -> None:
        """A history: most orders are done or cancelled, the last tenth is still open or being made."""
        rng = self._rng
        for number in range(orders):
            created = HISTORY_START + number * HISTORY_STEP + int(rng.random() * HISTORY_STEP)
            order = self._factory.make(created)
            steps = 2 if number < orders * 0.9 else int(rng.random() * 2)
            moved = created
            for _ in range(steps):
                moved += _HOUR + int(rng.random() * 20 * _HOUR)
                stamp = format_ticks(moved)
                if rng.random() < 0.02:
                    cancel(order, stamp)
                else:
                    advance(order, stamp, rng)
                order["updatedAt"] = stamp
                if order["status"] == "Cancelled":
                    break
            self._last = max(self._last, moved)
            self._add(order)

    def _stamp(self) -> int:
        self._last = max(self._clock() // 100, self._last + 1)
        return self._last

    def _add(self, order: Order) -> str:
        order_id: str = order["id"]
        self._ids.append(order_id)
        self._store(order_id, order)
        return order_id

    def _store(self, order_id: str, order: Order) -> None:
        self._records[order_id] = self._encode(order)
        if order.get("status") in OPEN_STATUSES:
            self._open.add(order_id)
        else:
            self._open.discard(order_id)

    def _rewrite(
        self, which: Which, work: Callable[[Order, str], Order], *, counted: bool = True
    ) -> list[str]:
        with self._lock:
            chosen = self._choose(which)
            for order_id in chosen:
                order: dict[str, Any] = msgspec.json.decode(self._records[order_id], type=dict[str, Any])
                self._store(order_id, work(order, format_ticks(self._stamp())))
            if counted:
                self._changed += len(chosen)
            return chosen

    def _choose(self, which: Which) -> list[str]:
        if isinstance(which, int):
            return self._pick(which)
        chosen = [which] if isinstance(which, str) else list(which)
        for order_id in chosen:
            if order_id not in self._records:
                raise UnknownOrderError(order_id)
        return chosen

    def _pick(self, n: int) -> list[str]:
        """Picks `n` different orders, leaning to the newest and, while tries last, to open ones."""
        ids, rng = self._ids, self._rng
        available = len(ids) - len(self._planted)
        if n * 2 >= available:
            pool = [each for each in reversed(ids) if each not in self._planted]
            pool.sort(key=lambda each: each not in self._open)
            return pool[:n]
        picked: dict[str, None] = {}
        while len(picked) < n:
            for attempt in range(20):
                # The cube of a uniform number lies near 0: near the end of the list, with the new orders.
                candidate = ids[-1 - int(rng.random() ** 3 * len(ids))]
                if candidate in picked or candidate in self._planted:
                    continue
                if candidate in self._open or attempt > 8:
                    picked[candidate] = None
                    break
        return list(picked)

    def _matching(self, filters: Mapping[str, str]) -> list[str]:
        return [each for each in self._ids if _matches(self._records[each], filters)]


def _matches(record: bytes, filters: Mapping[str, str]) -> bool:
    try:
        keys = _read_keys(record)
    except msgspec.DecodeError:
        return False
    return all(getattr(keys, _ATTRIBUTES[name]) == value for name, value in filters.items())
