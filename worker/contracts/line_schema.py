"""An event as a line of JSON, as JSON Schema (2020-12): what `consume` and `tail --json` write, and `forward` sends.

A line is an event in the JSON format of CloudEvents. The schema is a union: `type` says which kind of event a line is,
and so what is in `data`. It contains the schemas of all records, since few generators follow references between files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ordersync_consumer import envelope
from worker.capture.registry import CAPTURED
from worker.contracts.event_schema import DIALECT, PROPERTIES, actions, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.capture.resources import Captured

VERSION = 1
"""The next one when a line loses a field, or the schema of a record gets another version."""
_DATA = "data"
_STORED: dict[str, dict[str, Any]] = {
    "entry": text("Id of the entry in the stream.", pattern="^[0-9]+-[0-9]+$"),
    "attempt": {
        "type": "integer",
        "minimum": 1,
        "description": "Counts the deliveries of the event to the group. Not in the lines of `ordersync tail`.",
    },
    "replayed": {
        "type": "boolean",
        "description": "True if a user had the event delivered again. Not in the lines of `ordersync tail`.",
    },
}
_REQUIRED = (*(name for name in envelope.FIELDS if name != _DATA), "resource", "entry", _DATA)
_OPTIONAL = (envelope.PREVIOUS_FIELD, envelope.TRACE_FIELD)


def line_schema(records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the JSON Schema of a line. `records`: the schemas of the records, by `$id`."""
    events: dict[str, Any] = {}
    bodies: dict[str, Any] = {}
    nested: dict[str, Any] = {}
    for captured in CAPTURED.values():
        uri = envelope.data_schema(captured.entity, captured.schema_version)
        body = dict(records[uri])
        nested |= body.pop("$defs", {})
        name = _camel(body["title"])
        bodies[name] = {key: value for key, value in body.items() if key not in {"$schema", "$id"}}
        events[_camel(f"{captured.entity}_event")] = _event(captured, name, uri)
    return {
        "$schema": DIALECT,
        "$id": envelope.data_schema("line", VERSION),
        "title": "Event line",
        "description": "An event in the JSON format of CloudEvents: a line of `ordersync consume` and of `ordersync "
        "tail --json`. `type` says what is in `data`. Ignore a line whose type you do not know: a later version may "
        "publish further entities.",
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in events],
        "$defs": {**events, **bodies, **dict(sorted(nested.items()))},
    }


def _event(captured: Captured, record: str, uri: str) -> dict[str, Any]:
    """Return the schema of the lines of one entity. Tools find out by `type` which of them a line keeps to."""
    properties = {
        **{each: PROPERTIES[each] for each in envelope.FIELDS if each != _DATA},
        **{each: PROPERTIES[each] for each in _OPTIONAL},
        "type": {
            "type": "string",
            "enum": [envelope.event_type(captured.entity, action) for action in actions(captured)],
            "description": PROPERTIES["type"]["description"],
        },
        "dataschema": {**PROPERTIES["dataschema"], "const": uri},
        "resource": {"type": "string", "const": captured.name, "description": "The stream of the event."},
        **_STORED,
        _DATA: {"$ref": f"#/$defs/{record}"},
    }
    del properties["dataschema"]["pattern"], properties["dataschema"]["format"]
    entity = captured.entity.replace("_", " ")
    return {
        "title": f"{entity.capitalize()} event",
        "description": f"Lines with an event of the entity {captured.entity}.",
        "type": "object",
        "required": list(_REQUIRED),
        "properties": properties,
        "additionalProperties": True,
    }


def _camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.replace("_", " ").split())
