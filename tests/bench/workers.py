"""What further worker processes bring: `python -m tests.bench.workers --processes 1,2,4`.

The same backlog, the first full scans of the lists of some accounts, is read by 1, 2 and 4 processes, each time from
nothing. The gateway answers each request after a while, and each process has few places for scans
(`ORDERSYNC_CONCURRENCY__SCANS`), so that these are the limit, and not the cores of this machine. The contract of the
gateway is probed for one account before: the others would only wait for that. With `--kill`, one of the processes is
killed (SIGKILL) when half of the backlog is read.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from redis import Redis

from tests.bench.fleet import Setup, complaints, gateway, workers
from tests.bench.harness import redis_server
from tests.bench.scale import COLD_SECONDS, Observer, requests_of

if TYPE_CHECKING:
    import psutil

LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Backlog:
    """What it took to read it.

    Attributes:
        lists: How many.
        seconds: From the first request to the end of the last first scan.
        rate: First scans a second in the middle half of them: then all processes are at work.
        requests: Requests in that time.
        cpu: Seconds of CPU of the workers that were not killed, from their start.
        gap: Longest time in which no first scan has ended.
        logged: Warnings and errors of the workers, by event.

    """

    lists: int
    seconds: float
    rate: float
    requests: int
    cpu: float
    gap: float
    logged: Counter[str]


def read(setup: Setup, latency: float, *, kill: bool) -> Backlog:
    """Let so many processes read the backlog."""
    with (
        tempfile.TemporaryDirectory(prefix="ordersync-workers-") as name,
        redis_server(aof=True) as url,
        gateway(setup, "--contract", f"latency={latency}") as source,
        Redis.from_url(url) as client,
    ):
        first, folder = replace(setup, accounts=1, processes=1), Path(name)
        with workers(first, url, source, _made(folder / "first")):
            _follow(client, first, source, 0)
        logs = _made(folder / "all")
        with workers(setup, url, source, logs) as processes:
            before = requests_of(source)
            times = _follow(client, setup, source, before, processes if kill else ())
            cpu = sum(sum(process.cpu_times()[:2]) for process in processes)
            requests = requests_of(source) - before
        logged = Counter[str]()
        for log in logs.glob("worker-*.log"):
            logged.update(complaints(log.read_text().splitlines()))
    quarter = max(1, len(times) // 4)
    rate = (len(times) - 2 * quarter) / max(LOOK_SECONDS, times[-1 - quarter] - times[quarter - 1])
    gap = max(after - then for then, after in zip([0.0, *times], times, strict=False))
    return Backlog(len(times), times[-1], rate, requests, cpu, gap, logged)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _follow(
    client: Redis,
    setup: Setup,
    source: dict[str, str],
    before: int,
    victims: list[psutil.Process] | tuple[()] = (),
) -> list[float]:
    """Wait for the first success of all lists; return the seconds from the first request to each of them.

    The audit logs of the past are not wanted, so theirs are no work.

    Args:
        client: A client of Redis.
        setup: What is simulated.
        source: The gateway.
        before: Requests that it had before.
        victims: Workers of which one is killed when half of the lists have a success.

    """
    observer = Observer(client, setup)
    observer.keys = [key for key in observer.keys if not key.endswith("_audit")]
    found, times = _successes(observer), list[float]()
    while requests_of(source) <= before:
        time.sleep(0.05)
    began, total = time.monotonic(), len(observer.keys) - found
    while len(times) < total:
        time.sleep(LOOK_SECONDS)
        have, took = _successes(observer) - found, time.monotonic() - began
        times += [took] * (have - len(times))
        if victims and have >= total / 2:
            victims.pop().kill()
            victims = ()
        if took > COLD_SECONDS:
            raise RuntimeError(f"{total - have} of {total} lists without a success")
    return times


def _successes(observer: Observer) -> int:
    return sum(value is not None for value in observer.successes())


def main() -> int:
    """Compare the numbers of processes."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.workers", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--processes", default="1,2,4", help="numbers of processes to compare")
    parser.add_argument("--accounts", type=int, default=48)
    parser.add_argument("--orders", type=int, default=300, help="orders of each account")
    parser.add_argument(
        "--latency", type=float, default=1.0, help="seconds until the gateway answers a request"
    )
    parser.add_argument("--places", type=int, default=4, help="scans at the same time in a process")
    parser.add_argument(
        "--kill", action="store_true", help="kill one process when half of the backlog is read"
    )
    given = parser.parse_args()
    os.environ["ORDERSYNC_CONCURRENCY__SCANS"] = str(given.places)
    setup = Setup(accounts=given.accounts, orders=given.orders, reconcile=0.0)
    print(
        f"{given.accounts} accounts with {given.orders} orders and their shipments, {given.latency:g} s a request, "
        f"{given.places} places for scans in each process"
    )
    alone = 0.0
    for count in map(int, given.processes.split(",")):
        found = read(replace(setup, processes=count), given.latency, kill=given.kill and count > 1)
        alone = alone or found.rate
        print(
            f"{count} processes: {found.lists} first scans in {found.seconds:.1f} s, {found.rate:.2f}/s "
            f"in the middle half ({found.rate / alone:.2f} times), {found.requests:,} requests, "
            f"{found.cpu:.1f} s of CPU, longest gap {found.gap:.1f} s, logged: {dict(found.logged) or 'nothing'}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
