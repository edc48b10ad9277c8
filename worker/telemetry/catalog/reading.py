"""Events of reading: polls, the contract with the gateway, the login."""

from __future__ import annotations

from worker.telemetry.catalog.kinds import LogEvent, LogLevel

_POLL = (
    "run_id", "trace_id", "resource", "plan", "reason", "outcome", "pages", "records", "snapshot", "created",
    "updated", "deleted", "outside", "noise", "stale", "unreadable", "parked", "recorded", "follow_ups", "missing",
    "drift", "unchanged", "requests", "retries", "budget_wait_s", "duration_s",
)  # fmt: skip
_EVIDENCE = ("total", "newest", "clock_offset_s")
_LOAD = ("group", "unread", "unread_bytes", "used_memory", "maxmemory")

EVENTS = (
    LogEvent(
        "poll_done",
        LogLevel.INFO,
        "A poll has ended, and committed what had changed. One line for each poll.",
        fields=_POLL,
        optional=(*_EVIDENCE, "freshness_s", "error_code", "error"),
    ),
    LogEvent(
        "poll_failed",
        LogLevel.ERROR,
        "A poll has failed; what it had committed stays. The same failure is told once a minute.",
        "`error` says it; the poll is tried again by itself, at the latest after a minute.",
        (*_POLL, "error_code", "error", "repeated"),
        (*_EVIDENCE, "freshness_s"),
    ),
    LogEvent(
        "run_suspicious",
        LogLevel.WARNING,
        "A poll has read to its end, but what it has seen is not believed: nothing is concluded from it.",
        "`error` says why; the next poll reads everything. Where it stays, look at OrderMesh.",
        (*_POLL, "error_code", "error", "repeated", "advice"),
        (*_EVIDENCE, "freshness_s"),
    ),
    LogEvent(
        "poll_skipped",
        LogLevel.DEBUG,
        "A poll had nothing to do: another worker is at it, or it is paused.",
        fields=(*_POLL, "error_code", "error"),
        optional=(*_EVIDENCE, "freshness_s"),
    ),
    LogEvent(
        "poll_crashed",
        LogLevel.ERROR,
        "A defect of this program ended a poll; `poll_failed` follows.",
        "Report it with the trace in `exception`.",
        ("resource", "exception", "advice"),
    ),
    LogEvent(
        "page_committed",
        LogLevel.DEBUG,
        "A page has been dealt with, and what had changed on it committed.",
        fields=("resource", "run_id", "page", "records", "events"),
    ),
    LogEvent(
        "record_unreadable",
        LogLevel.ERROR,
        "A record cannot be read. It was parked; the others of its page were read.",
        "Look at it: ordersync dead list.",
        ("resource", "run_id", "operation", "page", "reason", "advice"),
    ),
    LogEvent(
        "result_capped",
        LogLevel.INFO,
        "The gateway shows no more than so many records of a list; it is read from time to time instead.",
        fields=("resource", "records", "advice"),
    ),
    LogEvent(
        "deletes_held_back",
        LogLevel.WARNING,
        "A complete read did not show more records than may be deleted at once, so none was published as deleted.",
        "Look at OrderMesh; if they are gone, accept it as `advice` says.",
        ("resource", "run_id", "missing", "tracked", "advice"),
    ),
    LogEvent(
        "follow_up_failed",
        LogLevel.WARNING,
        "A record that was due by itself could not be read; it is tried again.",
        "See `error`; nothing else waits for it.",
        ("resource", "member", "failures", "error", "error_code", "retry_in_s"),
    ),
    LogEvent(
        "follow_up_dropped",
        LogLevel.DEBUG,
        "What was due is not to be had at OrderMesh, and is asked for no more.",
        fields=("resource", "member", "reason"),
    ),
    LogEvent(
        "resync_done",
        LogLevel.INFO,
        "A resync has come to its end.",
        fields=(
            "resource",
            "resync",
            "records",
            "published",
            "unchanged",
            "not_found",
            "requests",
            "duration_s",
        ),
    ),
    LogEvent(
        "resync_failed",
        LogLevel.WARNING,
        "A slice of a resync has failed; it is tried again and goes on where it was.",
        "See `error`; ordersync resyncs cancel ends it.",
        ("resource", "resync", "error", "error_code", "failures", "retry_in_s"),
    ),
    LogEvent(
        "resync_refused",
        LogLevel.ERROR,
        "Another program has asked for a resync that is none. Nothing was noted.",
        "Correct the request, as `error` says.",
        ("account", "resource", "job", "error", "advice"),
    ),
    LogEvent(
        "backpressure_on",
        LogLevel.WARNING,
        "Polling pauses, until consumers, or Redis, have caught up.",
        "Start consumers of `group`, or give Redis room; it goes on by itself.",
        ("resource", "cause", *_LOAD),
    ),
    LogEvent(
        "backpressure_off",
        LogLevel.INFO,
        "They have caught up, and polling goes on.",
        fields=("resource", *_LOAD),
    ),
    LogEvent(
        "polling_paused",
        LogLevel.WARNING,
        "Somebody has paused a resource, or `*`, all of an account.",
        "When it may go on: ordersync resume.",
        ("account", "resource", "by", "reason", "paused_at", "advice"),
    ),
    LogEvent(
        "polling_resumed",
        LogLevel.INFO,
        "Somebody has resumed what was paused.",
        fields=("account", "resource", "paused_s"),
    ),
    LogEvent(
        "waiting_for_lease",
        LogLevel.WARNING,
        "`run --once` waits for another worker to be done with the resource.",
        "Nothing, unless it stays: see which worker runs.",
        ("resource", "reason"),
    ),
    LogEvent(
        "lease_not_released",
        LogLevel.DEBUG,
        "The lease could not be given back; it runs out by itself.",
        fields=("resource", "error"),
    ),
    LogEvent(
        "lease_not_renewed",
        LogLevel.DEBUG,
        "The lease could not be renewed for the moment; a commit without it is refused.",
        fields=("fence", "error"),
    ),
    LogEvent(
        "contract_probed",
        LogLevel.INFO,
        "The gateway was asked how it serves the list of a resource.",
        fields=("resource", "state", "path", "first_page", "largest_page", "since", "requests"),
    ),
    LogEvent(
        "capability_withdrawn",
        LogLevel.WARNING,
        "The gateway has stopped to do what it was seen to do; it is not relied on any more.",
        "Nothing is missed. `ordersync contract probe` looks again.",
        ("resource", "capability", "parameter", "reason", "advice"),
    ),
    LogEvent(
        "logged_in",
        LogLevel.INFO,
        "A token was had from OrderMesh, for all workers of the account.",
        fields=("operation", "lifetime_s"),
    ),
    LogEvent(
        "login_failed",
        LogLevel.ERROR,
        "The login failed at the start; it is tried again.",
        "`error` says whether the credentials or the gateway are to blame.",
        ("error", "error_code", "advice"),
    ),
    LogEvent(
        "login_spelling_found",
        LogLevel.INFO,
        "The gateway takes the fields of the login in another spelling; it is kept.",
        fields=("case",),
    ),
    LogEvent(
        "refresh_refused",
        LogLevel.INFO,
        "A refresh token is not taken any more; it logs in again.",
        fields=("reason",),
    ),
    LogEvent(
        "token_lock_not_released",
        LogLevel.DEBUG,
        "The lock of the login could not be given back; it runs out by itself.",
        fields=("error",),
    ),
    LogEvent(
        "token_lock_not_held",
        LogLevel.DEBUG,
        "The lock of the login could not be renewed for the moment.",
        fields=("error",),
    ),
    LogEvent(
        "request_retried",
        LogLevel.DEBUG,
        "A request failed in a way that another try may mend.",
        fields=("attempt", "wait_s", "reason"),
    ),
    LogEvent(
        "connections_rebuilt",
        LogLevel.WARNING,
        "No connection to the gateway was free in time; new ones are made.",
        "Nothing, unless it comes often: then the gateway hangs, or ORDERSYNC_API__TIMEOUT is too long.",
        ("reason",),
    ),
)
