"""The orders of the sandbox, and all ways to change them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Any, TypeAlias

import msgspec

from worker.sandbox.contract import ServedContract
from worker.sandbox.data.history import history
from worker.sandbox.data.mutations import correct_address, mutate
from worker.sandbox.data.order_fields import decode, items_of
from worker.sandbox.data.orders import DEFAULT_RECORD_BYTES, Order, OrderFactory, format_ticks
from worker.sandbox.data.picking import pick
from worker.sandbox.data.times import Stamps
from worker.sandbox.state.audit import CREATED, DELETED, UPDATED, AuditLogs
from worker.sandbox.state.order_table import OrderTable

Which: TypeAlias = int | str | Iterable[str]
"""The orders to change: one id, several ids, or a number of orders to select at random."""

Watcher: TypeAlias = Callable[[str, Order | None, Order | None, int, str], None]
"""Called after a change, with the id of the order, the order before and after, the time in ticks, and the actor."""

SYSTEM = "system"
"""The actor in audit logs for changes that no client made."""


class UnknownOrderError(LookupError):
    """No order has this id."""

    def __init__(self, order_id: str) -> None:
        self.order_id = order_id
        super().__init__(f"the sandbox has no order {order_id!r}")


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """Counts since the start, without the history; `orders` is the current number of orders."""

    orders: int
    created: int
    changed: int
    deleted: int


class Store(OrderTable):
    """All orders, with one lock: every method may be called from any thread and is atomic.

    Args:
        orders: Orders at the start: a history with fixed times, and the same bytes for the same seed.
        seed: Seed of generated data and of random choices.
        contract: Layout of pages.
        record_bytes: Approximate size of an order; see `OrderFactory`.
        clock: Nanoseconds since 1970. Each new time is later than the last one, even if the clock is not.

    Attributes:
        audit: The audit logs of all records of the sandbox.
        factory: Generates orders and their ids; the caller holds the lock.
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
        super().__init__(contract or ServedContract())
        self._stamps = Stamps(clock)
        self.audit = AuditLogs(self._lock, self._stamps, seed)
        self.factory = OrderFactory(seed, record_bytes)
        self._rng = Random(seed + 1)
        self._planted: set[str] = set()
        self._watchers: list[Watcher] = []
        self._created = self._changed = self._deleted = 0
        for order, moved in history(orders, self.factory, self._rng):
            self._stamps.reach(moved)
            self._add(order)

    def statistics(self) -> StoreStatistics:
        """Return the number of orders, and of changes since the start."""
        with self._lock:
            return StoreStatistics(len(self._ids), self._created, self._changed, self._deleted)

    # Changes

    def stamp(self) -> int:
        """Return the current time in ticks of 100 ns, later than every time returned before."""
        with self._lock:
            return self._stamps.next()

    def watch(self, watcher: Watcher) -> None:
        """Call `watcher`, with the lock held, after every creation, change and deletion except those by `replace`."""
        self._watchers.append(watcher)

    def create(self, n: int = 1) -> list[str]:
        """Create `n` open orders and return their ids."""
        with self._lock:
            return [self.add(self.factory.make(at), at) for at in (self._stamps.next() for _ in range(n))]

    def add(self, order: Order, at: int, actor: str = SYSTEM) -> str:
        """Add an order that was created at this time, in ticks, and return its id."""
        with self._lock:
            order_id = self._add(order)
            self._created += 1
            self._notify(order_id, None, order, at=at, actor=actor, action=CREATED)
            return order_id

    def edit(
        self,
        order_id: str,
        work: Callable[[Order, int], None],
        *,
        actor: str = SYSTEM,
        action: str = UPDATED,
    ) -> Order:
        """Change one order and return it.

        Args:
            order_id: The id of the order.
            work: Changes the decoded order in place; its second argument is the time of the change in ticks.
                `updatedAt` is set before. If it raises an exception, the order does not change.
            actor: The actor for the audit log.
            action: The action for the audit log.

        Raises:
            UnknownOrderError: No order has this id.
        """

        def stamp_and_work(order: Order, at: int) -> Order:
            order["updatedAt"] = format_ticks(at)
            work(order, at)
            return order

        with self._lock:
            if order_id not in self._records:
                raise UnknownOrderError(order_id)
            after = self._rewrite_one(order_id, stamp_and_work, actor=actor, action=action)
            self._changed += 1
            return after

    def change(self, which: Which = 1, /, **fields: object) -> list[str]:
        """Change orders, and set their `updatedAt` to a time later than all earlier ones.

        Args:
            which: Ids, or how many to select at random, preferably recent open orders (fewer if fewer exist).
            fields: Top-level fields to set, with the names of the API; without any, a realistic change is made. An
                `updatedAt` among them is used as given.

        Returns:
            Ids of the changed orders.

        Raises:
            UnknownOrderError: No order has one of these ids.
            msgspec.DecodeError: A record that `replace` has set is not a JSON object.
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
        """Change `updatedAt` and nothing else."""
        return self._rewrite(which, lambda order, at: order | {"updatedAt": format_ticks(at)})

    def change_silently(self, which: Which = 1, /, **fields: object) -> list[str]:
        """Change orders without a change of `updatedAt`: set the given fields, or correct the address."""

        def work(order: Order, _at: int) -> Order:
            if fields:
                return order | fields
            correct_address(order, self._rng)
            return order

        return self._rewrite(which, work)

    def reorder_keys(self, which: Which = 1, /) -> list[str]:
        """Encode orders with their top-level keys in another order: other bytes, the same content."""
        return self._rewrite(which, lambda order, _at: dict(reversed(order.items())), counted=False)

    def replace(self, order_id: str, raw: bytes) -> None:
        """Serve `raw` for this id, readable or not; an unknown id becomes the newest record.

        Such a record is never selected at random.
        """
        with self._lock:
            if order_id not in self._records:
                self._ids.append(order_id)
            before = self.read(order_id) or {}
            self._records[order_id] = bytes(raw)
            self._index(order_id, decode(raw) or {}, before)
            self._open.discard(order_id)
            self._planted.add(order_id)

    def delete(self, order_id: str) -> None:
        """Remove an order: lists no longer contain it, and a read by id returns 404.

        Raises:
            UnknownOrderError: No order has this id.
        """
        with self._lock:
            if order_id not in self._records:
                raise UnknownOrderError(order_id)
            before = self.read(order_id) or {}
            self._remove(order_id, before)
            self._planted.discard(order_id)
            self._deleted += 1
            self._notify(order_id, before, None, at=self._stamps.next(), actor=SYSTEM, action=DELETED)

    # Internal

    def _rewrite(
        self, which: Which, work: Callable[[Order, int], Order], *, counted: bool = True
    ) -> list[str]:
        with self._lock:
            chosen = self._choose(which)
            for order_id in chosen:
                self._rewrite_one(order_id, work, notify=counted)
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
        notify: bool = True,
    ) -> Order:
        raw = self._records[order_id]
        # Decoded twice, because `work` changes its copy in place.
        before: Order = msgspec.json.decode(raw, type=dict[str, Any])
        at = self._stamps.next()
        after = work(msgspec.json.decode(raw, type=dict[str, Any]), at)
        self._store(order_id, after, before)
        if notify:
            self._notify(order_id, before, after, at=at, actor=actor, action=action)
        return after

    def _notify(
        self, order_id: str, before: Order | None, after: Order | None, *, at: int, actor: str, action: str
    ) -> None:
        """Add audit entries for the order and for the items that changed, then call the watchers."""
        self.audit.note("order", order_id, action, actor=actor, before=before, after=after, at=at)
        old_items = {item["id"]: item for item in items_of(before or {})}
        new_items = {item["id"]: item for item in items_of(after or {})}
        for item_id in {**old_items, **new_items}:
            old, new = old_items.get(item_id), new_items.get(item_id)
            if old != new:
                item_action = CREATED if old is None else DELETED if new is None else action
                self.audit.note("orderItem", item_id, item_action, actor=actor, before=old, after=new, at=at)
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
