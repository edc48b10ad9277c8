"""Decode the records whose bytes differ from the stored fingerprint. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from worker.capture.records.compiled import time_in
from worker.capture.records.fingerprint import ContentHashes, RecordState, read_content, salted_fingerprint
from worker.capture.records.raw_records import UNREADABLE, RawRecord, problem_of, without_details
from worker.capture.records.scope import EVERYTHING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.capture.records.fingerprint import FieldSet
    from worker.capture.records.privacy import RecordPolicy
    from worker.capture.records.scope import RecordScope
    from worker.capture.resources import Resource


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
    except UNREADABLE as error:
        problem = problem_of(resource, error)
        return DecodedRecord(
            observed, before, stored, None, problem=without_details(problem) if privacy else problem
        )
    count = len(resource.modified_fields)
    times, linked = content.values[:count], content.values[count:]
    outside = not scope.includes(observed.record)
    modified, time = time_of(times)
    created = created_of(times, modified) if stored is None or stored.version == 0 else 0
    if shown is not None:
        time = time_of(shown.values)[1]
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


def created_of(times: Sequence[object], modified: int) -> int:
    """Return the creation time of a record, the last of its times, in milliseconds since 1970; 0 if there is none.

    `modified`: the result of `time_of` for these times, which is the same where the others are missing.
    """
    return modified if times[:-1].count(None) == len(times) - 1 else time_of(times[-1:])[0]


def time_of(values: Sequence[object]) -> tuple[int, str]:
    """Return the first valid time of these, in milliseconds since 1970 and as text; 0 and "" if there is none."""
    for value in values:
        if value is None:
            continue
        # An invalid time is treated as missing. It neither makes the record unreadable nor is replaced by another,
        # earlier time of the record, with which every later change would be ignored as stale.
        found = time_in(value)
        if found is None:
            break
        if found[0] > 0:  # 0001-01-01 is how some services write null
            return found
    return 0, ""


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
