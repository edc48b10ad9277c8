"""Build the entries of the streams in the form that the commit script expects: events and dead letters. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.capture.records.diff import MAX_RECORD, PUBLISHED
from worker.capture.records.payload import EncodedRecord, old_values
from worker.clock import rfc3339
from ordersync_consumer import envelope
from worker.telemetry import tracing

if TYPE_CHECKING:
    from worker.capture.records.audit import AuditDelta, AuditEvent
    from worker.capture.records.diff import Change
    from worker.capture.records.payload import PayloadOptions

RECORDED = "recorded"
"""The action of an event for an entry of an audit log."""


class EventBuilder:
    """Builds the stream entries of one resource or audit log. `entity` is part of its event types."""

    def __init__(self, entity: str, payload: PayloadOptions) -> None:
        self._entity, self._payload = entity, payload
        self._types = {action: envelope.event_type(entity, action.value) for action in sorted(PUBLISHED)}
        self._of_entry = envelope.event_type(entity, RECORDED)

    def published(self, change: Change) -> bytes:
        """Return the record as it is published, after the privacy policy was applied."""
        if change.published is None and self._payload.privacy:
            return self._payload.privacy.publish(change.observed.record)
        return bytes(change.observed.record) if change.published is None else change.published

    def event(
        self, change: Change, observed_at: float, body: EncodedRecord, last: bytes | None
    ) -> list[object]:
        """Return the event of a change.

        Args:
            change: The change.
            observed_at: Time of the event if the record has none (seconds since 1970).
            body: The record as it is published.
            last: The record as it was published before; None if that is not stored.

        """
        identifier = change.observed.identifier
        event: list[object] = [
            envelope.event_id(self._entity, identifier, change.version, change.content),
            self._types[change.action],
            identifier,
            change.time or rfc3339(observed_at),
            str(change.version),
            envelope.join_names(change.changed),
            body.data,
        ]
        optional: list[object] = []
        if self._payload.compress_above is not None:
            event[-1], encoding = body.stored(self._payload.compress_above)
            # Written even if it is not compressed: Redis stores field names once for entries with the same fields.
            optional += [envelope.ENCODING_FIELD, encoding.value]
        if last is not None:
            optional += [envelope.PREVIOUS_FIELD, old_values(last, change.changed)]
        if optional:
            event.append(self._optional_fields(optional))
        return event

    def recorded(self, log: AuditDelta, entry: AuditEvent, observed_at: float) -> list[object]:
        """Return the event of a new entry of an audit log. Its subject is the record that the log belongs to."""
        body = EncodedRecord(entry.published)
        event: list[object] = [
            envelope.event_id(self._entity, log.subject, entry.version, entry.fingerprint),
            self._of_entry,
            log.subject,
            entry.time or rfc3339(observed_at),
            str(entry.version),
            "",
            body.data,
        ]
        if self._payload.compress_above is not None:
            event[-1], encoding = body.stored(self._payload.compress_above)
            event.append(self._optional_fields([envelope.ENCODING_FIELD, encoding.value]))
        return event

    def dead_letter(self, change: Change, observed_at: float, where: str) -> list[object]:
        """Return the dead letter of a record that cannot be read. `where` names the operation and the page."""
        observed, record = change.observed, bytes(change.observed.record)
        # The policy cannot be applied to an unreadable record: only its size and fingerprint are stored, as of a
        # record that is too large to be stored at all.
        kept: list[object] = ["data", record]
        if self._payload.privacy or len(record) > MAX_RECORD:
            kept = ["size", str(len(record)), "fingerprint", observed.raw.hex()]
        return [
            "kind", "record",
            "reason", change.problem,
            "subject", observed.identifier,
            "where", where,
            "time", rfc3339(observed_at),
            *kept,
        ]  # fmt: skip

    def _optional_fields(self, optional: list[object]) -> list[object]:
        """Return the optional fields of an event, with the trace last. The commit adds the trace to other events."""
        traceparent = self.traceparent()
        return [*optional, envelope.TRACE_FIELD, traceparent] if traceparent else optional

    def traceparent(self) -> str:
        """Return the W3C trace context of the run; "" if it is not enabled, and outside of a run."""
        trace = tracing.here() if self._payload.traceparent else None
        return trace.traceparent if trace else ""
