"""`make hour`: an hour of a shop, compressed, and what its consumers were told of it, in figures.

`python -m tests.chaos.hour [--seconds N] [--rate R] [--seed S]`. TEST_SERVER names another server than Valkey.

A real daemon reads every resource and all audit logs of a sandbox whose lists lag behind and whose pages move while
they are read; 5 % of all answers are spoiled, and the daemon is killed again and again. In the second half the lists
keep up; then times of records go back, and the clock of the gateway is put on and back. For a quarter of the hour
every total counts what the token may not read. Audit logs have pages. At the end the faults stop, what is still due is
read, and every stream is held against what was true at any time.

The hour takes `--seconds`, 240 unless told otherwise, which is a fifteenth: the times of the records run that much
faster, and every interval is that much shorter. Shorter it does not get: orders, which are polled each 15 seconds,
are then polled each second, and no interval of the worker's is smaller.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from tests.support.convergence import look_once_more, missing_entries, take_new
from tests.support.mutations import Happenings
from tests.support.oracle import Ledger
from tests.support.programs import Program, login_settings
from tests.support.servers import Server
from tests.support.worker import BenchContext
from worker.capture.registry import AUDIT_LOGS, CAPTURED, RESOURCES
from worker.capture.state.store import StateStore
from worker.config.resources import PRESETS
from worker.keys import Keys
from worker.redis.connections import answer, connect
from worker.sandbox import FaultRule, SandboxServer, ServedContract
from worker.telemetry import log as logs

HOUR = 3600.0
ORDERS = 150
KILLS = 6
INDEX_LAG = 0.8
"""Seconds, compressed like the rest: lists show a change twelve seconds later."""
COMPLETE = 900.0
"""Seconds of the hour between two complete reads."""
FAULTS = (
    FaultRule("status", code=500, probability=0.012),
    FaultRule("status", code=429, retry_after=0.2, probability=0.006),
    FaultRule("drop", probability=0.01),
    FaultRule("truncate", probability=0.01),
    FaultRule("garbage", probability=0.006),
    FaultRule("empty", probability=0.004),
    *(FaultRule("status", code=204, operation=each.search, probability=0.004) for each in RESOURCES.values()),
)
"""Of all answers together 5 %."""
KINDS = {
    "orders": 30,
    "order_items": 15,
    "shipments": 20,
    "notes": 12,
    "categories": 3,
    "products": 8,
    "variants": 9,
    "merchant_catalogs": 3,
}
"""Of a hundred things that happen, how many happen to records of each kind."""
ACTIONS = {"create": 14, "change": 70, "touch": 8, "reorder": 5, "remove": 3}
"""What happens to them. Silent changes are left out: where lists lag behind, nothing tells the older state."""
LATER = {**ACTIONS, "change": 60, "back": 10}
"""What happens in the second half, in which no list lags behind: else nothing would tell which state is the later."""
STEPS = (-1800.0, 1800.0, -3.0, 3.0)
"""Seconds by which the clock of the gateway is put on or back, one after the other, in the second half."""
EXTRA = 4000
"""What totals count too many in the third quarter."""
ROUNDS = 40


@dataclass(slots=True)
class Report:
    """What came of it."""

    seconds: float
    happened: int = 0
    kills: int = 0
    unsettled: int = 0
    accepted: int = 0
    events: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)
    deleted: Counter[str] = field(default_factory=Counter)
    drift: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    missing: dict[str, list[str]] = field(default_factory=dict)
    wrong: dict[str, list[str]] = field(default_factory=dict)

    def broken(self) -> list[str]:
        """What was promised and not kept."""
        return [each for found in (*self.missing.values(), *self.wrong.values()) for each in found]

    def figures(self) -> str:
        """A line for each stream."""
        head = ("", "states", "events", "missing", "wrong", "deleted", "drift", "requests")
        rows: list[Sequence[str]] = [head]
        for name in CAPTURED:
            counts = [each[name] for each in (self.changes, self.events)]
            counts += [len(each.get(name, ())) for each in (self.missing, self.wrong)]
            counts += [each[name] for each in (self.deleted, self.drift, self.requests)]
            rows.append((name, *map(str, counts)))
        spoiled = ", ".join(f"{count} by {name}" for name, count in self.faults.items())
        words = (
            f"an hour in {self.seconds:.0f} s: {self.happened} things happened; the daemon was killed {self.kills} "
            f"times; of {sum(self.requests.values())} answers {sum(self.faults.values())} were spoiled ({spoiled}); "
            f"{self.unsettled} of {len(CAPTURED)} streams were behind at the end of it; more deletions than are "
            f"believed were accepted {self.accepted} times"
        )
        table = [f"{row[0]:24}" + "".join(f"{each:>10}" for each in row[1:]) for row in rows]
        return "\n".join([words, *table])


class Shop:
    """The shop and its consumers."""

    def __init__(
        self, sandbox: SandboxServer, server: Server, folder: Path, given: argparse.Namespace
    ) -> None:
        self.sandbox, self.server, self.folder = sandbox, server, folder
        self.seconds, self.rate, self.rng = given.seconds, given.rate, Random(given.seed)
        self.speed = HOUR / self.seconds
        self.actions = ACTIONS
        self.happenings = Happenings(sandbox, given.seed, speed=self.speed)
        self.ledger = Ledger(self.happenings, strict=False)
        self.before = self.ledger.changes
        self.report = Report(self.seconds)
        self.redis = connect(server.url)
        self.keys = Keys("default")

    def settings(self) -> dict[str, str]:
        """Those of the daemon: the usual intervals, shorter by as much as the hour is."""
        intervals = {name: max(1.0, usual / self.speed) for name, usual in PRESETS["all"].items()}
        return login_settings(
            self.sandbox,
            self.server.url,
            self.folder,
            api__requests_per_second=str(10 * self.speed),
            poll__intervals=json.dumps(intervals),
            poll__complete_every=str(COMPLETE / self.speed),
            poll__confirm_deletes="1",
            log__level="warning",
        )

    async def live(self) -> None:
        """The hour."""
        started = time.monotonic()
        deaths = [self.seconds * (at + self.rng.random()) / KILLS for at in range(KILLS)]
        steps = [(self.seconds * (0.5 + 0.45 * at / len(STEPS)), step) for at, step in enumerate(STEPS)]
        program = Program(self.folder, **self.settings())
        program.__enter__()
        try:
            while (now := time.monotonic() - started) < self.seconds:
                self.serve(now / self.seconds)
                if steps and now >= steps[0][0]:
                    self.happenings.step_clock(steps.pop(0)[1])
                if deaths and now >= deaths[0]:
                    deaths.pop(0)
                    self.report.kills += 1
                    program.__exit__(None, None, None)
                    program = Program(self.folder, **self.settings())
                    program.__enter__()
                while self.report.happened < self.rate * now:
                    self.happen()
                await self.accept()
                await asyncio.sleep(0.1)
        finally:
            program.__exit__(None, None, None)

    def serve(self, passed: float) -> None:
        """Serve as it is to be after this share of the hour."""
        served = self.sandbox._sandbox
        lag, extra = (INDEX_LAG if passed < 0.5 else 0.0), (EXTRA if 0.5 <= passed < 0.75 else 0)
        if (served.contract.index_lag, served.contract.total_extra) != (lag, extra):
            served.contract = replace(served.contract, index_lag=lag, total_extra=extra)
        self.actions = ACTIONS if passed < 0.5 else LATER

    def happen(self) -> None:
        """One thing, to one record."""
        (kind,) = self.rng.choices(list(KINDS), list(KINDS.values()))
        (action,) = self.rng.choices(list(self.actions), list(self.actions.values()))
        self.ledger.note(self.happenings.happen(kind, action, self.rng.randrange(1 << 16)))
        self.report.happened += 1

    async def accept(self) -> None:
        """Somebody looks after deletions that are held back, since they are more than 2 % of a kind."""
        for name in RESOURCES:
            cursor = await StateStore(self.redis, self.keys, RESOURCES[name]).load_cursor()
            if (cursor.held_back or cursor.suspicious) and not await answer(
                self.redis.hexists(self.keys.accepted, name)
            ):
                await answer(self.redis.hset(self.keys.accepted, name, "1"))
                self.report.accepted += 1

    async def settle(self) -> None:
        """Nothing happens any more, and nothing goes wrong; what is due is read."""
        for rule, fired in zip(self.sandbox.faults.rules, self.sandbox.faults.fired(), strict=True):
            name = f"{rule.action} {rule.code}" if rule.action == "status" else rule.action
            self.report.faults[name] += fired
        self.sandbox.faults.clear()
        self.serve(1.0)
        self.count_requests()
        read: dict[str, str] = {}
        async with BenchContext(
            self.sandbox, self.server.url, {"intervals": PRESETS["all"], "probe": True}
        ) as b:
            await take_new(b, self.ledger, read)
            behind = [kind for kind in RESOURCES if self.ledger.missing(kind)]
            entries = await missing_entries(b, self.ledger)
            self.report.unsettled = len(behind) + sum(bool(found) for found in entries.values())
            for _ in range(ROUNDS):
                await asyncio.sleep(INDEX_LAG)
                if not await look_once_more(b):
                    break
            await take_new(b, self.ledger, read)
            self.report.missing = {kind: self.ledger.missing(kind) for kind in RESOURCES}
            self.report.missing |= await missing_entries(b, self.ledger)
        self.report.wrong = dict(self.ledger.problems)
        self.report.changes = Counter(self.ledger.changes) - Counter(self.before)
        for name in CAPTURED:
            self.report.events[name] = self.ledger.streams[name].sequence
        for name in RESOURCES:
            told = self.ledger.streams[name].told.values()
            self.report.deleted[name] = sum(each.content is None for each in told)
        for _, run in await self.redis.xrange(self.keys.runs):
            self.report.drift[run[b"resource"].decode()] += int(run.get(b"drift", 0))
        await self.redis.aclose()

    def count_requests(self) -> None:
        """By the stream that they were made for."""
        asked = self.sandbox.requests.counts()
        for name, log in AUDIT_LOGS.items():
            self.report.requests[name] = _count(asked, log.operation)
        for name, each in RESOURCES.items():
            own = (each.search, each.single, each.by_parent)
            self.report.requests[name] = sum(_count(asked, key) for key in own if key)


def _count(asked: Mapping[str, Mapping[str, int]], operation: str) -> int:
    return sum(asked.get(operation, {}).values())


async def run(given: argparse.Namespace, server: Server, folder: Path) -> Report:
    """The hour, and its end."""
    contract = ServedContract(
        since_honoured=True,
        sort_honoured=True,
        descending=True,
        index_lag=INDEX_LAG,
        max_page_size=50,
        audit_page_size=20,
    )
    with SandboxServer(orders=ORDERS, contract=contract, faults=FAULTS, seed=given.seed) as sandbox:
        shop = Shop(sandbox, server, folder, given)
        await shop.live()
        await shop.settle()
        return shop.report


def main() -> int:
    """Run it once."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.hour", description=__doc__)
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--rate", type=float, default=5.0, help="things that happen in a second")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    logs.configure("json", "error")
    with tempfile.TemporaryDirectory(prefix="ordersync-hour-") as name:
        folder = Path(name)
        server = Server(folder)
        server.start()
        try:
            report = asyncio.run(run(given, server, folder))
        finally:
            server.stop(kill=True)
    problems = report.broken()
    print("\n".join([report.figures(), *problems, *([] if problems else ["every promise was kept"])]))  # noqa: T201
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
