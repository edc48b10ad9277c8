"""Find the changed records of a page. No I/O.

Observing a page computes one hash and reads one id per record. Only records whose hash differs from the stored one
are decoded, and only records whose content differs become events.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from itertools import repeat
from typing import TYPE_CHECKING, Any

import msgspec

from worker import surrogates
from worker.capture.records.compiled import missing, reader_of
from worker.capture.records.fingerprint import (
    ContentHashes,
    RecordState,
    content_of,
    hash_of_ignored,
    next_version,
    pack_id,
    pack_state,
    pack_unreadable,
    raw_fingerprint,
    read_content,
    salted_fingerprint,
)
from worker.capture.records.scope import EVERYTHING
from worker.clock import parse_time, read_time
from worker.ordermesh.http.structure import members_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from worker.capture.records.fields import FieldIndex
    from worker.capture.records.fingerprint import FieldSet
    from worker.capture.records.privacy import RecordPolicy
    from worker.capture.records.scope import RecordScope
    from worker.capture.resources import Resource


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

MAX_RECORD = 1_048_576
"""Most bytes of a record, if the settings do not say otherwise."""
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_UNREAD = ((), b"", (None,))
_INVERT = (1 << 64) - 1
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


class DecodedRecord(msgspec.Struct, frozen=True, gc=False):
    """A record whose bytes differ from the stored fingerprint, decoded.

    Attributes:
        observed: The record as served.
        before: The stored packed state, b"" for none.
        held: `before`, unpacked.
        content: The hashes of its fields; None if the record cannot be read.
        modified: Its modification time in milliseconds since 1970, 0 for unknown.
        created: Likewise its creation time, where it was never published.
        time: The modification time as text, in RFC 3339.
        problem: Why the record cannot be read.
        published: The record after the privacy policy was applied; None without a policy.
        shown: The hashes of the fields of `published`; None without a policy.
        linked: The values of the fields that the follow-ups of the resource name, in their order.
        outside: The record is outside the scope.
        is_as_held: These bytes are those of the stored state, which was written when no field was ignored, or by a
            version that kept no fingerprints of ignored fields.

    """

    observed: RawRecord
    before: bytes
    held: RecordState | None
    content: ContentHashes | None
    modified: int = 0
    created: int = 0
    time: str = ""
    problem: str = ""
    published: bytes | None = None
    shown: ContentHashes | None = None
    linked: tuple[object, ...] = ()
    outside: bool = False
    is_as_held: bool = False


class Change(msgspec.Struct, frozen=True, gc=False):
    """The change to commit for one record; see `DecodedRecord` for the fields that both have.

    Attributes:
        action: What is done about the record.
        after: The new packed state.
        version: Number of the version that is published.
        content: 32-bit fingerprint of the content as it is published.
        changed: Names of the changed top-level fields, where known.
        grows: The difference in the number of existing records: 1, 0 or -1.
        created: Its creation time, where it was never published (milliseconds since 1970, 0 for unknown).

    """

    action: Action
    observed: RawRecord
    before: bytes
    after: bytes
    version: int = 0
    content: int = 0
    modified: int = 0
    time: str = ""
    changed: tuple[str, ...] = ()
    problem: str = ""
    published: bytes | None = None
    linked: tuple[object, ...] = ()
    grows: int = 0
    created: int = 0


def observe(
    resource: Resource,
    records: Sequence[msgspec.Raw],
    scope: RecordScope = EVERYTHING,
    most: int = MAX_RECORD,
    ignored: FieldSet = frozenset(),
    *,
    contents: bool = False,
) -> list[RawRecord]:
    """Return the records of a page with their ids and fingerprints. An unreadable record does not affect the others.

    One of more than `most` bytes cannot be read.

    The fingerprint of a record depends on the `scope` and on the names of the `ignored` fields: when one of them
    changes, every record is compared again.

    `contents`: the records will be decoded, so id and content are read in one pass, where there is a compiled reader.
    """
    fingerprint = salted_fingerprint(scope.salt ^ hash_of_ignored(ignored))
    decode = _head_decoder(resource.id_field)
    found: Iterable[ContentHashes | None] = repeat(None)
    try:
        if contents and not missing:
            identifiers, found = _contents(resource, records, ignored)
        else:
            identifiers = [decode(record).id for record in records]
    except _UNREADABLE:
        identifiers = [""]
    if "" in identifiers or are_too_long(records, most):
        return [_raw_record(resource, record, fingerprint, most) for record in records]
    return [
        RawRecord(pack_id(identifier), identifier, fingerprint(record), record, "", content)
        for record, identifier, content in zip(records, identifiers, found, strict=False)
    ]


def _contents(
    resource: Resource, records: Sequence[msgspec.Raw], ignored: FieldSet
) -> tuple[list[str], list[ContentHashes | None]]:
    """Return ids and contents of records; no content of one that Python has to read.

    Raises:
        msgspec.DecodeError: A record has no id, or is no object.

    """
    read, decode = reader_of((*resource.read_fields, resource.id_field)), _head_decoder(resource.id_field)
    identifiers, contents = list[str](), list[ContentHashes | None]()
    for record in records:
        names, hashes, values = read(record) or _UNREAD
        identifier = values[-1]
        if isinstance(identifier, str):
            contents.append(content_of(names, hashes, values[:-1], ignored))
        else:
            identifier = decode(record).id
            contents.append(None)
        identifiers.append(identifier)
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
    except _UNREADABLE as error:
        problem = problem or _problem(resource, error)
        identifier = _id_in(resource, bytes(record))
    if identifier is None or identifier == "":
        problem = problem or f"the record has no {resource.id_field}"
        return RawRecord(pack_unreadable(raw), "", raw, record, problem)
    return RawRecord(pack_id(str(identifier)), str(identifier), fingerprint(record), record, problem)


def _id_in(resource: Resource, record: bytes) -> str | int | None:
    """Return the id of a record that no decoder takes, so that it can be named; None if it has none."""
    try:
        identifier = msgspec.json.decode(members_of(record)[resource.id_field], type=str | int | None)
    except (*_UNREADABLE, ValueError, KeyError):
        return None
    return identifier


def times_of(resource: Resource, records: Sequence[msgspec.Raw]) -> list[int]:
    """Return the modification times of records, in their order: milliseconds since 1970, 0 if a record has none."""
    decode, times = _times_decoder(resource.modified_fields), []
    for record in records:
        try:
            values = surrogates.decode(decode, record)
        except _UNREADABLE:
            values = ()
        modified = next((value for value in values if value is not None), None)
        times.append(max(0, parse_time(modified) or 0))
    return times


def older_than(times: Sequence[int], since: int) -> int:
    """Return how many of these times are more than a second before `since`; 0 means no time and is not counted."""
    return sum(0 < time < since - _ROUNDING_MS for time in times)


def decode(
    resource: Resource,
    observed: RawRecord,
    before: bytes,
    ignored: FieldSet,
    privacy: RecordPolicy | None = None,
    *,
    scope: RecordScope = EVERYTHING,
) -> DecodedRecord:
    """Decode one record that is new or whose bytes differ.

    A state that this program did not write is treated as missing: the record is published again rather than lost.

    Args:
        resource: The resource of the record.
        observed: The record as served.
        before: The stored packed state, b"" for none.
        ignored: Top-level fields whose changes are not published.
        privacy: The policy for published records. The fingerprints of the state cover the fields as served, whatever it
            removes; what is published depends on the published fields alone.
        scope: A record that is not in the scope is marked as outside.

    """
    try:
        stored = RecordState.unpack(before) if before else None
    except ValueError:
        stored = None
    if observed.problem:
        problem = without_details(observed.problem) if privacy else observed.problem
        return DecodedRecord(observed, before, stored, None, problem=problem)
    try:
        content = observed.content or read_content(observed.record, ignored, resource.read_fields)
        published = privacy.publish(observed.record) if privacy else None
        shown = None if published is None else read_content(published, ignored, resource.modified_fields)
    except _UNREADABLE as error:
        problem = _problem(resource, error)
        return DecodedRecord(
            observed, before, stored, None, problem=without_details(problem) if privacy else problem
        )
    count = len(resource.modified_fields)
    times, linked = content.values[:count], content.values[count:]
    outside = not scope.includes(observed.record)
    modified, time = _time_of(times)
    created = 0
    if stored is None or stored.version == 0:
        created = modified if times[:-1].count(None) == count - 1 else _time_of(times[-1:])[0]
    if shown is not None:
        time = _time_of(shown.values)[1]
    return DecodedRecord(
        observed,
        before,
        stored,
        content,
        modified,
        created,
        time,
        published=published,
        shown=shown,
        linked=linked,
        outside=outside,
        is_as_held=(
            bool(ignored)
            and stored is not None
            and stored.raw == salted_fingerprint(scope.salt)(observed.record)
        ),
    )


def _time_of(values: Sequence[object]) -> tuple[int, str]:
    """Return the first valid time of these, in milliseconds since 1970 and as text; 0 and "" if there is none."""
    for value in values:
        if value is None:
            continue
        # An invalid time is treated as missing. It neither makes the record unreadable nor is replaced by another,
        # earlier time of the record, with which every later change would be ignored as stale.
        found = read_time(value)
        if found is None:
            break
        if found[0] > 0:  # 0001-01-01 is how some services write null
            return found
    return 0, ""


def decide(
    decoded: DecodedRecord,
    fields: FieldIndex,
    *,
    baseline: bool,
    first_scan_at: int = 0,
    force: bool = False,
    older: bool = False,
    generation: int = 0,
) -> Change:
    """Return the change to commit for one record. Its content decides; its time only says what has to be confirmed.

    Args:
        decoded: The record.
        fields: The known field names of the resource.
        baseline: A full scan has ended that has certainly shown every record.
        first_scan_at: When the first full scan began, by the clock of the server (milliseconds since 1970); 0 if none
            has ended.
        force: Publish the record even if it has not changed.
        older: Publish the record even if its time is before that of the last published version: it is confirmed.
        generation: The generation of the numbers of the resource.

    """
    observed, stored, content = decoded.observed, decoded.held, decoded.content
    if stored is not None and stored.is_erased:
        return Change(Action.ERASED, observed, decoded.before, decoded.before)
    if content is None:
        # The fingerprint of these bytes is stored, so that they are parked once. The rest of the state stays: when
        # the record can be read again, it is compared with the last published version. For a record with an id, the
        # inverse of the fingerprint is stored: it never equals the fingerprint, so that each scan counts the record.
        raw = observed.raw if observed.problem else _inverse(observed.raw)
        if stored is not None and stored.raw == raw:
            return Change(Action.PARKED, observed, decoded.before, decoded.before, problem=decoded.problem)
        parked = stored or RecordState(raw, 0, 0, 0, b"")
        parked = RecordState(
            raw, parked.content, parked.modified, parked.version, parked.fields, position=parked.place
        )
        return Change(
            Action.UNREADABLE,
            observed,
            decoded.before,
            parked.pack(),
            problem=decoded.problem,
            grows=_grows(stored),
        )
    fingerprints = fields.place(content)
    changed: tuple[str, ...] = ()
    kept = fingerprints.fields
    if decoded.outside and (stored is None or not stored.is_inside):
        return _remembered(decoded, stored)
    # Version 0 marks a record that was parked as unreadable and never published.
    if stored is None or stored.version == 0:
        action = _first_action(decoded, baseline=baseline, first_scan_at=first_scan_at)
        version = next_version(0, generation)
    elif stored.is_gone:
        action, version = Action.CREATED, next_version(stored.version, generation)
    else:
        held = fields.filled(stored.fields, kept) if decoded.is_as_held else stored.fields
        changed = fields.differing(held, kept, content.ignored)
        # If other fields were ignored, the content of a record differs though none of its fields does.
        is_comparable = (
            not stored.is_inside or not fingerprints.is_complete or fields.ignores_alike(stored.fields, kept)
        )
        differs = is_comparable and stored.content != fingerprints.content
        if not force and not differs and (not changed or not stored.is_inside):
            action, version, changed = Action.NOISE, stored.version, ()
            kept = fields.kept(held, kept, content.ignored)
        elif not force and not older and 0 < decoded.modified < stored.modified:
            return Change(Action.STALE, observed, decoded.before, decoded.before, modified=decoded.modified)
        else:
            action, version = Action.UPDATED, next_version(stored.version, generation)
            if not changed and differs:
                changed = content.visible
            # The change by which a record leaves the scope is published. A state without fields marks it as outside.
            kept = b"" if decoded.outside else kept
    after = pack_state(
        observed.raw, fingerprints.content, decoded.modified, version, kept, stored.place if stored else 0
    )
    return Change(
        action,
        observed,
        decoded.before,
        after,
        version,
        fingerprints.content if decoded.shown is None else fields.place(decoded.shown).content,
        decoded.modified,
        decoded.time,
        changed,
        "",
        decoded.published,
        decoded.linked,
        1 if stored is None else _grows(stored),
        decoded.created,
    )


def _first_action(decoded: DecodedRecord, *, baseline: bool, first_scan_at: int) -> Action:
    """Return the action of a record that was never published: whether it existed when the first full scan began.

    A record that was known, but outside the scope, is created when it enters the scope.
    """
    if decoded.held is not None and decoded.held.modified:
        return Action.CREATED if baseline or first_scan_at else Action.SNAPSHOT
    if decoded.created and first_scan_at:
        return Action.SNAPSHOT if decoded.created < first_scan_at else Action.CREATED
    return Action.CREATED if baseline else Action.SNAPSHOT


def _remembered(decoded: DecodedRecord, stored: RecordState | None) -> Change:
    """Return the change for a record outside the scope: its fingerprint, and the version published last, if any.

    Nothing of it is published, so its time needs no confirmation.
    """
    content, version, position = (stored.content, stored.version, stored.place) if stored else (0, 0, 0)
    after = RecordState(decoded.observed.raw, content, decoded.modified, version, b"", position=position)
    return Change(
        Action.OUTSIDE,
        decoded.observed,
        decoded.before,
        after.pack(),
        version,
        grows=_grows(stored),
        created=decoded.created,
    )


def decide_deleted(resource: Resource, identifier: str, before: bytes, generation: int = 0) -> Change | None:
    """Return the change for a deleted record; None if it was already published as deleted.

    A record that was never published, because it was unreadable or outside the scope, is removed without an event.

    The event contains only the id: nothing else is known of the record.
    """
    try:
        stored = RecordState.unpack(before)
    except ValueError:
        return None
    if stored.is_gone:
        return None
    action = Action.DELETED if stored.version else Action.OUTSIDE
    after = stored.deleted(generation)
    record = msgspec.Raw(msgspec.json.encode({resource.id_field: identifier}))
    observed = RawRecord(pack_id(identifier), identifier, after.raw, record)
    return Change(action, observed, before, after.pack(), after.version, published=bytes(record), grows=-1)


def _grows(stored: RecordState | None) -> int:
    return int(stored is None or stored.is_gone)


def newest_of_each(decoded: Sequence[DecodedRecord]) -> dict[bytes, DecodedRecord]:
    """Return each record once, by its key: the newest by modification time, or the last one if the times are equal."""
    newest = {record.observed.key: record for record in decoded}
    if len(newest) < len(decoded):
        newest.clear()
        for record in decoded:
            other = newest.get(record.observed.key)
            if other is None or record.modified >= other.modified:
                newest[record.observed.key] = record
    return newest


def _inverse(raw: bytes) -> bytes:
    return (int.from_bytes(raw, "big") ^ _INVERT).to_bytes(8, "big")


def without_details(problem: str) -> str:
    """Return why something cannot be read, without the words of the parser: its positions depend on hidden values."""
    return problem.partition(": ")[0]


def _problem(resource: Resource, error: Exception) -> str:
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
