"""The records of the gateway, with every state that each has had."""

from __future__ import annotations

import copy
import threading
import time
import uuid
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any, NamedTuple, TypeAlias

Record: TypeAlias = dict[str, Any]

OWN, OTHER = "own", "other"
"""The tenant whose token is used, and another one."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of record: where it is served, and how it looks.

    Attributes:
        name: The name of the resource and of its stream.
        wrapper: The key of the list.
        list_path: The path of the list.
        single_path: The path of one record, with `{id}`.
        record_key: The key that wraps a single record; None if it is not wrapped.
        created: The field with the time of creation.
        modified: The field with the time of the last change, null before the first one.
        zone: What follows a time.
        audit: The name of the stream of its audit log.

    """

    name: str
    wrapper: str
    list_path: str
    single_path: str
    record_key: str | None
    created: str = "createdAt"
    modified: str = "updatedAt"
    zone: str = "Z"
    audit: str = ""


KINDS = {
    kind.name: kind
    for kind in (
        Kind("orders", "orders", "/order/v1/orders", "/order/v1/orders/{id}", "order", audit="order_audit"),
        Kind(
            "shipments",
            "shipments",
            "/shipment/v1/search",
            "/shipment/v1/{id}",
            None,
            created="createdDate",
            modified="lastModifiedDate",
            zone="",
            audit="shipment_audit",
        ),
        Kind("notes", "notes", "/note/v1/notes", "/note/v1/notes/{id}", None, audit="note_audit"),
    )
}


class State(NamedTuple):
    """One state of a record.

    Attributes:
        version: Its number among the states of the record, from 1.
        at: When it began, in seconds since 1970 by the clock of this machine, which no step of the gateway's moves.
        content: The record as served; None while there is none.

    """

    version: int
    at: float
    content: Record | None


@dataclass(slots=True)
class Line:
    """All states of one record, and its audit log."""

    tenant: str
    states: list[State] = field(default_factory=list)
    log: list[Record] = field(default_factory=list)

    def as_of(self, moment: float | None) -> Record | None:
        """The record at a moment, by the clock of this machine; now if None."""
        if moment is None:
            return self.states[-1].content
        place = bisect_right(self.states, moment, key=lambda state: state.at)
        return self.states[place - 1].content if place else None


class History:
    """Every record of every tenant, with its states. Each method may be called from any thread.

    Args:
        seed: Seed of ids and contents.
        step: Seconds by which the gateway's clock differs from that of this machine; `step_clock` moves it.

    """

    def __init__(self, seed: int = 1, step: float = 0.0) -> None:
        self.lock = threading.RLock()
        self.lines: dict[str, dict[str, Line]] = {name: {} for name in KINDS}
        self._rng = Random(seed)
        self._step = step
        self._made = 0

    # The clock of the gateway

    def now(self) -> float:
        """The gateway's time, in seconds since 1970."""
        return time.time() + self._step

    def step_clock(self, seconds: float) -> None:
        """Put the gateway's clock on, or back if negative."""
        with self.lock:
            self._step += seconds

    # What happens to records

    def create(
        self, kind: str, count: int = 1, *, tenant: str = OWN, at: float | None = None, **fields: Any
    ) -> list[str]:
        """Add new records, a second apart if `at` is the time of the first; return their ids."""
        with self.lock:
            return [
                self._create(KINDS[kind], tenant, self.now() if at is None else at + number, fields)
                for number in range(count)
            ]

    def change(
        self,
        kind: str,
        ids: Iterable[str],
        *,
        at: float | None = None,
        silently: bool = False,
        **fields: Any,
    ) -> list[str]:
        """Change records: their status, or `fields`.

        Args:
            kind: The kind.
            ids: The records.
            at: The time that they then show, in seconds since 1970; the gateway's now if None.
            silently: Leave their time and their audit log alone.
            fields: What is changed.

        """
        with self.lock:
            changed = list(ids)
            for each in changed:
                line, known = self.lines[kind][each], KINDS[kind]
                before = line.states[-1].content
                assert before is not None, f"{each} is deleted"
                content = {**before, "revision": self._next(), "status": f"Changed {self._made}", **fields}
                if not silently:
                    moment = self.now() if at is None else at
                    content[known.modified] = written(moment, known.zone)
                    self._note(line, "Updated", moment, before, content)
                line.states.append(State(len(line.states) + 1, time.time(), content))
            return changed

    def restore(self, kind: str, ids: Iterable[str], version: int = 1) -> None:
        """Let records be as in an earlier state, with its time, as after a restored backup."""
        with self.lock:
            for each in ids:
                line = self.lines[kind][each]
                content = copy.deepcopy(line.states[version - 1].content)
                line.states.append(State(len(line.states) + 1, time.time(), content))

    def set_times(self, kind: str, *, null: bool) -> None:
        """Let all times of a kind be null, or again what they were."""
        with self.lock:
            known = KINDS[kind]
            for line in self.lines[kind].values():
                now = line.states[-1].content
                if now is None:
                    continue
                if null:
                    times = {known.created: None, known.modified: None}
                else:
                    shown = [s.content for s in line.states if s.content and s.content[known.created]]
                    times = {name: shown[-1][name] for name in (known.created, known.modified)}
                line.states.append(State(len(line.states) + 1, time.time(), {**now, **times}))

    def delete(self, kind: str, ids: Iterable[str]) -> list[str]:
        """Delete records."""
        with self.lock:
            gone = list(ids)
            for each in gone:
                line = self.lines[kind][each]
                line.states.append(State(len(line.states) + 1, time.time(), None))
            return gone

    # What there is

    def ids(self, kind: str, tenant: str = OWN) -> list[str]:
        """The ids of the records that there are, the oldest first."""
        return [each for each, _ in self.records(kind, tenant)]

    def records(
        self, kind: str, tenant: str = OWN, moment: float | None = None
    ) -> Iterator[tuple[str, Record]]:
        """The records as of a moment, now if None, in the order in which they were made."""
        with self.lock:
            lines = list(self.lines[kind].items())
        for each, line in lines:
            content = line.as_of(moment) if line.tenant == tenant else None
            if content is not None:
                yield each, content

    def truth(self, kind: str, tenant: str = OWN) -> dict[str, Record]:
        """The records as they are now, by id."""
        return dict(self.records(kind, tenant))

    def _next(self) -> int:
        self._made += 1
        return self._made

    def _create(self, kind: Kind, tenant: str, at: float, fields: Record) -> str:
        number = self._next()
        identifier = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        if kind.name == "orders":
            identifier = f"{number:06x}{self._rng.getrandbits(72):018x}"
        content = {
            "id": identifier,
            "merchantId": str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{tenant}.example")),
            "status": "Open",
            "revision": number,
            **self._body(kind, number),
            kind.created: written(at, kind.zone),
            kind.modified: None,
            **fields,
        }
        line = Line(tenant, [State(1, time.time(), content)])
        self._note(line, "Created", at, None, content)
        self.lines[kind.name][identifier] = line
        return identifier

    def _body(self, kind: Kind, number: int) -> Record:
        if kind.name == "orders":
            items = [{"sku": f"SKU-{self._rng.randrange(1000)}", "quantity": self._rng.randrange(1, 5)}]
            return {"shortId": f"O{number:08d}", "externalId": f"ext-{number}", "items": items}
        if kind.name == "shipments":
            return {"shortId": f"S{number:08d}", "shipmentStatus": 1, "orderId": None, "packages": []}
        return {"text": f"Note number {number}", "resourceType": "Order"}

    def _note(self, line: Line, action: str, at: float, before: Record | None, after: Record) -> None:
        changed = [
            {"property": name, "oldValue": before.get(name), "newValue": after[name]}
            for name in (after if before else ())
            if before and before.get(name) != after[name]
        ]
        line.log.append(
            {
                "id": str(uuid.UUID(int=self._rng.getrandbits(128), version=4)),
                "action": action,
                "user": "somebody",
                "timestamp": written(at, "Z"),
                "changes": changed,
            }
        )

    def add_entries(self, kind: str, identifier: str, count: int) -> None:
        """Add entries to the audit log of a record, without a change of the record."""
        with self.lock:
            line = self.lines[kind][identifier]
            for _ in range(count):
                self._note(line, "Viewed", self.now(), None, {})


def written(moment: float, zone: str = "Z") -> str:
    """A time as the gateway writes it: seven fraction digits, or whole milliseconds where there is no zone."""
    text = datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
    return f"{text}0{zone}" if zone else text[:-3]


Chooser: TypeAlias = Callable[[Record], bool]
"""Whether something holds for a record."""
