"""What may happen to the records of a sandbox, of every kind, and what they were at every moment of it."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from typing import Any, NamedTuple

from worker.sandbox import SandboxServer
from worker.sandbox.data.mutations import add_shipment
from worker.sandbox.data.orders import Order, format_ticks, make_uuid
from worker.sandbox.data.record import Record
from worker.sandbox.state.audit import CREATED, DELETED, UPDATED, Kind
from worker.sandbox.state.items import ItemSource
from worker.sandbox.state.records import Records
from worker.sandbox.state.store import SYSTEM, Store
from worker.sandbox.state.world import KINDS

ACTIONS = ("create", "change", "back", "touch", "silently", "flip", "reorder", "remove")
"""What happens to a record.

`back` changes it and lets its time go back by an hour, as where a clock is put right.

`touch` moves its time and nothing else; `silently` changes it and leaves the time alone; `flip` likewise, there and
back, and no audit log tells of it; `reorder` gives it other bytes with the same content.
"""
_LOGS: dict[str, Kind] = {
    "notes": "note",
    "categories": "category",
    "products": "product",
    "variants": "variant",
    "merchant_catalogs": "merchantCatalog",
}
_TEXT = {"notes": "text"}
STEP_NS = 1_000_000_000


def change_apart(orders: Store, ids: Iterable[str]) -> None:
    """Change each of these orders, over a millisecond apart, however fast the machine is.

    A page whose records are all of one millisecond cannot be gone on from by its last time.
    """
    for each in ids:
        orders.change(each)
        time.sleep(0.002)


class Place(NamedTuple):
    """A record: its kind and its id."""

    kind: str
    id: str


class Happenings:
    """Lets things happen in a sandbox, each at a moment of its own, and tells which records they may concern.

    The moments begin `hours` ago and are a second apart at least, since the shipment service keeps its times by the
    second; where a `speed` is given, they also keep step with the clock, so many times faster.
    """

    def __init__(self, sandbox: SandboxServer, seed: int, *, hours: float = 12.0, speed: float = 0.0) -> None:
        self.world = sandbox.world
        self._rng = Random(seed)
        self._count = 0
        stamps = self.world.orders._stamps
        began, started = time.monotonic_ns(), stamps._clock() - int(hours * 3600 * STEP_NS)
        last = started
        self._ahead = 0
        self.stepped = False
        """Whether the clock was ever put back."""

        def tick() -> int:
            nonlocal last
            passed = int((time.monotonic_ns() - began) * speed)
            last = max(last + STEP_NS, started + passed)
            return last + self._ahead

        stamps._clock = tick

    def step_clock(self, seconds: float) -> None:
        """Put the clock of the sandbox on, or back if negative: the next moments are so much later or earlier."""
        with self.world.lock:
            self._ahead += int(seconds * STEP_NS)
            self.stepped = self.stepped or seconds < 0
            self.world.orders._stamps._last += int(seconds * STEP_NS) // 100

    def happen(self, kind: str, action: str, pick: int) -> list[Place]:
        """Let one thing happen to a record, the one at place `pick` of its kind; nothing where there is none."""
        with self.world.lock:
            ids = self.world.sources()[kind].ids()
            if not ids:
                if kind != "orders":
                    return []
                action = "create"
            chosen = ids[pick % len(ids)] if ids else ""
            if action == "back" and chosen:
                places = self.happen(kind, "change", pick)
                self._put_back(kind, chosen)
                return places
            if kind == "orders":
                return self._order(action, chosen)
            if kind == "order_items":
                return self._item(action, chosen)
            if kind == "shipments":
                return self._shipment(action, chosen)
            return [self._record(kind, action, chosen)]

    def _put_back(self, kind: str, record_id: str) -> None:
        """Let the time of a record go back by an hour, without anything else."""
        store = self.world.orders
        if kind == "orders":
            store._rewrite(record_id, lambda order, _at: _put_back(order, "updatedAt"), counted=False)
        elif kind == "order_items":

            def rewritten(order: Order, _at: int) -> Order:
                items = [
                    _put_back(item, "updatedAt") if item["id"] == record_id else item
                    for item in order["items"]
                ]
                return {**order, "items": items}

            store._rewrite(store.items[record_id], rewritten, counted=False)
        else:
            records = self._records(kind)
            field = "lastModifiedDate" if kind == "shipments" else "updatedAt"
            records.put(_put_back(records.get(record_id) or {}, field))

    def trim(self, keep: int) -> None:
        """Leave so many records of each kind but orders, items and shipments: for tests that read them often."""
        with self.world.lock:
            for kind in _LOGS:
                records = self._records(kind)
                for record_id in records.ids()[keep:]:
                    records.remove(record_id)
            for record in self.world.merchant_catalogs.values():
                self.world.merchant_catalogs.put({**record, "variants": record["variants"][:2]})

    def everything(self) -> list[Place]:
        """All records that there are."""
        return [Place(kind, each) for kind in KINDS for each in self.world.truth(kind)]

    def raw(self, place: Place) -> bytes | None:
        """A record as it is served now; None where there is none."""
        world, (kind, record_id) = self.world, place
        with world.lock:
            if kind == "orders":
                return world.orders.get(record_id)
            if kind == "order_items":
                if record_id not in world.orders.items:
                    return None
                return ItemSource(world.orders).rows([record_id])[0]
            return self._records(kind).raw(record_id)

    def _records(self, kind: str) -> Records:
        found: Records = getattr(self.world, kind)
        return found

    def _word(self) -> str:
        self._count += 1
        return f"happening {self._count}"

    # Orders and what hangs on them

    def _order(self, action: str, order_id: str) -> list[Place]:
        store = self.world.orders
        if action == "create":
            return self._family(store.create(1))
        before = self._family([order_id])
        match action:
            case "change":
                store.change(order_id)
            case "touch":
                store.touch(order_id)
            case "silently":
                store.change_silently(order_id)
            case "flip":
                store._rewrite(order_id, lambda order, _at: _flipped(order), counted=False)
            case "reorder":
                store.reorder_keys(order_id)
            case _:
                store.delete(order_id)
        return _both(before, self._family([order_id]))

    def _family(self, order_ids: Iterable[str]) -> list[Place]:
        """Orders with their items and shipments."""
        found = []
        for order_id in order_ids:
            order = self.world.orders.read(order_id) or {}
            found.append(Place("orders", order_id))
            found += [Place("order_items", item["id"]) for item in order.get("items", [])]
            found += [Place("shipments", each) for each in order.get("shipmentIds", [])]
        return found

    def _item(self, action: str, item_id: str) -> list[Place]:
        store = self.world.orders
        order_id = store.items[item_id]
        before, word = self._family([order_id]), self._word()
        if action == "remove" and len((store.read(order_id) or {})["items"]) == 1:
            return before
        new = store.factory.make(store.stamp())["items"][0]
        new |= {"id": f"{self._count:024x}", "updatedAt": None}
        become: dict[str, Callable[[Record, str], list[Record]]] = {
            "create": lambda item, now: [item, {**new, "createdAt": now}],
            "change": lambda item, now: [{**item, "statusDesc": word, "updatedAt": now}],
            "touch": lambda item, now: [{**item, "updatedAt": now}],
            "silently": lambda item, _now: [{**item, "statusDesc": word}],
            "flip": lambda item, _now: [_flipped(item)],
            "reorder": lambda item, _now: [dict(reversed(item.items()))],
            "remove": lambda _item, _now: [],
        }

        def rewritten(order: Order, at: int) -> Order:
            items: list[Record] = []
            for item in order["items"]:
                items += become[action](item, format_ticks(at)) if item["id"] == item_id else [item]
            return {**order, "items": items}

        def rewrite(order: Order, at: int) -> None:
            order |= rewritten(order, at)

        if action in {"silently", "flip", "reorder"}:
            store._rewrite(order_id, rewritten, counted=action == "silently")
        else:
            store.edit(order_id, rewrite)
        return _both(before, self._family([order_id]))

    def _shipment(self, action: str, shipment_id: str) -> list[Place]:
        shipments, store = self.world.shipments, self.world.orders
        shipment = shipments.get(shipment_id) or {}
        order_id = shipment["orderId"]
        before = _both(self._family([order_id]), [Place("shipments", shipment_id)])
        match action:
            case "create":
                store.edit(order_id, lambda order, at: add_shipment(order, format_ticks(at), self._rng))
            case "change":
                shipments.edit(shipment_id, self._shipped, actor=SYSTEM)
            case "touch":
                shipments.edit(shipment_id, lambda _record, _now: None, actor=SYSTEM)
            case "silently":
                after = {**shipment, "shippingMethod": self._word()}
                shipments.put(after)
                shipments._note(shipment, after, actor=SYSTEM, action=UPDATED, at=store.stamp())
            case "flip":
                shipments.put(_flipped(shipment))
            case "reorder":
                shipments.put(dict(reversed(shipment.items())))
            case _:
                shipments.drop(shipment_id, actor=SYSTEM)
                if shipment_id in (store.read(order_id) or {}).get("shipmentIds", []):
                    store.edit(order_id, lambda order, _at: _unlist(order, shipment_id))
        return _both(before, self._family([order_id]))

    def _shipped(self, shipment: Record, now: str) -> None:
        """Something about its packages, or where it has none its method."""
        packages = shipment["packages"]
        shipment["shippingMethod"] = self._word()
        if packages and self._rng.random() < 0.4:
            more = {"id": make_uuid(self._rng), "shippedDate": now}
            packages.append({**copy.deepcopy(packages[0]), **more})
        elif len(packages) > 1 and self._rng.random() < 0.3:
            packages.pop()
        for package in packages[:1]:
            package["carrierLink"] = self._word()

    # Everything else

    def _record(self, kind: str, action: str, record_id: str) -> Place:
        records = self._records(kind)
        before = records.get(record_id)
        assert before is not None
        field, at = _TEXT.get(kind, "description"), self.world.stamp()
        now = format_ticks(at)
        match action:
            case "create":
                record_id = f"{self._count + 1:024x}" if kind != "notes" else make_uuid(self._rng)
                times = {"createdAt": now, "updatedAt": None}
                made = {**before, "id": record_id, field: self._word(), **times}
                records.add(made)
                self._note(kind, CREATED, None, made, at)
            case "change" | "touch" | "silently":
                after = dict(before)
                if action != "touch":
                    after[field] = self._word()
                if action != "silently":
                    after["updatedAt"] = now
                records.put(after)
                self._note(kind, UPDATED, before, after, at)
            case "flip":
                records.put(_flipped(before))
            case "reorder":
                records.put(dict(reversed(before.items())))
            case _:
                records.remove(record_id)
                self._note(kind, DELETED, before, None, at)
        return Place(kind, record_id)

    def _note(self, kind: str, action: str, before: Record | None, after: Record | None, at: int) -> None:
        record_id: str = (after or before or {})["id"]
        self.world.audit.note(_LOGS[kind], record_id, action, actor=SYSTEM, before=before, after=after, at=at)


def _flipped(record: Record) -> Record:
    return {**record, "flag": not record.get("flag")}


def _put_back(record: Record, field: str) -> Record:
    text: str = record[field]
    earlier = datetime.fromisoformat(text[:19]) - timedelta(hours=1)
    return {**record, field: earlier.isoformat() + text[19:]}


def _unlist(order: Order, shipment_id: str) -> None:
    at = order["shipmentIds"].index(shipment_id)
    for name in ("shipmentIds", "facilityNames", "shipmentCreatedDates"):
        del order[name][at : at + 1]


def _both(one: Iterable[Place], other: Iterable[Place]) -> list[Place]:
    return list(dict.fromkeys([*one, *other]))


def canonical(raw: bytes) -> str:
    """The content of a record, without the order of its keys."""
    return json.dumps(json.loads(raw), sort_keys=True)


def serve_as(sandbox: SandboxServer, **contract: Any) -> None:
    """Let the gateway serve in another way from now on."""
    changed = replace(sandbox._sandbox.contract, **contract)
    sandbox._sandbox.contract = sandbox.store.contract = changed
