"""From the audit log of a record to the entries of it that are new. No I/O.

An entry is published once. It is known by its id, or, where it has none, by its content in canonical form: no field
of an entry is documented (docs/reference/api-facts.md, 1.8). What is kept of a log is the state of a record whose
fields are the fingerprints of its entries, in the order in which they were published.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import msgspec
from xxhash import xxh3_64_digest

from worker.capture.records.fingerprint import RecordState, pack_id, raw_fingerprint
from worker.clock import parse_time, with_zone

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.capture.records.privacy import RecordPolicy
    from worker.ordermesh.http.reply import AuditEntry

MAX_REMEMBERED = 10_000
"""Entries of one log that are remembered though the server does not show them any more; the oldest are forgotten."""
WITHHELD = b'{"withheld":"the entry is no JSON object, to which the privacy policy could be applied"}'
_SIZE = 8
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_canonical = msgspec.msgpack.Encoder(order="sorted").encode


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """An entry that is to be published: which one of its log it is, and what of it is published."""

    version: int
    fingerprint: int
    time: str
    published: bytes


@dataclass(frozen=True, slots=True)
class AuditDelta:
    """What is to be committed for one log. `before` and `after` are packed states, b"" for none."""

    subject: str
    key: bytes
    before: bytes
    after: bytes
    entries: tuple[AuditEvent, ...]


def subject_of(path: Sequence[str]) -> str:
    """What an event is about: the innermost record, such as the package of a shipment."""
    return path[-1]


def new_entries(
    subject: str,
    raw: bytes,
    entries: Sequence[AuditEntry],
    before: bytes,
    privacy: RecordPolicy | None = None,
) -> AuditDelta | None:
    """What of the log of `subject`, served as `raw` with these entries, is new; None if its bytes are the known ones.

    Entries are published in the order of their times, as far as they tell them, else in that of the server.
    """
    try:
        held = RecordState.unpack(before) if before else None
    except ValueError:
        held = None  # of another hand: published anew rather than lost
    fingerprint = raw_fingerprint(raw)
    if held is not None and held.raw == fingerprint:
        return None
    if held is not None and len(held.fields) % _SIZE:
        held = None
    known = held.fields if held else b""
    # In the order in which they were published.
    remembered = dict.fromkeys(known[at : at + _SIZE] for at in range(0, len(known), _SIZE))
    shown = set[bytes]()
    version = held.version if held else 0
    new: list[AuditEvent] = []
    latest = held.modified if held else 0
    for entry in in_order(entries):
        digest = digest_of(entry)
        shown.add(digest)
        if digest in remembered:
            continue
        remembered[digest] = None
        version += 1
        published = _published(entry.raw, privacy)
        latest = max(latest, parse_time(entry.time) or 0)
        time = with_zone(entry.time) if entry.time else ""
        new.append(AuditEvent(version, int.from_bytes(digest[:4], "big"), time, published))
    after = RecordState(
        fingerprint, 0, latest, version, _kept(remembered, shown), position=held.place if held else 0
    )
    return AuditDelta(subject, pack_id(subject), before, after.pack(), tuple(new))


def _kept(remembered: Mapping[bytes, None], shown: set[bytes]) -> bytes:
    """The fingerprints that are kept: of all entries that are shown, or they would be new once more, and of others."""
    spare = max(0, len(remembered) - max(MAX_REMEMBERED, len(shown)))
    forgotten = set(islice((each for each in remembered if each not in shown), spare))
    return b"".join(item for item in remembered if item not in forgotten)


def _published(raw: bytes, privacy: RecordPolicy | None) -> bytes:
    try:
        if privacy is None:
            msgspec.json.decode(raw)
            return raw
        return privacy.publish(raw)
    except _UNREADABLE:
        if privacy is None:
            return msgspec.json.encode(raw.decode(errors="replace"))  # what is no JSON goes as a text
        return WITHHELD  # a text, say: no rule can be applied to what is in it


def in_order(entries: Sequence[AuditEntry]) -> list[AuditEntry]:
    """Oldest first. Without times, or with equal ones, the order of the server counts, whichever way it runs."""
    times = [parse_time(entry.time) if entry.time else None for entry in entries]
    if any(time is None for time in times):
        return list(entries)
    known = [time or 0 for time in times]
    pairs = list(zip(known, entries, strict=True))
    if known and known[0] > known[-1]:
        pairs.reverse()
    return [entry for _, entry in sorted(pairs, key=lambda pair: pair[0])]


def digest_of(entry: AuditEntry) -> bytes:
    """8 bytes that tell an entry from every other of its log: over its id, or its canonical content."""
    if entry.id is not None:
        return xxh3_64_digest(b"id:" + entry.id.encode("utf-8", "surrogatepass"))
    try:
        return xxh3_64_digest(_canonical(msgspec.json.decode(entry.raw)))
    except (*_UNREADABLE, OverflowError):
        return xxh3_64_digest(entry.raw)
