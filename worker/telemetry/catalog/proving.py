"""Events of the completeness proof: what audit logs say of what was published."""

from __future__ import annotations

from worker.telemetry.catalog.kinds import LogEvent, LogLevel

_PASS = (
    "resource", "run_id", "proven_since", "proven_until", "records", "verified", "compared", "gaps_found",
    "gaps_healed", "gaps_open", "absent", "timeless", "requests", "duration_s",
)  # fmt: skip

EVENTS = (
    LogEvent(
        "coverage_proven",
        LogLevel.INFO,
        "All that audit logs tell of a span of time is published. What had been missed of it was told before.",
        fields=_PASS,
    ),
    LogEvent(
        "coverage_open",
        LogLevel.WARNING,
        "Audit logs were compared with what was published, and something of them could not be shown to be published.",
        "See `ordersync coverage`, which names the records and why they could not be read; the next pass tries again.",
        _PASS,
    ),
    LogEvent(
        "gap_found",
        LogLevel.WARNING,
        "The audit log of a record tells of a change that was not published. It is read by its id now.",
        "Nothing, if `gap_healed` follows; many of them say that the lists of the gateway lose changes.",
        ("resource", "run_id", "subject", "reason"),
        ("changed_at",),
    ),
    LogEvent(
        "gap_healed",
        LogLevel.WARNING,
        "The record of a gap is published as it is now.",
        "Nothing.",
        ("resource", "run_id", "subject"),
        ("changed_at",),
    ),
    LogEvent(
        "reconcile_off",
        LogLevel.WARNING,
        "Completeness cannot be proven, as `reason` says. Reading and publishing are not concerned by it.",
        "Give the token the right to read audit logs, or set ORDERSYNC_RECONCILE__EVERY to 0.",
        ("resource", "run_id", "reason", "advice"),
    ),
    LogEvent(
        "reconcile_failed",
        LogLevel.WARNING,
        "The comparison with audit logs was cut short; it goes on by itself where it was. Told once a minute.",
        "`error` says it; reading and publishing go on.",
        ("resource", "error", "error_code", "repeated"),
    ),
    LogEvent(
        "reconcile_skipped",
        LogLevel.DEBUG,
        "Another worker is at it.",
        fields=("reason",),
    ),
)
