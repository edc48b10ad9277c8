"""The closed catalogue of what the log may say: one table of events, with typed fields.

The JSON Schema (`deploy/log-events.schema.json`) and the page (`docs/reference/log-events.md`) are written from it, and
`conformity` checks every line against it. A new event needs an entry here, in the file of its theme, and new files:
`make docs`.
"""

from __future__ import annotations

from worker.telemetry.catalog import delivering, proving, reading, running
from worker.telemetry.catalog.fields import COMMON, HEAD, OWN
from worker.telemetry.catalog.kinds import Kind, LogEvent, LogField, LogLevel

__all__ = [
    "COMMON",
    "EVENTS",
    "EXTRA",
    "FIELDS",
    "FREE_LEVEL",
    "HEAD",
    "LIBRARY",
    "THEMES",
    "UNLISTED",
    "Kind",
    "LogEvent",
    "LogField",
    "LogLevel",
]  # fmt: skip

THEMES = {
    "Reading": reading.EVENTS,
    "Completeness": proving.EVENTS,
    "Delivery": delivering.EVENTS,
    "Running": running.EVENTS,
}
"""The events by theme."""
EVENTS = {event.name: event for events in THEMES.values() for event in events}
"""Every event, by its name."""
FIELDS = {field.name: field for field in (*HEAD, *COMMON, *OWN)}
"""Every field, by its name."""

LIBRARY, UNLISTED, EXTRA = "library", "unlisted", "extra"
"""The events of lines of libraries, and of lines that are not in the catalogue; and the field with their rest."""
FREE_LEVEL = frozenset({LIBRARY, UNLISTED})
"""Events that have any level."""
