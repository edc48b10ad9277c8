"""The lines of `ordersync tail`, made from events. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from worker.admin.timeline_entries import audit_words, decoded
from worker.cli.common.output import Line, styled

if TYPE_CHECKING:
    from ordersync_consumer.envelope import Event

STATUS = ("status", "shipmentStatus")
"""Fields whose values a line shows."""
_NUMBERS = ("shortId", "orderShortId", "externalId")
"""Fields with the number by which people know a record, the best first."""
_COLOURS = {"snapshot": "blue", "created": "green", "updated": "yellow", "deleted": "red"}
_LONGEST = 60


def status_of(event: Event) -> dict[str, str]:
    """Return the fields of the status in the record of an event, by name."""
    record = decoded(event.data)
    return _statuses(record) if isinstance(record, dict) else {}


def event_line(event: Event, before: dict[str, str] | None = None) -> Line:
    """Return the line of an event.

    Args:
        event: The event.
        before: The fields of the status before it; None or without a field where they are not known.

    """
    action = styled(f"{event.action:<8}", _COLOURS.get(event.action))
    if event.action == "recorded":
        return (f"{event.time}  ", action, f"  {event.subject}  {audit_words(event.data)}")
    record = decoded(event.data)
    record = record if isinstance(record, dict) else {}
    previous = decoded(event.previous.encode()) if event.previous else None
    known = {**(before or {}), **(_statuses(previous) if isinstance(previous, dict) else {})}
    number = next((f" ({_short(record[name])})" for name in _NUMBERS if record.get(name)), "")
    changed = [_change(name, _statuses(record), known) for name in _status_first(event.changed)]
    return (
        f"{event.time}  ",
        action,
        f"  {event.subject}{number}  v{event.version}  {', '.join(changed)}".rstrip(),
    )


def _status_first(names: tuple[str, ...]) -> list[str]:
    return sorted(names, key=lambda name: name not in STATUS)


def _change(name: str, after: dict[str, str], before: dict[str, str]) -> str:
    if name not in after:
        return name
    if name in before and before[name] != after[name]:
        return f"{name} {before[name]} -> {after[name]}"
    return f"{name} -> {after[name]}"


def _statuses(record: dict[str, Any]) -> dict[str, str]:
    return {name: _short(record[name]) for name in STATUS if isinstance(record.get(name), str | int)}


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
