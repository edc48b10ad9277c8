"""The page of metrics: each with its type, its labels and its meaning, from the table of metrics."""

from __future__ import annotations

from worker.contracts.markdown import code, page, table
from worker.telemetry.catalog.metrics import ACTIONS, COMMIT_SECONDS, HEALTHS, OUTCOMES, THEMES

_ABOUT = """\
With `ORDERSYNC_METRICS__PORT` set, the daemon serves `/metrics` for Prometheus, and two probes (see [Status, logs and
metrics](../operate/monitoring.md#metrics-and-probes)), as OpenMetrics or in the older text format, as the caller asks.
Counters and the histogram count what this process has done since it started. Gauges are read from Redis at each
request, so every worker of an account serves the same values.

While Redis does not answer, `ordersync_redis_up` is 0 and the other gauges stay: ages grow, and the health of what was
read is `failing`, since nothing can be published. `ordersync_workers`, `ordersync_clock_offset_seconds` and
`ordersync_budget_used_ratio` are missing then.
"""


def metrics_page() -> str:
    """Return the whole page."""
    values = table(
        ("label", "values"),
        [
            ("`account`, `resource`", "names, as in the settings"),
            (
                "`outcome`",
                f"{code(OUTCOMES)}: how the poll ended, as in the field `outcome` of the [log](log-events.md#fields)",
            ),
            ("`action`", code(ACTIONS)),
            ("`reason`", "an [error code](exit-codes.md#error-codes), such as `rate_limited`"),
            ("`health`", f"{code(HEALTHS)} ([health words](../concepts/health.md))"),
            ("`group`", "name of the consumer group"),
            ("`version`, `python`", "versions of ordermesh-sync and of Python"),
        ],
    )
    buckets = f"The upper bounds of the buckets of the histogram, in seconds: {code(COMMIT_SECONDS)}."
    themes = [
        f"## {theme}\n\n"
        + table(
            ("metric", "type", "labels", "meaning"),
            [(f"`{item.name}`", item.type, code(item.labels), item.meaning) for item in metrics],
        )
        for theme, metrics in THEMES.items()
    ]
    return page("Metrics", _ABOUT, *themes, buckets, f"## Labels\n\n{values}")
