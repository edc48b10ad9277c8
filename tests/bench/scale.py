"""How many accounts a few processes can serve: `python -m tests.bench.scale --accounts 500 --minutes 3 --processes 2`.

Every account polls orders, shipments and their audit logs once a minute from one sandbox, which does not change. The
figures are those that a platform cares about: the age of the last success of each resource, commands of Redis, CPU and
memory of the workers, what they logged as errors, and how soon the first order of an account is published that is added
while the others are in their first scan. The commands that this program sends to sample them are taken off.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, cast

from redis import Redis

from tests.bench import engine
from tests.bench.fleet import (
    INTERVAL,
    RESOURCES,
    Setup,
    account_names,
    complaints,
    environment,
    gateway,
    workers,
)
from tests.bench.harness import redis_server

if TYPE_CHECKING:
    import psutil

SAMPLE_SECONDS = 5.0
MONITORED_SECONDS = 20.0
"""For so long MONITOR tells which commands were sent, and which ones scripts called."""
COLD_SECONDS = 1800.0
"""Longest wait for the first success of every resource."""
FRESH_AFTER, FRESH_SECONDS = 2.0, 120.0
"""The further account is added so many seconds after the first request, and waited for so long at most."""


@dataclass(slots=True)
class Figures:
    """What was measured.

    Attributes:
        first_request: Seconds from the start of the workers to the first request.
        first_success: Seconds until the first resource had a success, and until half, 99 % and all of them had.
        cold_requests: Requests until then.
        fresh: Seconds from the command that adds an account during the start to its first order in the stream.
        fresh_requests: Requests of all accounts in that time.
        fresh_steps: Seconds from that command until a worker has taken the account up, and until its first scan began.
        ages: Ages of the last success of each resource, in seconds, sampled every 5 s in the minutes that follow.
        seconds: Length of that time.
        commands: Commands of Redis in that time, by name, with those that scripts called.
        sent: Commands that the workers sent in each second after it.
        requests: Requests in that time.
        cpu: Seconds of CPU of each worker in that time.
        redis_cpu: Seconds of CPU of Redis in that time.
        resident: Bytes of each worker at its end.
        redis_bytes: Bytes of Redis at its end.
        logged: Warnings and errors of the workers, by event.

    """

    first_request: float = 0.0
    first_success: dict[str, float] = field(default_factory=dict)
    cold_requests: int = 0
    fresh: float = float("nan")
    fresh_requests: int = 0
    fresh_steps: dict[str, float] = field(default_factory=dict)
    ages: list[float] = field(default_factory=list)
    seconds: float = 0.0
    commands: Counter[str] = field(default_factory=Counter)
    sent: float = 0.0
    requests: int = 0
    cpu: list[float] = field(default_factory=list)
    redis_cpu: float = 0.0
    resident: list[int] = field(default_factory=list)
    redis_bytes: int = 0
    logged: Counter[str] = field(default_factory=Counter)


class Observer:
    """Samples the cursors, and counts the commands that this takes."""

    def __init__(self, client: Redis, setup: Setup) -> None:
        self._client = client
        self.keys = [
            f"ordersync:{{{account}}}:cursor:{name}"
            for account in account_names(setup.accounts)
            for name in RESOURCES
        ]
        self._sent = 0

    def successes(self) -> list[float | None]:
        """When each resource succeeded last, in seconds since 1970."""
        found: list[float | None] = []
        for at in range(0, len(self.keys), 1000):
            with self._client.pipeline(transaction=False) as pipe:
                for key in self.keys[at : at + 1000]:
                    pipe.hget(key, "last_success")
                found += [float(value) if value else None for value in pipe.execute()]
        self._sent += len(self.keys)
        return found

    def commands(self) -> Counter[str]:
        """Commands of the server so far, by name, without those of this observer and of this call."""
        info = cast("dict[str, Any]", self._client.info("commandstats"))
        found = Counter({name.removeprefix("cmdstat_"): int(row["calls"]) for name, row in info.items()})
        found["hget"] -= self._sent
        return found

    def cpu(self) -> float:
        """Seconds of CPU that the server has taken."""
        info = cast("dict[str, Any]", self._client.info("cpu"))
        return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])

    def sent(self) -> float:
        """Commands that all others send in a second."""
        count, took, began = 0, 0.0, time.monotonic()
        with cast("Any", self._client).monitor() as monitor:
            while took < MONITORED_SECONDS:
                count += monitor.next_command()["client_type"] != "lua"
                took = time.monotonic() - began
        return count / took

    def memory(self) -> int:
        """Bytes that the server uses."""
        return int(cast("dict[str, Any]", self._client.info("memory"))["used_memory"])


def requests_of(gateway: dict[str, str]) -> int:
    """Requests that the sandbox has answered."""
    import httpx  # noqa: PLC0415 - in the parent only

    counts = httpx.get(f"{gateway['url']}/_sandbox/stats", timeout=30).json()["requests"]
    return sum(sum(of.values()) for of in counts.values())


def measure(setup: Setup) -> Figures:
    """Start everything, wait for the first success of every resource, and watch the polls of some minutes."""
    figures = Figures()
    with (
        tempfile.TemporaryDirectory(prefix="ordersync-scale-") as name,
        redis_server(aof=True) as url,
        gateway(setup) as source,
        Redis.from_url(url) as client,
    ):
        folder, observer = Path(name), Observer(client, setup)
        with workers(setup, url, source, folder) as processes:
            adding = FreshAccount(environment(url, source, folder), source, client, figures)
            _watch_start(figures, setup, observer, source, adding)
            time.sleep(setup.settle)
            _watch_polls(figures, setup, observer, source, processes)
        figures.redis_bytes = observer.memory()
        for log in folder.glob("worker-*.log"):
            lines = log.read_text().splitlines()
            figures.logged.update(complaints(lines))
            adding.note_taken_up(lines)
    return figures


class FreshAccount:
    """An account that is added during the start."""

    def __init__(
        self, settings: dict[str, str], gateway: dict[str, str], client: Redis, figures: Figures
    ) -> None:
        self._settings, self._gateway, self._client, self._figures = settings, gateway, client, figures
        self._thread = threading.Thread(target=self._add)
        self._added_at = float("nan")

    def add_once(self) -> None:
        """Add it, if that was not done."""
        if self._thread.ident is None:
            self._thread.start()

    def wait(self) -> None:
        """Wait until its first order is there."""
        self.add_once()
        self._thread.join()

    def _add(self) -> None:
        command = [engine.executable() or "ordersync", "accounts", "add", "fresh"]
        command += ["--client-id", self._gateway["client_id"], "--client-secret-file", "-"]
        done = subprocess.run(
            command, env=self._settings, input=self._gateway["client_secret"], text=True,
            capture_output=True, check=False,
        )  # fmt: skip
        self._added_at, requests = time.time(), requests_of(self._gateway)
        if done.returncode:
            raise RuntimeError(done.stderr)
        while time.time() - self._added_at < FRESH_SECONDS:
            if entries := cast("list[Any]", self._client.xrange("ordersync:{fresh}:stream:orders", count=1)):
                self._figures.fresh = int(entries[0][0].partition(b"-")[0]) / 1000 - self._added_at
                self._figures.fresh_requests = requests_of(self._gateway) - requests
                began = cast("Any", self._client.hget("ordersync:{fresh}:cursor:orders", "last_started"))
                self._figures.fresh_steps["its first scan began"] = float(began) - self._added_at
                return
            time.sleep(0.02)

    def note_taken_up(self, lines: list[str]) -> None:
        """Note when a worker has taken it up, by what it has logged."""
        for line in lines:
            if '"accounts_changed"' in line and "fresh" in (entry := json.loads(line)).get("added", ()):
                took = datetime.fromisoformat(entry["timestamp"]).timestamp() - self._added_at
                steps = self._figures.fresh_steps
                steps["taken up"] = min(took, steps.get("taken up", took))


def _watch_start(
    figures: Figures, setup: Setup, observer: Observer, source: dict[str, str], adding: FreshAccount
) -> None:
    began, shares = time.monotonic(), {"first": 0.0, "half": 0.5, "99 %": 0.99, "all": 1.0}
    while shares:
        took = time.monotonic() - began
        if took > COLD_SECONDS:
            return
        if not figures.first_request and requests_of(source):
            figures.first_request = took
        if figures.first_request and took > figures.first_request + FRESH_AFTER:
            adding.add_once()
        times = observer.successes()
        have = sum(value is not None for value in times) / len(times)
        for share in [share for share, needed in shares.items() if have and have >= needed]:
            figures.first_success[share] = took
            del shares[share]
        time.sleep(0.1 if setup.accounts < 200 else 0.5)
    figures.cold_requests = requests_of(source)
    adding.wait()


def _watch_polls(
    figures: Figures,
    setup: Setup,
    observer: Observer,
    source: dict[str, str],
    processes: list[psutil.Process],
) -> None:
    began, requests, commands = time.monotonic(), requests_of(source), observer.commands()
    before, redis_before = [_cpu(process) for process in processes], observer.cpu()
    while time.monotonic() - began < setup.minutes * 60:
        time.sleep(SAMPLE_SECONDS)
        now = time.time()
        figures.ages += [now - value if value else now - began for value in observer.successes()]
    figures.seconds = time.monotonic() - began
    figures.commands = observer.commands() - commands
    figures.requests = requests_of(source) - requests
    figures.cpu = [_cpu(process) - then for process, then in zip(processes, before, strict=True)]
    figures.redis_cpu = observer.cpu() - redis_before
    figures.resident = [process.memory_info().rss for process in processes]
    figures.sent = observer.sent()


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def render(figures: Figures, setup: Setup) -> str:
    """The figures as lines of text."""
    due = setup.accounts * len(RESOURCES) / INTERVAL
    cuts = quantiles(figures.ages, n=100) if len(figures.ages) > 1 else [0.0] * 99
    rate = figures.commands.total() / figures.seconds
    many = f"{setup.accounts} accounts x {len(RESOURCES)} resources once a minute"
    shares = ", ".join(f"{share} {took:.1f} s" for share, took in figures.first_success.items())
    often = [f"{name} {count / figures.seconds:.0f}" for name, count in figures.commands.most_common(8)]
    rows = {
        "": f"{many}, {setup.processes} processes, {setup.orders} orders each",
        "first request": f"{figures.first_request:.1f} s after the start",
        "first success": f"{shares}; {figures.cold_requests:,} requests",
        "account added meanwhile": f"first order after {figures.fresh:.1f} s, {figures.fresh_requests} requests of all"
        + "".join(f", {step} after {took:.1f} s" for step, took in figures.fresh_steps.items()),
        "age of the last success": f"p50 {median(figures.ages):.0f} s, p99 {cuts[98]:.0f} s, "
        f"most {max(figures.ages):.0f} s, over {figures.seconds:.0f} s",
        "commands of Redis": f"{rate:,.0f}/s, of scripts too, for {due:.1f} polls due a second: "
        f"{(rate - 50 * setup.processes) / due:.1f} for each, beyond 50/s for each process",
        "of them, each second": ", ".join(often),
        "sent by the workers": f"{figures.sent:,.0f}/s: {(figures.sent - 50 * setup.processes) / due:.1f} for each, "
        "beyond 50/s for each process",
        "requests": f"{figures.requests / figures.seconds:.1f}/s",
        "CPU of the workers": ", ".join(f"{cpu / figures.seconds:.1%} of a core" for cpu in figures.cpu)
        + f": {sum(figures.cpu) / figures.seconds / due * 1000:.1f} ms for each due poll",
        "CPU of Redis": f"{figures.redis_cpu / figures.seconds:.1%} of a core",
        "memory of the workers": ", ".join(f"{rss / 1e6:.0f} MB" for rss in figures.resident),
        "memory of Redis": f"{figures.redis_bytes / 1e6:.0f} MB, "
        f"{figures.redis_bytes / setup.accounts / 1e3:.1f} kB an account",
        "warnings and errors": ", ".join(f"{event} {count}" for event, count in figures.logged.most_common())
        or "none",
    }
    lines = [f"{name:<25}{value}".strip() for name, value in rows.items()]
    return "\n".join(lines)


def main() -> int:
    default = Setup()
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.scale", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--accounts", type=int, default=default.accounts)
    parser.add_argument("--orders", type=int, default=default.orders, help="orders of each account")
    parser.add_argument("--processes", type=int, default=default.processes)
    parser.add_argument("--minutes", type=float, default=default.minutes, help="after the cold start")
    parser.add_argument("--settle", type=float, default=default.settle, help="seconds between the two")
    parser.add_argument(
        "--reconcile", type=float, default=default.reconcile, help="seconds between two passes; 0: none"
    )
    setup = Setup(**vars(parser.parse_args()))
    print(render(measure(setup), setup))
    return 0


if __name__ == "__main__":
    sys.exit(main())
