"""Events flow, four consumers of two groups are killed at random, and the stream is trimmed hard meanwhile."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from redis.asyncio import Redis

from ordersync_consumer.envelope import event_id
from tests.support.streams import fields_of
from tests.support.waiting import PATIENCE, eventually
from worker.keys import Keys
from worker.redis import scripts
from worker.redis.connections import answer, connect

GROUPS = ("billing", "warehouse")
KEYS = Keys("default")
STREAM = KEYS.stream("orders")
SUBJECTS = 300


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do. `rate`: events written a second at most; `apart`: events handled between two kills, on average.

    Both go by what is handled, so that a slow machine takes longer and is as hard as a fast one: `behind` is how far
    the slower group may be behind until no more is written. Killed by the clock, consumers that get little done
    would begin the same event again and again, until it is a dead letter. `patience`: seconds in which nothing at
    all is handled until it is given up.
    """

    events: int
    rate: float = 800.0
    apart: int = 120
    data: bytes = b'{"id":"a","text":"' + b"x" * 400 + b'"}'
    seed: int = 5
    behind: int = 2_000
    patience: float = 60.0


@dataclass(slots=True)
class Report:
    """What happened. `effects`, `handled`, `trimmed`, `dead`: by group."""

    written: list[str] = field(default_factory=list)
    kills: int = 0
    seconds: float = 0.0
    removed: int = 0
    longest: int = 0
    left: int = 0
    effects: dict[str, Counter[str]] = field(default_factory=dict)
    handled: dict[str, dict[str, int]] = field(default_factory=dict)
    spared: dict[str, int] = field(default_factory=dict)
    trimmed: dict[str, int] = field(default_factory=dict)
    pending: dict[str, int] = field(default_factory=dict)
    unread: dict[str, int] = field(default_factory=dict)
    dead: int = 0

    def broken(self) -> list[str]:
        """The promises that were not kept, in words."""
        problems, wanted = [], Counter(self.written)
        for group in GROUPS:
            checks: dict[str, int | Collection[str]] = {
                "events were not handled": set(wanted) - set(self.handled[group]),
                "effects are missing": wanted - self.effects[group],
                "effects happened more than once": self.effects[group] - wanted,
                "entries were trimmed unread": self.trimmed[group],
                "entries are pending in the end": self.pending[group],
                "entries are unread in the end": self.unread[group],
            }
            for what, found in checks.items():
                number = found if isinstance(found, int) else len(found)
                if number:
                    problems.append(f"{group}: {number} {what}")
        if self.dead:
            problems.append(f"{self.dead} dead letters")
        return problems

    def figures(self) -> str:
        """The numbers in words."""
        again = sum(sum(count - 1 for count in handled.values()) for handled in self.handled.values())
        return (
            f"{len(self.written)} events in {self.seconds:.1f} s, {self.kills} consumers killed, handlers run again "
            f"{again} times, effects spared {sum(self.spared.values())} times, {self.removed} entries trimmed "
            f"(never more than {self.longest} in the stream, {self.left} left)"
        )


class Nursery:
    """The process that starts consumers."""

    def __init__(self, url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.consumer_processes", url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        self.consumers: dict[tuple[str, str], int] = {}

    def start(self, group: str, name: str) -> None:
        """Start a consumer of that name."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{group} {name}\n")
        self._process.stdin.flush()
        self.consumers[group, name] = int(self._process.stdout.readline())

    def signal(self, group: str, name: str, number: int) -> None:
        """Send a consumer a signal."""
        os.kill(self.consumers[group, name], number)

    async def stop(self) -> None:
        """Stop all consumers in order, and wait until they have ended."""
        for each in self.consumers:
            self.signal(*each, signal.SIGTERM)
        for pid in self.consumers.values():
            await eventually(partial(gone, pid))

    def end(self) -> None:
        """End the nursery, and with it whoever is left."""
        self._process.communicate(timeout=PATIENCE)


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


class Progress:
    """How far the groups are. Patience is at an end when they have not moved for as long as the plan says."""

    def __init__(self, client: Redis, plan: Plan) -> None:
        self._client, self._plan = client, plan
        self._seen, self._moved_at = [-1, -1], time.monotonic()

    async def handled(self) -> int:
        """How many different events the slower group has handled."""
        seen = [await answer(self._client.hlen(f"handled:{group}")) for group in GROUPS]
        if seen != self._seen:
            self._seen, self._moved_at = seen, time.monotonic()
        return min(seen)

    @property
    def stuck(self) -> bool:
        """Whether to wait for it no longer."""
        return time.monotonic() - self._moved_at > self._plan.patience


async def write(client: Redis, plan: Plan, report: Report) -> None:
    """Write the events as the commit script writes them, at the rate of the plan, if the groups keep up with it."""
    chance, versions = random.Random(plan.seed), Counter[str]()
    progress, began, step = Progress(client, plan), time.monotonic(), 50
    while len(report.written) < plan.events:
        while len(report.written) - await progress.handled() > plan.behind:
            if progress.stuck:
                return
            await asyncio.sleep(0.02)
        pipe = client.pipeline(transaction=False)
        for _ in range(min(step, plan.events - len(report.written))):
            subject = f"s{chance.randrange(SUBJECTS)}"
            versions[subject] += 1
            name = event_id("order", subject, versions[subject], 0)
            fields = fields_of(len(report.written) + 1, plan.data) | {
                "id": name,
                "subject": subject,
                "version": str(versions[subject]),
            }
            pipe.xadd(STREAM, fields)  # type: ignore[arg-type] # invariant dict
            report.written.append(name)
        await pipe.execute()
        await asyncio.sleep(max(0.0, began + len(report.written) / plan.rate - time.monotonic()))


async def kill(client: Redis, nursery: Nursery, plan: Plan, report: Report) -> None:
    """Kill one after the other; some are started again at once, some a little later."""
    chance, progress = random.Random(plan.seed + 1), Progress(client, plan)
    while True:
        until = await progress.handled() + chance.uniform(0, plan.apart * 2)
        while await progress.handled() < until:  # noqa: ASYNC110 - Redis tells nobody
            await asyncio.sleep(0.01)
        group, name = chance.choice([*nursery.consumers])
        nursery.signal(group, name, signal.SIGKILL)
        report.kills += 1
        if chance.random() < 0.3:
            await asyncio.sleep(chance.uniform(0, 0.5))
        nursery.start(group, name)


async def trim(client: Redis, report: Report) -> None:
    """Keep one entry: whatever no group needs goes at once."""
    script = scripts.load(client, "worker.queue", "trim", begin=["ordersync_consumer:needs"])
    while True:
        report.longest = max(report.longest, await client.xlen(STREAM))
        while (await script(keys=[STREAM], args=[0, 1, 0, 5000]))[1]:
            pass
        await asyncio.sleep(0.02)


async def drained(client: Redis, plan: Plan) -> None:
    """Wait until both groups have dealt with everything, or patience is at an end."""
    progress = Progress(client, plan)
    while not progress.stuck:
        await progress.handled()
        last = (await client.xinfo_stream(STREAM))["last-generated-id"]
        groups = await client.xinfo_groups(STREAM)
        if all(group["pending"] == 0 and group["last-delivered-id"] == last for group in groups):
            return
        await asyncio.sleep(0.05)


async def look(client: Redis, report: Report) -> None:
    """Put down what the consumers have written, and how the stream stands."""
    for group in GROUPS:
        effects: list[bytes] = await answer(client.lrange(f"effects:{group}", 0, -1))
        handled: dict[bytes, bytes] = await answer(client.hgetall(f"handled:{group}"))
        report.effects[group] = Counter(each.decode() for each in effects)
        report.handled[group] = {name.decode(): int(count) for name, count in handled.items()}
        report.spared[group] = int(await client.get(f"spared:{group}") or 0)
        report.trimmed[group] = await answer(client.llen(f"trimmed:{group}"))
        facts: dict[str, Any] = next(
            each for each in await client.xinfo_groups(STREAM) if each["name"] == group.encode()
        )
        report.pending[group] = facts["pending"]
        unread = await client.xrange(STREAM, min=f"({facts['last-delivered-id'].decode()}")
        report.unread[group] = len(unread)
    report.dead = await client.xlen(KEYS.dead("orders"))
    report.left = await client.xlen(STREAM)
    report.removed = len(report.written) - report.left


async def run(url: str, plan: Plan) -> Report:
    """Do it all."""
    client, report, began = connect(url), Report(), time.monotonic()
    nursery = Nursery(url)
    for group in GROUPS:
        await client.xgroup_create(STREAM, group, id="0", mkstream=True)
        for name in ("one", "two"):
            nursery.start(group, name)
    try:
        async with anyio.create_task_group() as trimming:
            trimming.start_soon(trim, client, report)
            async with anyio.create_task_group() as killing:
                killing.start_soon(kill, client, nursery, plan, report)
                await write(client, plan, report)
                killing.cancel_scope.cancel()
            for group, name in list(nursery.consumers):  # one may have been killed and not yet started again
                if gone(nursery.consumers[group, name]):
                    nursery.start(group, name)
            await drained(client, plan)
            report.seconds = time.monotonic() - began
            await nursery.stop()
            trimming.cancel_scope.cancel()
        await look(client, report)
    finally:
        nursery.end()
        await client.aclose()
    return report
