"""The one place where the engine itself is plugged into the benchmarks.

`command` and `environment` say how it is started; `read_summary` says how its answer is read.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

from tests.bench.rivals import Result

NAME = "engine"
STREAM = "ordersync:{default}:stream:orders"


def executable() -> str | None:
    """The `ordersync` command beside this interpreter, or on PATH."""
    beside = Path(sys.executable).parent / "ordersync"
    return str(beside) if beside.exists() else shutil.which("ordersync")


def command(program: str | None = None) -> list[str]:
    """One complete read of every enabled resource, then a JSON summary on standard output.

    Args:
        program: The `ordersync` command of another checkout.
    """
    return [program or executable() or "ordersync", "run", "--once", "--json"]


def environment(source: dict[str, str], redis_url: str, in_flight: int) -> dict[str, str]:
    """Settings of one run, against a source that needs no budget."""
    return {
        "ORDERSYNC_API__BASE_URL": source["url"],
        "ORDERSYNC_API__CLIENT_ID": source["client_id"],
        "ORDERSYNC_API__CLIENT_SECRET": source["client_secret"],
        "ORDERSYNC_API__REQUESTS_PER_SECOND": "100000",
        "ORDERSYNC_API__MAX_CONCURRENCY": str(in_flight),
        "ORDERSYNC_REDIS__URL": redis_url,
        "ORDERSYNC_POLL__INTERVALS": '{"orders": 15}',
        "ORDERSYNC_DATA_DIR": str(Path(tempfile.gettempdir()) / "ordersync-bench"),
        "ORDERSYNC_LOG__LEVEL": "warning",
    }


def read_summary(output: str, cpu_seconds: float) -> Result:
    """The summary of `ordersync run --once --json`: one run, of the one resource.

    Args:
        output: Standard output of the process.
        cpu_seconds: Of the read, as far as it is known; the engine does not tell.
    """
    (run,) = json.loads(output)
    return Result(
        records=int(run["records"]),
        published=int(run["snapshot"]) + int(run["created"]) + int(run["updated"]),
        seconds=float(run["duration_s"]),
        cpu_seconds=cpu_seconds,
    )
