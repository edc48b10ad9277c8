"""Decide how the state of a record changes when a person erases it. No I/O."""

from __future__ import annotations

from dataclasses import dataclass

from worker.capture.records.fingerprint import RecordState, pack_id


@dataclass(frozen=True, slots=True)
class Erasure:
    """A record, or an audit log, of which nothing is kept but that it was erased.

    `before` and `after` are packed states. `version`: of the event that says so; 0 for none, which lets a record that
    was erased be published again. `grows`: the difference in the number of known records.
    """

    identifier: str
    key: bytes
    before: bytes
    after: bytes
    version: int
    grows: int


def erased(identifier: str, before: bytes, generation: int) -> Erasure | None:
    """Return the change that marks a record as erased; None if it is marked already."""
    state = _unpacked(before)
    if state is not None and state.is_erased:
        return None
    after = (state or RecordState(b"", 0, 0, 0, b"")).erased(generation)
    grows = int(state is None or state.is_gone)
    return Erasure(identifier, pack_id(identifier), before, after.pack(), after.version, grows)


def unmarked(identifier: str, before: bytes) -> Erasure | None:
    """Return the change that lets an erased record be published again; None if it is not marked."""
    state = _unpacked(before)
    if state is None or not state.is_erased:
        return None
    return Erasure(identifier, pack_id(identifier), before, state.unmarked().pack(), 0, -1)


def _unpacked(before: bytes) -> RecordState | None:
    try:
        return RecordState.unpack(before) if before else None
    except ValueError:  # another program wrote it
        return None
