"""Checks lines of the log against the published schema."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jsonschema_rs import Draft202012Validator

from worker.contracts.log_schema import log_schema
from worker.telemetry.catalog import EXTRA, LIBRARY, UNLISTED

LOG_LINE = Draft202012Validator(log_schema(), validate_formats=True)
"""The published schema of a line of the log."""


def check_log(lines: Iterable[dict[str, Any]]) -> None:
    """See that lines fit the published schema, and that none is of an event or a field that is not in the catalogue."""
    for line in lines:
        errors = "; ".join(error.message for error in LOG_LINE.iter_errors(line))
        assert not errors, f"not a line of the log: {line}: {errors}"
        known = line["event"] == LIBRARY or not {line["event"]} & {UNLISTED} | line.keys() & {EXTRA}
        assert known, f"not in worker/telemetry/catalog: {line}"
