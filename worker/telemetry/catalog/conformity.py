"""Holds each line against the catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from worker.telemetry.catalog import COMMON, EVENTS, EXTRA, FIELDS, FREE_LEVEL, HEAD, UNLISTED, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

_FREE = frozenset(field.name for field in (*HEAD, *COMMON)) | {"exc_info", "stack_info"}
"""Names that every line may have. The last two are how Python hands over a trace, which becomes `exception`."""
_ALLOWED = {name: _FREE.union(event.fields, event.optional) for name, event in EVENTS.items()}


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_FITS: dict[Kind, Callable[[Any], bool]] = {
    Kind.TEXT: _is_text,
    Kind.TIME: _is_text,
    Kind.COUNT: _is_count,
    Kind.NUMBER: lambda value: _is_count(value) or isinstance(value, float),
    Kind.FLAG: lambda value: isinstance(value, bool),
    Kind.TEXTS: lambda value: isinstance(value, list) and all(map(_is_text, value)),
    Kind.COUNT_OR_NULL: lambda value: value is None or _is_count(value),
    Kind.TEXT_OR_NULL: lambda value: value is None or _is_text(value),
    Kind.OBJECT: lambda value: isinstance(value, dict),
}


class NotInCatalogue(Exception):
    """A line that the catalogue of log events does not know."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(f"{'; '.join(problems)}. Add it to worker/telemetry/catalog (CONTRIBUTING.md)")


def problems_of(line: MutableMapping[str, Any], level: str) -> list[str]:
    """What of a line of ours is not as the catalogue says, before time, level and trace have been put to it."""
    name = line.get("event")
    event = EVENTS.get(name) if isinstance(name, str) else None
    if event is None:
        return [f"there is no log event {name!r}"]
    result = [f"{name} has no field {field!r}" for field in line if field not in _ALLOWED[event.name]]
    given = {"exception" if field == "exc_info" else field for field in line}
    result += [f"{name} lacks its field {field!r}" for field in event.fields if field not in given]
    result += [
        f"{name}: {field} must be a {FIELDS[field].kind.value}, and is {value!r}"
        for field, value in line.items()
        if field in FIELDS and not _FITS[FIELDS[field].kind](value)
    ]
    if level != event.level and event.name not in FREE_LEVEL:
        result.append(f"{name} is of level {event.level.value}, and was written as {level}")
    return result


class Conformity:
    """Structlog processor: no line leaves that does not fit the published schema.

    What the catalogue does not know is a defect, but no reason to fail, or to lose a line: it goes out under
    `unlisted`, or with its unknown fields under `extra`. `strict`, for tests: it raises `NotInCatalogue` instead, and
    keeps what it found in `found`.
    """

    def __init__(self) -> None:
        self.strict = False
        self.found: list[str] = []

    def __call__(self, _logger: Any, method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Check a line, and make it fit."""
        if self.strict:
            level = {"exception": "error", "warn": "warning", "fatal": "critical"}.get(method, method)
            if problems := problems_of(line, level):
                self.found += problems
                raise NotInCatalogue(problems)
            return line
        allowed = _ALLOWED.get(line["event"])
        if allowed is None:
            return {
                **{name: value for name, value in line.items() if name in _FREE},
                "event": UNLISTED,
                "name": str(line["event"]),
                EXTRA: {name: value for name, value in line.items() if name not in _FREE},
            }
        if line.keys() <= allowed:
            return line
        return {
            **{name: value for name, value in line.items() if name in allowed},
            EXTRA: {name: value for name, value in line.items() if name not in allowed},
        }


conformity = Conformity()
"""The one of the process."""
