"""Events and dead letters as JSON Schema (2020-12): what a consumer finds in an entry of a stream.

The values of a stream entry are texts, so each property is one; numbers are texts of digits, and `data` is a text
of JSON. Behind the fields that are always there come optional ones, and later versions may add more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ordersync_consumer import envelope
from ordersync_consumer.envelope import (
    CONTENT_TYPE,
    ENCODING_FIELD,
    FIELDS,
    PREDECESSOR_FIELD,
    PREVIOUS_FIELD,
    SEQUENCE_DIGITS,
    SPEC_VERSION,
    TRACE_FIELD,
    Encoding,
)
from worker.capture.records.actions import PUBLISHED
from worker.capture.records.events import ERASED, RECORDED
from worker.capture.resources import AuditLog

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.capture.resources import Captured

DIALECT = "https://json-schema.org/draft/2020-12/schema"
VERSION = 2
"""Of the envelope: the next one when a field goes, or means something else."""
LETTER_VERSIONS = {"record": 1, "delivery": 2}
"""Of the dead letters, likewise, by their kind."""
ACTIONS = ("snapshot", "created", "updated", "deleted", ERASED)
"""The actions of the events of a record, in the order of its life."""

COUNT = "^[1-9][0-9]*$"


def text(description: str, **limits: Any) -> dict[str, Any]:
    """Return the schema of a text."""
    return {"type": "string", **limits, "description": description}


PROPERTIES: dict[str, dict[str, Any]] = {
    "specversion": {"type": "string", "const": SPEC_VERSION, "description": "Version of CloudEvents."},
    "id": text(
        "Entity, id of the record, version, and 8 hex digits of its content, separated by colons. The same for the "
        "same change, whichever worker publishes it: remember it to handle each event once.",
        minLength=1,
    ),
    "source": text("/ordersync/ACCOUNT/RESOURCE", format="uri-reference"),
    "type": text(
        "io.ordermesh.ENTITY.ACTION. Ignore entities and actions that you do not know.",
        pattern=r"^io\.ordermesh\.[a-z_]+\.[a-z]+$",
    ),
    "subject": text("Id of the record.", minLength=1),
    "time": text(
        "Time of the change, by the clock of OrderMesh; the time of the read if OrderMesh serves no time.",
        format="date-time",
    ),
    "datacontenttype": {"type": "string", "const": CONTENT_TYPE, "description": "Format of data."},
    "dataschema": text(
        "$id of the JSON Schema of the record: urn:ordersync:ENTITY:VERSION.",
        format="uri",
        pattern=r"^urn:ordersync:[a-z_]+:[1-9][0-9]*$",
    ),
    "sequence": text(
        "Counts the events of a resource, with leading zeros, so that texts compare like their numbers; without gaps "
        "until Redis loses data, which makes it go on above all earlier numbers, or a record is erased, whose events "
        "leave gaps.",
        pattern=f"^[0-9]{{{SEQUENCE_DIGITS}}}$",
    ),
    "version": text(
        "Counts the events of a record; without gaps until Redis loses data, which makes it go on above all earlier "
        "numbers, or the record is erased, which leaves its last event, `erased`.",
        pattern=COUNT,
    ),
    "reason": text(
        "What caused the read: poll, resync, reconcile; erase for an erasure; other values are possible.",
        minLength=1,
    ),
    "changed": text(
        "Names of the top-level fields that differ from the previous version, separated by commas; a comma in a name "
        "is %2C, a percent sign %25, and an empty name %. Empty unless the event is an update."
    ),
    "data": text(
        "The record: a JSON object, as OrderMesh served it, or after the privacy policy; of a deleted or erased record "
        "its id; the entry of an audit log, as served. Compressed bytes if dataencoding is gzip.",
        contentMediaType=CONTENT_TYPE,
    ),
    ENCODING_FIELD: {
        "title": "Data encoding",
        "type": "string",
        "enum": [each.value for each in Encoding],
        "description": "How data is stored. Present only if compression is enabled; without it: identity.",
    },
    PREVIOUS_FIELD: text(
        "A JSON object with the previous values of the fields in changed, without fields that did not exist. Present "
        "only in updates, if it is enabled, and once the record has been published since.",
        contentMediaType=CONTENT_TYPE,
    ),
    TRACE_FIELD: text(
        "The run that published the event, as a position in a W3C trace: 00-TRACE_ID-RUN_ID-FLAGS. The log of the "
        "worker and its spans have the same ids; flag 01 means that the spans were recorded. Present only if it is "
        "enabled.",
        pattern="^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
    ),
    PREDECESSOR_FIELD: text(
        "The sequence of the previous event of the same record. Absent in its first event, in an event that follows "
        "another one of the same audit log directly, and where that event was published by an earlier version.",
        pattern=f"^[0-9]{{{SEQUENCE_DIGITS}}}$",
    ),
}
_EVENT = {name: PROPERTIES[name] for name in (*FIELDS, *envelope.OPTIONAL_FIELDS)}

_LETTER = {
    "reason": text("Why it could not be handled."),
    "subject": text("Id of the record; empty if it could not be read."),
    "time": text("When the letter was written.", format="date-time"),
}
_RECORD = {
    **_LETTER,
    "where": text("Operation and page of the read."),
    "data": text("The record, byte for byte. Not with a privacy policy."),
    "size": text(
        "Its size in bytes, if it is too large to be stored. Not with a privacy policy.", pattern=COUNT
    ),
    "fingerprint": text(
        "XXH3 (64 bits) of its bytes, if it is too large to be stored. Not with a privacy policy.",
        pattern="^[0-9a-f]{16}$",
    ),
}
_DELIVERY = {
    **_LETTER,
    "where": text("Id of the entry in the stream."),
    "group": text("The consumer group that could not handle it."),
    "consumer": text("The consumer of the last attempt."),
    "attempts": text("Number of attempts.", pattern="^[0-9]+$"),
    "trace": text("Traceback of the last error; may be empty."),
    **{f"event.{name}": each for name, each in _EVENT.items() if name != "data"},
    "data": PROPERTIES["data"],
}


def actions(captured: Captured) -> list[str]:
    """Return the actions of the events of a resource or an audit log."""
    if isinstance(captured, AuditLog):
        return [RECORDED, ERASED]
    published = {*(item.value for item in PUBLISHED), ERASED}
    return [action for action in ACTIONS if action in published]


def envelope_schema() -> dict[str, Any]:
    """The JSON Schema of an event, decoded; `$id` is the name under which it is published."""
    return _schema(
        envelope.data_schema("envelope", VERSION),
        title="Event",
        description="An entry of a stream: a CloudEvent with its attributes as plain fields, in this order.",
        properties=_EVENT,
        required=FIELDS,
    )


def letter_schemas() -> dict[str, dict[str, Any]]:
    """The JSON Schemas of dead letters, decoded, by their kind."""
    return {
        "record": _schema(
            envelope.data_schema("dead_record", LETTER_VERSIONS["record"]),
            title="Unreadable record",
            description="A record that could not be read. It was parked, so that it does not block the others.",
            properties={"kind": {"const": "record"}, **_RECORD},
            required=("kind", "where", *_LETTER),
        ),
        "delivery": _schema(
            envelope.data_schema("dead_delivery", LETTER_VERSIONS["delivery"]),
            title="Undeliverable event",
            description="An event that a consumer group could not handle, with all its fields: `data`, and each "
            "other field with the prefix `event.`.",
            properties={"kind": {"const": "delivery"}, **_DELIVERY},
            required=("kind", "where", *_LETTER, "group", "consumer", "attempts", "trace"),
        ),
    }


def _schema(
    uri: str, *, title: str, description: str, properties: dict[str, Any], required: Iterable[str]
) -> dict[str, Any]:
    return {
        "$schema": DIALECT,
        "$id": uri,
        "title": title,
        "description": description,
        "type": "object",
        "required": list(required),
        "properties": properties,
        "additionalProperties": True,
    }
