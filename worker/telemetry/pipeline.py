"""The pipeline of the log: what becomes of an event, or of a line of a library, on its way to the stream."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ordersync_consumer.redaction import redaction
from worker.printable import printable, printable_json
from worker.telemetry.catalog import EXTRA, LIBRARY, LogLevel
from worker.telemetry.catalog.conformity import conformity
from worker.telemetry.console import ForPeople
from worker.telemetry.library import structlog

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping

    from structlog.typing import EventDict, Processor

_LEVELS = frozenset(level.value for level in LogLevel)
_TRACE = ("exc_info", "stack_info", "exception")

_CONTEXT = structlog.contextvars.merge_contextvars
_SHARED: tuple[Processor, ...] = (
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
    structlog.processors.StackInfoRenderer(),
)


def begin(level: str) -> None:
    """Send the events of this program from `level` on to `logging`."""
    structlog.configure(
        processors=[_CONTEXT, conformity, *_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def formatter(*, console: bool, colours: bool, with_ids: bool) -> logging.Formatter:
    """Return what makes text of events and of the lines of libraries: for people, or JSON."""
    foreign: list[Processor] = [structlog.stdlib.ExtraAdder(), _of_a_library]
    tail: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        _one_line_of_trace,
        redaction,
    ]
    if console:
        tail += [
            _printable,
            ForPeople(with_ids=with_ids),
            structlog.dev.ConsoleRenderer(
                colors=colours,
                sort_keys=False,
                pad_event_to=14,
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ]
    else:
        tail += [_order, structlog.processors.JSONRenderer(sort_keys=False), _printable_json]  # type: ignore[list-item] # it gets the text of the renderer
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*foreign, _CONTEXT, *_SHARED], processors=tail
    )


def _of_a_library(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Convert a line of a library: its text becomes `message`, and its other fields are moved into `extra`."""
    record = event["_record"]
    kept = {name: value for name, value in event.items() if name.startswith("_") or name in _TRACE}
    added = {name: value for name, value in event.items() if name not in kept and name != "event"}
    line = {**kept, "event": LIBRARY, "logger": record.name, "message": event["event"]}
    return {**line, EXTRA: added} if added else line


def _one_line_of_trace(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Move a traceback into a field, so that the line stays one line and the redaction processes the traceback."""
    if event.get("exc_info"):
        event = structlog.processors.format_exc_info(_logger, _method, event)
    return event


def _printable(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Make a line fit for a terminal. The lines of a traceback are indented: none looks like a line of the log."""
    shown = {printable(k): printable(v) if isinstance(v, str) else v for k, v in event.items()}
    if isinstance(trace := event.get("exception"), str):
        shown["exception"] = "\n".join(f"    {printable(line)}" for line in trace.splitlines())
    return shown


def _printable_json(_logger: Any, _method: str, line: str) -> str:
    return printable_json(line)


def _order(_logger: Any, _method: str, event: EventDict) -> MutableMapping[str, Any]:
    """Put the time, level and event first."""
    first: Iterable[str] = ("timestamp", "level", "event")
    if event["level"] not in _LEVELS:
        event["level"] = LogLevel.INFO.value  # a custom level of a library
    return {**{key: event[key] for key in first if key in event}, **event}
