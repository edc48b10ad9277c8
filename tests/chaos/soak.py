"""`make soak`: everything that may go wrong, at random; what was told is held against what was so.

`python -m tests.chaos.soak [--minutes N] [--seed S] [--pause SECONDS]`. TEST_SERVER names another server than Valkey.

Two daemons with other settings read an independent gateway through a network that fails. Every second or so something
happens (`tests.chaos.actions`). Every twenty actions all that is wrong ends, and it is measured how long the worker
takes until nothing is missed. Memory and open descriptors of the daemon that is never killed are sampled.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import psutil
import pytest

from tests.chaos.actions import ACTIONS, Scene
from tests.support.gateway import OTHER, Gateway, Judge
from tests.support.host_clock import HostClock
from tests.support.programs import Program, ordersync_process
from tests.support.proxy import Proxy
from tests.support.servers import Server

STREAMS = ("orders", "order_audit", "shipments", "notes")
INTERVALS = '{"orders": 1, "order_audit": 1, "shipments": 2, "notes": 2}'
ROUND = 20
"""Actions between two moments of calm."""
PATIENCE = 90.0
"""Seconds in which nothing may be missed any more."""


@dataclass(slots=True)
class Report:
    """What came of it.

    Attributes:
        recoveries: Seconds until nothing was missed, of each round; infinite where it took too long.
        memory: Resident megabytes of the elder daemon, by the second of the soak.
        descriptors: Its open descriptors, likewise.
        problems: What was wrong, with the actions of the round in which it was found first.

    """

    actions: Counter[str] = field(default_factory=Counter)
    events: int = 0
    recoveries: list[float] = field(default_factory=list)
    memory: list[tuple[int, float]] = field(default_factory=list)
    descriptors: list[tuple[int, int]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    wrong: dict[str, int] = field(default_factory=dict)

    def figures(self) -> str:
        """The numbers in words."""
        done = ", ".join(f"{name} {count}" for name, count in self.actions.most_common())
        took = sorted(self.recoveries)
        lines = [
            f"{sum(self.actions.values())} actions ({done})",
            f"{self.events} events; wrong: {self.wrong or 'nothing'}",
            f"{len(took)} rounds; nothing was missed any more after {', '.join(f'{each:.1f}' for each in took)} s",
        ]
        for name, samples in (("memory (MB)", self.memory), ("descriptors", self.descriptors)):
            shown = samples[:: max(1, len(samples) // 12)]
            lines.append(f"{name}: " + ", ".join(f"{at} s: {value:.0f}" for at, value in shown))
        return "\n".join(lines)


class Soak:
    """One soak."""

    def __init__(self, folder: Path, server: Server, given: argparse.Namespace) -> None:
        self.folder, self.server, self.given = folder, server, given
        self.report = Report()
        self.chance = Random(given.seed)
        self.recent: list[str] = []

    def clock(self) -> HostClock | None:
        """The clock of the second host, where there can be one."""
        try:
            return HostClock(self.folder)
        except pytest.skip.Exception:
            return None

    async def run(self) -> Report:
        """Let it all happen."""
        with (
            Gateway(seed=self.given.seed, orders=300, shipments=40, notes=20) as gateway,
            Proxy("127.0.0.1", self.server.port) as proxy,
            Judge(gateway, self.server.url, *STREAMS) as judge,
            ExitStack() as stack,
        ):
            gateway.history.create("orders", 300, tenant=OTHER)
            settings = gateway.settings(
                f"redis://{proxy.address}/0",
                self.folder,
                poll__intervals=INTERVALS,
                poll__audit_history="all",
                poll__complete_every="5",
                poll__confirm_deletes="10",
                api__timeout="2",
                api__page_size="50",
                log__level="warning",
                reconcile__every="20",
                reconcile__lag="5",
            )
            elder = stack.enter_context(Program(self.folder, **settings))
            clock = self.clock()
            command = clock.command() if clock is not None else ()
            daemons = [elder]

            def start() -> None:
                other = {**settings, "api__page_size": "30"}
                daemons[1:] = [stack.enter_context(Program(self.folder, *command, **other))]

            def restart() -> None:
                daemons[1].process.kill()
                daemons[1].process.wait()
                start()

            def resync(*words: str) -> None:
                ordersync_process(
                    "resync", *words, cwd=self.folder, **{**settings, "redis__url": self.server.url}
                )

            start()
            scene = Scene(gateway, proxy, self.chance, daemons, restart, resync, clock)
            await judge.recovered(PATIENCE)
            await self.live(scene, judge)
            self.report.events = judge.verdict().events
        return self.report

    async def live(self, scene: Scene, judge: Judge) -> None:
        """Rounds of actions, each of which ends in calm."""
        began = time.monotonic()
        while time.monotonic() - began < self.given.minutes * 60:
            self.recent.clear()
            for number in range(ROUND):
                (action,) = self.chance.choices(list(ACTIONS), list(ACTIONS.values()))
                await asyncio.to_thread(action, scene)
                self.report.actions[action.__name__] += 1
                self.recent.append(action.__name__)
                judge.take()
                await asyncio.sleep(self.given.pause * self.chance.uniform(0.3, 1.7))
                if number % 5 == 4:
                    scene.calm()
            scene.calm()
            await self.recover(judge)
            self.sample(scene.daemons[0], began)
            for each in scene.daemons:
                if each.process.poll() is not None:
                    self.report.problems.append(
                        f"a daemon has ended with {each.process.poll()}: {each.err[-2000:]}"
                    )
                    return

    async def recover(self, judge: Judge) -> None:
        """Wait until nothing is missed, and judge."""
        try:
            self.report.recoveries.append(await judge.recovered(PATIENCE))
        except AssertionError as error:
            self.report.recoveries.append(float("inf"))
            self.report.problems.append(f"{error}; after {self.recent}")
        verdict = judge.verdict()
        if verdict.counts != self.report.wrong:
            self.report.wrong = verdict.counts
            self.report.problems.append(f"{verdict}; after {self.recent}")

    def sample(self, program: Program, began: float) -> None:
        """Note the memory and the descriptors of a daemon."""
        process, at = psutil.Process(program.process.pid), round(time.monotonic() - began)
        self.report.memory.append((at, process.memory_info().rss / 1e6))
        self.report.descriptors.append((at, process.num_fds()))


def main() -> int:
    """Run it once."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--pause", type=float, default=0.8, help="seconds between two actions, on average")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ordersync-soak-") as name:
        folder = Path(name)
        server = Server(folder)
        server.start()
        try:
            report = asyncio.run(Soak(folder, server, given).run())
        finally:
            server.stop(kill=True)
    problems = report.problems
    print("\n".join([report.figures(), *problems, *([] if problems else ["every promise was kept"])]))  # noqa: T201
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
