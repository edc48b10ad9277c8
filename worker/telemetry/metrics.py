"""The metrics of the worker and its resources in the text format of Prometheus.

Counters belong to this process and start at 0 with it. Gauges are read from Redis for each scrape, so that every worker
of an account reports the same values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from worker.telemetry.tracing import Span

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
EVENTS = ("snapshot", "created", "updated", "deleted", "recorded")
HEALTHS = ("starting", "ok", "degraded", "failing", "paused", "withdrawn")
COMMIT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_OF_RESOURCE = ("account", "resource")


class Metrics:
    """Counts finished spans (`worker.telemetry.tracing.watching`), and exposes them together with the status."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry(auto_describe=True)

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(f"ordersync_{name}", meaning, (*_OF_RESOURCE, *labels), registry=registry)

        def gauge(name: str, meaning: str, *labels: str) -> Gauge:
            return Gauge(f"ordersync_{name}", meaning, (*_OF_RESOURCE, *labels), registry=registry)

        self._polls = counter("polls", "Polls that have ended, by outcome.", "outcome")
        self._records = counter("records", "Records that were read.")
        self._events = counter("events", "Events that were published, by action.", "action")
        self._requests = counter("requests", "Requests to the gateway, including retries.")
        self._retries = counter("retries", "Requests that were sent again.")
        self._budget_wait = counter("budget_wait_seconds", "Seconds that requests waited for the budget.")
        self._commits = Histogram(
            "ordersync_commit_seconds",
            "Time of one commit to Redis.",
            _OF_RESOURCE,
            registry=registry,
            buckets=COMMIT_SECONDS,
        )
        self._gauges = {
            "fresh_s": gauge("freshness_seconds", "Age of the last read that covers everything."),
            "part_s": gauge(
                "part_freshness_seconds",
                "Age of the last read of a part: newer changes, open records, or the audit logs of changed records.",
            ),
            "records": gauge("tracked_records", "Known records."),
            "dead": gauge("dead_letters", "Dead letters."),
            "failures": gauge("failures", "Failed polls in a row."),
        }
        self._health = gauge("health", "1 for the current health of a resource, 0 for the others.", "health")
        self._backpressure = gauge("backpressure", "1 while polling pauses because of backpressure.")
        self._paused = gauge("paused", "1 while a person has paused the resource.")
        self._lag = gauge("group_lag", "Events that a consumer group has not read.", "group")
        self._pending = gauge("group_pending", "Events delivered to a group and not acknowledged.", "group")
        self._oldest = gauge(
            "group_oldest_seconds", "Age of the oldest event that a group still needs.", "group"
        )
        self._status_gauges = (
            *self._gauges.values(),
            *(self._health, self._backpressure, self._paused, self._lag, self._pending, self._oldest),
        )

    def watch(self, span: Span) -> None:
        """Count a finished span."""
        result = span.attributes
        if span.name == "commit":
            self._commits.labels(result["account"], result["resource"]).observe(span.seconds)
        elif span.name == "poll" and "outcome" in result:
            self._count(result)

    def _count(self, run: Mapping[str, Any]) -> None:
        labels = (run["account"], run["resource"])
        self._polls.labels(*labels, run["outcome"]).inc()
        self._records.labels(*labels).inc(run["records"])
        self._requests.labels(*labels).inc(run["requests"])
        self._retries.labels(*labels).inc(run["retries"])
        self._budget_wait.labels(*labels).inc(run["budget_wait_s"])
        for action in EVENTS:
            self._events.labels(*labels, action).inc(run.get(action, 0))

    def show(self, rows: Iterable[Mapping[str, Any]]) -> bytes:
        """Return all metrics as text. `rows` are the rows of `ordersync status --json`, one for each resource."""
        for item in self._status_gauges:
            item.clear()  # a removed group or resource must not be reported any longer
        for row in rows:
            labels = (row["account"], row["resource"])
            for name, gauge in self._gauges.items():
                if row[name] is not None:
                    gauge.labels(*labels).set(row[name])
            for health in HEALTHS:
                self._health.labels(*labels, health).set(row["health"] == health)
            self._backpressure.labels(*labels).set(bool(row["backpressure"]["cause"]))
            self._paused.labels(*labels).set(row["paused"] is not None)
            for group in row["groups"]:
                self._lag.labels(*labels, group["group"]).set(group["unread"])
                self._pending.labels(*labels, group["group"]).set(group["pending"])
                self._oldest.labels(*labels, group["group"]).set(group["oldest_s"] or 0)
        return generate_latest(self._registry)
