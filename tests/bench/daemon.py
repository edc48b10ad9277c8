"""What the daemon costs and how quick it is, beyond a full read: `python -m tests.bench.daemon`.

- change to event, beyond the polling interval: from the moment at which the next poll was due to the entry
  in the stream; by the clocks of one machine.
- CPU and memory of the daemon while nothing changes, polling every 15 s.
- start to first request, and `--help`.
- Redis memory for the state of one tracked record.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from statistics import median, quantiles
from typing import TYPE_CHECKING, cast

import httpx
import psutil
from redis import Redis

from tests.bench import engine
from tests.bench.harness import ROOT, Setup, end, page_source, redis_server, sampled

if TYPE_CHECKING:
    from collections.abc import Iterator

STREAM, CURSOR, SEEN = engine.STREAM, "ordersync:{default}:cursor:orders", "ordersync:{default}:seen:orders:*"
ENTRY_DEADLINE = 10.0


@contextlib.contextmanager
def daemon(source: dict[str, str], redis_url: str, interval: float) -> Iterator[psutil.Process]:
    """`ordersync run` against a source, ended by SIGTERM."""
    with tempfile.TemporaryDirectory(prefix="ordersync-bench-") as folder:
        settings = {
            **engine.environment(source, redis_url, 4),
            "ORDERSYNC_POLL__INTERVALS": json.dumps({"orders": interval}),
            "ORDERSYNC_DATA_DIR": folder,
        }
        command = [engine.executable() or "ordersync", "run"]
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **settings}, stdout=subprocess.DEVNULL, text=True
        )
        try:
            yield psutil.Process(process.pid)
            process.send_signal(signal.SIGTERM)
            process.wait(10)
        finally:
            end(process)


def wait_for(client: Redis, entries: int) -> float:
    """Seconds until the stream has that many entries."""
    began = time.monotonic()
    while cast("int", client.xlen(STREAM)) < entries:
        if time.monotonic() - began > ENTRY_DEADLINE:
            raise TimeoutError(f"not {entries} entries within {ENTRY_DEADLINE:.0f} s")
        time.sleep(0.005)
    return time.monotonic() - began


def due_at(client: Redis) -> float:
    """When the next poll is due, in seconds since 1970."""
    (value,) = cast("list[bytes | None]", client.hmget(CURSOR, ["due_at"]))
    return float(value or 0)


def last_entry_ms(client: Redis) -> float:
    """When the last event was written, in milliseconds since 1970."""
    entries = cast("list[tuple[bytes, object]]", client.xrevrange(STREAM, count=1))
    return float(entries[0][0].split(b"-")[0])


def latencies(samples: int) -> list[float]:
    """Milliseconds from the poll that was due to the event of a change made before it, `samples` times."""
    found: list[float] = []
    setup = Setup(orders=99)
    with redis_server(aof=True) as url, page_source(setup) as source, daemon(source, url, 1.0):
        client = Redis.from_url(url)
        wait_for(client, setup.orders)
        while not client.hget(CURSOR, "last_success"):
            time.sleep(0.01)
        for number in range(1, samples + 1):
            time.sleep(random.uniform(0, 1))
            due = due_at(client)
            if due - time.time() < 0.05:  # the poll may be under way already
                time.sleep(0.3)
                due = due_at(client)
            httpx.post(f"{source['url']}/_change?n=1").raise_for_status()
            wait_for(client, setup.orders + number)
            found.append(last_entry_ms(client) - due * 1000)
        client.close()
    return found


def idle(seconds: float) -> tuple[float, float]:
    """Share of one core, and resident bytes, of a daemon that polls one quiet page every 15 s."""
    with (
        redis_server(aof=True) as url,
        page_source(Setup(orders=99)) as source,
        daemon(source, url, 15.0) as process,
        Redis.from_url(url) as client,
    ):
        wait_for(client, 99)
        time.sleep(1)
        before = process.cpu_times()
        time.sleep(seconds)
        after = process.cpu_times()
        cpu = after.user + after.system - before.user - before.system
        return cpu / seconds, float(process.memory_info().rss)


def state_bytes(orders: int) -> float:
    """Redis memory for the state of one record, keys of the hashes included."""
    with (
        redis_server(aof=False) as url,
        page_source(Setup(orders=orders)) as source,
        tempfile.TemporaryDirectory() as folder,  # one that knows of earlier runs lets the numbers begin above theirs
    ):
        sampled(engine.command(), engine.environment(source, url, 4) | {"ORDERSYNC_DATA_DIR": folder})
        with Redis.from_url(url) as client:
            total = sum(
                client.memory_usage(key, samples=0) or 0 for key in client.scan_iter(SEEN, count=1000)
            )
    return total / orders


def help_seconds() -> float:
    """Wall time of `ordersync --help`."""
    return median(sampled([engine.executable() or "ordersync", "--help"], {})[1] for _ in range(5))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.daemon", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument("--idle-seconds", type=float, default=30)
    parser.add_argument("--orders", type=int, default=50_000)
    given = parser.parse_args()
    found = latencies(given.samples)
    percentiles = quantiles(found, n=100)
    print(f"change to event beyond the interval  p50 {median(found):.0f} ms, p99 {percentiles[98]:.0f} ms")
    cpu, resident = idle(given.idle_seconds)
    print(f"idle daemon                          {cpu:.1%} of a core, {resident / 1e6:.0f} MB")
    print(f"state of one tracked record          {state_bytes(given.orders):.0f} bytes of Redis memory")
    print(f"ordersync --help                     {help_seconds() * 1000:.0f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
