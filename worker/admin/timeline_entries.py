"""Entries of a timeline, made from events, audit entries and dead letters. No I/O."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from ordersync_consumer.groups import written_at
from worker.clock import parse_time, rfc3339
from worker.surrogates import value_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from ordersync_consumer.dead import DeadLetter
    from ordersync_consumer.envelope import Event
    from worker.ordermesh.http.reply import AuditEntry

_MESSAGES = ("status", "shipmentStatus", "text")
"""Fields of a record that a line shows, besides the names of the changed fields."""
_ACTIONS = ("action", "eventType", "event", "type", "operation")
_ACTORS = ("user", "performedBy", "actor", "userName", "createdBy", "modifiedBy")
"""Possible names of the action and the user in an audit entry. They are not documented."""
_MAX_LENGTH = 160
SECOND_GENERATION = 10**12
"""Versions from here on were given out after Redis had lost data: milliseconds since 1970, at least."""
_canonical = msgspec.msgpack.Encoder(order="sorted").encode


class TimelineEntry(msgspec.Struct, frozen=True):
    """One entry of a timeline.

    Attributes:
        at: When it happened (seconds since 1970); 0 for unknown.
        kind: event, audit, delivery or dead.
        resource: The resource of the stream, or the audit log.
        subject: The id of the record.
        message: A description.
        facts: The same as data.

    """

    at: float
    kind: str
    resource: str
    subject: str
    message: str
    facts: dict[str, Any] = msgspec.field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the entry as it appears in JSON."""
        at = rfc3339(self.at) if self.at else None
        fields = {"kind": self.kind, "resource": self.resource, "subject": self.subject, "told": self.message}
        return {"at": at, **fields, **self.facts}


def entry_order(entry_id: str) -> tuple[int, int]:
    """Return what entries of a stream are ordered by."""
    ms, _, number = entry_id.partition("-")
    return int(ms), int(number or 0)


def missing_versions(newest: int, found: Collection[int]) -> list[int]:
    """Return the versions of a record up to `newest` that were published and are not among the found ones.

    Once Redis has lost data, versions go on above a number of that time (see `renumber.lua`); then only the newest
    version is known to have been published.
    """
    versions = range(1, newest + 1) if newest < SECOND_GENERATION else (newest,)
    return [version for version in versions if version not in found]


def decoded(data: bytes) -> Any:
    """Return a decoded record or entry; None if it is not valid JSON."""
    try:
        return value_of(data)
    except (msgspec.DecodeError, RecursionError):
        return None


def content_key(data: bytes) -> bytes:
    """Return a key that is equal for equal content, however the content is spelled."""
    value = decoded(data)
    try:
        return data if value is None else _canonical(value)
    except UnicodeEncodeError:  # half a surrogate pair
        return json.dumps(value, sort_keys=True).encode()


def of_event(event: Event, resource: str, groups: dict[str, dict[str, Any]]) -> TimelineEntry:
    """Return the entry of an event, with its state in each group."""
    if event.action == "recorded":
        return _of_recorded(event, resource, groups)
    published = written_at(event.entry_id)
    changed_at = (parse_time(event.time) or 0) / 1000
    record = decoded(event.data)
    told = {}
    if isinstance(record, dict):
        told = {name: f"{name} {_short(record[name])}" for name in _MESSAGES if record.get(name) is not None}
    parts = [f"v{event.version} {event.action}"]
    if event.changed:
        parts[0] += f": {', '.join(told.pop(name, name) for name in event.changed)}"
    if told:
        parts[0] += f" ({', '.join(told.values())})"
    delay = max(0.0, published - changed_at) if changed_at else None
    if delay is not None and event.action != "snapshot":
        parts.append(f"{delay:.1f} s after the change")
    run = _run_of(event)
    parts.append(f"by {event.reason}" + (f" in run {run}" if run else ""))
    facts = {
        "event": event.id,
        "entry": event.entry_id,
        "action": event.action,
        "version": event.version,
        "changed": list(event.changed),
        "changed_at": event.time,
        "delay_s": None if delay is None else round(delay, 3),
        "reason": event.reason,
        "run": run or None,
        "groups": groups,
    }
    message = f"{', '.join(parts)}{_of_groups(groups)}"
    return TimelineEntry(published, "event", resource, event.subject, message, facts)


def _run_of(event: Event) -> str:
    """Return the run that published the event, if it has a trace (ORDERSYNC_EVENTS__TRACEPARENT); otherwise ""."""
    parts = event.traceparent.split("-")
    return parts[2] if len(parts) == 4 else ""


def _of_recorded(event: Event, resource: str, groups: dict[str, dict[str, Any]]) -> TimelineEntry:
    """Return the entry of a published audit entry, at its own time rather than the time of publication."""
    published = written_at(event.entry_id)
    at = (parse_time(event.time) or published * 1000) / 1000
    facts = {
        "event": event.id,
        "entry": event.entry_id,
        "published_at": rfc3339(published),
        "groups": groups,
        "audit": decoded(event.data),
    }
    return TimelineEntry(
        at, "audit", resource, event.subject, f"{audit_words(event.data)}{_of_groups(groups)}", facts
    )


def of_audit(entry: AuditEntry, resource: str, subject: str) -> TimelineEntry:
    """Return the entry of an audit entry that was just read from OrderMesh."""
    at = (parse_time(entry.time) or 0) / 1000
    return TimelineEntry(
        at, "audit", resource, subject, audit_words(entry.raw), {"audit": decoded(entry.raw)}
    )


def of_letter(letter: DeadLetter) -> TimelineEntry:
    """Return the entry of a dead letter, at the time it was written."""
    whose = (
        f"group {letter.group}, after {letter.attempts} {'attempt' if letter.attempts == 1 else 'attempts'}"
        if letter.group
        else "the record cannot be read"
    )
    message = f"dead letter {letter.letter_id} ({whose}): {letter.reason}"
    facts = {
        "letter": letter.letter_id,
        "group": letter.group or None,
        "attempts": letter.attempts,
        "reason": letter.reason,
    }
    return TimelineEntry(letter.written_at, "dead", letter.resource, letter.subject, message, facts)


def audit_words(raw: bytes) -> str:
    """Describe an audit entry: the action, the user, the changes. Its fields are not documented."""
    entry = decoded(raw)
    if not isinstance(entry, dict):
        return _short(entry if entry is not None else raw.decode("utf-8", "replace"))
    inner = entry.get("data")
    details = decoded(inner.encode()) if isinstance(inner, str) else inner
    if isinstance(details, dict):
        entry = {**details, **entry}
    action = next((str(entry[name]) for name in _ACTIONS if entry.get(name)), "an entry")
    actor = next((_name(entry[name]) for name in _ACTORS if entry.get(name)), "")
    changes = entry.get("changes")
    message = f"{action} by {actor}" if actor else action
    if isinstance(changes, list) and changes:
        message += f": {', '.join(_change(item) for item in changes)}"
    return _short(message)


def _change(change: Any) -> str:
    if not isinstance(change, dict):
        return _short(change)
    name = change.get("property") or change.get("field") or change.get("name") or "?"
    if isinstance(change.get("newValue"), str | int | float | bool):
        return f"{name} {_short(change.get('oldValue'))} → {_short(change['newValue'])}"
    return str(name)


def _name(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("name") or value.get("email") or value.get("id") or ""
    return _short(value)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text if len(text) <= _MAX_LENGTH else f"{text[: _MAX_LENGTH - 3]}..."


def _of_groups(groups: dict[str, dict[str, Any]]) -> str:
    return "".join(f"; {name}: {item['told']}" for name, item in groups.items())
