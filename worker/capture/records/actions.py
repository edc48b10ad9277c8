"""What becomes of a record that has changed. Beside the code that decides it, for what only reads of runs."""

from __future__ import annotations

from enum import StrEnum


class Action(StrEnum):
    """The action for a record whose bytes differ from the stored fingerprint."""

    SNAPSHOT = "snapshot"
    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"
    OUTSIDE = "outside"
    """Outside the scope: remembered, not published."""
    SILENT = "silent"
    """Existed before the first full scan: remembered, not published, because the settings say so."""
    NOISE = "noise"
    """Different bytes, same content: remembered, not published."""
    STALE = "stale"
    """Older than the last published version, with another content: not published until it is confirmed."""
    UNREADABLE = "unreadable"
    """Has no id or is not an object: written to the dead letters with the reason."""
    PARKED = "parked"
    """Unreadable, and already in the dead letters: nothing to do."""
    ERASED = "erased"
    """A person has erased the record, and OrderMesh still serves it: nothing to do."""


PUBLISHED = frozenset({Action.SNAPSHOT, Action.CREATED, Action.UPDATED, Action.DELETED})
UNWRITTEN = frozenset({Action.PARKED, Action.ERASED})
