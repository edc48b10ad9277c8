"""Decode and decide about the records of a page at once, most of which are new. No I/O.

The result is that of `decode` and `decide` for each of them. Of a record of which nothing is stored little is to be
decided, so the calls that find it out would take most of the time of a first full scan.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.capture.records.actions import Action
from worker.capture.records.decoding import DecodedRecord, created_of, decode, time_of
from worker.capture.records.diff import Change, decide, first_action
from worker.capture.records.fingerprint import next_version, pack_state, read_content
from worker.capture.records.raw_records import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from worker.capture.records.fields import FieldIndex
    from worker.capture.records.fingerprint import FieldSet
    from worker.capture.records.privacy import RecordPolicy
    from worker.capture.records.raw_records import RawRecord
    from worker.capture.records.scope import RecordScope
    from worker.capture.resources import Resource


def decode_new(
    resource: Resource,
    records: Sequence[RawRecord],
    ignored: FieldSet,
    privacy: RecordPolicy | None,
    scope: RecordScope,
) -> list[DecodedRecord]:
    """Return what `decode` returns of each of these records, of which nothing is stored."""
    if privacy is not None or scope.is_limited:
        return [decode(resource, one, b"", ignored, privacy, scope=scope) for one in records]
    count, fields, result = len(resource.modified_fields), resource.read_fields, list[DecodedRecord]()
    for one in records:
        try:
            content = one.content or (None if one.problem else read_content(one.record, ignored, fields))
        except UNREADABLE:
            content = None
        if content is None:
            result.append(decode(resource, one, b"", ignored))
            continue
        times = content.values[:count]
        modified, time = time_of(times)
        result.append(
            DecodedRecord(
                observed=one,
                before=b"",
                held=None,
                content=content,
                modified=modified,
                created=created_of(times, modified),
                time=time,
                linked=content.values[count:],
            )
        )
    return result


def decide_all(
    records: Collection[DecodedRecord],
    fields: FieldIndex,
    *,
    baseline: bool,
    first_scan_at: int = 0,
    doubted: Collection[bytes] = (),
    generation: int = 0,
) -> list[Change]:
    """Return what `decide` returns of each of these records; see there for the arguments.

    `doubted`: the keys of those for which it is true.
    """
    version, place, result = next_version(0, generation), fields.place, list[Change]()
    usual = Action.CREATED if baseline else Action.SNAPSHOT
    for one in records:
        content = one.content
        if one.held is not None or content is None or one.outside or one.shown is not None:
            result.append(
                decide(
                    one,
                    fields,
                    baseline=baseline,
                    first_scan_at=first_scan_at,
                    doubted=one.observed.key in doubted,
                    generation=generation,
                )
            )
            continue
        observed, modified, found = one.observed, one.modified, place(content)
        result.append(
            Change(
                action=first_action(one, baseline=baseline, first_scan_at=first_scan_at)
                if first_scan_at
                else usual,
                observed=observed,
                before=one.before,
                after=pack_state(observed.raw, found.content, modified, version, found.fields, 0),
                version=version,
                content=found.content,
                modified=modified,
                time=one.time,
                published=one.published,
                linked=one.linked,
                grows=1,
                created=one.created,
            )
        )
    return result
