"""The metrics of the worker and its resources, for Prometheus; `worker.telemetry.catalog.metrics` is their table.

Counters belong to this process and start at 0 with it. Gauges are read from Redis for each scrape, so that every worker
of an account reports the same values.
"""

from __future__ import annotations

import platform
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder

from worker.errors import RateLimited
from worker.telemetry.catalog.metrics import ACTIONS, COMMIT_SECONDS, METRICS, OUTCOMES, MetricType
from worker.telemetry.library import structlog
from worker.telemetry.status_metrics import samples

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from worker.telemetry.tracing import Span

_PREFIX = "ordersync_"


COUNTED_ACCOUNTS = 100
"""Accounts that have counters of their own: of thousands, each would cost a hundred kilobytes."""
OTHERS = "*"
"""The label of the accounts after them. No account has this name."""


class Metrics:
    """Counts finished spans (`worker.telemetry.tracing.watching`), and exposes them together with the status.

    `version`: that of ordermesh-sync.
    """

    def __init__(self, version: str) -> None:
        # Else each counter has a second series with the time of its creation, which no query here needs.
        disable_created_metrics()  # type: ignore[no-untyped-call] # untyped there
        registry = self._registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=registry)
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        for metric in METRICS.values():
            if not metric.name.startswith(_PREFIX):
                continue  # of the process, by the collector
            name = metric.name.removeprefix(_PREFIX)
            match metric.type:
                case MetricType.COUNTER:
                    counter = Counter(metric.name, metric.meaning, metric.labels, registry=registry)
                    self._counters[name.removesuffix("_total")] = counter
                case MetricType.GAUGE:
                    self._gauges[name] = Gauge(metric.name, metric.meaning, metric.labels, registry=registry)
                case MetricType.HISTOGRAM:
                    self._commits = Histogram(
                        metric.name, metric.meaning, metric.labels, registry=registry, buckets=COMMIT_SECONDS
                    )
        self._build = (version, platform.python_version())
        self._accounts = set[str]()

    def watch(self, span: Span) -> None:
        """Count a finished span."""
        result = span.attributes
        if span.name == "commit":
            self._commits.labels(self._counted(str(result["account"])), result["resource"]).observe(
                span.seconds
            )
        elif span.name == "poll" and "outcome" in result:
            self._count(result)
        elif span.name == "request":
            self._counters["requests"].labels(*self._running()).inc()
        elif span.name == "retry":
            self._counters["retries"].labels(*self._running(), result["reason"]).inc()
            if result["reason"] == RateLimited.code:
                self._counters["rate_limit_wait_seconds"].labels(*self._running()).inc(span.seconds)

    def _counted(self, account: str) -> str:
        """Return the account under which something is counted: of very many, the first ones have counters."""
        if account not in self._accounts:
            if len(self._accounts) >= COUNTED_ACCOUNTS:
                return OTHERS
            self._accounts.add(account)
        return account

    def _running(self) -> tuple[str, str]:
        """Return the account and the resource that this task reads, as its log lines name them; "" for none."""
        names = structlog.contextvars.get_contextvars()
        account = names.get("account", "")
        return self._counted(account) if account else "", names.get("resource", "")

    def _count(self, run: Mapping[str, Any]) -> None:
        labels = (self._counted(run["account"]), run["resource"])
        for (
            outcome
        ) in OUTCOMES:  # all of them from the first poll on: a rate needs the 0 before the first one
            self._counters["polls"].labels(*labels, outcome).inc(run["outcome"] == outcome)
        for action in ACTIONS:
            self._counters["events"].labels(*labels, action).inc(run.get(action, 0))
        self._counters["records"].labels(*labels).inc(run["records"])
        self._counters["budget_wait_seconds"].labels(*labels).inc(run["budget_wait_s"])
        self._counters["withheld_values"].labels(*labels).inc(run.get("withheld", 0))
        for name in ("requests", "rate_limit_wait_seconds"):
            self._counters[name].labels(*labels).inc(0)

    def show(
        self,
        rows: Iterable[Mapping[str, Any]],
        *,
        lanes: Mapping[str, float] = MappingProxyType({}),
        away_s: float | None = None,
        accounts: Mapping[str, int] | None = None,
        accept: str = "",
    ) -> tuple[bytes, str]:
        """Return all metrics as text, and its content type: OpenMetrics or the format of Prometheus, as asked for.

        Args:
            rows: The rows of `ordersync status --json`, one for each resource.
            lanes: For each lane the seconds since the job is due that waits the longest.
            away_s: If Redis is away: how many seconds ago it gave the rows; None if it has just given them.
            accounts: How many accounts have which health; None for those of the rows.
            accept: The header `Accept` of the request.

        """
        for gauge in self._gauges.values():
            gauge.clear()  # a removed group or resource must not be reported any longer
        self._gauges["build_info"].labels(*self._build).set(1)
        self._gauges["redis_up"].set(away_s is None)
        for lane, seconds in lanes.items():
            self._gauges["lane_oldest_due_seconds"].labels(lane).set(seconds)
        for name, labels, value in samples(rows, away_s, accounts):
            self._gauges[name].labels(*labels).set(value)
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type
