"""The gauges of the metrics, computed from the rows of `ordersync status --json`. No I/O."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from worker.telemetry.catalog.metrics import HEALTHS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


class Sample(NamedTuple):
    """The value of a gauge; `name` without `ordersync_`, `labels` in the order of the table of metrics."""

    name: str
    labels: tuple[str, ...]
    value: float


_AGES = frozenset(
    {
        "freshness_seconds",
        "part_freshness_seconds",
        "due_oldest_seconds",
        "group_oldest_seconds",
        "group_idle_seconds",
        "dead_letter_oldest_seconds",
    }
)
"""Ages, which grow while Redis is away; those that are 0 for "none" stay 0."""
_LEFT_TO_REDIS = frozenset({"workers", "clock_offset_seconds", "budget_used_ratio"})
"""Gauges of all workers of an account, of which nothing is known while Redis is away."""
REDIS_AWAY = "redis_unavailable"
"""The name of the cause while Redis is away: the code of the error."""
_WORST = ("failing", "degraded", "paused", "starting", "withdrawn", "ok")
_HEALTHY = frozenset({"starting", "ok", "degraded"})


def samples(
    rows: Iterable[Mapping[str, Any]], away_s: float | None = None, accounts: Mapping[str, int] | None = None
) -> Iterator[Sample]:
    """Yield the gauges of the rows.

    Args:
        rows: The rows, one for each account and resource.
        away_s: If Redis is away: how many seconds ago it gave the rows. Ages grow since, and what was healthy is
            failing, as `ordersync health` says too, since nothing can be published.
        accounts: How many accounts have which health, by their worst resource; None for those of the rows.

    """
    rows = list(rows)
    if away_s is None:
        for health, count in (_by_health(rows) if accounts is None else accounts).items():
            yield Sample("accounts", (health,), count)
        yield from _samples(rows)
        return
    for sample in _samples(_without_redis(row) for row in rows):
        if sample.name in _AGES and sample.value:
            yield sample._replace(value=sample.value + away_s)
        elif sample.name not in _LEFT_TO_REDIS:
            yield sample


def _by_health(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Return how many accounts have which health, by their worst resource."""
    worst: dict[str, str] = {}
    for row in rows:
        worst[row["account"]] = min(worst.get(row["account"], row["health"]), row["health"], key=_WORST.index)
    return {health: sum(found == health for found in worst.values()) for health in HEALTHS}


def _without_redis(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**row, "health": "failing", "cause_code": REDIS_AWAY} if row["health"] in _HEALTHY else row


def _samples(rows: Iterable[Mapping[str, Any]]) -> Iterator[Sample]:
    accounts: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        accounts[row["account"]] = row
        yield from _of_resource(row)
    for account, row in accounts.items():
        yield from _of_account((account,), row)


def _of_resource(row: Mapping[str, Any]) -> Iterator[Sample]:
    labels = (row["account"], row["resource"])
    for health in HEALTHS:
        yield Sample("health", (*labels, health), row["health"] == health)
    if row["health"] != "ok":
        yield Sample("cause", (*labels, row["health"], row["cause_code"]), 1)
    values = {
        "freshness_seconds": row["fresh_s"],
        "part_freshness_seconds": row["part_s"],
        "failures": row["failures"],
        "suspect": row["suspect"] is not None,
        "paused": row["paused"] is not None,
        "proven_until_timestamp_seconds": _timestamp(row["proven_until"]),
        "open_gaps": row["open_gaps"],
        "due_records": row["due"],
        "due_oldest_seconds": row["due_oldest_s"] or 0,
        "tracked_records": row["records"],
        "resyncs_open": len(row["resyncs"]),
        "resync_progress_ratio": min((item["share"] or 0 for item in row["resyncs"]), default=None),
        "backpressure": bool(row["backpressure"]["cause"]),
        "dead_letters": row["dead"],
        "dead_letter_oldest_seconds": row["dead_oldest_s"] or 0,
    }
    for name, value in values.items():
        if value is not None:
            yield Sample(name, labels, float(value))
    for item in row["capabilities_withdrawn"]:
        yield Sample("capability_withdrawn", (*labels, item["capability"]), 1)
    for group in row["groups"]:
        of_group = (*labels, group["group"])
        yield Sample("group_lag", of_group, group["unread"])
        yield Sample("group_pending", of_group, group["pending"])
        yield Sample("group_oldest_seconds", of_group, group["oldest_s"] or 0)
        yield Sample("group_late", of_group, group["late"])
        yield Sample("group_idle_seconds", of_group, group["idle_s"])


def _of_account(labels: tuple[str, ...], row: Mapping[str, Any]) -> Iterator[Sample]:
    yield Sample("workers", labels, len(row["workers"]))
    offsets = [worker["clock_offset_s"] for worker in row["workers"]]
    if offsets:
        yield Sample("clock_offset_seconds", labels, max(offsets, key=abs))
    yield Sample("budget_used_ratio", labels, row["budget"]["share"] or 0)


def _timestamp(text: str | None) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None
