"""What the daemon does for itself: the watchdog ends a process that hangs, and freed memory is given back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.log_lines import check_log
from tests.support.programs import Program, program_env
from tests.support.waiting import PATIENCE, eventually
from worker.cancellation import end
from worker.clock import SystemClock, parse_time
from worker.service import daemon as daemon_module
from worker.service.watchdog import HANG_STATUS, Watchdog

pytestmark = pytest.mark.anyio


# --- the watchdog -----------------------------------------------------------------------------------


HANGING = """
import asyncio, sys, time
from worker import cli
from worker.service import daemon
daemon.Watchdog.__init__.__defaults__ = (3.0, *daemon.Watchdog.__init__.__defaults__[1:])
beat = daemon.Daemon._beat
async def hang(self):
    asyncio.get_running_loop().call_later(1, lambda: {block})
    await beat(self)
daemon.Daemon._beat = hang
sys.argv = ["ordersync", "run"]
cli.main()
"""


async def test_the_watchdog_ends_a_hung_process(settings: dict[str, str], tmp_path: Path) -> None:
    """Status 70, and the last line says which loops stand still and where."""
    script = HANGING.format(block="time.sleep(600)")
    with Program(tmp_path, sys.executable, "-c", script, **settings) as program:
        assert await program.ended() == 70
        last = program.logs()[-1]
        assert (last["event"], last["level"]) == ("worker_hangs", "critical")
        assert "loop" in last["stuck"]
        assert last["stack"].startswith("<lambda>:")
        check_log([last])


STUCK_JOB = """
import asyncio, sys
from jobs import poll
from worker import cli
from worker.service import daemon
from worker.capture.poll import Poller
seconds, end, _ = daemon.Watchdog.__init__.__defaults__
daemon.Watchdog.__init__.__defaults__ = (4.0, end, 2.0)
async def never(*_, **__):
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
Poller.poll = never
sys.argv = ["ordersync", "run"]
cli.main()
"""


async def test_the_watchdog_names_the_job_that_is_stuck(settings: dict[str, str], tmp_path: Path) -> None:
    """The loops turn, and a job does not end: status 70; the last line names it, since when, and where it stands."""
    with Program(tmp_path, sys.executable, "-c", STUCK_JOB, **settings) as program:
        began = time.time()
        assert await program.ended() == 70
        last = program.logs()[-1]
        check_log([last])
        job = "scans/poll:default:orders"
        assert (last["event"], last["stuck"]) == ("worker_hangs", [job])
        assert began - 1 < (parse_time(last["stuck_since"]) or 0) / 1000 < time.time() - last["seconds"] + 1
        (place,) = last["under_way"]
        assert re.fullmatch(rf"{job} for \d+ s at (wait:\d+ < )?never:\d+ < poll:\d+ < .*_run:\d+.*", place)


async def test_the_watchdog_ends_a_process_whose_log_nobody_reads(
    settings: dict[str, str], tmp_path: Path
) -> None:
    """The pipe of the log is full when the loop hangs: last words must not wait for its reader."""
    full = "[daemon.get_logger().error('x' * 100000) for _ in range(20)]"
    script = HANGING.format(block=f"({full}, time.sleep(1000))")
    out, inn = os.pipe()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, cwd=tmp_path, env=program_env(**settings),
        stdout=asyncio.subprocess.DEVNULL, stderr=inn,
    )  # fmt: skip
    try:
        os.close(inn)
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 70
    finally:
        os.close(out)
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_process_that_was_frozen_is_not_hung(settings: dict[str, str], tmp_path: Path) -> None:
    """Ctrl-Z or `docker pause` for longer than the watchdog's time: it goes on afterwards, and says so."""
    script = HANGING.format(block="None")
    with Program(tmp_path, sys.executable, "-c", script, **settings) as program:
        await program.logged("poll_done")
        program.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(4.5)
        program.process.send_signal(signal.SIGCONT)
        polls = len(program.logs("poll_done"))
        await program.logged("poll_done", polls + 1)
        await program.logged("worker_was_frozen")
        line = program.logs("worker_was_frozen")[-1]
        assert line["seconds"] > 3
        check_log([line])
        assert not program.logs("worker_hangs")


def test_the_watchdog_guards_what_has_beaten_and_was_not_forgotten() -> None:
    """A loop that has ended in order is no hung loop."""
    ended: list[int] = []
    over = threading.Event()

    def end(status: int) -> None:
        ended.append(status)
        over.set()

    watchdog = Watchdog(1.5, end)
    watchdog.beat("a")
    watchdog.beat("b")
    watchdog.forget("a")
    watchdog.start()
    for _ in range(40):
        time.sleep(0.05)
        watchdog.beat("b")
    assert ended == []
    assert over.wait(PATIENCE)
    assert ended == [HANG_STATUS]
    watchdog.stop()


async def test_a_queue_that_does_not_end_in_time_is_left(tmp_path: Path) -> None:
    """On a slow machine, or without an answer of Redis: the process ends, and that is no failure of the worker."""

    class Slow:
        """A worker that is never done with its last words."""

        async def close(self) -> None:
            await asyncio.sleep(600)

    async def nothing() -> Any:
        return []

    daemon = daemon_module.Daemon(
        worker_id="w", data_dir=tmp_path, make_worker=lambda: None, wait_for_redis=nothing, report=nothing,  # type: ignore[arg-type,return-value] # not used
        reload=nothing, grace=0, clock=SystemClock(),
    )  # fmt: skip
    over = False

    async def go_on() -> None:
        while not over:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(600)

    running = asyncio.ensure_future(go_on())
    await asyncio.sleep(0)
    await daemon._close(Slow(), running)  # type: ignore[arg-type] # duck-typed
    assert not running.done()
    over = True
    await end(running)


# --- memory -----------------------------------------------------------------------------------------


GIVING_BACK = """
import sys
from worker import cli
from worker.service import daemon, memory
daemon.MEMORY_SECONDS = 0.1
give_back = memory.give_back
def noted():
    give_back()
    print("given back", flush=True)
memory.give_back = noted
sys.argv = ["ordersync", "run"]
cli.main()
"""


async def test_freed_memory_is_given_back_again_and_again(settings: dict[str, str], tmp_path: Path) -> None:
    """A worker that has read much is not kept large by it."""
    with Program(tmp_path, sys.executable, "-c", GIVING_BACK, **settings) as program:
        await eventually(lambda: program.out.count("given back") >= 3)
