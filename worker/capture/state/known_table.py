"""A packed table of the fingerprints of records' bytes: 16 bytes for each record, and about 2 more. No I/O.

It is a hash table that grows by one bucket at a time (linear hashing), so that no single step takes long. A bucket is
the entries of its records in one `bytes`, which the interpreter searches faster than Python code could, and compiled
functions search and extend faster still.
"""

from __future__ import annotations

from xxhash import xxh3_64_digest

from worker.capture.records import compiled
from worker.capture.records.fingerprint import UNCOMPARABLE

MAX_PLACE = (1 << 24) - 1
"""The highest place that an entry has room for."""
IN_STATES = -1
"""Instead of a first place: each state has its own."""

_ENTRY = 16
_FINGERPRINT = 8
_FULL = 24
"""Entries in a bucket, on average, above which the table grows."""
_FEWEST = 16
"""Buckets of a table without entries."""
_BUCKET_BYTES = 56
"""What a bucket takes beside its entries: a pointer, the header of an object, and what its allocation leaves over."""
_BASE_BYTES = 2048
_PLACED = 22
"""A state with more bytes than these has a place."""
_NAMELESS = 9
"""Bytes of the key of an unreadable record without an id (see `pack_unreadable`)."""


def identity_of(key: bytes) -> bytes:
    """Return 5 bytes that tell a record from the others of a page or two, from its packed id."""
    return xxh3_64_digest(key)[3:]


class KnownTable:
    """Place and identity of each record, by the fingerprint of its bytes. `expected`: how many there will be."""

    __slots__ = ("_buckets", "_high", "_low", "_split", "count")

    def __init__(self, expected: int = 0) -> None:
        buckets = max(_FEWEST, expected // _FULL)
        half = 1 << (buckets.bit_length() - 1)
        self._buckets = [b""] * buckets
        self._low, self._high, self._split = half - 1, 2 * half - 1, buckets - half
        self.count = 0

    @property
    def size(self) -> int:
        """Bytes that it takes, about."""
        return _BASE_BYTES + len(self._buckets) * _BUCKET_BYTES + self.count * _ENTRY

    def find(self, fingerprints: list[bytes]) -> list[bytes | None]:
        """Return place (3 bytes) and identity (5 bytes) of the records with these bytes; None for unknown bytes."""
        if compiled.find is not None:
            return compiled.find(self._buckets, self._low, self._high, self._split, fingerprints)
        buckets, low, high, split = self._buckets, self._low, self._high, self._split
        from_bytes = int.from_bytes
        result: list[bytes | None] = []
        for fingerprint in fingerprints:
            number = from_bytes(fingerprint[4:], "big")
            index = number & low
            if index < split:
                index = number & high
            bucket = buckets[index]
            at = bucket.find(fingerprint)
            if at & 15 and at > 0:  # across two entries
                at = _aligned(bucket, fingerprint, at)
            result.append(bucket[at + 8 : at + 16] if at >= 0 else None)
        return result

    def add(self, states: list[tuple[bytes, bytes]], first_place: int = IN_STATES) -> None:
        """Add records: packed ids and packed states. Left out are those whose bytes say nothing, or have no id.

        `first_place`: the place of the first of them, if their states have none; each next one has the next.
        """
        if compiled.add is not None:
            self.count += compiled.add(self._buckets, self._low, self._high, self._split, states, first_place)
        else:
            self._add(states, first_place)
        while self.count > len(self._buckets) * _FULL:
            self._grow()

    def _add(self, states: list[tuple[bytes, bytes]], place: int) -> None:
        for key, state in states:
            if place >= 0:
                if place > MAX_PLACE:
                    break
                position, place = place.to_bytes(3, "big"), place + 1
            elif len(state) > _PLACED and not state[18]:
                position = state[19:22]
            else:
                continue
            fingerprint = state[:_FINGERPRINT]
            if len(state) < _FINGERPRINT or fingerprint in UNCOMPARABLE:
                continue
            if len(key) == _NAMELESS and key[0] == 0xFE:
                continue
            self._buckets[self._index(fingerprint)] += fingerprint + position + identity_of(key)
            self.count += 1

    def remove(self, state: bytes) -> None:
        """Remove the record with this packed state, if it is there."""
        fingerprint = state[:8]
        index = self._index(fingerprint)
        bucket = self._buckets[index]
        at = _aligned(bucket, fingerprint, bucket.find(fingerprint))
        if at >= 0:
            self._buckets[index] = bucket[:at] + bucket[at + _ENTRY :]
            self.count -= 1

    def _index(self, fingerprint: bytes) -> int:
        number = int.from_bytes(fingerprint[4:], "big")
        index = number & self._low
        return number & self._high if index < self._split else index

    def _grow(self) -> None:
        """Divide the next bucket into two."""
        bucket = self._buckets[self._split]
        self._buckets.append(b"")
        # All of it have the same low bits in their fingerprints; the next bit, in this byte of them, says what goes.
        bit = self._low.bit_length()
        byte, mask = 7 - bit // 8, 1 << bit % 8
        stays, goes = list[bytes](), list[bytes]()
        for at in range(0, len(bucket), _ENTRY):
            (goes if bucket[at + byte] & mask else stays).append(bucket[at : at + _ENTRY])
        self._buckets[self._split], self._buckets[-1] = b"".join(stays), b"".join(goes)
        self._split += 1
        if self._split > self._low:
            self._low, self._high, self._split = self._high, 2 * self._high + 1, 0


def _aligned(bucket: bytes, fingerprint: bytes, at: int) -> int:
    """Return where an entry begins with a fingerprint, from `at` on; -1 if none does."""
    while at > 0 and at % _ENTRY:
        at = bucket.find(fingerprint, at + 1)
    return at
