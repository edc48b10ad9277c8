"""Audit logs: who changed what and when, for every record that was written.

The vendor names the operations and the schema `GetAuditLogResponse`, but none of its fields. The fields here are
invented, in two layouts (`ServedContract.audit_shape`), so that a client does not depend on one of them.
"""

from __future__ import annotations

import uuid
from collections import deque
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import msgspec

from worker.sandbox.data.orders import format_ticks, make_uuid

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from worker.sandbox.data.record import Record
    from worker.sandbox.data.times import Stamps

Kind: TypeAlias = Literal[
    "order",
    "orderItem",
    "shipment",
    "package",
    "message",
    "note",
    "category",
    "product",
    "variant",
    "merchantCatalog",
]
"""Kinds of records that have audit logs."""

KINDS: tuple[Kind, ...] = get_args(Kind)

KEPT = 50
"""Entries that are kept per record."""

CREATED, UPDATED, DELETED = "Created", "Updated", "Deleted"
"""The usual actions. Others, such as `Shipped`, have the same form."""

_MODIFICATION_TIMES = frozenset({"updatedAt", "lastModifiedDate"})
_SEEDED = uuid.UUID("5b5b7a54-6a0c-4f7e-9f3d-0d2c5b1f8c11")
_MISSING = object()


class FieldChange(msgspec.Struct, rename="camel"):
    """One property with its values before and after the change; null if it did not exist."""

    property: str
    old_value: Any
    new_value: Any


class _Entry(msgspec.Struct):
    id: str
    action: str
    user: str
    ticks: int
    changes: list[FieldChange]


@dataclass(slots=True)
class _Log:
    # Entries are stored as bytes, because a long-running sandbox has hundreds of thousands of them.
    entries: deque[bytes] = field(default_factory=lambda: deque(maxlen=KEPT))
    total: int = 0


class AuditLogs:
    """The logs of all records, the last 50 entries of each; every method may be called from any thread.

    Args:
        lock: The lock of the sandbox.
        stamps: The source of times for entries without one.
        seed: Seed of the ids of entries.
    """

    def __init__(self, lock: threading.RLock, stamps: Stamps, seed: int = 1) -> None:
        self._lock = lock
        self._stamps = stamps
        # Separate from the generator of order ids.
        self._rng = Random(f"audit {seed}")
        self._logs: dict[tuple[str, str], _Log] = {}

    def note(
        self,
        kind: Kind,
        record_id: str,
        action: str,
        *,
        actor: str,
        before: Record | None,
        after: Record | None,
        at: int | None = None,
    ) -> None:
        """Add an entry for one change.

        Args:
            kind: The kind of the record.
            record_id: The id of the record.
            action: `Created`, `Updated`, `Deleted`, or another action.
            actor: The user or client that made the change.
            before: The record before the change; None if it is new.
            after: The record after the change; None if it was deleted.
            at: The time in ticks, which should be the one in the record; None for the current time.
        """
        with self._lock:
            entry = _Entry(
                make_uuid(self._rng),
                action,
                actor,
                self._stamps.next() if at is None else at,
                [] if before is None or after is None else list(differences(before, after)),
            )
            log = self._logs.setdefault((kind, record_id), _Log())
            log.entries.append(msgspec.json.encode(entry))
            log.total += 1

    def entries(self, kind: Kind, record_id: str, created: str | None = None) -> list[Record]:
        """Return the entries of a record, oldest first.

        Args:
            kind: The kind of the record.
            record_id: The id of the record.
            created: The time of its creation, if known. A record from before the start of the sandbox then has an entry
                for its creation, which is always the same.
        """
        with self._lock:
            log = self._logs.get((kind, record_id), _Log())
            entries = [msgspec.json.decode(each, type=_Entry) for each in log.entries]
            is_complete = log.total == len(entries)
        result = [_record(kind, record_id, item, format_ticks(item.ticks)) for item in entries]
        if created is not None and is_complete and not (entries and entries[0].action == CREATED):
            first = _Entry(str(uuid.uuid5(_SEEDED, kind + record_id)), CREATED, "system", 0, [])
            result.insert(0, _record(kind, record_id, first, created))
        return result


def differences(before: Record, after: Record) -> Iterator[FieldChange]:
    """Yield the differences between two versions of a record, without modification times: the entry has its own.

    Fields of objects are named `a.b`, fields of records in lists `a[id].b`.
    """
    yield from _compare("", before, after)


def _compare(path: str, before: Record, after: Record) -> Iterator[FieldChange]:
    for name in (*before, *(item for item in after if item not in before)):
        if name in _MODIFICATION_TIMES:
            continue
        old, new = before.get(name, _MISSING), after.get(name, _MISSING)
        if old != new:
            yield from _difference(f"{path}.{name}" if path else name, old, new)


def _difference(path: str, old: object, new: object) -> Iterator[FieldChange]:
    if isinstance(old, dict) and isinstance(new, dict):
        yield from _compare(path, old, new)
        return
    old_items, new_items = _by_id(old), _by_id(new)
    if old_items is None or new_items is None:
        yield FieldChange(path, _value(old), _value(new))
        return
    for key in (*old_items, *(item for item in new_items if item not in old_items)):
        old_item, new_item = old_items.get(key, _MISSING), new_items.get(key, _MISSING)
        if old_item != new_item:
            yield from _difference(f"{path}[{key}]", old_item, new_item)


def _by_id(value: object) -> dict[str, object] | None:
    """Return a list of records by id; None for any other value."""
    if not isinstance(value, list) or not all(isinstance(each, dict) and "id" in each for each in value):
        return None
    return {str(item["id"]): item for item in value}


def _value(value: object) -> object:
    return None if value is _MISSING else value


def _record(kind: Kind, record_id: str, entry: _Entry, timestamp: str) -> Record:
    return {
        "id": entry.id,
        "resourceId": record_id,
        "resourceType": kind,
        "action": entry.action,
        "user": entry.user,
        "timestamp": timestamp,
        "changes": [msgspec.to_builtins(item) for item in entry.changes],
    }
