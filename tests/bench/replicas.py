"""What it costs to wait for a replica: python -m tests.bench.replicas [--commits N].

A script that adds 10 events of 2,500 bytes is sent as commits are, in turn without and with waiting for a replica, to
the master that three sentinels name. All of them run on this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time

from ordersync_consumer import connect
from tests.support.sentinels import Sentinels
from worker.capture.state.replicas import run_confirmed
from worker.config.sections import Replicas

EVENTS, SIZE = 10, 2500
_SCRIPT = "for at = 1, tonumber(ARGV[2]) do redis.call('XADD', KEYS[1], '*', 'data', ARGV[1]) end return 'ok'"


async def measure(url: str, commits: int) -> dict[int, list[float]]:
    """Return the seconds of each commit, without and with waiting."""
    took: dict[int, list[float]] = {0: [], 1: []}
    client = connect(url)
    script = client.register_script(_SCRIPT)
    for _ in range(commits):
        for count, seconds in took.items():
            began = time.perf_counter()
            await run_confirmed(client, script, ["{a}:stream"], [b"x" * SIZE, EVENTS], Replicas(count, 5.0))
            seconds.append(time.perf_counter() - began)
    await client.aclose()
    return took


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commits", type=int, default=2000)
    words = parser.parse_args()
    with Sentinels() as sentinels:
        took = asyncio.run(measure(sentinels.url, words.commits))
    for count, seconds in took.items():
        middle, late = statistics.median(seconds), statistics.quantiles(seconds, n=20)[-1]
        print(f"{count} replicas: {middle * 1000:.2f} ms for a commit, 95 % within {late * 1000:.2f} ms")


if __name__ == "__main__":
    main()
