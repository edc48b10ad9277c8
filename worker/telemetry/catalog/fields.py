"""The fields of the log. A name has the same meaning and kind in every event, so that queries can rely on it."""

from __future__ import annotations

from worker.telemetry.catalog.kinds import Kind, LogField

_TEXT, _COUNT, _NUMBER, _TEXTS = Kind.TEXT, Kind.COUNT, Kind.NUMBER, Kind.TEXTS

HEAD = (
    LogField("timestamp", Kind.TIME, "time at which the line was written"),
    LogField("level", _TEXT, "debug, info, warning, error or critical"),
    LogField("event", _TEXT, "name of the event, as listed on this page"),
)
"""The first fields of every line, in this order."""

COMMON = (
    LogField("account", _TEXT, "account that the line is about"),
    LogField("resource", _TEXT, "resource that the line is about: orders, shipments ..."),
    LogField("run_id", _TEXT, "id of the run: 16 hex digits, as in the run records"),
    LogField("trace_id", _TEXT, "id of the trace, from the tick to the commit: 32 hex digits (W3C)"),
    LogField("exception", _TEXT, "traceback of the error, in one text"),
    LogField("extra", Kind.OBJECT, "further fields that a library has added to its line"),
)
"""Fields that any event may have. Within a run every line has the first four, also the lines of libraries."""

OWN = (
    LogField("absent", _COUNT, "records that no longer exist and are not yet published as deleted"),
    LogField("acknowledged", _COUNT, "events that were acknowledged"),
    LogField("added", _TEXTS, "names of the accounts that are served from now on"),
    LogField("advice", _TEXT, "what to do, with the command where there is one"),
    LogField("after_s", _NUMBER, "seconds that the condition lasted"),
    LogField("attempt", _COUNT, "number of the attempt, from 1"),
    LogField("attempts", _COUNT, "number of attempts so far"),
    LogField("before", _TEXT, "address of the gateway until now"),
    LogField(
        "budget_wait_s",
        _NUMBER,
        "seconds during which at least one request waited for the request budget: for a free slot, or for a permit",
    ),
    LogField("by", _TEXT, "author of the pause, or of the request; user and host"),
    LogField("by_id", _COUNT, "known records that no page has shown and that were read by their ids"),
    LogField("capability", _TEXT, "capability of the gateway: a filter, a sort or a choice"),
    LogField("case", _TEXT, "spelling of the fields of the login: snake or camel"),
    LogField("cause", _TEXT, "reason, as a sentence"),
    LogField("changed", _TEXTS, "names of the settings that changed; never their values"),
    LogField("changed_at", Kind.TIME, "time of the change, by the clock of OrderMesh"),
    LogField(
        "clock_offset_s",
        _NUMBER,
        "seconds by which the clock of the gateway is ahead of the clock of the worker",
    ),
    LogField("compared", _COUNT, "audit entries that were compared with the published events"),
    LogField("consumer", _TEXT, "name of the consumer"),
    LogField("created", _COUNT, "records published as created"),
    LogField("deleted", _COUNT, "records published as deleted"),
    LogField("deletes", _COUNT, "deletions that OrderMesh has to confirm"),
    LogField("drift", _COUNT, "records that a full scan did not return although they exist"),
    LogField("duration_s", _NUMBER, "seconds from the begin to the end"),
    LogField("entries", _COUNT, "number of entries of a stream"),
    LogField("entry_id", _TEXT, "id of an entry of a stream"),
    LogField("error", _TEXT, "message of the error"),
    LogField("error_code", _TEXT, "code of the error, stable for queries"),
    LogField("functions", _TEXTS, "names of functions in Redis"),
    LogField("events", _COUNT, "number of events that the line is about"),
    LogField("expected", _COUNT, "number of the last event that was published, as far as is known"),
    LogField("failures", _COUNT, "number of failures in a row"),
    LogField("fence", _COUNT, "fencing number of the lease"),
    LogField("first", _TEXT, "id of the first entry affected"),
    LogField(
        "first_page",
        Kind.COUNT_OR_NULL,
        "number of the first page of a list at the gateway; null: unknown",
    ),
    LogField("folder", _TEXT, "folder that the line is about"),
    LogField("follow_ups", _COUNT, "records and audit logs that were read by their id because they were due"),
    LogField(
        "freshness_s", _NUMBER, "age of the oldest state that this run may have read, at the end of the run"
    ),
    LogField("gaps_found", _COUNT, "records with a change that was not published"),
    LogField("gaps_healed", _COUNT, "gaps that have been published since"),
    LogField("gaps_open", _COUNT, "gaps that are still not published"),
    LogField("generation", _COUNT, "number above which the sequence and all versions go on"),
    LogField("given_back", _COUNT, "events that were returned to the group unhandled"),
    LogField("grace_s", _NUMBER, "seconds that the process has to finish in order"),
    LogField("group", _TEXT, "name of the consumer group; empty if no group is concerned"),
    LogField("held", _COUNT, "number of the last event in Redis"),
    LogField("host_offset_s", _NUMBER, "seconds by which the clock of the host is ahead of that of Redis"),
    LogField("idle_s", _NUMBER, "seconds since a consumer of the group last read"),
    LogField("in_doubt", Kind.FLAG, "true: the worker cannot know whether Redis has lost something"),
    LogField("job", _TEXT, "id of an arq job"),
    LogField("jobs", _COUNT, "number of jobs that the line is about"),
    LogField("kept_from", _TEXT, "id of the first entry that is kept; empty if the stream is empty"),
    LogField(
        "largest_page",
        Kind.COUNT_OR_NULL,
        "largest page size that the gateway serves; null: no limit was found",
    ),
    LogField("last", _TEXT, "id of the last entry affected"),
    LogField("lines", _COUNT, "number of lines of the log"),
    LogField("left", _COUNT, "number that remains"),
    LogField("letters", _COUNT, "number of dead letters that the line is about"),
    LogField("lifetime_s", _NUMBER, "seconds for which the token is valid"),
    LogField("logger", _TEXT, "name of the library that wrote the line"),
    LogField("maxmemory", _COUNT, "memory limit of Redis in bytes; 0: no limit"),
    LogField("member", _TEXT, "record or audit log that was due"),
    LogField("message", _TEXT, "text that the library wrote"),
    LogField("missing", _COUNT, "known records that the full scan did not return"),
    LogField("name", _TEXT, "event name of the line that is not in the catalogue"),
    LogField("newest", Kind.TIME, "latest modification time among the records of the run"),
    LogField("noise", _COUNT, "records whose bytes differ and whose content is the same: not published"),
    LogField("not_told", _COUNT, "occurrences suppressed since the last line of this kind"),
    LogField("oldest_s", _NUMBER, "age of the oldest of them, in seconds"),
    LogField("not_found", _COUNT, "ids under which no record was found"),
    LogField("operation", _TEXT, "operation of the API: orders.search ..."),
    LogField(
        "covered",
        _TEXT,
        "what the run has read to its end: all, newer (newer changes), open (open records), changed (the audit logs of "
        "changed records) or none (single records, or it did not end)",
    ),
    LogField(
        "outcome", _TEXT, "how the run ended: complete, partial, stopped, paused, suspicious, held or failed"
    ),
    LogField("outside", _COUNT, "records outside the configured scope: not published"),
    LogField("page", _COUNT, "number of the page, from 0"),
    LogField("pages", _COUNT, "pages that were committed"),
    LogField(
        "passed_over", _COUNT, "known records that no page has shown and that cannot be read by their ids"
    ),
    LogField("parameter", _TEXT, "query parameter"),
    LogField("parked", _COUNT, "unreadable records that were parked before and have not changed"),
    LogField("path", _TEXT, "path at the gateway"),
    LogField("paused_at", Kind.TIME, "time at which the pause began"),
    LogField("paused_s", _NUMBER, "seconds that the pause lasted"),
    LogField("pending", _COUNT, "events that were delivered and are not acknowledged"),
    LogField("pid", _COUNT, "id of the process"),
    LogField(
        "plan",
        _TEXT,
        "how the run read: window, head, open, sweep (a full scan), refresh (records by id) or reconcile; several are "
        "joined with +",
    ),
    LogField("policy", _TEXT, "eviction policy of Redis"),
    LogField("previous_at", Kind.TIME, "time of the change published before, by the clock of OrderMesh"),
    LogField("proven_since", Kind.TIME, "begin of the verified span of time, by the clock of OrderMesh"),
    LogField("proven_until", Kind.TIME, "end of the verified span of time"),
    LogField("published", _COUNT, "events that were published"),
    LogField("reason", _TEXT, "what caused the run (poll, resync, reconcile), or the reason for the event"),
    LogField("recorded", _COUNT, "audit entries that were published"),
    LogField("records", _COUNT, "records that were read"),
    LogField("refusals", _COUNT, "writes that Redis has refused since the last line of this kind"),
    LogField("removed", _TEXTS, "names of the accounts that are no longer served"),
    LogField("repeated", _COUNT, "identical failures suppressed since the last line of this kind"),
    LogField("requests", _COUNT, "requests that were sent, including retries"),
    LogField("resources", _TEXTS, "resources that the line is about"),
    LogField("resync", _TEXT, "id of a resync"),
    LogField("retries", _COUNT, "requests that were sent again"),
    LogField("retry_in_s", _NUMBER, "seconds until the next attempt"),
    LogField(
        "scan_age_s",
        _NUMBER,
        "seconds since the full scan began that the run has resumed, or that was dropped",
    ),
    LogField("moved_s", _NUMBER, "seconds by which a clock was put on; less than 0 if it was put back"),
    LogField("seconds", _NUMBER, "seconds without a sign of life"),
    LogField("signal", _TEXT, "name of the signal"),
    LogField(
        "silent", _COUNT, "records that existed before the first full scan: not published, as configured"
    ),
    LogField(
        "since",
        Kind.TEXT_OR_NULL,
        "parameter that filters by modification time; null: the gateway honours no such parameter",
    ),
    LogField("since_s", _NUMBER, "seconds since the condition began"),
    LogField("snapshot", _COUNT, "records published by the first full scan"),
    LogField("stack", _TEXT, "stack of the main thread, innermost call first"),
    LogField(
        "stale", _COUNT, "records older than the published version: read by id next, or by another full scan"
    ),
    LogField("state", _TEXT, "result of the probe of a list: found, empty, missing, forbidden or unreadable"),
    LogField("step", _TEXT, "operation during which the error occurred"),
    LogField("stuck", _TEXTS, "loops by name and jobs by id that make no progress"),
    LogField("stuck_since", Kind.TIME, "time of the last sign of life"),
    LogField("subject", _TEXT, "id of the record"),
    LogField("timeless", _COUNT, "audit entries without a time; their records were read by id"),
    LogField("total", _COUNT, "number of records, as the gateway reports it"),
    LogField("tracked", _COUNT, "number of known records"),
    LogField("unanswered", _COUNT, "events that the command has not answered"),
    LogField("unchanged", _COUNT, "records that have not changed"),
    LogField(
        "under_way", _TEXTS, "running jobs: for how long each runs, and its stack, innermost call first"
    ),
    LogField("unread", _COUNT, "events that the group has not read"),
    LogField("unread_bytes", _COUNT, "estimated size of the unread events in bytes"),
    LogField("unreadable", _COUNT, "records that cannot be read"),
    LogField("updated", _COUNT, "records published as updated"),
    LogField("url", _TEXT, "address, without its password"),
    LogField("used_memory", _COUNT, "memory that Redis uses, in bytes"),
    LogField("verified", _COUNT, "records whose audit entries are all published"),
    LogField("wait_s", _NUMBER, "seconds until the next attempt"),
    LogField("waited_s", _NUMBER, "seconds waited so far"),
    LogField("worker", _TEXT, "id of the worker: host, process, random digits"),
)
