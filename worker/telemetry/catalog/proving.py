"""Events of the completeness proof: what audit logs say of what was published."""

from __future__ import annotations

from worker.telemetry.catalog.kinds import LogEvent, LogLevel

_PASS = (
    "resource", "run_id", "proven_since", "proven_until", "records", "verified", "compared", "gaps_found",
    "gaps_healed", "gaps_open", "absent", "erased", "timeless", "requests", "duration_s",
)  # fmt: skip

EVENTS = (
    LogEvent(
        "coverage_proven",
        LogLevel.INFO,
        "Every change in the audit logs of a span of time is published. Changes that had been missed have "
        "`gap_found` lines.",
        fields=_PASS,
    ),
    LogEvent(
        "coverage_open",
        LogLevel.WARNING,
        "It could not be proven that all changes in the audit logs are published.",
        "`ordersync coverage` names the records and why they could not be read. The next pass tries again.",
        _PASS,
    ),
    LogEvent(
        "gap_found",
        LogLevel.WARNING,
        "The audit log of a record has a change that was not published. The worker reads the record by its id.",
        "Nothing, if `gap_healed` follows. Many such lines mean that the lists of the gateway lose changes.",
        ("resource", "run_id", "subject", "reason"),
        ("changed_at",),
    ),
    LogEvent(
        "gap_healed",
        LogLevel.WARNING,
        "The record of a gap is published in its current state.",
        "Nothing.",
        ("resource", "run_id", "subject"),
        ("changed_at",),
    ),
    LogEvent(
        "reconcile_off",
        LogLevel.WARNING,
        "Completeness cannot be verified; `reason` says why. Reading and publishing are not affected.",
        "Give the token the permission to read audit logs, or set ORDERSYNC_RECONCILE__EVERY to 0.",
        ("resource", "run_id", "reason", "advice"),
    ),
    LogEvent(
        "reconcile_failed",
        LogLevel.WARNING,
        "The comparison with audit logs was interrupted; it continues later from there. Repetitions are "
        "suppressed for a minute.",
        "Read `error`. Reading and publishing continue.",
        ("resource", "error", "error_code", "repeated"),
    ),
    LogEvent(
        "reconcile_skipped",
        LogLevel.DEBUG,
        "Another worker compares the audit logs.",
        fields=("reason",),
    ),
)
