"""Records of a page as served: ids, fingerprints and times, without decoding the whole record. No I/O."""

from __future__ import annotations

from functools import lru_cache
from itertools import repeat
from typing import TYPE_CHECKING, Any

import msgspec

from worker import surrogates
from worker.capture.records.compiled import missing, reader_of
from worker.capture.records.fingerprint import (
    ContentHashes,
    content_of,
    hash_of_ignored,
    pack_id,
    pack_ids,
    pack_unreadable,
    raw_fingerprint,
    salted_fingerprint,
)
from worker.capture.records.scope import EVERYTHING
from worker.clock import parse_time
from worker.ordermesh.http.structure import members_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from worker.capture.records.fingerprint import FieldSet
    from worker.capture.records.scope import RecordScope
    from worker.capture.resources import Resource

MAX_RECORD = 1_048_576
"""Most bytes of a record, if the settings do not say otherwise."""
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_UNREAD = ((), b"", (None,))
_ROUNDING_MS = 1_000  # a service may keep its times by the second


class RawRecord(msgspec.Struct, frozen=True, gc=False):
    """A record of a page, not decoded.

    Attributes:
        key: The packed id, or the packed fingerprint of a record without an id.
        identifier: The id; "" if the record cannot be read.
        raw: Fingerprint of the bytes as served.
        record: The bytes as served.
        problem: Why the record cannot be read.
        content: The hashes of its fields, if they were read along with the id.

    """

    key: bytes
    identifier: str
    raw: bytes
    record: msgspec.Raw
    problem: str = ""
    content: ContentHashes | None = None


def observe(
    resource: Resource,
    records: Sequence[msgspec.Raw],
    scope: RecordScope = EVERYTHING,
    most: int = MAX_RECORD,
    ignored: FieldSet = frozenset(),
    *,
    contents: bool = False,
    raws: Sequence[bytes] | None = None,
) -> list[RawRecord]:
    """Return the records of a page with their ids and fingerprints. An unreadable record does not affect the others.

    One of more than `most` bytes cannot be read.

    The fingerprint of a record depends on the `scope` and on the names of the `ignored` fields: when one of them
    changes, every record is compared again.

    `contents`: the records will be decoded, so id and content are read in one pass, where there is a compiled reader.
    `raws`: the result of `fingerprints` for them, if it is there already.
    """
    fingerprint = salted_fingerprint(scope.salt ^ hash_of_ignored(ignored))
    decode = _head_decoder(resource.id_field)
    found: Iterable[ContentHashes | None] = repeat(None)
    try:
        if contents and not missing:
            identifiers, found = _contents(resource, records, ignored)
        else:
            identifiers = [decode(record).id for record in records]
    except UNREADABLE:
        identifiers = [""]
    if "" in identifiers or are_too_long(records, most):
        return [_raw_record(resource, record, fingerprint, most) for record in records]
    if raws is None:
        raws = [*map(fingerprint, records)]
    return [
        RawRecord(key, identifier, raw, record, "", content)
        for key, identifier, raw, record, content in zip(
            pack_ids(identifiers), identifiers, raws, records, found, strict=False
        )
    ]


def _contents(
    resource: Resource, records: Sequence[msgspec.Raw], ignored: FieldSet
) -> tuple[list[str], list[ContentHashes | None]]:
    """Return ids and contents of records; no content of one that Python has to read.

    Raises:
        msgspec.DecodeError: A record has no id, or is no object.

    """
    read, decode = reader_of((*resource.read_fields, resource.id_field)), _head_decoder(resource.id_field)
    read_records = [one or _UNREAD for one in map(read, records)]
    identifiers: list[Any] = [values[-1] for _, _, values in read_records]
    contents: list[ContentHashes | None] = [
        content_of(names, hashes, values[:-1], ignored) for names, hashes, values in read_records
    ]
    for at, identifier in enumerate(identifiers):
        if not isinstance(identifier, str):
            identifiers[at], contents[at] = decode(records[at]).id, None
    return identifiers, contents


def are_too_long(records: Sequence[msgspec.Raw], most: int) -> bool:
    """Return whether one of these records has more than `most` bytes."""
    return sum(map(len, records)) > most and any(len(record) > most for record in records)


def fingerprints(
    records: Sequence[msgspec.Raw], scope: RecordScope, ignored: FieldSet = frozenset()
) -> list[bytes]:
    """Return the fingerprints of the bytes of records, as `observe` does."""
    return [*map(salted_fingerprint(scope.salt ^ hash_of_ignored(ignored)), records)]


def _raw_record(
    resource: Resource, record: msgspec.Raw, fingerprint: Callable[[msgspec.Raw], bytes], most: int
) -> RawRecord:
    """Identify one record of a page that contains an invalid record. Slower than the loop in `observe`."""
    raw, problem = raw_fingerprint(record), ""
    identifier, decode = None, _loose_head_decoder(resource.id_field)
    if len(record) > most:
        problem = (
            f"the record has more than the {most} bytes that are read. To read it, raise "
            "ORDERSYNC_API__MAX_RECORD_BYTES"
        )
    try:
        identifier = surrogates.decode(decode, record).id
    except UNREADABLE as error:
        problem = problem or problem_of(resource, error)
        identifier = _id_in(resource, bytes(record))
    if identifier is None or identifier == "":
        problem = problem or f"the record has no {resource.id_field}"
        return RawRecord(pack_unreadable(raw), "", raw, record, problem)
    return RawRecord(pack_id(str(identifier)), str(identifier), fingerprint(record), record, problem)


def _id_in(resource: Resource, record: bytes) -> str | int | None:
    """Return the id of a record that no decoder takes, so that it can be named; None if it has none."""
    try:
        identifier = msgspec.json.decode(members_of(record)[resource.id_field], type=str | int | None)
    except (*UNREADABLE, ValueError, KeyError):
        return None
    return identifier


def times_of(resource: Resource, records: Sequence[msgspec.Raw]) -> list[int]:
    """Return the modification times of records, in their order: milliseconds since 1970, 0 if a record has none."""
    decode, times = _times_decoder(resource.modified_fields), []
    for record in records:
        try:
            values = surrogates.decode(decode, record)
        except UNREADABLE:
            values = ()
        modified = next((value for value in values if value is not None), None)
        times.append(max(0, parse_time(modified) or 0))
    return times


def older_than(times: Sequence[int], since: int) -> int:
    """Return how many of these times are more than a second before `since`; 0 means no time and is not counted."""
    return sum(0 < time < since - _ROUNDING_MS for time in times)


def without_details(problem: str) -> str:
    """Return why something cannot be read, without the words of the parser: its positions depend on hidden values."""
    return problem.partition(": ")[0]


def problem_of(resource: Resource, error: Exception) -> str:
    """Return why a record cannot be read, in the words of the parser."""
    if isinstance(error, RecursionError):
        return "the record is nested too deeply"
    return f"not a record with a field {resource.id_field}: {error}"


@lru_cache(maxsize=64)
def _times_decoder(names: tuple[str, ...]) -> Any:
    """Return a decoder that reads only the named fields of a record, in their order."""
    fields = [(f"f{index}", Any, None) for index in range(len(names))]
    rename = {f"f{index}": name for index, name in enumerate(names)}
    struct = msgspec.defstruct("Times", fields, rename=rename, gc=False)
    decode = msgspec.json.Decoder(struct).decode
    return lambda record: msgspec.structs.astuple(decode(record))


@lru_cache(maxsize=64)
def _head_decoder(id_field: str) -> Any:
    return _decoder_of(id_field, str)


@lru_cache(maxsize=64)
def _loose_head_decoder(id_field: str) -> Any:
    return _decoder_of(id_field, str | int | None)


def _decoder_of(id_field: str, kind: Any) -> Any:
    default = msgspec.NODEFAULT if kind is str else None
    struct = msgspec.defstruct("Head", [("id", kind, default)], rename={"id": id_field}, gc=False)
    return msgspec.json.Decoder(struct).decode
