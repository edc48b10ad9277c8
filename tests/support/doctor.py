"""`ordersync doctor --json`, and the findings in its answer."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.support.commands import ordersync
from tests.support.programs import login_settings
from worker.sandbox import SandboxServer


def doctor(
    sandbox: SandboxServer, redis_url: str, folder: Path, *options: str, **more: str
) -> tuple[dict[str, Any], subprocess.CompletedProcess[str]]:
    settings = login_settings(sandbox, redis_url, folder, **more)
    done = ordersync("doctor", "--json", *options, cwd=folder, **settings)
    assert done.stdout, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer, done


def findings_of(answer: dict[str, Any], area: str, level: str) -> list[str]:
    return [one["text"] for one in answer["findings"] if (one["area"], one["level"]) == (area, level)]
