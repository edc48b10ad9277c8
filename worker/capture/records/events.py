"""Build the entries of the streams in the form that the commit script expects: events and dead letters. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import msgspec

from ordersync_consumer import envelope
from worker.capture.records.actions import PUBLISHED
from worker.capture.records.fingerprint import link_of, sequence_of
from worker.capture.records.payload import EncodedRecord, old_values
from worker.capture.records.raw_records import MAX_RECORD, without_details
from worker.clock import rfc3339
from worker.telemetry import tracing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.capture.records.audit import AuditDelta, AuditEvent
    from worker.capture.records.diff import Change
    from worker.capture.records.erasing import Erasure
    from worker.capture.records.payload import PayloadOptions

Event: TypeAlias = tuple[str, str, str, str, str, str, "list[object] | bool"]
"""Id, type, subject, time, version, changed fields, and the names and values of further fields, or False."""

RECORDED = "recorded"
"""The action of an event for an entry of an audit log."""
ERASED = "erased"
"""The action of the event that remains of a record, or of an audit log, that a person has erased."""


class EventBuilder:
    """Builds the stream entries of one resource or audit log. `entity` is part of its event types."""

    def __init__(self, entity: str, payload: PayloadOptions) -> None:
        self._entity, self._payload = entity, payload
        self._types = {action: envelope.event_type(entity, action.value) for action in sorted(PUBLISHED)}
        self._of_entry = envelope.event_type(entity, RECORDED)
        self._of_erasure = envelope.event_type(entity, ERASED)

    def published(self, change: Change) -> bytes | memoryview:
        """Return the record as it is published, after the privacy policy was applied."""
        if change.published is not None:
            return change.published
        record = change.observed.record
        return self._payload.privacy.publish(record) if self._payload.privacy else memoryview(record)

    def encoded(
        self, body: EncodedRecord, last: bytes | None, changed: Iterable[str]
    ) -> tuple[bytes | memoryview, list[object]]:
        """Return the data of an event, and the names and values of the optional fields that go with it.

        Args:
            body: The record as it is published.
            last: The record as it was published before; None if that is not stored.
            changed: Names of the changed fields.

        """
        data, optional = self._stored(body)
        if last is not None:
            optional += [envelope.PREVIOUS_FIELD, old_values(last, changed)]
        return data, optional

    def event(self, change: Change, observed_at: float, optional: list[object] | None = None) -> Event:
        """Return the event of a change.

        Args:
            change: The change.
            observed_at: Time of the event if the record has none (seconds since 1970).
            optional: Names and values of the optional fields that go with its data.

        """
        identifier, version = change.observed.identifier, change.version
        return (
            envelope.event_id(self._entity, identifier, version, change.content),
            self._types[change.action],
            identifier,
            change.time or rfc3339(observed_at),
            str(version),
            envelope.join_names(change.changed) if change.changed else "",
            self._further(optional or [], change.before) if optional or change.before else False,
        )

    def recorded(self, log: AuditDelta, observed_at: float) -> list[tuple[Event, bytes | memoryview]]:
        """Return the events of the new entries of an audit log, and their data. Their subject is the record of the log.

        Only the first one names its predecessor: that of each other one has the sequence before its own.
        """
        return [
            self._recorded(log, entry, observed_at, b"" if count else log.before)
            for count, entry in enumerate(log.entries)
        ]

    def _recorded(
        self, log: AuditDelta, entry: AuditEvent, observed_at: float, before: bytes
    ) -> tuple[Event, bytes | memoryview]:
        data, optional = self._stored(EncodedRecord(entry.published))
        event = (
            envelope.event_id(self._entity, log.subject, entry.version, entry.fingerprint),
            self._of_entry,
            log.subject,
            entry.time or rfc3339(observed_at),
            str(entry.version),
            "",
            self._further(optional, before),
        )
        return event, data

    def _stored(self, body: EncodedRecord) -> tuple[bytes | memoryview, list[object]]:
        """Return the data of an event, and its encoding as an optional field."""
        if self._payload.compress_above is None:
            return body.data, []
        data, encoding = body.stored(self._payload.compress_above)
        # Written even if it is not compressed: Redis stores field names once for entries with the same fields.
        return data, [envelope.ENCODING_FIELD, encoding.value]

    def erased(self, erasure: Erasure, observed_at: float) -> tuple[Event, bytes]:
        """Return the event of an erasure, and its data, which contains the id, and nothing else of the record."""
        event = (
            envelope.event_id(self._entity, erasure.identifier, erasure.version, 0),
            self._of_erasure,
            erasure.identifier,
            rfc3339(observed_at),
            str(erasure.version),
            "",
            False,
        )
        return event, msgspec.json.encode({"id": erasure.identifier})

    def dead_letter(self, change: Change, observed_at: float, where: str) -> list[object]:
        """Return the dead letter of a record that cannot be read. `where` names the operation and the page."""
        observed, record = change.observed, bytes(change.observed.record)
        kept: list[object] = ["data", record]
        if self._payload.privacy:
            kept = []  # the policy cannot be applied to it, and size and fingerprint depend on what the policy hides
        elif len(record) > MAX_RECORD:
            kept = ["size", str(len(record)), "fingerprint", observed.raw.hex()]
        return [
            "kind", "record",
            "reason", without_details(change.problem) if self._payload.privacy else change.problem,
            "subject", observed.identifier,
            "where", where,
            "time", rfc3339(observed_at),
            *kept,
        ]  # fmt: skip

    def _further(self, optional: list[object], before: bytes) -> list[object] | bool:
        """Return the fields of an event that not all have, the trace among them; False for none.

        The commit adds the trace to events without such fields. `before`: the state that names the previous event.
        """
        link = link_of(before)
        if not optional and not link:
            return False
        traceparent = self.traceparent()
        trace = [envelope.TRACE_FIELD, traceparent] if traceparent else []
        predecessor = [envelope.PREDECESSOR_FIELD, envelope.sequence_text(sequence_of(link))] if link else []
        return [*optional, *trace, *predecessor]

    def traceparent(self) -> str:
        """Return the W3C trace context of the run; "" if it is not enabled, and outside of a run."""
        trace = tracing.here() if self._payload.traceparent else None
        return trace.traceparent if trace else ""
