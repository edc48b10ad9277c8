"""The page of metrics: each with its type, its labels and its meaning, from what `/metrics` serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

from worker.contracts.markdown import code, page, table
from worker.telemetry.metrics import COMMIT_SECONDS, EVENTS, HEALTHS, Metrics
from worker.telemetry.tracing import Span, begin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

_ABOUT = """\
With `ORDERSYNC_METRICS__PORT` set, the daemon serves `/metrics` for Prometheus, and two probes (see [Status, logs and
metrics](../operate/monitoring.md#metrics-and-probes)). Counters and the histogram count what this process has done
since it started. Gauges are read from Redis at each request, so every worker of an account serves the same values.
"""
_OF_ALL = ("account", "resource")


def metrics_page() -> str:
    """Return the whole page."""
    rows = [
        (f"`{name}`", family.type, code(labels), family.documentation) for family, name, labels in _families()
    ]
    values = table(
        ("label", "values"),
        [
            ("`account`, `resource`", "names, as in the settings"),
            ("`outcome`", "how the poll ended, as in the field `outcome` of the [log](log-events.md#fields)"),
            ("`action`", code(EVENTS)),
            ("`health`", f"{code(HEALTHS)} ([health words](../concepts/health.md))"),
            ("`group`", "name of the consumer group"),
        ],
    )
    buckets = f"The upper bounds of the buckets of the histogram, in seconds: {code(COMMIT_SECONDS)}."
    metrics = table(("metric", "type", "labels", "meaning"), rows)
    return page("Metrics", _ABOUT, metrics, buckets, f"## Labels\n\n{values}")


def _families() -> Iterator[tuple[Metric, str, list[str]]]:
    """Yield each family with its name as queries use it, and its labels."""
    for family in text_string_to_metric_families(_served().decode()):
        if not family.name.endswith("_created"):
            first = family.samples[0]
            labels = sorted(first.labels.keys() - {"le"}, key=lambda name: (name not in _OF_ALL, name))
            yield family, first.name if family.type == "counter" else family.name, labels


def _served() -> bytes:
    """Return what `/metrics` serves after one poll and one commit of a resource that one group reads."""
    of: dict[str, Any] = {"account": "a", "resource": "orders"}
    metrics, place = Metrics(), begin()
    numbers = dict.fromkeys(("records", "requests", "retries", "budget_wait_s"), 0)
    metrics.watch(Span("poll", place, 0, {**of, **numbers, "outcome": "complete"}))
    metrics.watch(Span("commit", place, 0, of))
    group = {"group": "warehouse", "unread": 0, "pending": 0, "oldest_s": 0}
    gauges = dict.fromkeys(("fresh_s", "part_s", "records", "dead", "failures"), 0)
    row = {**of, **gauges, "health": "ok", "backpressure": {"cause": ""}, "paused": None, "groups": [group]}
    return metrics.show([row])
