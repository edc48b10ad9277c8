"""The alerts that come with the program: promtool tests each rule, and lezer-logql parses those of Loki."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.docs.test_runbook import codes_of_polls
from tests.support.documentation import read
from tests.support.node import modules_with
from tests.support.paths import ROOT
from tests.support.tools import program
from worker.capture.causes import Cause
from worker.telemetry.catalog import EVENTS, FIELDS
from worker.telemetry.catalog.metrics import METRICS

PROMETHEUS, LOKI = (
    ROOT / "deploy" / "prometheus" / "alerts.yaml",
    ROOT / "deploy" / "loki" / "log-alerts.yaml",
)
OF = '{account="a", resource="orders"}'
GROUP = '{account="a", resource="orders", group="g"}'
WORKER = '{instance="i", job="ordersync"}'
DAY = 86_400

CASES: dict[str, tuple[dict[str, str], int]] = {
    "OrdersyncNoWorker": ({}, 1),
    "OrdersyncRedisDown": ({"ordersync_redis_up" + WORKER: "1 0x20"}, 2),
    "OrdersyncFailing": ({'ordersync_health{account="a", resource="orders", health="failing"}': "0 1x20"}, 2),
    "OrdersyncNeedsAction": (
        {
            'ordersync_health{account="a", resource="orders", health="degraded"}': "0 1x30",
            'ordersync_cause{account="a", resource="orders", health="degraded", cause="forbidden"}': "_ 1x30",
        }, 2
    ),
    "OrdersyncDegraded": (
        {
            'ordersync_health{account="a", resource="orders", health="degraded"}': "1x30",
            'ordersync_cause{account="a", resource="orders", health="degraded", cause="moving_list"}': "1x30",
        }, 17
    ),
    "OrdersyncCapabilityWithdrawn": (
        {'ordersync_capability_withdrawn{account="a", resource="orders", capability="filter"}': "_ 1x20"}, 1
    ),
    "OrdersyncStale": ({"ordersync_freshness_seconds" + OF: "0+60x30"}, 18),
    "OrdersyncPausedLong": ({"ordersync_paused" + OF: "1x800"}, 750),
    "OrdersyncSuspectReads": ({"ordersync_suspect" + OF: "1x20"}, 12),
    "OrdersyncOpenGaps": ({"ordersync_open_gaps" + OF: "2x40"}, 32),
    "OrdersyncProofBehind": ({"ordersync_proven_until_timestamp_seconds" + OF: "0x400"}, 390),
    "OrdersyncDueBacklog": ({"ordersync_due_oldest_seconds" + OF: "0+60x60"}, 45),
    "OrdersyncBackpressure": ({"ordersync_backpressure" + OF: "1x20"}, 7),
    "OrdersyncGroupLate": ({"ordersync_group_late" + GROUP: "0 1x20"}, 1),
    "OrdersyncGroupBehind": ({"ordersync_group_oldest_seconds" + GROUP: "0+60x80"}, 70),
    "OrdersyncDeadLetters": ({"ordersync_dead_letters" + OF: "0 1x20"}, 2),
    "OrdersyncDeadLettersOld": ({"ordersync_dead_letter_oldest_seconds" + OF: f"{61 * DAY}x80"}, 65),
    "OrdersyncRateLimited": (
        {'ordersync_retries_total{account="a", resource="orders", reason="rate_limited"}': "0+1x40"}, 25
    ),
    "OrdersyncGatewayErrors": (
        {'ordersync_retries_total{account="a", resource="orders", reason="server_error"}': "0+30x40"}, 25
    ),
    "OrdersyncBudgetUsedUp": ({'ordersync_budget_used_ratio{account="a"}': "1x50"}, 33),
    "OrdersyncSlowCommits": (
        {
            'ordersync_commit_seconds_bucket{account="a", resource="orders", le="0.5"}': "0+1x40",
            'ordersync_commit_seconds_bucket{account="a", resource="orders", le="1.0"}': "0+9x40",
            'ordersync_commit_seconds_bucket{account="a", resource="orders", le="+Inf"}': "0+9x40",
        }, 25
    ),
    "OrdersyncClockOff": ({'ordersync_clock_offset_seconds{account="a"}': "0 -3600x20"}, 2),
    "OrdersyncRestarts": (
        {"process_start_time_seconds" + WORKER: "0+60x20", "ordersync_build_info" + WORKER: "1x20"}, 7
    ),
    "OrdersyncDescriptors": (
        {
            "process_open_fds" + WORKER: "90x20",
            "process_max_fds" + WORKER: "100x20",
            "ordersync_build_info" + WORKER: "1x20",
        }, 12
    ),
}  # fmt: skip
"""For each alert: series by minutes, and the minute at which it fires."""
FINE = {
    "ordersync_build_info" + WORKER: "1x800",
    "ordersync_redis_up" + WORKER: "1x800",
    'ordersync_health{account="a", resource="orders", health="ok"}': "1x800",
    'ordersync_health{account="a", resource="orders", health="failing"}': "0x800",
    'ordersync_health{account="a", resource="orders", health="degraded"}': "0x800",
    "ordersync_freshness_seconds" + OF: "3600x800",
    "ordersync_part_freshness_seconds" + OF: "12x800",
    "ordersync_paused" + OF: "0x800",
    "ordersync_suspect" + OF: "0x800",
    "ordersync_open_gaps" + OF: "0x800",
    "ordersync_proven_until_timestamp_seconds" + OF: "0+60x800",
    "ordersync_due_oldest_seconds" + OF: "3x800",
    "ordersync_backpressure" + OF: "0x800",
    "ordersync_group_late" + GROUP: "0x800",
    "ordersync_group_oldest_seconds" + GROUP: "9x800",
    "ordersync_dead_letters" + OF: "0x800",
    "ordersync_dead_letter_oldest_seconds" + OF: "0x800",
    'ordersync_retries_total{account="a", resource="orders", reason="rate_limited"}': "3x800",
    'ordersync_retries_total{account="a", resource="orders", reason="server_error"}': "0+1x800",
    'ordersync_budget_used_ratio{account="a"}': "0.5x800",
    'ordersync_commit_seconds_bucket{account="a", resource="orders", le="0.5"}': "0+9x800",
    'ordersync_commit_seconds_bucket{account="a", resource="orders", le="+Inf"}': "0+9x800",
    'ordersync_clock_offset_seconds{account="a"}': "-0.2x800",
    "process_start_time_seconds" + WORKER: "100x800",
    "process_open_fds" + WORKER: "40x800",
    "process_max_fds" + WORKER: "1024x800",
}
"""A worker that does its work, and full scans once an hour."""


def rules(path: Path) -> dict[str, dict[str, Any]]:
    """Return the alerts of a file by name."""
    (group,) = yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def firing(name: str, at: int, *, fires: bool) -> dict[str, Any]:
    """Return the expectation that an alert fires at a minute, or does not."""
    samples = [{"labels": "{}", "value": 1}] if fires else []
    expr = f'max(ALERTS{{alertname="{name}", alertstate="firing"}})'
    return {"expr": expr, "eval_time": f"{at}m", "exp_samples": samples}


def promtool(tmp_path: Path, tests: list[dict[str, Any]], step: str = "1m") -> None:
    """Run unit tests of the rules, which are evaluated at each step."""
    file = tmp_path / "test.yaml"
    file.write_text(
        json.dumps({"rule_files": [str(PROMETHEUS)], "evaluation_interval": step, "tests": tests})
    )
    done = subprocess.run(
        [program("promtool"), "test", "rules", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def series(values: dict[str, str]) -> list[dict[str, str]]:
    """Return series as promtool reads them."""
    return [{"series": name, "values": text} for name, text in values.items()]


def test_each_alert_fires(tmp_path: Path) -> None:
    """At the minute of its case, and not before its time has passed; and none of a worker that is well.

    Cases of hours are evaluated each quarter of an hour, which is quicker.
    """
    known = rules(PROMETHEUS)
    assert set(CASES) == set(known)
    short: list[dict[str, Any]] = []
    long: list[dict[str, Any]] = []
    for name, (values, minute) in CASES.items():
        text = known[name].get("for", "1m")
        wait = int(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]] / 60
        early = 0 if name == "OrdersyncRestarts" else max(0, int(wait) - 1)
        case = {
            "name": name, "interval": "1m", "input_series": series(values),
            "promql_expr_test": [firing(name, early, fires=False), firing(name, minute, fires=True)],
        }  # fmt: skip
        (long if minute > 100 else short).append(case)
    quiet = [firing(name, at, fires=False) for name in known for at in (1, 60)]
    short.append({"name": "fine", "interval": "1m", "input_series": series(FINE), "promql_expr_test": quiet})
    promtool(tmp_path, short)
    promtool(tmp_path, long, "15m")


def test_what_cannot_end_by_itself_fires_within_a_minute(tmp_path: Path) -> None:
    """A cause that needs a person fires once, at once and with its name; others do after a quarter of an hour."""
    (listed,) = re.findall(r'cause=~"([\w|]+)"', rules(PROMETHEUS)["OrdersyncNeedsAction"]["expr"])
    urgent = set(listed.split("|"))
    assert urgent <= set(Cause) | codes_of_polls()
    assert urgent >= {
        "gateway_unreachable", "login_rejected", "forbidden", "rate_limited", "redis_full", "server_error",
        "unread_logs",
    }  # fmt: skip
    for name in ("NoWorker", "RedisDown", "Failing", "NeedsAction", "GroupLate", "DeadLetters", "ClockOff"):
        assert rules(PROMETHEUS)[f"Ordersync{name}"].get("for", "0s") in {"0s", "30s", "45s"}
    of = 'account="a", resource="orders", health="degraded"'
    tests = []
    for cause, told, quiet in (
        ("login_rejected", "OrdersyncNeedsAction", "OrdersyncDegraded"),
        ("moving_list", "OrdersyncDegraded", "OrdersyncNeedsAction"),
        ("unread_logs", "OrdersyncNeedsAction", "OrdersyncStale"),
    ):
        values = {
            f"ordersync_health{{{of}}}": "1x30",
            f'ordersync_cause{{{of}, cause="{cause}"}}': "1x30",
            "ordersync_part_freshness_seconds" + OF: f"{7200 if cause == 'unread_logs' else 12}x30",
            "ordersync_build_info" + WORKER: "1x30",
        }
        checks = [firing(told, 20, fires=True), firing(quiet, 20, fires=False)]
        tests.append({"interval": "1m", "input_series": series(values), "promql_expr_test": checks})
    promtool(tmp_path, tests)


def test_what_an_alert_says(tmp_path: Path) -> None:
    """It leads to its section of the runbook, and to that of the cause, also where the cause has changed meanwhile."""
    of = 'account="a", resource="orders", health="failing"'
    values = {
        f"ordersync_health{{{of}}}": "1x9",
        f'ordersync_cause{{{of}, cause="server_error"}}': "1 1 stale",
        f'ordersync_cause{{{of}, cause="forbidden"}}': "_ _ 1 1 1 1",
        "ordersync_build_info" + WORKER: "1x9",
    }
    annotations = {
        "summary": "a/orders is failing: published data is older than it should be.",
        "runbook": "docs/operate/runbook.md#ordersyncfailing",
        "cause": "docs/operate/runbook.md#forbidden",
    }
    told = {
        "exp_labels": {"account": "a", "resource": "orders", "severity": "critical"},
        "exp_annotations": annotations,
    }
    case = {"eval_time": "5m", "alertname": "OrdersyncFailing", "exp_alerts": [told]}
    promtool(tmp_path, [{"interval": "1m", "input_series": series(values), "alert_rule_test": [case]}])


@pytest.mark.parametrize("path", [PROMETHEUS, LOKI], ids=["prometheus", "loki"])
def test_each_alert_has_a_section(path: Path) -> None:
    """A severity, a summary, and a section of the runbook."""
    titles = set(re.findall(r"^### (\w+)$", read("docs/operate/runbook.md"), re.MULTILINE))
    for name, rule in rules(path).items():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["runbook"] == f"docs/operate/runbook.md#{name.lower()}"
        assert name in titles


def test_the_alerts_ask_for_metrics_that_exist() -> None:
    """Each name of a rule is in the table of metrics."""
    names = set(METRICS) | {"ordersync_commit_seconds_bucket"}
    for rule in rules(PROMETHEUS).values():
        found = set(re.findall(r"\b(?:ordersync|process)_\w+", rule["expr"] + str(rule["annotations"])))
        assert found
        assert found <= names


def test_the_alerts_of_the_log() -> None:
    """Each event and field is in the catalogue; each query is LogQL. No Loki is at hand, so nothing is evaluated."""
    queries = []
    for rule in rules(LOKI).values():
        queries.append(rule["expr"].strip())
        for event in re.findall(r'event=~?"([\w|]+)"', rule["expr"]):
            assert set(event.split("|")) <= set(EVENTS)
        for labels in re.findall(r"by \(([\w, ]+)\)", rule["expr"]):
            assert set(labels.split(", ")) <= set(FIELDS)
        for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):
            assert re.search(rf"by \([\w, ]*\b{label}\b", rule["expr"])
    queries += [
        path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs" / "queries").glob("*.logql"))
    ]
    assert errors_of(queries) == [0] * len(queries)
    assert errors_of(['sum(count_over_time({app="x"} | json [5m])', "{app=} | json"]) != [0, 0]


def errors_of(queries: list[str]) -> list[int]:
    """Return the number of syntax errors of each LogQL query, by Grafana's own grammar."""
    modules = modules_with("@grafana/lezer-logql@0.4.2", "@lezer/lr@1.4.10", folder="lezer-logql")
    code = """
    const { parser } = require('@grafana/lezer-logql');
    const count = (text) => {
      let errors = 0;
      parser.parse(text).iterate({ enter: (node) => { errors += node.type.isError ? 1 : 0; } });
      return errors;
    };
    const queries = JSON.parse(require('fs').readFileSync(0));
    console.log(JSON.stringify(queries.map(count)));
    """
    done = subprocess.run(
        [program("node"), "-e", code], cwd=modules.parent, input=json.dumps(queries), capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    counts: list[int] = json.loads(done.stdout)
    return counts
