"""The log: one pipeline for the events of this program and for the lines of arq, httpx and redis-py.

It writes console lines on a terminal and JSON lines elsewhere, always to stderr, because stdout is for results. The
catalogue (`worker.telemetry.catalog`) declares all events, and every line conforms to it. A redaction processor at the
end of the pipeline removes secrets and personal data from every line, including those of libraries.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

from ordersync_consumer.redaction import HIDDEN, Redaction, redaction
from ordersync_consumer.repeats import Repeats
from worker.printable import printable, printable_json
from worker.telemetry.catalog import EXTRA, LIBRARY, LogLevel
from worker.telemetry.catalog.conformity import conformity
from worker.telemetry.console import ForPeople
from worker.telemetry.library import structlog
from worker.telemetry.writer import writer_of

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping

    from structlog.typing import EventDict, Processor

__all__ = ["HIDDEN", "NOISY", "Redaction", "Repeats", "configure", "get_logger", "redaction"]

_LEVELS = frozenset(level.value for level in LogLevel)
_TRACE = ("exc_info", "stack_info", "exception")

NOISY = ("arq", "httpx", "httpcore", "aiohttp", "asyncio")
"""Loggers that write an info line for every job or request: at level `info` only their warnings are written."""


_LAST_SECONDS = 1.0
"""How long the process waits at its end for a slow reader of its log."""


def configure(log_format: str = "auto", level: str = "info", stream: TextIO | None = None) -> None:
    """Send every log line of the process, including those of libraries, through one pipeline to `stream` (stderr)."""
    stream = stream or sys.stderr
    console = log_format == "console" or (log_format == "auto" and stream.isatty())
    context = structlog.contextvars.merge_contextvars
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        structlog.processors.StackInfoRenderer(),
    ]
    foreign: list[Processor] = [structlog.stdlib.ExtraAdder(), _of_a_library]
    tail: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        _one_line_of_trace,
        redaction,
    ]
    if console:
        colours = stream.isatty() and not os.environ.get("NO_COLOR")  # https://no-color.org
        tail += [
            _printable,
            ForPeople(with_ids=level == "debug"),
            structlog.dev.ConsoleRenderer(
                colors=colours,
                sort_keys=False,
                pad_event_to=14,
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ]
    else:
        tail += [_order, structlog.processors.JSONRenderer(sort_keys=False), _printable_json]  # type: ignore[list-item] # it gets the text of the renderer
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*foreign, context, *shared], processors=tail
    )
    handler = _Handler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.DEBUG if level == "debug" else logging.WARNING)
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[context, conformity, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def get_logger(**fields: Any) -> structlog.typing.FilteringBoundLogger:
    """Return a logger that adds `fields` to its lines."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger("ordersync")
    return logger.bind(**fields) if fields else logger


class _Handler(logging.StreamHandler[TextIO]):
    """Writes lines without waiting for a reader. At the end of the process it waits for a moment."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._writer = writer_of(stream)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, after one that says how many were lost."""
        if self._writer is None:
            super().emit(record)
            return
        if lost := self._writer.take_lost():
            get_logger().warning(
                "log_lines_lost",
                lines=lost,
                advice="Whatever reads the log reads it too slowly, or not at all.",
            )
        try:
            text = self.format(record) + self.terminator
            self._writer.offer(text.encode(self.stream.encoding or "utf-8", "backslashreplace"))
        except Exception:  # noqa: BLE001 - as the handlers of Python do
            self.handleError(record)

    def flush(self) -> None:
        """Let a slow reader have the last lines. Python calls this at the end of the process."""
        super().flush()
        if self._writer is not None:
            self._writer.drain(_LAST_SECONDS)


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
