"""Fingerprints: the stored hashes of a record that show whether it changed, and in which fields.

There are three kinds:

- `raw`, 64 bits of the bytes as served, and of the settings that say which records and fields count. If it is equal,
  the record is unchanged and is not decoded.
- `content`, 32 bits of the canonical content (keys sorted at every depth, ignored fields left out).
  Different bytes with the same content are noise: another key order, another spelling of a number.
- 16 bits for each top-level field, which show the changed fields (little endian, as is every platform that
  the dependencies have wheels for). See `fields.py`.

A change is missed if `raw` is equal (1 in 1.8e19 where the record is looked up by its id; 1 in 1.8e13 where a full scan
compares it with those of a million records, see `known_bytes.py`), or if `content` and the fingerprints of all fields
are equal (1 in 2.8e14 for a single field; 1 in 65,536 for a record that changes just when other fields are ignored than
before). A changed field goes unnamed once in 65,536; if no changed field can be named, all are.
"""

from __future__ import annotations

import json
import math
import struct
from array import array
from collections.abc import Collection
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import msgspec
from xxhash import xxh3_64_digest, xxh3_64_intdigest

from worker.capture.records.compiled import reader_of
from worker.surrogates import decode, readable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IGNORED = "\0ignored"
"""Name, among those of the fields, of the hash of the ignored names. No field of a record has this name."""

_HEAD = 8 + 4 + 6 + 4
_LATEST = (1 << 48) - 1
_GONE = bytes(8)
_ERASED = b"\0erased\0"
UNCOMPARABLE = frozenset({_GONE, _ERASED})
"""What states have in the place of the fingerprint of their bytes, where no bytes are to be equal to them."""
_MAX_DIGITS = 4_000
_TEXT = 0xFF
_BYTES = [bytes((number,)) for number in range(256)]
_NUMBERS = struct.Struct(">IHII").pack

_as_values = msgspec.json.Decoder(dict[str, object]).decode
_canonical = msgspec.msgpack.Encoder(order="sorted").encode


def raw_fingerprint(record: bytes | msgspec.Raw) -> bytes:
    """Return the 8-byte hash of the record as served."""
    return xxh3_64_digest(record)


@lru_cache(maxsize=64)
def salted_fingerprint(salt: int) -> Callable[[bytes | msgspec.Raw], bytes]:
    """Return the function that returns the fingerprint of a record's bytes under a salt of 64 bits; 0 for none."""
    if not salt:
        return xxh3_64_digest
    return lambda record: (xxh3_64_intdigest(record) ^ salt).to_bytes(8, "big")


class HiddenFields(Collection[str]):
    """The top-level fields whose changes are not published: `ignored` ones, and those of which `hides` is true.

    Its items are the ignored names and `identity`, which tells one `hides` from another.
    """

    __slots__ = ("_hides", "_ignored", "_items")

    def __init__(
        self, ignored: frozenset[str], identity: frozenset[str], hides: Callable[[str], bool]
    ) -> None:
        self._ignored, self._items, self._hides = ignored, ignored | identity, hides

    def __contains__(self, name: object) -> bool:
        """Return whether changes of a field are not published."""
        return name in self._ignored or self._hides(str(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


FieldSet: TypeAlias = frozenset[str] | HiddenFields


@lru_cache(maxsize=64)
def hash_of_ignored(ignored: FieldSet) -> int:
    """Return a hash of the names of the ignored fields, 0 if there are none; its low 16 bits are 0 only then."""
    return xxh3_64_intdigest(repr(sorted(ignored)).encode()) | 1 if ignored else 0


def pack_id(identifier: str) -> bytes:
    """Return an id in few bytes: 12 for 24 hex digits, 16 for a UUID, otherwise its text.

    Different ids never pack to the same bytes: only the lower-case spelling is packed, a text starts with the byte
    0xff, and ids whose packed form would start with 0xff stay text.
    """
    try:
        if len(identifier) == 24:
            packed = bytes.fromhex(identifier)
            if packed.hex() == identifier and packed[0] != _TEXT:
                return packed
        elif len(identifier) == 36:
            packed = UUID(identifier).bytes
            if str(UUID(bytes=packed)) == identifier and packed[0] != _TEXT:
                return packed
    except ValueError:
        pass
    return _BYTES[_TEXT] + identifier.encode("utf-8", "surrogatepass")


def pack_ids(identifiers: list[str]) -> list[bytes]:
    """Return what `pack_id` returns of each id; in less time if all of them are 24 hex digits."""
    joined = "".join(identifiers)
    if set(map(len, identifiers)) == {24}:
        try:
            packed = bytes.fromhex(joined)
        except ValueError:
            packed = b""
        if packed.hex() == joined and _TEXT not in packed[::12]:
            return [packed[at : at + 12] for at in range(0, len(packed), 12)]
    return [*map(pack_id, identifiers)]


def pack_unreadable(raw: bytes) -> bytes:
    """Return the key of the state of an unreadable record, from its raw fingerprint."""
    return b"\xfe" + raw


def unpack_id(packed: bytes) -> str | None:
    """Return the id that `pack_id` packed; None for the key of an unreadable record."""
    if packed[0] == _TEXT:
        return packed[1:].decode("utf-8", "surrogatepass")
    if len(packed) == 12:
        return packed.hex()
    return str(UUID(bytes=packed)) if len(packed) == 16 else None


def bucket_of(packed_id: bytes, buckets: int) -> int:
    """Return the number of the hash that stores the state of this record."""
    return xxh3_64_intdigest(packed_id) % buckets


class ContentHashes(msgspec.Struct, frozen=True, gc=False):
    """The names of the fields of a record, and the hashes of their canonical values, of 8 bytes each (little endian).

    `values` are the decoded values of the requested fields. If fields are `ignored`, the hash of their names is the
    last one, under the name `IGNORED`.
    """

    names: tuple[str, ...]
    hashes: bytes
    values: tuple[object, ...] = ()
    ignored: FieldSet = frozenset()

    @property
    def visible(self) -> tuple[str, ...]:
        """The names of the fields that are not ignored."""
        if not self.ignored:
            return self.names
        return tuple(name for name in self.names if name != IGNORED and name not in self.ignored)


def read_content(
    record: bytes | msgspec.Raw, ignored: FieldSet, requested: tuple[str, ...] = ()
) -> ContentHashes:
    """Decode a record and hash its fields, the `ignored` ones as well.

    A value is hashed in canonical form, with the keys sorted at every depth: spaces, key order and the spelling of a
    number do not matter (1.5, 1.50 and 15e-1 are equal; 1 and 1.0 differ, as an integer and a float). The rules are
    here; a compiled reader that gives the same reads the usual records (`compiled.py`).

    Raises:
        msgspec.DecodeError: The record is not a JSON object.
        UnicodeDecodeError: A string in the record is not UTF-8.
        RecursionError: The record is nested too deeply.

    """
    return content_of(*(reader_of(requested)(record) or decoded(record, requested)), ignored)


def content_of(
    names: tuple[str, ...], hashes: bytes, values: tuple[object, ...], ignored: FieldSet
) -> ContentHashes:
    """Return the content of a record whose fields have these names, hashes and requested values."""
    if ignored:
        names += (IGNORED,)
        hashes += hash_of_ignored(ignored).to_bytes(8, "little")
    return ContentHashes(names, hashes, values, ignored)


def decoded(
    record: bytes | msgspec.Raw, requested: tuple[str, ...]
) -> tuple[tuple[str, ...], bytes, tuple[object, ...]]:
    """Return the names of the fields of a record, their hashes, and the requested values: what `reader_of` reads.

    It raises what `read_content` raises.
    """
    try:
        values = decode(_as_values, record)
    except msgspec.DecodeError:
        values = _with_long_numbers(readable(bytes(record)))
    result = tuple([values.get(name) for name in requested])
    try:
        hashes = array("Q", map(xxh3_64_intdigest, map(_canonical, values.values())))
    except OverflowError:
        hashes = array("Q", map(xxh3_64_intdigest, map(_canonical_with_long_numbers, values.values())))
    return _one_object(tuple(values)), hashes.tobytes(), result


@lru_cache(maxsize=16)
def _one_object(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the same object for equal names: they are compared in less time, as nearly all records have one shape."""
    return names


def _with_long_numbers(record: bytes) -> dict[str, object]:
    """Decode a record with numbers beyond the range of msgspec. Such numbers become strings.

    Raises:
        msgspec.DecodeError: The record is invalid for another reason.

    """
    try:
        values = json.loads(record, parse_int=_whole, parse_float=_fraction)
    except ValueError as error:
        raise msgspec.DecodeError(str(error)) from None
    if not isinstance(values, dict):
        raise msgspec.DecodeError("the record is not a JSON object")
    return values


def _whole(text: str) -> int | str:
    return int(text) if len(text) < _MAX_DIGITS else text


def _fraction(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else text


def _canonical_with_long_numbers(value: object) -> bytes:
    try:
        return _canonical(value)
    except OverflowError:  # integers of msgpack have at most 64 bits
        return json.dumps(value, sort_keys=True).encode()


def next_version(version: int, generation: int) -> int:
    """Return the version after `version`. The versions of a generation begin above it (see `renumber.lua`)."""
    return max(version, generation) + 1


def pack_state(  # noqa: PLR0917 - in the order of the layout
    raw: bytes, content: int, modified: int, version: int, fields: bytes, place: int
) -> bytes:
    """Return a state as bytes, without the link to its last event; see `RecordState`."""
    if not 0 <= modified <= _LATEST:
        modified = max(0, min(modified, _LATEST))
    numbers = _NUMBERS(content, modified >> 32, modified & 0xFFFFFFFF, place)
    packed = b""
    while version >= 0x80:
        packed += _BYTES[version & 0x7F | 0x80]
        version >>= 7
    return raw + numbers + packed + _BYTES[version] + fields


class RecordState:
    """The stored state of a record: 22 bytes, the version, 2 bytes for each top-level field, and a link.

    Layout 3: raw (8) | content (4) | modified in ms since 1970, 0 for unknown (6) | place (4) | version (base 128,
    the last byte below 128) | fingerprints of the fields (2 each, little endian) | link (3, 5 or 7).
    `place` is a unique number of the record in its resource, assigned at its first commit: the bit that a full scan
    sets when it has seen the record.
    The link is the sequence of the record's last event (big endian, times 4; the lowest 2 bits are 0, 1 or 2 for 3, 5
    or 7 bytes). Only `commit.lua` knows it and appends it, so `pack` does not; see `link_of`. States of layout 2 have
    none: then the bytes after the version are an even number.
    """

    __slots__ = ("content", "fields", "last_event", "modified", "place", "raw", "version")

    def __init__(
        self,
        raw: bytes,
        content: int,
        modified: int,
        version: int,
        fields: bytes,
        *,
        position: int = 0,
        last_event: int = 0,
    ) -> None:
        self.raw, self.content, self.modified = raw, content, modified
        self.version, self.fields, self.place = version, fields, position
        self.last_event = last_event

    @property
    def is_gone(self) -> bool:
        """True if the record was published as deleted. Its state then has only a version."""
        return self.version > 0 and self.raw == _GONE and not self.fields

    @property
    def is_erased(self) -> bool:
        """True if a person has erased the record: nothing of it is published, as long as OrderMesh serves it."""
        return self.raw == _ERASED and not self.fields

    @property
    def is_inside(self) -> bool:
        """True if the record was published, and was in the scope at that time."""
        return self.version > 0 and bool(self.fields)

    def deleted(self, generation: int = 0) -> RecordState:
        """Return the state after the record has been published as deleted."""
        version = next_version(self.version, generation)
        return RecordState(_GONE, 0, self.modified, version, b"", position=self.place)

    def erased(self, generation: int = 0) -> RecordState:
        """Return the state after the record has been erased. It says no more than place and version."""
        version = next_version(self.version, generation)
        return RecordState(_ERASED, 0, 0, version, b"", position=self.place)

    def unmarked(self) -> RecordState:
        """Return the state that lets an erased record be published again: that of a deleted one."""
        return RecordState(_GONE, 0, 0, self.version, b"", position=self.place)

    def pack(self) -> bytes:
        """Return the state as bytes, without the link to its last event."""
        return pack_state(self.raw, self.content, self.modified, self.version, self.fields, self.place)

    @classmethod
    def unpack(cls, packed: bytes) -> RecordState:
        """Return the state that `pack` packed.

        Raises:
            ValueError: These bytes were not written by `pack`.

        """
        if len(packed) < _HEAD + 1:
            raise ValueError(f"a record state has at least {_HEAD + 1} bytes, this one has {len(packed)}")
        version, shift, offset = 0, 0, _HEAD
        while True:
            if offset >= len(packed):
                raise ValueError("a record state ends within its version")
            byte = packed[offset]
            version |= (byte & 0x7F) << shift
            offset, shift = offset + 1, shift + 7
            if byte < 0x80:
                break
        end = len(packed)
        if (end - offset) % 2:
            end -= _length_of_link(packed)
            if end < offset:
                raise ValueError("a record state ends within the fingerprint of a field")
        return cls(
            raw=packed[:8],
            content=int.from_bytes(packed[8:12], "big"),
            modified=int.from_bytes(packed[12:18], "big"),
            version=version,
            fields=packed[offset:end],
            position=int.from_bytes(packed[18:22], "big"),
            last_event=sequence_of(packed[end:]),
        )


def link_of(packed: bytes) -> bytes:
    """Return the last bytes of a packed state, which link it to its last event; b"" if it has none.

    A commit that publishes nothing of a record keeps its link.
    """
    offset = _HEAD
    while packed[offset : offset + 1] > b"\x7f":
        offset += 1
    rest = len(packed) - offset - 1
    return packed[-length:] if rest > 0 and rest % 2 and rest >= (length := _length_of_link(packed)) else b""


def sequence_of(link: bytes) -> int:
    """Return the sequence of the event that a link leads to; 0 for none."""
    return int.from_bytes(link, "big") >> 2


def _length_of_link(packed: bytes) -> int:
    """Return the length of the link at the end of a packed state that has one."""
    return 3 + 2 * (packed[-1] & 3)
