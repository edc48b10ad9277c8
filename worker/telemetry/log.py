"""The log: one pipeline for the events of this program and for the lines of arq, httpx and redis-py.

It writes console lines on a terminal and JSON lines elsewhere, always to stderr, because stdout is for results. The
catalogue (`worker.telemetry.catalog`) declares all events, and every line conforms to it. A redaction processor at the
end of the pipeline removes secrets and personal data from every line, including those of libraries. The pipeline
(`pipeline.py`) and structlog are imported with the first line: most commands write none.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

from ordersync_consumer.redaction import HIDDEN, Redaction, redaction
from ordersync_consumer.repeats import Repeats
from worker.telemetry.writer import writer_of

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

__all__ = ["HIDDEN", "NOISY", "Redaction", "Repeats", "configure", "get_logger", "redaction"]

_level_to_tell = list[str]()
"""The level that was configured, while structlog does not know it."""

NOISY = ("arq", "httpx", "httpcore", "aiohttp", "asyncio")
"""Loggers that write an info line for every job or request: at level `info` only their warnings are written."""


_LAST_SECONDS = 1.0
"""How long the process waits at its end for a slow reader of its log."""


def configure(log_format: str = "auto", level: str = "info", stream: TextIO | None = None) -> None:
    """Send every log line of the process, including those of libraries, through one pipeline to `stream` (stderr)."""
    stream = stream or sys.stderr
    console = log_format == "console" or (log_format == "auto" and stream.isatty())
    root = logging.getLogger()
    root.handlers[:] = [_Handler(stream, console=console, with_ids=level == "debug")]
    root.setLevel(level.upper())
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.DEBUG if level == "debug" else logging.WARNING)
    logging.captureWarnings(capture=True)
    _level_to_tell[:] = [level]
    if "structlog" in sys.modules:
        _begin()


def get_logger(**fields: Any) -> FilteringBoundLogger:
    """Return a logger that adds `fields` to its lines."""
    _begin()
    from worker.telemetry.library import structlog  # noqa: PLC0415 - see the top

    logger: FilteringBoundLogger = structlog.get_logger("ordersync")
    return logger.bind(**fields) if fields else logger


def _begin() -> None:
    """Tell structlog the level that was configured."""
    if _level_to_tell:
        from worker.telemetry import pipeline  # noqa: PLC0415 - see the top

        pipeline.begin(_level_to_tell.pop())


class _Handler(logging.StreamHandler[TextIO]):
    """Writes lines without waiting for a reader. At the end of the process it waits for a moment."""

    def __init__(self, stream: TextIO, *, console: bool, with_ids: bool) -> None:
        super().__init__(stream)
        self._console, self._with_ids = console, with_ids
        self._writer = writer_of(stream)

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a line."""
        if self.formatter is None:
            from worker.telemetry import pipeline  # noqa: PLC0415 - see the top

            colours = self.stream.isatty() and not os.environ.get("NO_COLOR")  # https://no-color.org
            self.formatter = pipeline.formatter(
                console=self._console, colours=colours, with_ids=self._with_ids
            )
        return super().format(record)

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
