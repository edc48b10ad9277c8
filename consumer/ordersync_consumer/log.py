"""Where the kit writes its log lines: an event with fields, to a logger of the caller or to `logging`."""

from __future__ import annotations

import logging
from typing import Any, Protocol

from ordersync_consumer.redaction import redaction


class EventLog(Protocol):
    """A logger of events with fields. The loggers of structlog are such."""

    def info(self, event: str, **fields: Any) -> Any:
        """Log an event that needs no attention."""

    def warning(self, event: str, **fields: Any) -> Any:
        """Log an event that may need attention."""

    def error(self, event: str, **fields: Any) -> Any:
        """Log an event that needs attention."""


class StandardLog:
    """Writes to a logger of `logging`: `event='consumer_started' group='warehouse'`, without secrets."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def info(self, event: str, **fields: Any) -> None:
        """Log an event that needs no attention."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Log an event that may need attention."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Log an event that needs attention."""
        self._write(logging.ERROR, event, fields)

    def _write(self, level: int, event: str, fields: dict[str, Any]) -> None:
        if self._logger.isEnabledFor(level):
            cleaned = redaction(None, "", {"event": event, **fields})
            self._logger.log(level, "%s", " ".join(f"{name}={value!r}" for name, value in cleaned.items()))


class _WithFields:
    """Adds fields to each line."""

    def __init__(self, log: EventLog, fields: dict[str, Any]) -> None:
        self._log, self._fields = log, fields

    def info(self, event: str, **fields: Any) -> None:
        self._log.info(event, **self._fields, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._log.warning(event, **self._fields, **fields)

    def error(self, event: str, **fields: Any) -> None:
        self._log.error(event, **self._fields, **fields)


def with_fields(log: EventLog | None, **fields: Any) -> EventLog:
    """Return a logger that adds `fields` to each line of `log`; None is the logger `ordersync` of `logging`."""
    return _WithFields(log or StandardLog(logging.getLogger("ordersync")), fields)
