"""The log of the process of the tests, read by the names of its events."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

from worker.telemetry import log as logs

LogReader = Callable[[str], list[dict[str, Any]]]
"""Returns the lines of an event, oldest first."""


def read_log() -> LogReader:
    """Write the log into memory from now on, and return its reader."""
    stream = io.StringIO()
    logs.configure("json", "debug", stream)

    def lines_of(event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in stream.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]

    return lines_of
