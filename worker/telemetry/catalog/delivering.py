"""Events of delivery: retention, consumers, dead letters, replays."""

from __future__ import annotations

from worker.telemetry.catalog.kinds import LogEvent, LogLevel

EVENTS = (
    LogEvent(
        "stream_trimmed",
        LogLevel.INFO,
        "Events that no group needs any more were removed.",
        fields=("resource", "entries", "first", "kept_from", "left"),
    ),
    LogEvent(
        "dead_letters",
        LogLevel.WARNING,
        "Dead letters wait for somebody to look at them.",
        "ordersync dead list says why; then replay or drop them.",
        ("resource", "letters", "oldest_s", "advice"),
    ),
    LogEvent(
        "retention_held_back",
        LogLevel.WARNING,
        "Events that the limits would not keep stay, since a group needs them.",
        "Let the group read on, or drop it, as `advice` says.",
        ("resource", "group", "entries", "first", "unread", "pending", "advice"),
    ),
    LogEvent(
        "retention_failed",
        LogLevel.ERROR,
        "A stream could not be trimmed.",
        "See `error`: the key is another program's, or a permission is missing.",
        ("resource", "error", "advice"),
    ),
    LogEvent(
        "retention_put_off",
        LogLevel.WARNING,
        "Redis was away when streams were to be trimmed; it is done with the next pass.",
        "Nothing, unless it stays.",
        ("error", "advice"),
    ),
    LogEvent(
        "group_created", LogLevel.INFO, "A declared consumer group was made.", fields=("resource", "group")
    ),
    LogEvent(
        "group_idle",
        LogLevel.WARNING,
        "Nobody reads for a group that has events to read.",
        "Start its consumers, or drop it, as `advice` says.",
        ("resource", "group", "idle_s", "unread", "pending", "oldest_s", "advice"),
    ),
    LogEvent(
        "consumer_started",
        LogLevel.INFO,
        "A consumer has joined its group.",
        fields=("group", "consumer", "resources"),
    ),
    LogEvent(
        "consumer_stopped",
        LogLevel.INFO,
        "A consumer has left its group.",
        fields=("group", "consumer", "acknowledged", "given_back"),
    ),
    LogEvent(
        "consumer_left_early",
        LogLevel.WARNING,
        "A consumer had to end before it could acknowledge everything; those events come again.",
        "Nothing: handling an event twice must be harmless.",
        ("group", "consumer", "entries", "error", "advice"),
    ),
    LogEvent(
        "consumer_waits_for_redis",
        LogLevel.WARNING,
        "A consumer cannot reach Redis; it goes on by itself.",
        "Look after Redis.",
        ("group", "consumer", "step", "failures", "error"),
    ),
    LogEvent(
        "delivery_failed",
        LogLevel.WARNING,
        "An event could not be handled; it is tried again. The same failure is told once in 10 s.",
        "`error` is what the handler said.",
        (
            "group",
            "consumer",
            "resource",
            "entry_id",
            "subject",
            "attempt",
            "retry_in_s",
            "error",
            "not_told",
        ),
    ),
    LogEvent(
        "delivery_dead",
        LogLevel.ERROR,
        "An event could not be handled, and has become a dead letter; later ones are delivered.",
        "Mend the cause, then: ordersync dead replay.",
        ("group", "consumer", "resource", "entry_id", "subject", "attempts", "error", "advice"),
    ),
    LogEvent(
        "deliveries_lost",
        LogLevel.WARNING,
        "Other consumers have taken over events of this one, since it was silent for too long.",
        "See `advice`: a handler must not block the loop.",
        ("group", "consumer", "resource", "entries", "advice"),
    ),
    LogEvent(
        "deliveries_trimmed",
        LogLevel.ERROR,
        "Events that this group needed were removed by somebody else.",
        "Find out who uses XTRIM, XDEL or MAXLEN; `advice` says how to have the records again.",
        ("group", "consumer", "resource", "entries", "first", "last", "advice"),
    ),
    LogEvent(
        "consume_ending",
        LogLevel.INFO,
        "`ordersync consume` has been asked to end, and lets its command finish.",
        fields=("grace_s", "advice"),
    ),
    LogEvent(
        "batch_failed",
        LogLevel.WARNING,
        "The command of `ordersync consume` refused a batch; its events are tried one by one.",
        "`error` is what the command said.",
        ("events", "error", "advice"),
    ),
    LogEvent(
        "command_broken",
        LogLevel.ERROR,
        "Nothing succeeds with the command of `ordersync consume`; it is tried more slowly.",
        "Mend the command.",
        ("events", "advice"),
    ),
    LogEvent(
        "command_ended",
        LogLevel.WARNING,
        "The command of `ordersync consume` has ended; it is started again.",
        "`error` says how it ended.",
        ("unanswered", "error"),
    ),
    LogEvent(
        "command_silent",
        LogLevel.WARNING,
        "The command of `ordersync consume` has not answered for long.",
        "See `advice`: it must flush its output.",
        ("seconds", "unanswered", "advice"),
    ),
    LogEvent(
        "dead_letters_replayed",
        LogLevel.INFO,
        "Somebody has had dead letters delivered again.",
        fields=("resource", "letters", "left", "oldest_s"),
    ),
    LogEvent(
        "dead_letters_dropped",
        LogLevel.INFO,
        "Somebody has removed dead letters.",
        fields=("resource", "letters", "left", "oldest_s"),
    ),
    LogEvent(
        "events_replayed",
        LogLevel.INFO,
        "Somebody has had past events given to a group again.",
        fields=("resource", "group", "events", "pending"),
    ),
)
