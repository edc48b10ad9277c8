"""The places of the top-level fields of a resource, and the fingerprints of a record at these places. No I/O.

The fingerprints of a state are those of all fields as they were published last, also of the ignored ones. So a field
that is no longer ignored is published if it has changed since, and not otherwise. One more place, `IGNORED`, has the
fingerprint of the names that were ignored. If it differs, other fields were counted in `content`, and only the
fingerprints of the fields tell whether the record has changed.
"""

from __future__ import annotations

from array import array
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from xxhash import xxh3_64_intdigest

from worker.capture.records.fingerprint import IGNORED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeAlias

    from worker.capture.records.fingerprint import ContentHashes

    _Order: TypeAlias = Callable[[Sequence[int]], Iterable[int]] | None
    _Shape: TypeAlias = tuple[_Order, _Order, bool]

MAX_FIELDS = 256
"""Top-level fields beyond this number are covered by `content` but have no fingerprint of their own."""

_MAX_SHAPES = 1024


class Fingerprints(NamedTuple):
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
        self._shapes: dict[tuple[tuple[str, ...], frozenset[str]], _Shape] = {}
        self.update(names)

    def update(self, names: Sequence[str]) -> None:
        """Replace the list of names by a longer one that starts with the current names."""
        self._names = list(names)
        self._positions = {name: position for position, name in enumerate(self._names)}
        self._shapes.clear()

    def unknown(self, names: Iterable[str]) -> list[str]:
        """Return the names that have no position, at most as many as may still be added."""
        missing = [name for name in names if name not in self._positions]
        return missing[: max(0, MAX_FIELDS - len(self._names))]

    def extended(self, names: Sequence[str]) -> FieldIndex:
        """Return a copy in which the unknown `names` are appended."""
        return FieldIndex([*self._names, *self.unknown(names)])

    def place(self, content: ContentHashes) -> Fingerprints:
        """Return the fingerprints of a record's content. They do not depend on the order of its fields."""
        key = content.names, content.ignored
        shape = self._shapes.get(key)
        if shape is None:
            if len(self._shapes) >= _MAX_SHAPES:  # generated field names must not fill the memory
                self._shapes.clear()
            shape = self._shapes[key] = self._shape(content)
        every, counted, complete = shape
        hashes = _arranged(content.hashes, every)
        low = memoryview(hashes).cast("B").cast("H")[::4]  # the low quarter of each
        visible = hashes if counted is every else _arranged(content.hashes, counted)
        fingerprint = xxh3_64_intdigest(visible) & 0xFFFFFFFF
        if not complete:
            fingerprint ^= self._rest(content)
        return Fingerprints(fingerprint, low.tobytes(), complete)

    def _rest(self, content: ContentHashes) -> int:
        """Return a hash of the fields that have no position and are not ignored."""
        visible = set(content.visible)
        pairs = zip(content.names, content.hashes, strict=True)
        rest = sorted(
            (name, value) for name, value in pairs if name in visible and name not in self._positions
        )
        return xxh3_64_intdigest(repr(rest).encode()) & 0xFFFFFFFF

    def _shape(self, content: ContentHashes) -> _Shape:
        """Return the order of the hashes of all fields, and of the visible ones, and whether each has a position."""
        every, visible = self._order(content.names), content.visible
        counted = self._order(content.names, frozenset(visible)) if content.ignored else every
        return every, counted, all(name in self._positions for name in visible)

    def _order(self, names: tuple[str, ...], only: frozenset[str] | None = None) -> _Order:
        """Return the function that reorders hashes from `names` to positions; None if they are in this order."""
        indices = {
            self._positions[name]: index
            for index, name in enumerate(names)
            if name in self._positions and (only is None or name in only)
        }
        order = [indices.get(position, len(names)) for position in range(max(indices, default=-1) + 1)]
        if order == list(range(len(names))):
            return None
        # With one index, itemgetter returns an item instead of a tuple, so there are always at least two.
        pick: Callable[[Sequence[int]], tuple[int, ...]] = itemgetter(*order, len(names), len(names))
        return lambda hashes: pick(hashes)[:-2]

    def held(self, packed: bytes) -> frozenset[str]:
        """Return the names of the fields that a record had, from its stored field fingerprints."""
        known = zip(self._names, _vector(packed), strict=False)
        return frozenset(name for name, fingerprint in known if fingerprint) - {IGNORED}

    def differing(
        self, before: bytes, after: bytes, ignored: frozenset[str] = frozenset()
    ) -> tuple[str, ...]:
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

    def kept(self, before: bytes, after: bytes, ignored: frozenset[str]) -> bytes:
        """Return the fingerprints `after`, with those that `before` has of the `ignored` fields."""
        if not ignored:
            return after
        old, new = _aligned(before, after)
        for name in ignored:
            position = self._positions.get(name, len(old))
            if position < len(old):
                new[position] = old[position]
        return new.tobytes()

    def filled(self, before: bytes, after: bytes) -> bytes:
        """Return the fingerprints `before`, with those `after` of the fields that it has none of."""
        old, new = _aligned(before, after)
        for position, name in enumerate(self._names[: len(old)]):
            if not old[position] and name != IGNORED:
                old[position] = new[position]
        return old.tobytes()


def _arranged(hashes: array[int], order: _Order) -> array[int]:
    return hashes if order is None else array("Q", order([*hashes, 0]))


def _aligned(before: bytes, after: bytes) -> tuple[array[int], array[int]]:
    """Return two vectors of fingerprints with the same length."""
    length = max(len(before), len(after))
    return _vector(before.ljust(length, b"\0")), _vector(after.ljust(length, b"\0"))


def _vector(packed: bytes) -> array[int]:
    vector = array("H")
    vector.frombytes(packed)
    return vector
