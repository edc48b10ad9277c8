"""Events of reading: polls, the contract with the gateway, the login."""

from __future__ import annotations

from worker.telemetry.catalog.kinds import LogEvent, LogLevel

_POLL = (
    "run_id", "trace_id", "resource", "plan", "reason", "outcome", "covered", "pages", "records", "snapshot", "created",
    "updated", "deleted", "outside", "silent", "noise", "stale", "unreadable", "parked", "erased", "recorded",
    "follow_ups", "missing", "drift", "unchanged", "requests", "retries", "budget_wait_s", "duration_s",
)  # fmt: skip
_EVIDENCE = ("total", "newest", "clock_offset_s", "scan_age_s", "withheld")
_LOAD = ("group", "unread", "unread_bytes", "used_memory", "maxmemory")

EVENTS = (
    LogEvent(
        "poll_done",
        LogLevel.INFO,
        "A poll has ended, and its changes are committed. One line per poll.",
        fields=_POLL,
        optional=(*_EVIDENCE, "freshness_s", "error_code", "error"),
    ),
    LogEvent(
        "poll_failed",
        LogLevel.ERROR,
        "A poll has failed; its earlier commits remain. Repetitions are suppressed for a minute.",
        "Read `error`. The worker retries the poll, at the latest after a minute.",
        (*_POLL, "error_code", "error", "repeated"),
        (*_EVIDENCE, "freshness_s"),
    ),
    LogEvent(
        "run_suspicious",
        LogLevel.WARNING,
        "A poll has read everything, but the result is not plausible. The run is not used to detect "
        "deletions or to report freshness.",
        "Read `error`. The next poll is a full scan. If the line comes again, look at OrderMesh.",
        (*_POLL, "error_code", "error", "repeated", "advice"),
        (*_EVIDENCE, "freshness_s"),
    ),
    LogEvent(
        "poll_skipped",
        LogLevel.DEBUG,
        "A poll had nothing to do: another worker reads the resource, or it is paused.",
        fields=(*_POLL, "error_code", "error"),
        optional=(*_EVIDENCE, "freshness_s"),
    ),
    LogEvent(
        "poll_crashed",
        LogLevel.ERROR,
        "A defect of this program ended a poll; `poll_failed` follows.",
        "Report it with the traceback in `exception`.",
        ("resource", "exception", "advice"),
    ),
    LogEvent(
        "page_committed",
        LogLevel.DEBUG,
        "A page has been processed, and its changes are committed.",
        fields=("resource", "run_id", "page", "records", "events"),
    ),
    LogEvent(
        "record_went_back",
        LogLevel.WARNING,
        "The time of a record has gone back: it was published with an older time than before, after a second read had "
        "confirmed it. One line for each commit, about the first of its `records`.",
        "Nothing was lost. If this happens often, look at the clocks of OrderMesh.",
        ("resource", "run_id", "subject", "records", "changed_at", "previous_at"),
    ),
    LogEvent(
        "record_unreadable",
        LogLevel.ERROR,
        "A record cannot be read. It was parked; the other records of its page were read.",
        "Look at it: ordersync dead list.",
        ("resource", "run_id", "operation", "page", "reason", "advice"),
    ),
    LogEvent(
        "fields_withheld",
        LogLevel.WARNING,
        "The privacy policy `minimal` does not publish these fields, because they are not known. Each is named once in "
        "the life of a worker; `withheld` of each poll counts their values.",
        "Read `advice`.",
        ("resource", "run_id", "fields", "advice"),
    ),
    LogEvent(
        "result_capped",
        LogLevel.INFO,
        "The gateway returns only a limited number of records of a list; the list is read by modification "
        "time instead.",
        fields=("resource", "records", "advice"),
    ),
    LogEvent(
        "full_scan_restarted",
        LogLevel.INFO,
        "A full scan that was under way is dropped, and a new one begins with the first page. What it has published "
        "remains.",
        fields=("resource", "reason", "page", "scan_age_s"),
    ),
    LogEvent(
        "waiting_for_confirmation",
        LogLevel.INFO,
        "`run --once` waits until OrderMesh has answered a second time that records do not exist. With `--no-wait` it "
        "does not wait.",
        fields=("resource", "deletes", "wait_s"),
    ),
    LogEvent(
        "deletes_held_back",
        LogLevel.WARNING,
        "A full scan missed more records than may be deleted at once, also after the contract was probed again. None "
        "of them was published as deleted. Logged once in ten minutes.",
        "Probe the contract, then look at OrderMesh. If the records are gone, accept it as `advice` says.",
        ("resource", "run_id", "missing", "tracked", "repeated", "advice"),
    ),
    LogEvent(
        "follow_up_failed",
        LogLevel.WARNING,
        "A record or audit log that was due could not be read; the worker retries it.",
        "Read `error`. Other reads do not wait for it.",
        ("resource", "member", "failures", "error", "error_code", "retry_in_s"),
    ),
    LogEvent(
        "follow_up_dropped",
        LogLevel.DEBUG,
        "A record or audit log that was due does not exist at OrderMesh, and is no longer requested.",
        fields=("resource", "member", "reason"),
    ),
    LogEvent(
        "resync_done",
        LogLevel.INFO,
        "A resync has finished.",
        fields=(
            "resource",
            "resync",
            "records",
            "published",
            "unchanged",
            "stale",
            "unreadable",
            "outside",
            "erased",
            "not_found",
            "by_id",
            "passed_over",
            "requests",
            "duration_s",
        ),
    ),
    LogEvent(
        "resync_failed",
        LogLevel.WARNING,
        "A slice of a resync has failed. The worker retries it and continues from there.",
        "Read `error`. To end the resync: ordersync resyncs cancel.",
        ("resource", "resync", "error", "error_code", "failures", "retry_in_s"),
    ),
    LogEvent(
        "resync_refused",
        LogLevel.ERROR,
        "Another program has sent an invalid resync request. It was ignored.",
        "Correct the request, as `error` says.",
        ("account", "resource", "job", "error", "advice"),
    ),
    LogEvent(
        "backpressure_on",
        LogLevel.WARNING,
        "Polling pauses until consumers, or Redis, have caught up.",
        "Start consumers of `group`, or give Redis more memory. Polling continues automatically.",
        ("resource", "cause", *_LOAD),
    ),
    LogEvent(
        "backpressure_off",
        LogLevel.INFO,
        "Consumers or Redis have caught up, and polling continues.",
        fields=("resource", *_LOAD),
    ),
    LogEvent(
        "polling_paused",
        LogLevel.WARNING,
        "A person has paused a resource, or `*`, the whole account.",
        "To continue: ordersync resume.",
        ("account", "resource", "by", "reason", "paused_at", "advice"),
    ),
    LogEvent(
        "polling_resumed",
        LogLevel.INFO,
        "A person has resumed a resource or an account.",
        fields=("account", "resource", "paused_s"),
    ),
    LogEvent(
        "waiting_for_lease",
        LogLevel.WARNING,
        "`run --once` waits for another worker to finish with the resource.",
        "Nothing. If the line comes again, check which other worker runs.",
        ("resource", "reason"),
    ),
    LogEvent(
        "lease_not_released",
        LogLevel.DEBUG,
        "The lease could not be released; it expires.",
        fields=("resource", "error"),
    ),
    LogEvent(
        "lease_not_renewed",
        LogLevel.DEBUG,
        "The lease could not be renewed at the moment; a commit without the lease is refused.",
        fields=("fence", "error"),
    ),
    LogEvent(
        "probe_resumed",
        LogLevel.INFO,
        "A probe that was interrupted goes on with the answers that it had.",
        fields=("resource", "pages"),
    ),
    LogEvent(
        "contract_probed",
        LogLevel.INFO,
        "The worker has tested how the gateway serves the list of a resource.",
        fields=("resource", "state", "path", "first_page", "largest_page", "since", "requests"),
    ),
    LogEvent(
        "contract_taken_over",
        LogLevel.DEBUG,
        "The findings of another account of the same gateway are used; nothing was requested for them.",
        fields=("resource", "state", "path"),
    ),
    LogEvent(
        "total_not_trusted",
        LogLevel.WARNING,
        "A list ended at the same page in two full scans, although its total says that there are more records. The "
        "worker believes the list and ignores its total from now on.",
        "Compare with OrderMesh: the total probably counts records that this token may not read.",
        ("resource", "reason", "advice"),
    ),
    LogEvent(
        "capability_withdrawn",
        LogLevel.WARNING,
        "The gateway no longer honours a filter, a sort or a choice that it honoured before. The worker no "
        "longer uses it.",
        "No change is missed. To test it again: ordersync contract probe.",
        ("resource", "capability", "parameter", "reason", "advice"),
    ),
    LogEvent(
        "logged_in",
        LogLevel.INFO,
        "OrderMesh issued a token for all workers of the account.",
        fields=("operation", "lifetime_s"),
    ),
    LogEvent(
        "secrets_read_anew",
        LogLevel.INFO,
        "After a refused login, the settings were read again and have other credentials; the worker uses them.",
        fields=("changed",),
    ),
    LogEvent(
        "secrets_not_read",
        LogLevel.WARNING,
        "After a refused login, the settings were read again and are invalid; the worker uses the old credentials.",
        "Correct the setting that `error` names.",
        ("error",),
    ),
    LogEvent(
        "login_failed",
        LogLevel.ERROR,
        "The login failed at the start; the worker retries it.",
        "Read `error`: it names the credentials or the gateway as the cause.",
        ("error", "error_code", "advice"),
    ),
    LogEvent(
        "login_spelling_found",
        LogLevel.INFO,
        "The gateway accepts the fields of the login in the other spelling, which is used from now on.",
        fields=("case",),
    ),
    LogEvent(
        "refresh_refused",
        LogLevel.INFO,
        "OrderMesh no longer accepts the refresh token; the worker logs in again.",
        fields=("reason",),
    ),
    LogEvent(
        "token_not_readable",
        LogLevel.WARNING,
        "The token in Redis was encrypted with another login or secret key, or it is damaged. The worker logs in.",
        "After a change of the login or of the secret key this is said once. If it is said again, give all workers of "
        "the account the same login and the same ORDERSYNC_SECRET_KEY.",
    ),
    LogEvent(
        "token_lock_not_released",
        LogLevel.DEBUG,
        "The lock of the login could not be released; it expires.",
        fields=("error",),
    ),
    LogEvent(
        "token_lock_not_held",
        LogLevel.DEBUG,
        "The lock of the login could not be renewed at the moment.",
        fields=("error",),
    ),
    LogEvent(
        "request_retried",
        LogLevel.DEBUG,
        "A request has failed, and is sent again.",
        fields=("attempt", "wait_s", "reason"),
    ),
    LogEvent(
        "gateway_wait",
        LogLevel.WARNING,
        "OrderMesh asks the worker to wait before the next request. Logged once a minute.",
        "Nothing. If the line comes often, lower ORDERSYNC_API__REQUESTS_PER_SECOND.",
        ("cause", "wait_s", "repeated", "advice"),
    ),
    LogEvent(
        "connections_rebuilt",
        LogLevel.WARNING,
        "No connection to the gateway became free in time; the worker opens new ones.",
        "Nothing. If the line comes often, the gateway hangs, or ORDERSYNC_API__TIMEOUT is too long.",
        ("reason",),
    ),
)
