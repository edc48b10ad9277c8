"""Audit logs: who changed what and when, kept for every record that was written.

The vendor names the operations and the schema `GetAuditLogResponse`, no field of it. The fields here are made
up, in two shapes (`ServedContract.audit_shape`), so that a client cannot come to rely on one.
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
"""What audit logs are kept of."""

KINDS: tuple[Kind, ...] = get_args(Kind)

KEPT = 50
"""Entries of one record that are remembered."""

CREATED, UPDATED, DELETED = "Created", "Updated", "Deleted"
"""The usual actions; others are named after what was done, in the same form."""

_MOMENTS = frozenset({"updatedAt", "lastModifiedDate"})
_SEEDED = uuid.UUID("5b5b7a54-6a0c-4f7e-9f3d-0d2c5b1f8c11")
_MISSING = object()


class FieldChange(msgspec.Struct, rename="camel"):
    """One property with its values before and after; null where it was not there."""

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
    # Entries as bytes: a long-lived sandbox keeps hundreds of thousands of them.
    entries: deque[bytes] = field(default_factory=lambda: deque(maxlen=KEPT))
    total: int = 0


class AuditLogs:
    """The logs of all records, the last 50 entries of each; every method may be called from any thread.

    Args:
        lock: The sandbox's one lock.
        stamps: Where the time of an entry comes from when none is given.
        seed: Seed of the ids of entries.
    """

    def __init__(self, lock: threading.RLock, stamps: Stamps, seed: int = 1) -> None:
        self._lock = lock
        self._stamps = stamps
        # Not the numbers that orders get their ids from.
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
        """Notes one change.

        Args:
            kind: What was changed.
            record_id: Its id.
            action: What was done: `Created`, `Updated`, `Deleted`, or a word of its own.
            actor: Who did it.
            before: The record as it was, None when it is new.
            after: The record as it is, None when it is gone.
            at: When, in ticks: give the stamp that the record got. Without it the present moment.
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
        """The entries of a record, oldest first.

        Args:
            kind: What it is.
            record_id: Its id.
            created: When it was made, if that is known: a record from before the start then has an entry for
                its creation, always the same one.
        """
        with self._lock:
            log = self._logs.get((kind, record_id), _Log())
            kept = [msgspec.json.decode(each, type=_Entry) for each in log.entries]
            whole = log.total == len(kept)
        result = [_record(kind, record_id, item, format_ticks(item.ticks)) for item in kept]
        if created is not None and whole and not (kept and kept[0].action == CREATED):
            first = _Entry(str(uuid.uuid5(_SEEDED, kind + record_id)), CREATED, "system", 0, [])
            result.insert(0, _record(kind, record_id, first, created))
        return result


def differences(before: Record, after: Record) -> Iterator[FieldChange]:
    """What differs between two forms of a record: fields of objects by `a.b`, records in lists by `a[id].b`.

    Times of modification are left out, since the entry has its own.
    """
    yield from _compare("", before, after)


def _compare(path: str, before: Record, after: Record) -> Iterator[FieldChange]:
    for name in (*before, *(item for item in after if item not in before)):
        if name in _MOMENTS:
            continue
        old, new = before.get(name, _MISSING), after.get(name, _MISSING)
        if old != new:
            yield from _difference(f"{path}.{name}" if path else name, old, new)


def _difference(path: str, old: object, new: object) -> Iterator[FieldChange]:
    if isinstance(old, dict) and isinstance(new, dict):
        yield from _compare(path, old, new)
        return
    olds, news = _by_id(old), _by_id(new)
    if olds is None or news is None:
        yield FieldChange(path, _value(old), _value(new))
        return
    for key in (*olds, *(item for item in news if item not in olds)):
        one, other = olds.get(key, _MISSING), news.get(key, _MISSING)
        if one != other:
            yield from _difference(f"{path}[{key}]", one, other)


def _by_id(value: object) -> dict[str, object] | None:
    """A list of records by their ids; None when it is anything else."""
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
