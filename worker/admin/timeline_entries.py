"""Moments of a timeline: what is told of events, audit entries and dead letters. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from worker.clock import parse_time, rfc3339
from worker.queue.streams.groups import written_at

if TYPE_CHECKING:
    from worker.ordermesh.http.reply import AuditEntry
    from worker.queue.dead import DeadLetter
    from worker.queue.envelope import Event

_MESSAGES = ("status", "shipmentStatus", "text")
"""Fields of a record that a line tells, besides what changed."""
_ACTIONS = ("action", "eventType", "event", "type", "operation")
_ACTORS = ("user", "performedBy", "actor", "userName", "createdBy", "modifiedBy")
"""Names under which an audit entry may say what was done and by whom. None is documented."""
_LONGEST = 160
_canonical = msgspec.msgpack.Encoder(order="sorted").encode


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """Something that happened at a time (seconds since 1970; 0 where it is not known).

    `kind`: event, audit, delivery, dead. `resource`: of which stream, or the kind of the audit log. `subject`: the id
    of the record. `told`: in words. `facts`: the same for machines.
    """

    at: float
    kind: str
    resource: str
    subject: str
    message: str
    facts: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """As it stands in JSON."""
        at = rfc3339(self.at) if self.at else None
        told = {"kind": self.kind, "resource": self.resource, "subject": self.subject, "told": self.message}
        return {"at": at, **told, **self.facts}


def decoded(data: bytes) -> Any:
    """A record or entry; None where it cannot be read."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return None


def content_key(data: bytes) -> bytes:
    """The same for the same content, however it is written."""
    value = decoded(data)
    return data if value is None else _canonical(value)


def of_event(event: Event, resource: str, groups: dict[str, dict[str, Any]]) -> TimelineEntry:
    """An event, and what each group has made of it."""
    if event.action == "recorded":
        return _of_recorded(event, resource, groups)
    published = written_at(event.entry_id)
    changed_at = (parse_time(event.time) or 0) / 1000
    parts = [f"v{event.version} {event.action}"]
    if event.changed:
        parts[0] += f": {', '.join(event.changed)}"
    record = decoded(event.data)
    if isinstance(record, dict):
        parts += [f"{name} {_short(record[name])}" for name in _MESSAGES if record.get(name) is not None]
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
    told = f"{', '.join(parts)}{_of_groups(groups)}"
    return TimelineEntry(published, "event", resource, event.subject, told, facts)


def _run_of(event: Event) -> str:
    """The run that published it, where its trace is told (ORDERSYNC_EVENTS__TRACEPARENT)."""
    parts = event.traceparent.split("-")
    return parts[2] if len(parts) == 4 else ""


def _of_recorded(event: Event, resource: str, groups: dict[str, dict[str, Any]]) -> TimelineEntry:
    """An audit entry that was published: it happened when it says, not when it was read."""
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
    """An entry of an audit log, as OrderMesh serves it now."""
    at = (parse_time(entry.time) or 0) / 1000
    return TimelineEntry(
        at, "audit", resource, subject, audit_words(entry.raw), {"audit": decoded(entry.raw)}
    )


def of_letter(letter: DeadLetter) -> TimelineEntry:
    """A dead letter: when it became one."""
    whose = (
        f"group {letter.group}, after {letter.attempts} {'attempt' if letter.attempts == 1 else 'attempts'}"
        if letter.group
        else "the record cannot be read"
    )
    told = f"dead letter {letter.letter_id} ({whose}): {letter.reason}"
    facts = {
        "letter": letter.letter_id,
        "group": letter.group or None,
        "attempts": letter.attempts,
        "reason": letter.reason,
    }
    return TimelineEntry(letter.written_at, "dead", letter.resource, letter.subject, told, facts)


def audit_words(raw: bytes) -> str:
    """An audit entry in words: what was done, by whom, what changed. Its fields are not documented."""
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
    told = f"{action} by {actor}" if actor else action
    if isinstance(changes, list) and changes:
        told += f": {', '.join(_change(item) for item in changes)}"
    return _short(told)


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
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _of_groups(groups: dict[str, dict[str, Any]]) -> str:
    return "".join(f"; {name}: {item['told']}" for name, item in groups.items())
