"""From the records of a page to the changes among them. No I/O.

Observing a page costs one hash and one id for each record. Only those whose hash differs from the one kept
are decoded, and only those whose content differs become events.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from worker.capture.records.fingerprint import (
    ContentHashes,
    FieldIndex,
    RecordState,
    pack_id,
    pack_unreadable,
    raw_fingerprint,
    read_content,
)
from worker.capture.records.scope import EVERYTHING
from worker.clock import parse_time, with_zone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.capture.records.privacy import RecordPolicy
    from worker.capture.records.scope import RecordScope
    from worker.capture.resources import Resource


class Action(StrEnum):
    """What is done about a record whose bytes are not the ones that are known."""

    SNAPSHOT = "snapshot"
    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"
    OUTSIDE = "outside"
    """Not of interest: remembered, not published."""
    NOISE = "noise"
    """Other bytes, same content: remembered, not published."""
    STALE = "stale"
    """Older than what was published: ignored."""
    UNREADABLE = "unreadable"
    """Has no id or is no object: parked among the dead letters with the reason."""
    PARKED = "parked"
    """As unreadable as it was when it was parked: nothing to do."""


PUBLISHED = frozenset({Action.SNAPSHOT, Action.CREATED, Action.UPDATED, Action.DELETED})
UNWRITTEN = frozenset({Action.STALE, Action.PARKED})

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_INVERT = (1 << 64) - 1
_ROUNDING_MS = 1_000  # a service may keep its times by the second


class RawRecord(msgspec.Struct, frozen=True, gc=False):
    """A record of a page: the bytes as served, their fingerprint, and who it is.

    `identifier` is empty for a record that cannot be read; `problem` then says why.
    """

    key: bytes
    identifier: str
    raw: bytes
    record: msgspec.Raw
    problem: str = ""


class DecodedRecord(msgspec.Struct, frozen=True, gc=False):
    """An observed record whose bytes differ from the ones known, and its content, None if it has none.

    `before` is the packed state that was found, b"" for none; `held` the same, unpacked. `published`: what of the
    record may be published; None without a policy, for the record as served. `linked`: the values of the fields
    that the resource's follow-ups name, in their order. `outside`: it is not of interest.
    """

    observed: RawRecord
    before: bytes
    held: RecordState | None
    content: ContentHashes | None
    modified: int = 0
    time: str = ""
    problem: str = ""
    published: bytes | None = None
    linked: tuple[object, ...] = ()
    outside: bool = False


class Change(msgspec.Struct, frozen=True, gc=False):
    """What is to be committed for one record. `before` and `after` are packed states, b"" for none.

    `published`: what of the record may be published; None without a policy, for the record as served. `linked`: as
    in `DecodedRecord`. `grows`: by how many the records that are there become more.
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


def observe(
    resource: Resource, records: Sequence[msgspec.Raw], scope: RecordScope = EVERYTHING
) -> list[RawRecord]:
    """Identify the records of a page. One that cannot be read does not keep the others from being read.

    The fingerprint of a record depends on the `scope`: after a change of it, each record is compared again.
    """
    decode = _head_decoder(resource.id_field)
    try:
        identifiers = [decode(record).id for record in records]
    except _UNREADABLE:
        identifiers = [""]
    if "" in identifiers:
        return [_raw_record(resource, record, scope) for record in records]
    fingerprint = scope.fingerprint
    return [
        RawRecord(pack_id(identifier), identifier, fingerprint(record), record)
        for record, identifier in zip(records, identifiers, strict=True)
    ]


def _raw_record(resource: Resource, record: msgspec.Raw, scope: RecordScope) -> RawRecord:
    """The slow way, for a page with a record that is not as it should be."""
    raw, problem, identifier = raw_fingerprint(record), "", None
    try:
        identifier = _loose_head_decoder(resource.id_field)(record).id
    except _UNREADABLE as error:
        problem = _problem(resource, error)
    if identifier is None or identifier == "":
        problem = problem or f"the record has no {resource.id_field}"
        return RawRecord(pack_unreadable(raw), "", raw, record, problem)
    return RawRecord(pack_id(str(identifier)), str(identifier), scope.fingerprint(record), record)


def times_of(resource: Resource, records: Sequence[msgspec.Raw]) -> list[int]:
    """When records say that they were modified, in their order: milliseconds since 1970, 0 where they do not."""
    decode, times = _times_decoder(resource.modified_fields), []
    for record in records:
        try:
            values = decode(record)
        except _UNREADABLE:
            values = ()
        told = next((value for value in values if value is not None), None)
        times.append(max(0, parse_time(told) or 0))
    return times


def older_than(times: Sequence[int], since: int) -> int:
    """How many of these times lie before `since`, by over a second; one of 0 is none."""
    return sum(0 < time < since - _ROUNDING_MS for time in times)


def decode(
    resource: Resource,
    observed: RawRecord,
    before: bytes,
    ignored: frozenset[str],
    privacy: RecordPolicy | None = None,
    *,
    scope: RecordScope = EVERYTHING,
) -> DecodedRecord:
    """Decode one record that is new or whose bytes differ. `before` is its packed state, b"" for none.

    A state that this program did not write counts as none: the record is published anew rather than lost.
    `ignored`: top-level fields that do not count. Fingerprints are those of the others as served, whatever of
    them `privacy` lets through. A record that is not in `scope` is marked as outside.
    """
    try:
        held = RecordState.unpack(before) if before else None
    except ValueError:
        held = None
    if observed.problem:
        return DecodedRecord(observed, before, held, None, problem=observed.problem)
    try:
        requested = resource.modified_fields + linked_fields(resource)
        content = read_content(observed.record, ignored, requested)
        published = privacy.publish(observed.record) if privacy else None
    except _UNREADABLE as error:
        return DecodedRecord(observed, before, held, None, problem=_problem(resource, error))
    linked = content.values[len(resource.modified_fields) :]
    outside = not scope.includes(observed.record)
    for value in content.values[: len(resource.modified_fields)]:
        if value is None:
            continue
        # A time that cannot be read counts as none. It does not make the record unreadable, and no earlier
        # time takes its place, for which every later change would be ignored as stale.
        modified = parse_time(value)
        if modified is None:
            break
        if modified > 0:  # 0001-01-01 is how some services write null
            time = with_zone(str(value))
            return DecodedRecord(
                observed,
                before,
                held,
                content,
                modified,
                time,
                published=published,
                linked=linked,
                outside=outside,
            )
    return DecodedRecord(observed, before, held, content, published=published, linked=linked, outside=outside)


def decide(decoded: DecodedRecord, fields: FieldIndex, *, baseline: bool, force: bool = False) -> Change:
    """What to do about one record. `baseline`: the first complete read of the resource is over.

    `force`: one that has not changed is published again.
    """
    observed, held, content = decoded.observed, decoded.held, decoded.content
    if content is None:
        # These bytes are remembered, so that they are parked once. All else of a state stays: when the record
        # can be read again, it is compared with what was published last. A record with an id is remembered by
        # the inverse of its fingerprint: that never looks unchanged, so that it is found and counted each time.
        raw = observed.raw if observed.problem else _inverse(observed.raw)
        if held is not None and held.raw == raw:
            return Change(Action.PARKED, observed, decoded.before, decoded.before, problem=decoded.problem)
        parked = held or RecordState(raw, 0, 0, 0, b"")
        parked = RecordState(
            raw, parked.content, parked.modified, parked.version, parked.fields, position=parked.place
        )
        return Change(
            Action.UNREADABLE,
            observed,
            decoded.before,
            parked.pack(),
            problem=decoded.problem,
            grows=_grows(held),
        )
    placed = fields.place(content)
    changed: tuple[str, ...] = ()
    if decoded.outside and (held is None or not held.is_inside):
        return _remembered(decoded, held)
    # Version 0 marks a record that was parked as unreadable and never published.
    if held is None or held.version == 0:
        action, version = Action.CREATED if baseline else Action.SNAPSHOT, 1
    elif held.is_gone:
        action, version = Action.CREATED, held.version + 1
    elif held.modified and decoded.modified and decoded.modified < held.modified:
        return Change(Action.STALE, observed, decoded.before, decoded.before)
    elif (
        not force and held.content == placed.content and (held.fields == placed.fields or not held.is_inside)
    ):
        action, version = Action.NOISE, held.version
    else:
        action, version = Action.UPDATED, held.version + 1
        changed = fields.differing(held.fields, placed.fields)
        if not changed and held.content != placed.content:
            changed = content.names
    position = held.place if held else 0
    # What goes outside is published with the change by which it goes; without the fields it is known to be outside.
    kept = b"" if decoded.outside and action is Action.UPDATED else placed.fields
    after = RecordState(
        observed.raw, placed.content, decoded.modified, version, kept, position=position
    ).pack()
    return Change(
        action,
        observed,
        decoded.before,
        after,
        version,
        placed.content,
        decoded.modified,
        decoded.time,
        changed,
        published=decoded.published,
        linked=decoded.linked,
        grows=_grows(held),
    )


def _remembered(decoded: DecodedRecord, held: RecordState | None) -> Change:
    """A record that is not of interest: known by its bytes, and by what was published of it, if it ever was."""
    if held is not None and held.modified and decoded.modified and decoded.modified < held.modified:
        return Change(Action.STALE, decoded.observed, decoded.before, decoded.before)
    content, version, position = (held.content, held.version, held.place) if held else (0, 0, 0)
    after = RecordState(decoded.observed.raw, content, decoded.modified, version, b"", position=position)
    return Change(Action.OUTSIDE, decoded.observed, decoded.before, after.pack(), version, grows=_grows(held))


def decide_deleted(resource: Resource, identifier: str, before: bytes) -> Change | None:
    """What to do about a record that is gone for certain; None if it was published as deleted already.

    One that was never published, since it could not be read or is not of interest, goes without an event.

    The event holds the id alone: no more is known of the record.
    """
    try:
        held = RecordState.unpack(before)
    except ValueError:
        return None
    if held.is_gone:
        return None
    action = Action.DELETED if held.version else Action.OUTSIDE
    after = held.deleted()
    record = msgspec.Raw(msgspec.json.encode({resource.id_field: identifier}))
    observed = RawRecord(pack_id(identifier), identifier, after.raw, record)
    return Change(action, observed, before, after.pack(), after.version, published=bytes(record), grows=-1)


def linked_fields(resource: Resource) -> tuple[str, ...]:
    """The fields of a record that name what has to be read when it has changed."""
    return tuple(follow_up.ids[0] for follow_up in resource.follow_ups if follow_up.ids)


def _grows(held: RecordState | None) -> int:
    return int(held is None or held.is_gone)


def newest_of_each(decoded: Sequence[DecodedRecord]) -> list[DecodedRecord]:
    """One of each record: a page that shows a record twice shows its newer state last or newer by time."""
    kept: dict[bytes, DecodedRecord] = {}
    for one in decoded:
        other = kept.get(one.observed.key)
        if other is None or one.modified >= other.modified:
            kept[one.observed.key] = one
    return list(kept.values())


def _inverse(raw: bytes) -> bytes:
    return (int.from_bytes(raw, "big") ^ _INVERT).to_bytes(8, "big")


def _problem(resource: Resource, error: Exception) -> str:
    return f"not a record with a field {resource.id_field}: {error}"


@lru_cache(maxsize=64)
def _times_decoder(names: tuple[str, ...]) -> Any:
    """Reads the named fields of a record and nothing else, in their order."""
    fields = [(f"f{at}", Any, None) for at in range(len(names))]
    rename = {f"f{at}": name for at, name in enumerate(names)}
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
