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

from worker.sandbox.contract import ServedContract
from worker.sandbox.data.history import history
from worker.sandbox.data.mutations import OPEN_STATUSES, correct_address, mutate
from worker.sandbox.data.order_fields import decode, items_of, matches
from worker.sandbox.data.orders import DEFAULT_RECORD_BYTES, Order, OrderFactory, format_ticks
from worker.sandbox.data.picking import pick
from worker.sandbox.data.times import Stamps
from worker.sandbox.state import lists
from worker.sandbox.state.audit import CREATED, DELETED, UPDATED, AuditLogs
from worker.sandbox.state.records import Source

Which: TypeAlias = int | str | Iterable[str]
"""Orders to work on: one id, several ids, or a number of orders picked at random."""

Watcher: TypeAlias = Callable[[str, Order | None, Order | None, int, str], None]
"""Told of a change after it: id of the order, itself before and after, the moment in ticks, who made it."""

SYSTEM = "system"
"""Who audit logs say changes orders by themselves."""


class UnknownOrderError(LookupError):
    """There is no order with this id in the store."""

    def __init__(self, order_id: str) -> None:
        self.order_id = order_id
        super().__init__(f"the sandbox has no order {order_id!r}")


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """Counts since the start; `orders` is how many there are now, `created` leaves out the history."""

    orders: int
    created: int
    changed: int
    deleted: int


class Store(Source):
    """All orders, behind one lock: every method may be called from any thread and is atomic.

    Args:
        orders: Orders to begin with: a history with fixed times, the same bytes for the same seed.
        seed: Seed of made-up data and of random choices.
        contract: Layout of pages.
        record_bytes: Approximate size of an order, see `OrderFactory`.
        clock: Nanoseconds since 1970; new times are taken from it but never stand still or go back.

    Attributes:
        audit: Audit logs, of the orders and of everything else in the sandbox.
        factory: Makes orders and their ids; the caller holds the lock.
    """

    def __init__(
        self,
        orders: int = 0,
        *,
        seed: int = 1,
        contract: ServedContract | None = None,
        record_bytes: int = DEFAULT_RECORD_BYTES,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.contract = contract or ServedContract()
        self._lock = threading.RLock()
        self._stamps = Stamps(clock)
        self.audit = AuditLogs(self._lock, self._stamps, seed)
        self.factory = OrderFactory(seed, record_bytes)
        self._rng = Random(seed + 1)
        self._ids: list[str] = []
        self._records: dict[str, bytes] = {}
        self._times: dict[str, tuple[object, object]] = {}
        self._order_of_item: dict[str, str] = {}
        # Where a safe id was seen last: a hint, checked when it is used.
        self._order_of_safe_id: dict[str, str] = {}
        self._open: set[str] = set()
        self._planted: set[str] = set()
        self._watchers: list[Watcher] = []
        self._created = self._changed = self._deleted = 0
        self._encode = msgspec.json.Encoder().encode
        for order, moved in history(orders, self.factory, self._rng):
            self._stamps.reach(moved)
            self._add(order)

    # What the API serves

    @property
    def lock(self) -> threading.RLock:
        """The sandbox's one lock."""
        return self._lock

    def page(self, page: int, size: int, filters: Mapping[str, str] | None = None) -> bytes:
        """The body of one page of a search, in the layout of the contract.

        Args:
            page: Number of the page, counted from `contract.page_base`.
            size: Records in a page.
            filters: Values of `FILTERS` that a record must have; records that cannot be read never match.
        """
        with self._lock:
            ids = self.matching(filters) if filters else None
            return lists.page(self.contract, self, page, size, ids, key="orders")

    def get(self, order_id: str) -> bytes | None:
        """The record as served, or None when there is none."""
        return self._records.get(order_id)

    def read(self, order_id: str) -> Order | None:
        """The record decoded; None when there is none, or none that can be read."""
        raw = self._records.get(order_id)
        return None if raw is None else decode(raw)

    def order_of_item(self, item_id: str) -> Order | None:
        """The order that has an item with this id."""
        return self.read(self._order_of_item.get(item_id, ""))

    def order_of_safe_id(self, safe_id: str) -> Order | None:
        """The order with this safe id."""
        order = self.read(self._order_of_safe_id.get(safe_id, ""))
        return order if order and order.get("safeId") == safe_id else None

    @property
    def items(self) -> Mapping[str, str]:
        """Ids of all items, in the order of their creation, each with the id of its order; under the lock only."""
        return self._order_of_item

    def window(self, start: int, stop: int) -> list[bytes]:
        """The records at positions `[start, stop)`."""
        records = self._records
        return [records[item] for item in self._ids[start:stop]]

    def rows(self, ids: Iterable[str]) -> list[bytes]:
        """The records with these ids."""
        records = self._records
        return [records[item] for item in ids]

    def times(self, record_id: str) -> tuple[object, object]:
        """When the order changed last, if ever else when it was made, and when it was made."""
        return self._times[record_id]

    def matching(self, filters: Mapping[str, str]) -> list[str]:
        """Ids of the orders whose fields have these values; an order that cannot be read never matches."""
        return [item for item in self._ids if matches(self._records[item], filters)]

    # What tests and people look at

    def truth(self) -> dict[str, bytes]:
        """Every record by its id, in creation order, as it would be served now."""
        with self._lock:
            return {item: self._records[item] for item in self._ids}

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

    def stamp(self) -> int:
        """The present moment in ticks of 100 ns, later than every one given out before."""
        with self._lock:
            return self._stamps.next()

    def watch(self, watcher: Watcher) -> None:
        """Has `watcher` called, under the lock, after every creation, change and deletion but planted ones."""
        self._watchers.append(watcher)

    def create(self, n: int = 1) -> list[str]:
        """Adds `n` new open orders, created now, and gives their ids."""
        with self._lock:
            return [self.add(self.factory.make(at), at) for at in (self._stamps.next() for _ in range(n))]

    def add(self, order: Order, at: int, actor: str = SYSTEM) -> str:
        """Adds an order that was made at this moment, in ticks, and gives its id."""
        with self._lock:
            order_id = self._add(order)
            self._created += 1
            self._tell(order_id, None, order, at=at, actor=actor, action=CREATED)
            return order_id

    def edit(
        self,
        order_id: str,
        work: Callable[[Order, int], None],
        *,
        actor: str = SYSTEM,
        action: str = UPDATED,
    ) -> Order:
        """Changes one order and gives it as it is then.

        Args:
            order_id: Its id.
            work: Changes the decoded order in place; the moment of the change is given in ticks, `updatedAt` is
                set before. What it raises leaves the order as it was.
            actor: Who audit logs say has done it.
            action: What they say was done.

        Raises:
            UnknownOrderError: There is no such order.
        """

        def move(order: Order, at: int) -> Order:
            order["updatedAt"] = format_ticks(at)
            work(order, at)
            return order

        with self._lock:
            if order_id not in self._records:
                raise UnknownOrderError(order_id)
            after = self._rewrite_one(order_id, move, actor=actor, action=action)
            self._changed += 1
            return after

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

        def work(order: Order, at: int) -> Order:
            stamp = format_ticks(at)
            if fields:
                return order | {"updatedAt": stamp} | fields
            mutate(order, stamp, self._rng)
            order["updatedAt"] = stamp
            return order

        return self._rewrite(which, work)

    def touch(self, which: Which = 1, /) -> list[str]:
        """Moves `updatedAt` and nothing else."""
        return self._rewrite(which, lambda order, at: order | {"updatedAt": format_ticks(at)})

    def change_silently(self, which: Which = 1, /, **fields: object) -> list[str]:
        """Changes orders without moving `updatedAt`: the given fields, else a corrected address."""

        def work(order: Order, _at: int) -> Order:
            if fields:
                return order | fields
            correct_address(order, self._rng)
            return order

        return self._rewrite(which, work)

    def reorder_keys(self, which: Which = 1, /) -> list[str]:
        """Renders orders with their top-level keys in another order: other bytes, the same content."""
        return self._rewrite(which, lambda order, _at: dict(reversed(order.items())), counted=False)

    def replace(self, order_id: str, raw: bytes) -> None:
        """Serves `raw` for this id, readable or not; an unknown id becomes the newest record.

        Random picks leave such a record alone.
        """
        with self._lock:
            if order_id not in self._records:
                self._ids.append(order_id)
            before = self.read(order_id) or {}
            self._records[order_id] = bytes(raw)
            self._index(order_id, decode(raw) or {}, before)
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
            before = self.read(order_id) or {}
            del self._records[order_id]
            del self._times[order_id]
            self._ids.remove(order_id)
            self._forget_items(order_id, before, {})
            self._open.discard(order_id)
            self._planted.discard(order_id)
            self._deleted += 1
            self._tell(order_id, before, None, at=self._stamps.next(), actor=SYSTEM, action=DELETED)

    # Inside

    def _add(self, order: Order) -> str:
        order_id: str = order["id"]
        self._ids.append(order_id)
        # As `_store`, without its care for records of tests: a history is long.
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
        """Forgets items that an order had and has no longer, unless a planted order has them too."""
        kept = {each["id"] for each in items_of(after)}
        for item in items_of(before):
            if item["id"] not in kept and self._order_of_item.get(item["id"]) == order_id:
                del self._order_of_item[item["id"]]

    def _rewrite(
        self, which: Which, work: Callable[[Order, int], Order], *, counted: bool = True
    ) -> list[str]:
        with self._lock:
            chosen = self._choose(which)
            for order_id in chosen:
                self._rewrite_one(order_id, work, told=counted)
            if counted:
                self._changed += len(chosen)
            return chosen

    def _rewrite_one(
        self,
        order_id: str,
        work: Callable[[Order, int], Order],
        *,
        actor: str = SYSTEM,
        action: str = UPDATED,
        told: bool = True,
    ) -> Order:
        raw = self._records[order_id]
        # Decoded twice: the work is done on one of the copies.
        before: Order = msgspec.json.decode(raw, type=dict[str, Any])
        at = self._stamps.next()
        after = work(msgspec.json.decode(raw, type=dict[str, Any]), at)
        self._store(order_id, after, before)
        if told:
            self._tell(order_id, before, after, at=at, actor=actor, action=action)
        return after

    def _tell(
        self, order_id: str, before: Order | None, after: Order | None, *, at: int, actor: str, action: str
    ) -> None:
        """Leaves audit entries for the order and for the items that changed, then tells the watchers."""
        self.audit.note("order", order_id, action, actor=actor, before=before, after=after, at=at)
        olds = {item["id"]: item for item in items_of(before or {})}
        news = {each["id"]: each for each in items_of(after or {})}
        for item_id in {**olds, **news}:
            old, new = olds.get(item_id), news.get(item_id)
            if old != new:
                what = CREATED if old is None else DELETED if new is None else action
                self.audit.note("orderItem", item_id, what, actor=actor, before=old, after=new, at=at)
        for watcher in self._watchers:
            watcher(order_id, before, after, at, actor)

    def _choose(self, which: Which) -> list[str]:
        if isinstance(which, int):
            return pick(which, self._ids, open_ids=self._open, planted=self._planted, rng=self._rng)
        chosen = [which] if isinstance(which, str) else list(which)
        for order_id in chosen:
            if order_id not in self._records:
                raise UnknownOrderError(order_id)
        return chosen
