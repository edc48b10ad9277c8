"""Consumers of a daemon that trims each second: they are killed, their group is dropped, events are replayed."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from pathlib import Path

import pytest

from tests.support.commands import ordersync
from tests.support.gateway import Gateway, Judge
from tests.support.programs import Program
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

GROUP = "billing"


class Ear:
    """A consumer as a process, `ordersync consume`, that writes every event that it hears to a file."""

    def __init__(self, folder: Path, settings: dict[str, str], name: str) -> None:
        self.folder, self.settings, self.name = folder, settings, name
        self.file = folder / f"heard-{name}"
        self.file.touch()

    def process(self, *options: str) -> Program:
        """The process; a line that a kill cut short is not written."""
        script = f'while read -r line; do printf "%s\\n" "$line" >> {shlex.quote(str(self.file))}; done'
        words = (sys.executable, "-m", "worker.cli", "consume", "--group", GROUP, "--name", self.name)
        return Program(self.folder, *words, *options, "orders", "--", "sh", "-c", script, **self.settings)

    def lines(self) -> list[str]:
        """What it heard, in order."""
        return self.file.read_text().splitlines()


def work(gateway: Gateway) -> None:
    """Let orders change and come."""
    history = gateway.history
    history.change("orders", history.ids("orders")[5::20])
    history.create("orders", 1)


async def heard(judge: Judge, *ears: Ear) -> int:
    """Wait until consumers have heard everything; how often they heard an event again."""
    again = 0

    def all_of_it() -> bool:
        nonlocal again
        judge.told.clear()
        lines = [line for ear in ears for line in ear.lines()]
        again = judge.hear("orders", sorted(lines, key=_position))
        return not judge.missed()

    await eventually(all_of_it)
    return again


def _position(line: str) -> tuple[int, int]:
    before, _, after = json.loads(line)["entry"].partition("-")
    return int(before), int(after)


async def test_killed_while_the_daemon_trims(redis_url: str, tmp_path: Path) -> None:
    """Nothing is trimmed that a killed consumer has not acknowledged."""
    with Gateway(orders=150) as gateway, Judge(gateway, redis_url) as judge:
        judge.deaf = True
        settings = gateway.settings(
            redis_url,
            tmp_path,
            events__groups=f'{{"{GROUP}": ["orders"]}}',
            retention__every="1",
            retention__max_entries="1",
        )
        ear = Ear(tmp_path, settings, "one")
        with Program(tmp_path, **settings) as daemon:
            await daemon.logged("group_created")
            for _ in range(3):
                with ear.process("--batch", "5"):
                    before = len(ear.lines())
                    await eventually(lambda: len(ear.lines()) > before + 3)  # noqa: B023 - awaited here
                    work(gateway)
            with ear.process():
                await heard(judge, ear)
            await daemon.logged("stream_trimmed")
        assert judge.verdict().counts == {}


async def test_a_group_that_is_dropped_and_made_again(redis_url: str, tmp_path: Path) -> None:
    """The consumer ends and says so; the new group hears everything that the stream holds, once."""
    with Gateway(orders=60) as gateway, Judge(gateway, redis_url) as judge:
        judge.deaf = True
        settings = gateway.settings(redis_url, tmp_path)
        first, second = Ear(tmp_path, settings, "first"), Ear(tmp_path, settings, "second")
        with Program(tmp_path, **settings):
            with first.process() as consumer:
                await heard(judge, first)
                done = ordersync("groups", "drop", GROUP, "orders", "--yes", cwd=tmp_path, **settings)
                assert done.returncode == 0, done.stderr
                assert await consumer.ended() == 1
            work(gateway)
            with second.process():
                await heard(judge, second)
        assert judge.verdict().counts == {}


async def test_replayed_while_it_consumes(redis_url: str, tmp_path: Path) -> None:
    """Replays deliver old events again, marked as such; no new one is missed or delivered twice meanwhile."""
    with Gateway(orders=60) as gateway, Judge(gateway, redis_url) as judge:
        judge.deaf = True
        settings = gateway.settings(redis_url, tmp_path)
        ear = Ear(tmp_path, settings, "one")
        with Program(tmp_path, **settings), ear.process():
            await heard(judge, ear)
            for _ in range(3):
                work(gateway)
                done = ordersync("replay", "--group", GROUP, "orders", cwd=tmp_path, **settings)
                assert done.returncode == 0, done.stderr
                await asyncio.sleep(0.5)
            await heard(judge, ear)
        assert judge.verdict().counts == {}
        new = [line for line in ear.lines() if '"replayed": false' in line]
        assert len(new) == len({_position(line) for line in new})
        assert len(ear.lines()) > len(new)
