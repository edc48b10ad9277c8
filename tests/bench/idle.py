"""What a daemon costs while nothing changes: `python -m tests.bench.idle --settle 60 --seconds 90`.

One account with all resources and audit logs at their usual intervals, at a sandbox that does not change. Prints the
commands of Redis a second, those within scripts included, and CPU and memory of the daemon.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, cast

import psutil
from redis import Redis

from tests.bench.harness import ROOT, end, redis_server
from worker.sandbox import CLIENT_ID, CLIENT_SECRET, SandboxServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def daemon(sandbox: SandboxServer, redis_url: str) -> Iterator[psutil.Process]:
    """`ordersync run` with the preset `all`."""
    with tempfile.TemporaryDirectory(prefix="ordersync-bench-") as folder:
        settings = {
            "ORDERSYNC_API__BASE_URL": sandbox.url,
            "ORDERSYNC_API__CLIENT_ID": CLIENT_ID,
            "ORDERSYNC_API__CLIENT_SECRET": CLIENT_SECRET,
            "ORDERSYNC_REDIS__URL": redis_url,
            "ORDERSYNC_DATA_DIR": folder,
            "ORDERSYNC_POLL__PRESET": "all",
            "ORDERSYNC_LOG__LEVEL": "error",
        }
        command = [sys.executable, "-m", "worker.cli", "run"]
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **settings}, stdout=subprocess.DEVNULL, text=True
        )
        try:
            yield psutil.Process(process.pid)
        finally:
            end(process)


def commands(client: Redis) -> Counter[str]:
    """Commands of the server so far, by name."""
    info = cast("dict[str, Any]", client.info("commandstats"))
    return Counter({name.removeprefix("cmdstat_"): int(row["calls"]) for name, row in info.items()})


def main() -> int:
    """Measure with the arguments of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.idle", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--settle", type=float, default=60, help="seconds before")
    parser.add_argument("--seconds", type=float, default=90)
    given = parser.parse_args()
    with (
        redis_server(aof=True) as url,
        SandboxServer(orders=50) as sandbox,
        daemon(sandbox, url) as process,
        Redis.from_url(url) as client,
    ):
        time.sleep(given.settle)
        before, cpu = commands(client), sum(process.cpu_times()[:2])
        time.sleep(given.seconds)
        sent = commands(client) - before
        cpu = (sum(process.cpu_times()[:2]) - cpu) / given.seconds
        names = ", ".join(f"{name} {calls / given.seconds:.1f}" for name, calls in sent.most_common(10))
        print(f"commands of Redis    {sent.total() / given.seconds:.1f}/s: {names}")
        print(f"daemon               {cpu:.1%} of a core, {process.memory_info().rss / 1e6:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
