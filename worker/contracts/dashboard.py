"""The Grafana dashboard, written from the table of metrics: a row for each theme, and a panel for each metric."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from worker.telemetry.catalog.metrics import THEMES, Metric, MetricType

if TYPE_CHECKING:
    from collections.abc import Iterator

_SOURCE = {"type": "prometheus", "uid": "${source}"}
_WIDTH, _HEIGHT, _COLUMNS = 8, 7, 3
_STATES = {"health", "cause"}
"""Labels of metrics that are 1 for one of several words: a panel shows the word over time."""
_UNITS = {"_seconds": "s", "_ratio": "percentunit", "_bytes": "bytes"}
GLANCE = (
    ("Failing", 'count(ordersync_health{health="failing"} == 1) or vector(0)', "none", 1),
    ("Degraded", 'count(ordersync_health{health="degraded"} == 1) or vector(0)', "none", 1),
    ("Workers without Redis", "count(ordersync_redis_up == 0) or vector(0)", "none", 1),
    ("Oldest read", "max(ordersync_freshness_seconds or ordersync_part_freshness_seconds)", "s", None),
    ("Late groups", "sum(max by (account, resource, group) (ordersync_group_late)) or vector(0)", "none", 1),
    ("Dead letters", "sum(max by (account, resource) (ordersync_dead_letters))", "none", 1),
)
"""The first row: title, query, unit, and the value from which it is red."""


def dashboard() -> str:
    """Return the dashboard as JSON, for import into Grafana."""
    variables = [
        {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        _variable("job", "label_values(ordersync_build_info, job)"),
        _variable("account", "label_values(ordersync_health, account)"),
        _variable("resource", 'label_values(ordersync_health{account=~"$account"}, resource)'),
    ]
    board = {
        "uid": "ordersync",
        "title": "ordermesh-sync",
        "description": "Written by `make docs` from the table of metrics (docs/reference/metrics.md).",
        "tags": ["ordersync"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "utc",
        "templating": {"list": variables},
        "panels": list(_panels()),
    }
    return json.dumps(board, indent=1, ensure_ascii=False) + "\n"


def query_of(metric: Metric) -> str:
    """Return the PromQL of the panel of a metric.

    Workers of an account serve the same gauges, so the largest is shown; counters and the histogram are of each worker,
    so they are added. What is of a process is shown for each worker.
    """
    of, by = _selection(metric), ", ".join(metric.labels)
    if not set(metric.labels) & {"account"}:
        if metric.type is MetricType.COUNTER:
            return f"rate({metric.name}{of}[$__rate_interval])"
        name = f"{metric.name}{of}"
        return f"time() - {name}" if metric.name.endswith("_time_seconds") else name
    if metric.type is MetricType.COUNTER:
        return f"sum by ({by}) (rate({metric.name}{of}[$__rate_interval]))"
    if metric.type is MetricType.HISTOGRAM:
        return (
            f"histogram_quantile(0.99, sum by ({by}, le) (rate({metric.name}_bucket{of}[$__rate_interval])))"
        )
    shown = f"max by ({by}) ({metric.name}{of})"
    if metric.name.endswith("_timestamp_seconds"):
        return f"time() - {shown}"
    return f"{shown} == 1" if set(metric.labels) & _STATES else shown


def _selection(metric: Metric) -> str:
    if not metric.labels or "account" not in metric.labels:
        return '{job=~"$job"}'
    names = [name for name in ("account", "resource") if name in metric.labels]
    return "{" + ", ".join(f'{name}=~"${name}"' for name in names) + "}"


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": _SOURCE,
        "query": query,
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _panels() -> Iterator[dict[str, Any]]:
    number, y = 1, 0
    width = 24 // len(GLANCE)
    for place, (title, query, unit, red) in enumerate(GLANCE):
        steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
        steps += [] if red is None else [{"color": "red", "value": red}]
        yield {
            **_panel(number, "stat", title, query, unit),
            "gridPos": {"x": place * width, "y": y, "w": width, "h": 4},
            "fieldConfig": {"defaults": {"unit": unit, "thresholds": {"mode": "absolute", "steps": steps}}},
        }
        number += 1
    y += 4
    for theme, metrics in THEMES.items():
        yield {
            "id": number, "type": "row", "title": theme, "collapsed": False, "panels": [],
            "gridPos": {"x": 0, "y": y, "w": 24, "h": 1},
        }  # fmt: skip
        number, y = number + 1, y + 1
        for place, metric in enumerate(metrics):
            states = (
                bool(set(metric.labels) & _STATES) and metric.name != "ordersync_accounts"
            )  # which is a count
            yield {
                **_panel(
                    number,
                    "state-timeline" if states else "timeseries",
                    metric.name.removeprefix("ordersync_"),
                    query_of(metric),
                    _unit(metric),
                    about=metric.meaning,
                    legend=" ".join(f"{{{{{name}}}}}" for name in metric.labels or ("instance",)),
                ),
                "gridPos": {
                    "x": place % _COLUMNS * _WIDTH, "y": y + place // _COLUMNS * _HEIGHT, "w": _WIDTH, "h": _HEIGHT,
                },
            }  # fmt: skip
            number += 1
        y += -(-len(metrics) // _COLUMNS) * _HEIGHT


def _panel(
    number: int, kind: str, title: str, query: str, unit: str, *, about: str = "", legend: str = ""
) -> dict[str, Any]:
    return {
        "id": number,
        "type": kind,
        "title": title,
        "description": about,
        "datasource": _SOURCE,
        "targets": [{"refId": "A", "datasource": _SOURCE, "expr": query, "legendFormat": legend}],
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
    }


def _unit(metric: Metric) -> str:
    if metric.type is MetricType.COUNTER:
        return "percentunit" if metric.name.endswith("_seconds_total") else "ops"
    return next((unit for ending, unit in _UNITS.items() if metric.name.endswith(ending)), "none")
