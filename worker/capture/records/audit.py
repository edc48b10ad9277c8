"""Find the new entries of the audit log of a record. No I/O.

Each entry is published once. An entry is identified by its id or, if it has no id, by its canonical content: the
fields of entries are not documented (docs/reference/api-facts.md, 1.8). The state of a log is stored as the state of
a record whose fields are the fingerprints of the entries, in the order in which they were published.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import msgspec
from xxhash import xxh3_64_digest

from worker.capture.records.fingerprint import RecordState, next_version, pack_id, raw_fingerprint
from worker.capture.records.raw_records import MAX_RECORD
from worker.clock import as_rfc3339, parse_time
from worker.ordermesh.http.reply import entry_of
from worker.surrogates import value_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.capture.records.privacy import RecordPolicy
    from worker.ordermesh.http.reply import AuditEntry

MAX_REMEMBERED = 10_000
"""Entries of one log that are remembered after the server stopped returning them; the oldest are forgotten first."""
WITHHELD = b'{"withheld":"the entry is no JSON object, to which the privacy policy could be applied"}'
_SIZE = 8
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_canonical = msgspec.msgpack.Encoder(order="sorted").encode


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """An entry to publish.

    Attributes:
        version: Number of the entry in its log, from 1.
        fingerprint: The first 32 bits of its digest; with a privacy policy, of the digest of what is published of it.
        time: The time of the entry in RFC 3339; "" if it has none.
        published: The entry as JSON, after the privacy policy was applied.

    """

    version: int
    fingerprint: int
    time: str
    published: bytes


@dataclass(frozen=True, slots=True)
class AuditDelta:
    """The changes to commit for one log. `before` and `after` are packed states; `before` is b"" for a new log."""

    subject: str
    key: bytes
    before: bytes
    after: bytes
    entries: tuple[AuditEvent, ...]


def subject_of(path: Sequence[str]) -> str:
    """Return the subject of an event: the id of the innermost record, such as the package of a shipment."""
    return path[-1]


def new_entries(
    subject: str,
    raw: bytes,
    entries: Sequence[AuditEntry],
    before: bytes,
    privacy: RecordPolicy | None = None,
    *,
    generation: int = 0,
    past: int = 0,
    most: int = MAX_RECORD,
) -> AuditDelta | None:
    """Return the new entries of an audit log; None if its bytes have not changed, or if it was erased.

    Entries are published in the order of their times if all of them have a time, otherwise in the server's order.

    Args:
        subject: The record that the log belongs to.
        raw: The response as served.
        entries: The entries of the response.
        before: The packed state of the log, b"" for none.
        privacy: The rules for published entries; None to publish them as served.
        generation: The generation of the numbers of the resource.
        past: Entries of an earlier time are remembered and not published (milliseconds since 1970).
        most: Most bytes of an entry; a longer one is withheld.

    """
    try:
        stored = RecordState.unpack(before) if before else None
    except ValueError:
        stored = None  # a state not written by this program: publish the entries again rather than lose one
    fingerprint = raw_fingerprint(raw)
    if stored is not None and (stored.raw == fingerprint or stored.is_erased):
        return None
    if stored is not None and len(stored.fields) % _SIZE:
        stored = None
    known = stored.fields if stored else b""
    # In the order in which they were published.
    remembered = dict.fromkeys(known[start : start + _SIZE] for start in range(0, len(known), _SIZE))
    served = set[bytes]()
    version = stored.version if stored else 0
    new: list[AuditEvent] = []
    latest = stored.modified if stored else 0
    for entry in in_order(entries):
        digest = digest_of(entry)
        served.add(digest)
        if digest in remembered:
            continue
        remembered[digest] = None
        at = parse_time(entry.time) or 0
        latest = max(latest, at)
        if 0 < at < past:
            continue
        version = next_version(version, generation)
        published = published_entry(entry.raw, privacy, most)
        shown = entry if privacy is None else entry_of(published)
        time = as_rfc3339(shown.time or "") if at > 0 else ""  # 0001-01-01 is how some services write null
        told = digest if privacy is None else digest_of(shown)
        new.append(AuditEvent(version, int.from_bytes(told[:4], "big"), time, published))
    after = RecordState(
        fingerprint, 0, latest, version, _retained(remembered, served), position=stored.place if stored else 0
    )
    return AuditDelta(subject, pack_id(subject), before, after.pack(), tuple(new))


def _retained(remembered: Mapping[bytes, None], served: set[bytes]) -> bytes:
    """Return the fingerprints to store: those of all entries in the response, and the latest of the others.

    An entry of the response whose fingerprint was dropped would be published again.
    """
    excess = max(0, len(remembered) - max(MAX_REMEMBERED, len(served)))
    forgotten = set(islice((item for item in remembered if item not in served), excess))
    return b"".join(item for item in remembered if item not in forgotten)


def published_entry(raw: bytes, privacy: RecordPolicy | None, most: int) -> bytes:
    """Return an entry as it is published, as JSON; one of more than `most` bytes is withheld."""
    if len(raw) > most:
        return msgspec.json.encode({"withheld": f"the entry has more than the {most} bytes that are read"})
    try:
        if privacy is None:
            value_of(raw)
            return raw
        return privacy.publish(raw)
    except _UNREADABLE:
        if privacy is None:
            return msgspec.json.encode(raw.decode(errors="replace"))  # not JSON: publish it as a string
        return WITHHELD  # not an object: the rules cannot be applied to it


def in_order(entries: Sequence[AuditEntry]) -> list[AuditEntry]:
    """Return the entries, oldest first.

    Entries with equal times stay in the server's order, which is reversed if the server lists the newest first. If an
    entry has no time, all of them stay in the server's order.
    """
    times = [parse_time(entry.time) if entry.time else None for entry in entries]
    if any(time is None for time in times):
        return list(entries)
    known = [time or 0 for time in times]
    pairs = list(zip(known, entries, strict=True))
    if known and known[0] > known[-1]:
        pairs.reverse()
    return [entry for _, entry in sorted(pairs, key=lambda pair: pair[0])]


def digest_of(entry: AuditEntry) -> bytes:
    """Return the 8-byte digest that identifies an entry in its log: of its id, or of its canonical content."""
    if entry.id is not None:
        return xxh3_64_digest(b"id:" + entry.id.encode("utf-8", "surrogatepass"))
    try:
        return xxh3_64_digest(_canonical(msgspec.json.decode(entry.raw)))
    except (*_UNREADABLE, OverflowError):
        return xxh3_64_digest(entry.raw)
