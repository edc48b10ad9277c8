"""`ordersync run --sandbox`: what a newcomer types first."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest
from redis.asyncio import Redis

from tests.conftest import Program, eventually, ordersync
from worker import embedded

pytestmark = pytest.mark.anyio

STREAM = "ordersync:{sandbox}:stream:orders"


def newcomer(folder: Path, *more: str) -> Program:
    command = (sys.executable, "-m", "worker.cli", "run", "--sandbox", "--orders", "500", *more)
    return Program(folder, *command, data_dir=str(folder / "data"))


async def events(folder: Path) -> int:
    running = embedded.find(folder / "data")
    if running is None:
        return 0
    async with Redis.from_url(running.url) as client:
        return int(await client.xlen(STREAM))


async def gone(processes: list[psutil.Process], seconds: float) -> None:
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, seconds)
    assert alive == []


async def test_events_within_ten_seconds_and_an_end_in_five(tmp_path: Path) -> None:
    """It says what goes on and what to type next; those commands work; Ctrl-C leaves nothing running."""
    began = time.monotonic()
    with newcomer(tmp_path) as program:
        await eventually(lambda: events(tmp_path), 10)
        assert time.monotonic() - began < 10
        await program.logged("poll_done")
        for words in (
            "500 made-up orders",
            "tail orders",
            "status",
            "Ctrl-C ends it",
            "embedded Valkey",
            "every 5 s",
        ):
            assert words in program.out

        values = {"data_dir": str(tmp_path / "data")}
        shown = ordersync("tail", "orders", "--no-follow", "-n", "3", cwd=tmp_path, **values)
        assert (shown.returncode, len(shown.stdout.splitlines())) == (0, 3)
        (row,) = json.loads(ordersync("status", "--json", cwd=tmp_path, **values).stdout)
        assert (row["account"], row["health"]) == ("sandbox", "ok")
        await eventually(lambda: ordersync("health", cwd=tmp_path, **values).returncode == 0, 10)

        second = ordersync(
            "run", "--sandbox", cwd=tmp_path, **values
        )  # it would empty the account of the first
        assert second.returncode == 2
        assert "ORDERSYNC_DATA_DIR" in second.stderr

        family = [psutil.Process(program.process.pid), *program.children()]
        assert len(family) == 3
        began = time.monotonic()
        program.process.send_signal(signal.SIGINT)
        assert await program.ended(5) == 0
        assert time.monotonic() - began < 5
        await gone(family[1:], 0.5)
        assert "Traceback" not in program.err


async def test_what_is_left_after_sigkill(tmp_path: Path) -> None:
    """The sandbox ends by itself; Valkey goes on, and the next run takes it over, works, and ends it."""
    with newcomer(tmp_path) as first:
        await first.logged("poll_done")
        running = embedded.find(tmp_path / "data")
        assert running is not None
        family = first.children()
        sandboxes = [process for process in family if process.pid != running.pid]
        assert len(sandboxes) == 1
        first.process.kill()
        await first.ended()
        await gone(sandboxes, 5)
        valkey = psutil.Process(running.pid)
        assert valkey.is_running()
    with newcomer(tmp_path) as second:
        line = await second.logged("embedded_server_taken_over")
        assert line["pid"] == running.pid
        line = await second.logged("poll_done")
        assert line["snapshot"] >= 500  # the new sandbox has new orders: nothing of the old ones is believed
        second.process.send_signal(signal.SIGINT)
        assert await second.ended(5) == 0
        await gone([valkey], 2)


async def test_ctrl_c_during_the_start(tmp_path: Path) -> None:
    """It ends at once, with the shell's status for Ctrl-C, and leaves nothing running either."""
    with newcomer(tmp_path) as program:
        await eventually(program.children)
        family = program.children()
        program.process.send_signal(signal.SIGINT)
        assert await program.ended(5) in {0, 130}
        await gone(family, 2)
        assert "Traceback" not in program.err


async def test_a_bad_number_of_orders_is_wrong_use(tmp_path: Path) -> None:
    """Told by the command line, not by the sandbox's last words."""
    done = ordersync("run", "--sandbox", "--orders", "-5", cwd=tmp_path, data_dir=str(tmp_path / "data"))
    assert done.returncode == 2
    assert "--orders" in done.stderr
