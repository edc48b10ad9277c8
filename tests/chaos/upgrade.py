"""Earlier programs beside the present one, during a rolling deployment and a rollback: `python -m tests.chaos.upgrade`.

For each revision: its daemon reads everything, then the present one is started beside it while records change. The
present one is killed (SIGKILL) as soon as it has taken over the account, and started again; the old one ends. Then the
way back: the old one alone on what the new one has written, and the present one again. An independent gateway has the
history (`tests.support.gateway`), against which every event is judged: none missing, none twice, all in order.

    python -m tests.chaos.upgrade            # the revisions below; some minutes for the environments the first time
    python -m tests.chaos.upgrade c53ace2    # others
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import redis

from tests.support.gateway import Gateway, Judge
from tests.support.programs import Program
from tests.support.releases import Release, RevisionMissingError, released
from tests.support.servers import Server
from tests.support.waiting import PATIENCE, eventually
from worker.capture.state.layout import LAYOUT
from worker.keys import Keys

REVISIONS = {
    "285c308": "layout 1; knows orders only",
    "c53ace2": "layout 2; its schedule is the queue of arq",
    "88b8791": "layout 3; claims of its schedule carry no note",
    "0ad3f4b": "layout 3; claims carry notes",
}
"""The revisions that are tried, and what is different in them."""
RECORDS = ("orders", "shipments")
COUNT = 400
"""Records of each kind at first."""
DELETIONS = 2
"""Of each kind while records change: together fewer than a full scan holds back, 2 %."""
SECONDS = 3 * PATIENCE
"""Longest wait for anything."""
ORDERS_ONLY = frozenset({"285c308"})
CHANGE_SECONDS = 0.2
"""Between two changes."""
TOGETHER = 10
"""Reads of each program that are waited for while both run, or while the old one is back."""
KEYS = Keys("default")


@dataclass(slots=True)
class Findings:
    """What was seen with one revision.

    Attributes:
        release: The earlier program.
        layout: The layout of the keys that it wrote.
        lines: What the programs logged in each phase, by event.
        refusal: Why the earlier program waits, in its words; empty if it shares the work.
        events: Events in all.
        wrong: How often they are wrong, by the word of the judge.
        examples: Some of those.

    """

    release: Release
    layout: str = ""
    lines: dict[str, Counter[str]] = field(default_factory=dict)
    refusal: str = ""
    events: int = 0
    wrong: dict[str, int] = field(default_factory=dict)
    examples: str = ""

    def note(self, phase: str, program: Program) -> None:
        """Note what a program has logged in a phase."""
        self.lines[phase] = Counter(str(line["event"]) for line in program.logs())

    def __str__(self) -> str:
        shares = f"does not read: {self.refusal}" if self.refusal else "shares the reads"
        rows = [
            f"{self.release.revision} ({self.release.subject}), layout {self.layout}",
            f"  beside the present program it {shares}",
            *(
                f"  {phase}: " + ", ".join(f"{event} {count}" for event, count in lines.most_common())
                for phase, lines in self.lines.items()
            ),
            f"  {self.examples}",
        ]
        return "\n".join(rows)


class Deployment:
    """One account that an earlier program and the present one poll."""

    def __init__(
        self, gateway: Gateway, server: Server, folder: Path, release: Release, kinds: list[str]
    ) -> None:
        self.gateway, self.server, self.folder, self.release = gateway, server, folder, release
        self.client: Any = redis.Redis.from_url(server.url)
        self.kinds = kinds
        self._rng = Random(1)
        self._number = 0

    @property
    def layout(self) -> str:
        """The layout that is stored."""
        return (self.client.get(KEYS.layout) or b"").decode()

    def last_words(self) -> str:
        """The end of what each daemon has logged."""
        logs = [
            path
            for number in range(1, self._number + 1)
            for path in (self.folder / f"daemon-{number}").glob("err-*")
        ]
        return "\n".join(f"{path.parent.name}: {path.read_text()[-1500:]}" for path in logs)

    def program(self, *command: str, **more: str) -> Program:
        """A daemon in a folder of its own; with `command` an earlier one."""
        self._number += 1
        folder = self.folder / f"daemon-{self._number}"
        folder.mkdir()
        intervals = ", ".join(f'"{kind}": 1' for kind in self.kinds)
        settings = self.gateway.settings(
            self.server.url, folder, poll__intervals=f"{{{intervals}}}", api__page_size="50", **more
        )
        if command:  # the settings that every revision knows
            del settings["poll__confirm_deletes"], settings["reconcile__every"]
        return Program(folder, *command, **settings)

    def old(self) -> Program:
        """A daemon of the earlier program."""
        return self.program(self.release.command, "run")

    def new(self) -> Program:
        """A daemon of the present program. Its full scans find what was deleted."""
        return self.program(poll__complete_every="5")

    def written(self) -> dict[str, int]:
        """The length of each stream."""
        return {kind: self.client.xlen(KEYS.stream(kind)) for kind in self.kinds}

    def happen(self) -> None:
        """Create a record, or change two."""
        history, kind = self.gateway.history, self._rng.choice(self.kinds)
        if self._rng.randrange(8) == 0:
            history.create(kind)
        else:
            history.change(kind, self._rng.sample(history.ids(kind), 2))

    @asynccontextmanager
    async def changes(self) -> AsyncIterator[None]:
        """Let records change until the end of the block; some are deleted."""

        async def go_on() -> None:
            for kind in self.kinds:
                self.gateway.history.delete(kind, self._rng.sample(self.gateway.history.ids(kind), DELETIONS))
            while True:
                self.happen()
                await asyncio.sleep(CHANGE_SECONDS)

        task = asyncio.create_task(go_on())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def reads(program: Program) -> int:
    """How many reads a program has completed."""
    return sum(line["event"] == "poll_done" for line in program.logs())


def refusal(program: Program) -> str:
    """What a program has said about the layout that it cannot use; empty if it has not."""
    for line in program.logs("poll_failed"):
        if "layout" in (words := str(line.get("error", ""))):
            return words
    return ""


async def end(program: Program) -> None:
    """End a daemon as a deployment does (SIGTERM)."""
    program.process.send_signal(signal.SIGTERM)
    code = await program.ended(SECONDS)
    assert code == 0, program.err[-2000:]


async def roll(deployment: Deployment, judge: Judge, found: Findings) -> None:
    """A rolling deployment: the present program comes beside the earlier one, is killed, comes again; that one ends."""
    with deployment.old() as old:
        await judge.recovered(SECONDS)
        found.layout = deployment.layout
        for _ in range(20):
            deployment.happen()
        await judge.recovered(SECONDS)
        async with deployment.changes():
            with deployment.new() as new:
                await eventually(lambda: deployment.layout == LAYOUT and reads(new), SECONDS)
                os.kill(new.process.pid, signal.SIGKILL)
            found.note("new, killed", new)
            with deployment.new() as new:
                await eventually(lambda: reads(new) >= TOGETHER, SECONDS)
                await beside(old, new, found)
                await end(old)
                found.note("old beside new", old)
                alone = reads(new)
                await eventually(lambda: reads(new) >= alone + TOGETHER, SECONDS)
                await end(new)
                found.note("new", new)


async def roll_back(deployment: Deployment, judge: Judge, found: Findings) -> None:
    """The earlier program alone on what the present one has written, killed; then the present one again."""
    async with deployment.changes():
        before = deployment.written()
        with deployment.old() as old:
            if found.layout == LAYOUT:
                await eventually(lambda: reads(old) >= TOGETHER, SECONDS)
            else:
                found.refusal = await eventually(lambda: refusal(old), SECONDS)
                await asyncio.sleep(3)  # it goes on trying
                assert deployment.written() == before, (
                    "the earlier program has written beside a layout of others"
                )
        found.note("old, back", old)
    with deployment.new() as new:
        async with deployment.changes():
            await eventually(lambda: reads(new) >= TOGETHER, SECONDS)
        await judge.recovered(SECONDS)
        await end(new)
        found.note("new again", new)


async def beside(old: Program, new: Program, found: Findings) -> None:
    """Wait until both have read for a while, or the present one alone: then there may be nothing due for the other."""
    before, others = reads(old), reads(new)
    await eventually(lambda: reads(new) >= others + TOGETHER, SECONDS)
    if found.layout == LAYOUT:
        await eventually(lambda: reads(old) >= before + TOGETHER, SECONDS)
    else:
        assert reads(old) <= before, "the earlier program has read beside a layout of others"


async def run(release: Release, folder: Path) -> Findings:
    """Try one revision."""
    found = Findings(release)
    server = Server(folder)
    server.start()
    try:
        kinds = ["orders"] if release.revision in ORDERS_ONLY else list(RECORDS)
        with Gateway(orders=COUNT, shipments=COUNT) as gateway, Judge(gateway, server.url, *kinds) as judge:
            deployment = Deployment(gateway, server, folder, release, kinds)
            try:
                await roll(deployment, judge, found)
                await roll_back(deployment, judge, found)
            except AssertionError as error:
                raise AssertionError(f"{error}\n{found}\n{deployment.last_words()}") from error
            verdict = judge.verdict()
            found.events, found.wrong, found.examples = verdict.events, verdict.counts, str(verdict)
    finally:
        server.stop(kill=True)
    return found


def main() -> int:
    """Try each revision."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.upgrade", description=__doc__)
    parser.add_argument("revisions", nargs="*", default=list(REVISIONS))
    given = parser.parse_args()
    problems = 0
    for revision in given.revisions:
        try:
            release = released(revision)
        except RevisionMissingError as error:
            sys.exit(str(error))
        with tempfile.TemporaryDirectory(prefix="ordersync-upgrade-") as name:
            found = asyncio.run(run(release, Path(name)))
        print(found)  # noqa: T201
        problems += bool(found.wrong)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
