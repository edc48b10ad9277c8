"""The places of the top-level fields of a resource, and the fingerprints of a record at these places. No I/O.

The fingerprints of a state are those of all fields as they were published last, also of the ignored ones. So a field
that is no longer ignored is published if it has changed since, and not otherwise. One more place, `IGNORED`, has the
fingerprint of the names that were ignored. If it differs, other fields were counted in `content`, and only the
fingerprints of the fields tell whether the record has changed.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import msgspec
from xxhash import xxh3_64_intdigest

from worker.capture.records.compiled import arranger_of
from worker.capture.records.fingerprint import IGNORED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TypeAlias

    from worker.capture.records.compiled import Arrange
    from worker.capture.records.fingerprint import ContentHashes, FieldSet

    _Shape: TypeAlias = tuple[Arrange, Arrange, bool]

MAX_FIELDS = 256
"""Top-level fields beyond this number are covered by `content` but have no fingerprint of their own."""

_MAX_SHAPES = 1024


class Fingerprints(msgspec.Struct, frozen=True, gc=False):
    """Fingerprints of a record.

    Attributes:
        content: 32 bits of its content, without the ignored fields.
        fields: 16 bits per field at its position, also of the ignored ones; 0 for a missing one.
        is_complete: Each field that is not ignored has a position.

    """

    content: int
    fields: bytes
    is_complete: bool = True


class FieldIndex:
    """The top-level field names of a resource, each with a fixed position in the packed field fingerprints.

    The list is append-only and shared through Redis: `StateStore.extend_fields` adds new names permanently.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        self._names: list[str] = []
        self._positions: dict[str, int] = {}
        self._shapes: dict[tuple[tuple[str, ...], FieldSet], _Shape] = {}
        self._last: tuple[tuple[str, ...], FieldSet, _Shape] | None = None
        self.update(names)

    def update(self, names: Sequence[str]) -> None:
        """Replace the list of names by a longer one that starts with the current names."""
        self._names = list(names)
        self._positions = {name: position for position, name in enumerate(self._names)}
        self._shapes.clear()
        self._last = None

    def unknown(self, names: Iterable[str]) -> list[str]:
        """Return the names that have no position, at most as many as may still be added."""
        missing = [name for name in names if name not in self._positions]
        return missing[: max(0, MAX_FIELDS - len(self._names))]

    def extended(self, names: Sequence[str]) -> FieldIndex:
        """Return a copy in which the unknown `names` are appended."""
        return FieldIndex([*self._names, *self.unknown(names)])

    def place(self, content: ContentHashes) -> Fingerprints:
        """Return the fingerprints of a record's content. They do not depend on the order of its fields."""
        last = self._last  # most records of a page have one shape, and its names are then one object
        if last is None or last[0] is not content.names or last[1] != content.ignored:
            last = self._last = content.names, content.ignored, self._shape_of(content)
        every, counted, complete = last[2]
        fingerprint, fields = every(content.hashes)
        if counted is not every:
            fingerprint, _ = counted(content.hashes)
        if not complete:
            fingerprint ^= self._rest(content)
        return Fingerprints(fingerprint & 0xFFFFFFFF, fields, complete)

    def _shape_of(self, content: ContentHashes) -> _Shape:
        """Return the remembered shape of a record."""
        key = content.names, content.ignored
        shape = self._shapes.get(key)
        if shape is None:
            if len(self._shapes) >= _MAX_SHAPES:  # generated field names must not fill the memory
                self._shapes.clear()
            shape = self._shapes[key] = self._shape(content)
        return shape

    def _rest(self, content: ContentHashes) -> int:
        """Return a hash of the fields that have no position and are not ignored."""
        visible = set(content.visible)
        pairs = zip(content.names, memoryview(content.hashes).cast("Q"), strict=True)
        rest = sorted(
            (name, value) for name, value in pairs if name in visible and name not in self._positions
        )
        return xxh3_64_intdigest(repr(rest).encode()) & 0xFFFFFFFF

    def _shape(self, content: ContentHashes) -> _Shape:
        """Return what orders the hashes of all fields, and of the visible ones, and whether each has a position."""
        every, visible = self._arranger(content.names), content.visible
        counted = self._arranger(content.names, frozenset(visible)) if content.ignored else every
        return every, counted, all(name in self._positions for name in visible)

    def _arranger(self, names: tuple[str, ...], only: frozenset[str] | None = None) -> Arrange:
        """Return the function that puts hashes in the order of the positions; those of fields that are absent are 0."""
        indices = {
            self._positions[name]: index
            for index, name in enumerate(names)
            if name in self._positions and (only is None or name in only)
        }
        return arranger_of(
            [indices.get(position, len(names)) for position in range(max(indices, default=-1) + 1)]
        )

    def held(self, packed: bytes) -> frozenset[str]:
        """Return the names of the fields that a record had, from its stored field fingerprints."""
        known = zip(self._names, _vector(packed), strict=False)
        return frozenset(name for name, fingerprint in known if fingerprint) - {IGNORED}

    def differing(self, before: bytes, after: bytes, ignored: FieldSet = frozenset()) -> tuple[str, ...]:
        """Return the names of the fields whose fingerprints differ, in the order of their positions.

        Those of the `ignored` fields may differ.
        """
        old, new = _aligned(before, after)
        names = (
            self._names[position] if position < len(self._names) else f"field{position}"
            for position in range(len(old))
            if old[position] != new[position]
        )
        return tuple(name for name in names if name != IGNORED and name not in ignored)

    def ignores_alike(self, before: bytes, after: bytes) -> bool:
        """Return whether the same fields were ignored. True if there is no position left to say so."""
        old, new = _aligned(before, after)
        position = self._positions.get(IGNORED, len(old))
        return position >= len(old) or old[position] == new[position]

    def kept(self, before: bytes, after: bytes, ignored: FieldSet) -> bytes:
        """Return the fingerprints `after`, with those that `before` has of the `ignored` fields."""
        if not ignored:
            return after
        old, new = _aligned(before, after)
        for position, name in enumerate(self._names[: len(old)]):
            if name != IGNORED and name in ignored:
                new[position] = old[position]
        return new.tobytes()

    def filled(self, before: bytes, after: bytes) -> bytes:
        """Return the fingerprints `before`, with those `after` of the fields that it has none of."""
        old, new = _aligned(before, after)
        for position, name in enumerate(self._names[: len(old)]):
            if not old[position] and name != IGNORED:
                old[position] = new[position]
        return old.tobytes()


def _aligned(before: bytes, after: bytes) -> tuple[array[int], array[int]]:
    """Return two vectors of fingerprints with the same length."""
    length = max(len(before), len(after))
    return _vector(before.ljust(length, b"\0")), _vector(after.ljust(length, b"\0"))


def _vector(packed: bytes) -> array[int]:
    vector = array("H")
    vector.frombytes(packed)
    return vector
