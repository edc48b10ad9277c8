"""The Grafana dashboard and the alerts, tried on what a real Prometheus scrapes from a real daemon."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.paths import ROOT
from tests.support.programs import Program, login_settings
from tests.support.servers import free_port
from tests.support.tools import program
from tests.support.waiting import PATIENCE, eventually
from worker.contracts.dashboard import dashboard
from worker.sandbox import FaultRule, SandboxServer
from worker.telemetry.catalog.metrics import METRICS

pytestmark = pytest.mark.anyio

VARIABLES = {"$__rate_interval": "30s", "$job": ".*", "$account": ".*", "$resource": ".*"}
EMPTY = {
    "ordersync_capability_withdrawn", "ordersync_part_freshness_seconds",
    "ordersync_proven_until_timestamp_seconds", "ordersync_resync_progress_ratio",
}  # fmt: skip
"""Metrics that a worker does not have without a resync and a withdrawn filter, with full scans alone, unproven."""


def queries() -> dict[str, str]:
    """Return the query of each panel with values for its variables, by title."""
    found = {}
    for panel in json.loads(dashboard())["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"]
            for name, value in VARIABLES.items():
                query = query.replace(name, value)
            found[panel["title"]] = query
    return found


def test_the_dashboard_shows_each_metric() -> None:
    """It is up to date, and each metric of the table has a panel of its own; no two panels have one place."""
    assert (ROOT / "deploy" / "grafana" / "dashboard.json").read_text(encoding="utf-8") == dashboard()
    assert {name.removeprefix("ordersync_") for name in METRICS} <= set(queries())
    panels = json.loads(dashboard())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)


async def test_each_query_finds_something(sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> None:
    """Each query of the dashboard has an answer, and no rule of the alerts has an error."""
    port, own = free_port(), free_port()
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "scrape.yaml").read_text(encoding="utf-8"))
    (job,) = config["scrape_configs"]
    job |= {"scrape_interval": "2s", "scrape_timeout": "2s"}  # what a busy machine takes for an answer
    job["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
    rules = ROOT / "deploy" / "prometheus" / "alerts.yaml"
    names = [rule["alert"] for rule in yaml.safe_load(rules.read_text())["groups"][0]["rules"]]
    config |= {"global": {"evaluation_interval": "1s"}, "rule_files": [str(rules)]}
    file = tmp_path / "prometheus.yaml"
    file.write_text(json.dumps(config))
    command = (
        program("prometheus"), f"--config.file={file}", f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{own}", "--log.level=error",
    )  # fmt: skip
    limited = FaultRule("status", operation="orders.search", code=429, retry_after=0, times=1)
    settings = login_settings(sandbox, redis_url, tmp_path / "worker", metrics__port=str(port))
    settings |= {"events__groups": '{"warehouse": ["orders"]}'}
    with Program(tmp_path, **settings) as worker, Program(tmp_path, *command):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{own}/api/v1", timeout=PATIENCE) as http:
            await worker.logged("poll_done")
            sandbox.faults.replace((limited, FaultRule("garbage", operation="orders.search")))
            left = queries()
            for name in EMPTY:
                left.pop(name.removeprefix("ordersync_"))

            async def answered() -> bool:
                for title, query in tuple(left.items()):
                    if (await ask(http, query))["result"]:
                        left.pop(title)
                return not left

            await eventually(answered, PATIENCE)
            for name in EMPTY:
                await ask(http, queries()[name.removeprefix("ordersync_")])
            groups = (await http.get("/rules")).json()["data"]["groups"]
            evaluated = [rule for group in groups for rule in group["rules"]]
            assert [rule["name"] for rule in evaluated] == names
            assert {rule["health"] for rule in evaluated} == {"ok"}


async def ask(http: httpx.AsyncClient, query: str) -> dict[str, Any]:
    """Return the answer to a query."""
    try:
        answer = (await http.get("/query", params={"query": query})).json()
    except httpx.ConnectError:
        return {"result": []}
    assert answer["status"] == "success", answer
    data: dict[str, Any] = answer["data"]
    return data
