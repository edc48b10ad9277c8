"""The log as JSON Schema (2020-12): each line is one event of the catalogue, and has no field but those it names."""

from __future__ import annotations

from typing import Any

from worker.telemetry.catalog import (
    COMMON,
    EVENTS,
    FIELDS,
    FREE_LEVEL,
    HEAD,
    Kind,
    LogEvent,
    LogField,
    LogLevel,
)

VERSION = 1
"""The next one when an event or a field goes, or means something else. New ones may come without."""

_KINDS: dict[Kind, dict[str, Any]] = {
    Kind.TEXT: {"type": "string"},
    Kind.TIME: {"type": "string", "format": "date-time"},
    Kind.COUNT: {"type": "integer"},
    Kind.NUMBER: {"type": "number"},
    Kind.FLAG: {"type": "boolean"},
    Kind.TEXTS: {"type": "array", "items": {"type": "string"}},
    Kind.COUNT_OR_NULL: {"type": ["integer", "null"]},
    Kind.TEXT_OR_NULL: {"type": ["string", "null"]},
    Kind.OBJECT: {"type": "object"},
}
_PATTERNS = {"run_id": "^[0-9a-f]{16}$", "trace_id": "^[0-9a-f]{32}$"}


def log_schema() -> dict[str, Any]:
    """The JSON Schema of one line."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:ordersync:log:{VERSION}",
        "title": "A line of the log",
        "description": "What ordermesh-sync writes to standard error, one JSON object a line.",
        "type": "object",
        "required": [field.name for field in HEAD],
        "properties": {"event": {"enum": list(EVENTS)}},
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in EVENTS],
        "$defs": {
            **{name: _event(event) for name, event in EVENTS.items()},
            **{_key(name): _field(field) for name, field in FIELDS.items()},
        },
    }


def _key(name: str) -> str:
    return f"field.{name}"


def _field(field: LogField) -> dict[str, Any]:
    limits = {"pattern": _PATTERNS[field.name]} if field.name in _PATTERNS else {}
    return {**_KINDS[field.kind], **limits, "description": field.meaning}


def _event(event: LogEvent) -> dict[str, Any]:
    names = dict.fromkeys(
        (*(field.name for field in HEAD), *event.fields, *event.optional, *(field.name for field in COMMON))
    )
    levels = [level.value for level in LogLevel] if event.name in FREE_LEVEL else [event.level.value]
    said: dict[str, Any] = {
        **{name: {"$ref": f"#/$defs/{_key(name)}"} for name in names},
        "level": {"enum": levels},
        "event": {"const": event.name},
    }
    return {
        "description": f"{event.meaning} {event.action}".strip(),
        "required": [*(field.name for field in HEAD), *event.fields],
        "properties": said,
        "additionalProperties": False,
    }
