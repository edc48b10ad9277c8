"""The table of metrics: what `/metrics` serves. The page of metrics and the Grafana dashboard are written from it.

Names end with the unit, as Prometheus asks for: `_total` for counters, `_seconds`, `_ratio` (0 to 1), `_bytes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class MetricType(StrEnum):
    """The type of a metric, as OpenMetrics names it."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric. `name`: as queries use it, for a histogram without `_bucket`. `meaning`: one sentence."""

    name: str
    type: MetricType
    meaning: str
    labels: tuple[str, ...] = ()


OUTCOMES = ("complete", "partial", "stopped", "paused", "suspicious", "failed", "held")
ACTIONS = ("snapshot", "created", "updated", "deleted", "recorded")
HEALTHS = ("starting", "ok", "degraded", "failing", "paused", "withdrawn")
COMMIT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The upper bounds of the buckets of `ordersync_commit_seconds`."""

_ACCOUNT, _RESOURCE = ("account",), ("account", "resource")
_GROUP = (*_RESOURCE, "group")


def _counter(name: str, meaning: str, *labels: str) -> Metric:
    return Metric(f"ordersync_{name}_total", MetricType.COUNTER, meaning, (*_RESOURCE, *labels))


def _gauge(name: str, meaning: str, labels: tuple[str, ...] = _RESOURCE) -> Metric:
    return Metric(f"ordersync_{name}", MetricType.GAUGE, meaning, labels)


def _process(name: str, meaning: str, kind: MetricType = MetricType.GAUGE) -> Metric:
    return Metric(f"process_{name}", kind, meaning)


THEMES: dict[str, tuple[Metric, ...]] = {
    "Freshness": (
        _gauge(
            "health",
            "1 for the current health of a resource, 0 for the others.",
            (*_RESOURCE, "health"),
        ),
        _gauge(
            "cause",
            "1 for the cause of the current health, by its name; missing for ok.",
            (*_RESOURCE, "health", "cause"),
        ),
        _gauge("freshness_seconds", "Age of the last read that covers everything."),
        _gauge(
            "part_freshness_seconds",
            "Age of the last read of a part: newer changes, open records, or the audit logs of changed records.",
        ),
        _gauge("failures", "Failed polls in a row."),
        _gauge("suspect", "1 while the last read is suspect."),
        _gauge("paused", "1 while a person has paused the resource."),
    ),
    "Completeness": (
        _gauge(
            "proven_until_timestamp_seconds",
            "Time up to which the resource is proven complete, in seconds since 1970 by the clock of OrderMesh.",
        ),
        _gauge("open_gaps", "Records of which it cannot be shown that every change was published."),
        _gauge("due_records", "Records and audit logs that are due to be read by id."),
        _gauge("due_oldest_seconds", "Seconds since the first of them was due; 0 without any."),
        _gauge("tracked_records", "Known records."),
        _gauge("resyncs_open", "Resyncs that have not ended."),
        _gauge(
            "resync_progress_ratio",
            "Part of the open resyncs that is done, of the one that has come least far; missing without any.",
        ),
    ),
    "Reading": (
        _counter("polls", "Polls that have ended, by outcome.", "outcome"),
        _counter("records", "Records that polls have read."),
        _gauge(
            "lane_oldest_due_seconds",
            "Seconds since the job is due that waits the longest for a place of its class; 0 without any.",
            ("lane",),
        ),
        _gauge(
            "capability_withdrawn",
            "1 while the gateway does not honour a `filter`, `sort` or `choice` that it honoured before; else missing.",
            (*_RESOURCE, "capability"),
        ),
        _counter("events", "Events that polls have published, by action.", "action"),
        _counter(
            "withheld_values", "Values that the privacy policy removed because their fields are not known."
        ),
        Metric(
            "ordersync_commit_seconds",
            MetricType.HISTOGRAM,
            "Time of one commit to Redis.",
            _RESOURCE,
        ),
    ),
    "Gateway": (
        _counter("requests", "Requests to the gateway, with retries; of a login, the resource is empty."),
        _counter(
            "retries", "Requests that were sent again, by the error code of the attempt before.", "reason"
        ),
        _counter("rate_limit_wait_seconds", "Seconds between an answer that limits the rate, and the retry."),
        _counter("budget_wait_seconds", "Seconds during which a request of a poll waited for the budget."),
        _gauge(
            "budget_used_ratio",
            "Part of the request budget that all workers of the account used in the last minute.",
            _ACCOUNT,
        ),
    ),
    "Delivery": (
        _gauge("group_lag", "Events that a consumer group has not read.", _GROUP),
        _gauge("group_pending", "Events delivered to a group and not acknowledged.", _GROUP),
        _gauge("group_oldest_seconds", "Age of the oldest event that a group still needs.", _GROUP),
        _gauge("group_late", "1 while the group is late: events wait, and no consumer reads.", _GROUP),
        _gauge("group_idle_seconds", "Seconds since a consumer of the group last asked for events.", _GROUP),
        _gauge("backpressure", "1 while polling pauses because of backpressure."),
        _gauge("dead_letters", "Dead letters."),
        _gauge("dead_letter_oldest_seconds", "Age of the oldest dead letter; 0 without any."),
    ),
    "Process": (
        _gauge("redis_up", "1 if Redis answered this scrape and can write to its disk, otherwise 0.", ()),
        _gauge(
            "accounts",
            "Accounts, by the health of their worst resource. Of more than 20, the 20 that look worst have gauges of "
            "their own.",
            ("health",),
        ),
        _gauge("workers", "Workers that are alive and serve the account.", _ACCOUNT),
        _gauge(
            "clock_offset_seconds",
            "Seconds by which the clock of the host of a worker is ahead of that of Redis: the largest offset.",
            _ACCOUNT,
        ),
        _gauge("build_info", "1, with the version of ordermesh-sync and of Python.", ("version", "python")),
        _process("start_time_seconds", "When the process was started, in seconds since 1970."),
        _process("cpu_seconds_total", "Seconds of processor time that the process used.", MetricType.COUNTER),
        _process("resident_memory_bytes", "Memory of the process that is in RAM."),
        _process("virtual_memory_bytes", "Address space of the process."),
        _process("open_fds", "Open file descriptors of the process."),
        _process("max_fds", "File descriptors that the process may open."),
    ),
}
"""The metrics by theme."""
METRICS = {metric.name: metric for theme in THEMES.values() for metric in theme}
"""Every metric, by its name."""
