"""What configured accounts cost a daemon: `python -m tests.bench.accounts --accounts 1000 --seconds 120`.

One daemon serves accounts that are read once and then are idle, at a sandbox with 30 orders. Every ten seconds: its
memory, its processor time, the commands of Redis a second, and how many accounts have been read. Memory for each
account is the last line less that of a run with `--accounts 1`. At the end: how long `ordersync status` takes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import cast

import psutil
from redis import Redis

from tests.bench.fleet import account_names, write_accounts
from tests.bench.harness import ROOT, end, redis_server
from worker.sandbox import CLIENT_ID, CLIENT_SECRET, SandboxServer

EVERY = 10.0
INTERVAL = 86_400
"""Seconds between two polls of a resource: each is read once only."""


def measure(accounts: int, seconds: float) -> None:
    """Print the figures of one daemon."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ordersync-bench-")))
        url = stack.enter_context(redis_server(aof=False))
        sandbox = stack.enter_context(SandboxServer(orders=30))
        names, listed = account_names(accounts), folder / "accounts.toml"
        write_accounts(listed, names, every=INTERVAL, client_id=CLIENT_ID, client_secret=CLIENT_SECRET)
        settings = {
            "ORDERSYNC_ACCOUNTS_FILE": str(listed),
            "ORDERSYNC_API__BASE_URL": sandbox.url,
            "ORDERSYNC_REDIS__URL": url,
            "ORDERSYNC_DATA_DIR": str(folder),
            "ORDERSYNC_RECONCILE__EVERY": "0",
            "ORDERSYNC_SECRET_KEY": os.urandom(32).hex(),
            "ORDERSYNC_LOG__LEVEL": "error",
        }
        environment = {**os.environ, **settings}
        command = [sys.executable, "-m", "worker.cli"]
        daemon = subprocess.Popen(
            [*command, "run"], cwd=ROOT, env=environment, text=True, stderr=subprocess.DEVNULL
        )
        stack.callback(end, daemon)
        process, client = psutil.Process(daemon.pid), stack.enter_context(Redis.from_url(url))
        began, sample = time.monotonic(), names[:: max(1, accounts // 200)]
        while time.monotonic() - began < seconds and daemon.poll() is None:
            before = _commands(client)
            time.sleep(EVERY)
            read = sum(bool(client.exists(f"ordersync:{{{name}}}:stream:orders")) for name in sample)
            print(
                f"{time.monotonic() - began:5.0f} s  {process.memory_info().rss / 1e6:6.1f} MB  "
                f"{sum(process.cpu_times()[:2]):6.1f} s CPU  {(_commands(client) - before) / EVERY:6.0f} commands/s  "
                f"{read / len(sample):4.0%} read",
                flush=True,
            )
        began = time.monotonic()
        subprocess.run(
            [*command, "status"], cwd=ROOT, env=environment, check=False, stdout=subprocess.DEVNULL
        )
        print(f"ordersync status: {time.monotonic() - began:.1f} s")


def _commands(client: Redis) -> int:
    return cast("dict[str, int]", client.info("stats"))["total_commands_processed"]


def main() -> None:
    """Measure with the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=120)
    arguments = parser.parse_args()
    measure(arguments.accounts, arguments.seconds)


if __name__ == "__main__":
    main()
