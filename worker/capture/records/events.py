"""The entries of the streams, as the commit script takes them: events and dead letters. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.capture.records.diff import PUBLISHED
from worker.capture.records.payload import EncodedRecord, old_values
from worker.clock import rfc3339
from worker.queue import envelope
from worker.telemetry import tracing

if TYPE_CHECKING:
    from worker.capture.records.audit import AuditDelta, AuditEvent
    from worker.capture.records.diff import Change
    from worker.capture.records.payload import PayloadOptions

RECORDED = "recorded"
"""The action of an event that is an entry of an audit log."""


class EventBuilder:
    """Makes the entries of one resource, or audit log, whose events are of `entity`."""

    def __init__(self, entity: str, payload: PayloadOptions) -> None:
        self._entity, self._payload = entity, payload
        self._types = {action: envelope.event_type(entity, action.value) for action in sorted(PUBLISHED)}
        self._of_entry = envelope.event_type(entity, RECORDED)

    def published(self, change: Change) -> bytes:
        """What of the record is published."""
        if change.published is None and self._payload.privacy:
            return self._payload.privacy.publish(change.observed.record)
        return bytes(change.observed.record) if change.published is None else change.published

    def event(
        self, change: Change, observed_at: float, body: EncodedRecord, last: bytes | None
    ) -> list[object]:
        """The event of a change. `body`: the record as it is published; `last`: as it was before, None if not kept."""
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
        more: list[object] = []
        if self._payload.compress_above is not None:
            event[-1], encoding = body.stored(self._payload.compress_above)
            # Also where it is not compressed: Redis stores the names of fields once for entries that have the same.
            more += [envelope.ENCODING_FIELD, encoding.value]
        if last is not None:
            more += [envelope.PREVIOUS_FIELD, old_values(last, change.changed)]
        if more:
            event.append(self._optional_fields(more))
        return event

    def recorded(self, log: AuditDelta, one: AuditEvent, observed_at: float) -> list[object]:
        """The event of a new entry of an audit log. Its subject is the record whose log it is."""
        body = EncodedRecord(one.published)
        event: list[object] = [
            envelope.event_id(self._entity, log.subject, one.version, one.fingerprint),
            self._of_entry,
            log.subject,
            one.time or rfc3339(observed_at),
            str(one.version),
            "",
            body.data,
        ]
        if self._payload.compress_above is not None:
            event[-1], encoding = body.stored(self._payload.compress_above)
            event.append(self._optional_fields([envelope.ENCODING_FIELD, encoding.value]))
        return event

    def dead_letter(self, change: Change, observed_at: float, where: str) -> list[object]:
        """The letter of a record that cannot be read. `where` it was: operation and page."""
        observed, record = change.observed, bytes(change.observed.record)
        # What cannot be read cannot be filtered: of such a record no more is kept than tells it from others.
        kept: list[object] = ["data", record]
        if self._payload.privacy:
            kept = ["size", str(len(record)), "fingerprint", observed.raw.hex()]
        return [
            "kind", "record",
            "reason", change.problem,
            "subject", observed.identifier,
            "where", where,
            "time", rfc3339(observed_at),
            *kept,
        ]  # fmt: skip

    def _optional_fields(self, more: list[object]) -> list[object]:
        """The further fields of an event that has some: the trace is the last. The commit adds it to all others."""
        traceparent = self.traceparent()
        return [*more, envelope.TRACE_FIELD, traceparent] if traceparent else more

    def traceparent(self) -> str:
        """The place of the run in its trace; "" where it is not asked for, and outside of a run."""
        trace = tracing.here() if self._payload.traceparent else None
        return trace.traceparent if trace else ""
