"""Runs contenders beside each other on the same source and server, and keeps what each run took.

Every contender runs in a process of its own. Rounds are interleaved, so that whatever else the machine does falls on
all of them alike; only ratios inside one run mean anything. The CPU for each record moves much less than the rate when
the machine is busy.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING

from redis import Redis

from tests.bench import engine, peers
from tests.bench.harness import ROOT, Setup, cpu_of, page_source, redis_server, sampled
from tests.bench.rivals import STREAM, Result
from worker.config.compiled import COMPILED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

STARTS = 3
"""Runs over one page, whose median CPU is taken for the cost of a start."""
ONE_PAGE = 100


@dataclass(frozen=True, slots=True)
class Contender:
    """Somebody who reads the source.

    Attributes:
        name: As in the table.
        command: From setup, source, Redis URL and mode (`first` or `unchanged`) to a command line.
        stream: Key of the stream that it writes; "" if it does not write into the server.
        environment: Settings beyond the inherited ones.
        read: From standard output, wall seconds, and CPU seconds without the start, to a result.
        tells_cpu: Whether it says itself what CPU the read has taken. Otherwise that of the start is measured.
        concurrent: Whether it keeps more than one request in flight.
        prepare: Makes what it needs; raises RuntimeError.
        what: What it is, if the page of the documentation does not say so.
    """

    name: str
    command: Callable[[Setup, dict[str, str], str, str], list[str]]
    stream: str = STREAM
    environment: Callable[[Setup, dict[str, str], str], dict[str, str]] = lambda *_: {}
    read: Callable[[str, float, float], Result] = lambda output, *_: Result(**json.loads(output))
    tells_cpu: bool = True
    concurrent: bool = True
    prepare: Callable[[], None] = lambda: None
    what: str = ""

    @property
    def modes(self) -> tuple[str, ...]:
        """What it reads. Without the server there is nothing in which it could see that nothing has changed."""
        return ("first", "unchanged") if self.stream else ("first",)


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of one contender.

    Attributes:
        result: What it says of itself.
        peak_rss: Largest resident size of its process that was sampled, bytes.
        start_seconds: Wall time of the process beyond the read.
        entry_bytes: Server memory taken for each record, stream entry and state together.
        worker: CPU microseconds of its process for each record, without its start.
        server: Those of the server.
        source: Those of the source.
    """

    result: Result
    peak_rss: int
    start_seconds: float
    entry_bytes: float
    worker: float
    server: float
    source: float

    @property
    def total(self) -> float:
        """CPU microseconds of all three processes for each record."""
        return self.worker + self.server + self.source


Runs = defaultdict[str, list[Measured]]


@dataclass(slots=True)
class Table:
    """All runs with one setup, by mode and contender."""

    setup: Setup
    contenders: dict[str, Contender]
    runs: dict[str, Runs] = field(
        default_factory=lambda: {mode: defaultdict(list) for mode in ("first", "unchanged")}
    )
    failures: dict[str, str] = field(default_factory=dict)
    load: list[float] = field(default_factory=list)
    """The load of the machine, over a minute, after each round."""


def rival(name: str, *, concurrent: bool = True) -> Contender:
    def command(setup: Setup, source: dict[str, str], redis_url: str, mode: str) -> list[str]:
        module = [sys.executable, "-m", f"tests.bench.rivals.{name}", source["url"], redis_url]
        return [*module, "--mode", mode, "--in-flight", str(setup.in_flight)]

    return Contender(name=name, command=command, concurrent=concurrent)


def peer(given: peers.Peer) -> Contender:
    return Contender(
        name=given.name,
        command=lambda _setup, source, *_: [
            *(str(given.python), str(ROOT / "tests/bench/peers" / given.script)),
            source["url"],
        ],
        stream="",
        environment=lambda *_: {"PYTHONPATH": str(ROOT)},
        read=lambda output, *_: Result(**json.loads(output.splitlines()[-1])),
        concurrent=False,
        prepare=given.prepare,
        what=f"{given.package} {given.version}: {given.what}; it compares nothing with earlier reads",
    )


def ours(
    name: str, settings: dict[str, str] | None = None, *, program: str | None = None, what: str = ""
) -> Contender:
    return Contender(
        name=name,
        command=lambda *_: engine.command(program),
        stream=engine.STREAM,
        environment=lambda setup, source, url: (
            engine.environment(source, url, setup.in_flight) | (settings or {})
        ),
        read=lambda output, _, cpu: engine.read_summary(output, cpu),
        tells_cpu=False,
        what=what,
    )


def tree(name: str, folder: Path) -> Contender:
    """The engine of another checkout, where `make install` has been run."""
    head = ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip()
    program = str(folder.resolve() / ".venv" / "bin" / "ordersync")
    return ours(name, program=program, what=f"the engine at commit {commit}")


def contenders() -> dict[str, Contender]:
    """Everybody there is; the engine only where its command is installed."""
    everybody = [rival("raw"), rival("careful"), rival("plain", concurrent=False)]
    if engine.executable() is not None:
        everybody += [ours(engine.NAME), ours("uncompiled", {COMPILED: "off"})]
    everybody += map(peer, peers.PEERS)
    return {contender.name: contender for contender in everybody}


def measure(
    contender: Contender,
    setup: Setup,
    source: dict[str, str],
    redis_url: str,
    mode: str,
    *,
    start: float = 0.0,
) -> Measured:
    """One run of one contender, checked by what it left in the server.

    Args:
        contender: Who reads.
        setup: What it is run with.
        source: The line of the source, and the id of its process.
        redis_url: The server.
        mode: `first` or `unchanged`.
        start: CPU seconds of its start, which are taken off.
    """
    with Redis.from_url(redis_url) as client:
        server, origin = int(client.info("server")["process_id"]), int(source["pid"])
        before = int(client.info("memory")["used_memory"])
        length = int(client.xlen(contender.stream)) if contender.stream else 0
        command = contender.command(setup, source, redis_url, mode)
        cpu = cpu_of(server), cpu_of(origin)
        # A data folder of an earlier run tells the engine that this server has lost what it held.
        with tempfile.TemporaryDirectory(prefix="ordersync-bench-") as folder:
            environment = contender.environment(setup, source, redis_url) | {"ORDERSYNC_DATA_DIR": folder}
            ran = sampled(command, environment)
        cpu_after = cpu_of(server), cpu_of(origin)
        result = contender.read(ran.output, ran.wall, max(0.0, ran.cpu - start))
        grown = int(client.xlen(contender.stream)) - length if contender.stream else result.published
        after = int(client.info("memory")["used_memory"])
    expected = setup.orders if mode == "first" else 0
    if grown != expected:
        raise RuntimeError(f"{grown} entries in the stream, {expected} expected ({mode})")
    each = 1e6 / setup.orders
    return Measured(
        result=result,
        peak_rss=ran.peak,
        start_seconds=ran.wall - result.seconds,
        entry_bytes=(after - before) / setup.orders,
        worker=result.cpu_seconds * each,
        server=(cpu_after[0] - cpu[0]) * each,
        source=(cpu_after[1] - cpu[1]) * each,
    )


def starts(chosen: list[Contender], setup: Setup, failures: dict[str, str]) -> dict[str, float]:
    """CPU seconds of the start of those who do not tell: of a run over one page."""
    small = replace(setup, orders=ONE_PAGE, latency=0.0)
    runs: defaultdict[str, list[float]] = defaultdict(list)
    with (
        redis_server(aof=False) as redis_url,
        page_source(small) as source,
        Redis.from_url(redis_url) as client,
    ):
        for contender in chosen * STARTS:
            if contender.name in failures or contender.tells_cpu:
                continue
            client.execute_command("FLUSHALL", "SYNC")
            try:
                measured = measure(contender, small, source, redis_url, "first")
                runs[contender.name].append(measured.worker * ONE_PAGE / 1e6)
            except Exception as error:
                failures[contender.name] = f"{type(error).__name__}: {error}"
    return {contender.name: median(runs[contender.name] or [0.0]) for contender in chosen}


def run(setup: Setup, chosen: list[Contender]) -> Table:
    """All rounds of these contenders: a full read into an empty server, then one in which nothing changed."""
    table = Table(setup, {contender.name: contender for contender in chosen})
    for contender in chosen:
        try:
            contender.prepare()
        except RuntimeError as error:
            table.failures[contender.name] = str(error)
    start = starts(chosen, setup, table.failures)
    with (
        redis_server(aof=setup.aof) as redis_url,
        page_source(setup) as source,
        Redis.from_url(redis_url) as client,
    ):
        for number in range(setup.rounds + 1):
            # One run comes first that does not count: it pays for memory that the system gives out for the first time.
            for contender in chosen if number else chosen[:1]:
                if contender.name in table.failures:
                    continue
                client.execute_command("FLUSHALL", "SYNC")  # a lazy flush would blur the memory
                try:
                    for mode in contender.modes:
                        measured = measure(
                            contender, setup, source, redis_url, mode, start=start[contender.name]
                        )
                        if number:
                            table.runs[mode][contender.name].append(measured)
                except Exception as error:
                    table.failures[contender.name] = f"{type(error).__name__}: {error}"
            if number:
                table.load.append(os.getloadavg()[0])
    return table


def rate(runs: Sequence[Measured]) -> float:
    """Median records per second."""
    return median(one.result.records / one.result.seconds for one in runs)
