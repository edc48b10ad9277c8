"""A Prometheus of Debian that scrapes a daemon and evaluates the alerts that come with the program."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Self

import httpx

from tests.support.paths import ROOT
from tests.support.servers import free_port
from tests.support.tools import program
from tests.support.waiting import PATIENCE, wait_for

RULES = ROOT / "deploy" / "prometheus" / "alerts.yaml"


class Prometheus:
    """Scrapes a port of loopback every two seconds, and evaluates the rules each second; a context manager.

    The rules are those of `deploy/prometheus`, unchanged. An alert is `pending` while its expression is true, and
    `firing` once it has been so for the time that the rule says (`for`).
    """

    def __init__(self, folder: Path, target: int) -> None:
        self._folder, self._target, self._port = folder, target, free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        folder = self._folder / "prometheus"
        folder.mkdir()
        config = folder / "prometheus.yml"
        target = {"targets": [f"127.0.0.1:{self._target}"]}
        config.write_text(
            json.dumps(
                {
                    "global": {
                        "scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "1s",
                    },
                    "rule_files": [str(RULES)],
                    "scrape_configs": [{"job_name": "ordersync", "static_configs": [target]}],
                }
            )
        )  # fmt: skip
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    program("prometheus"),
                    *(f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"),
                    f"--web.listen-address=127.0.0.1:{self._port}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_for(lambda: self.alerts() is not None)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE)

    def alerts(self) -> list[dict[str, Any]] | None:
        """Return the alerts that are pending or firing; None if it does not answer."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self._port}/api/v1/alerts", timeout=5, trust_env=False)
        except httpx.HTTPError:
            return None
        return list(answer.json()["data"]["alerts"]) if answer.is_success else None
