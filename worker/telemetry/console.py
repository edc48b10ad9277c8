"""The lines of the log for people: short, and of a poll what matters first. No I/O."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from worker.telemetry.catalog import LIBRARY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from structlog.typing import EventDict

WIDTH = 100
"""Columns of a line of a poll."""
_HEAD = 21
"""Columns of the time and the level, which come first."""
_LONGEST_ACCOUNT = 24
_IDS = ("run_id", "trace_id")
_PUBLISHED = ("snapshot", "created", "updated", "deleted", "recorded")
_REST = (
    "unreadable", "missing", "stale", "withheld", "parked", "drift", "follow_ups", "unchanged", "retries"
)  # fmt: skip
_WORDS = {"follow_ups": "read by id", "withheld": "values withheld"}
_SHOWN = frozenset({"timestamp", "level", "event"})


class ForPeople:
    """Shortens lines for a terminal. `with_ids`: also show which run wrote a line."""

    def __init__(self, *, with_ids: bool) -> None:
        self._with_ids = with_ids

    def __call__(self, _logger: Any, _method: str, event: EventDict) -> EventDict:
        """Return a line: the time without the date, and that of a poll in words.

        Its values are made printable before, so that the only line breaks are those of this module.
        """
        event["timestamp"] = event["timestamp"][11:19]
        if event.get("event") == LIBRARY:
            event["event"] = event.pop("message")
        ids = {name: event.pop(name) for name in _IDS if name in event}
        if {"resource", "outcome", "duration_s"} <= event.keys():
            event = {name: event[name] for name in event if name in _SHOWN} | {"event": poll_line(event)}
        return {**event, **ids} if self._with_ids else event


def poll_line(fields: Mapping[str, Any]) -> str:
    """Return the summary of a poll in words: resource, outcome, counts, then what it took; an error is folded."""
    account = str(fields.get("account", ""))
    if len(account) > _LONGEST_ACCOUNT:
        account = f"{account[: _LONGEST_ACCOUNT - 1]}…"
    name = f"{account}/{fields['resource']}" if account else str(fields["resource"])
    if error := fields.get("error"):
        return _folded(f"{name} {fields['outcome']} ({fields.get('error_code')}): {error}", fields)
    line, separator = f"{name} {fields['outcome']}", ": "
    for part in _parts(fields):
        if len(line) + len(separator) + len(part) > WIDTH - _HEAD:
            break
        line, separator = f"{line}{separator}{part}", ", "
    return line


def _parts(fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield the counts that are not 0, the most important first, and the time."""
    published = [f"{fields[name]} {name}" for name in _PUBLISHED if fields.get(name)]
    yield from published or ["nothing new"]
    for name in _REST:
        if fields.get(name):
            yield f"{fields[name]} {_WORDS.get(name, name)}"
    yield f"{fields['duration_s']:.1f} s"
    if fields.get("freshness_s") is not None:
        yield f"fresh {fields['freshness_s']:.1f} s"


def _folded(text: str, fields: Mapping[str, Any]) -> str:
    repeated = f" ({fields['repeated']} times more since the last line)" if fields.get("repeated") else ""
    lines = textwrap.wrap(text + repeated, WIDTH - _HEAD)
    if advice := fields.get("advice"):
        lines += textwrap.wrap(f"-> {advice}", WIDTH - _HEAD, subsequent_indent="   ")
    return f"\n{' ' * _HEAD}".join(lines)
