"""Find what has changed in a record, and decide what becomes of it. No I/O.

Observing a page (`raw_records.py`) computes one hash and reads one id per record. Only records whose hash differs
from the stored one are decoded (`decoding.py`), and only records whose content differs become events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from worker.capture.records.actions import Action
from worker.capture.records.fingerprint import RecordState, next_version, pack_id, pack_state
from worker.capture.records.raw_records import RawRecord

if TYPE_CHECKING:
    from worker.capture.records.decoding import DecodedRecord
    from worker.capture.records.fields import FieldIndex
    from worker.capture.resources import Resource


_INVERT = (1 << 64) - 1


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


def decide(
    decoded: DecodedRecord,
    fields: FieldIndex,
    *,
    baseline: bool,
    first_scan_at: int = 0,
    force: bool = False,
    older: bool = False,
    doubted: bool = False,
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
        doubted: It was perhaps read before the last published version was, so only a later time says that it is newer.
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
        action = first_action(decoded, baseline=baseline, first_scan_at=first_scan_at)
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
        elif not (force or older) and _may_be_older(decoded.modified, stored.modified, doubted=doubted):
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


def _may_be_older(modified: int, published: int, *, doubted: bool) -> bool:
    return modified <= published if doubted else 0 < modified < published


def first_action(decoded: DecodedRecord, *, baseline: bool, first_scan_at: int) -> Action:
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


def _inverse(raw: bytes) -> bytes:
    return (int.from_bytes(raw, "big") ^ _INVERT).to_bytes(8, "big")
