"""`ordersync run` under a service manager: what it tells, and when it stops to tell it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.programs import Program, login_settings
from tests.support.servers import Server
from tests.support.service_manager import Listener
from tests.support.waiting import eventually
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio

RUN = ("-m", "worker.cli", "run")

STANDING_STILL = """
import sys
import anyio
from jobs import worker as schedule
from worker import cli
from worker.service import daemon
daemon.Watchdog.__init__.__defaults__ = (3.5, *daemon.Watchdog.__init__.__defaults__[1:])
turn, beat, start = schedule.SupervisedWorker.heart_beat, daemon.Watchdog.beat, daemon.Daemon.__init__
manager, beats, still = [], 0, False
def noted(self, **parts):
    manager.append(parts["manager"])
    start(self, **parts)
def last_beat(self, name):
    global beats, still
    beat(self, name)
    beats += name == "queue"
    if beats == 4:
        still = True
        manager[0].status("the queue's loop stands still")
async def stand_still(self):
    if still:
        await anyio.sleep_forever()
    await turn(self)
daemon.Daemon.__init__ = noted
daemon.Watchdog.beat = last_beat
schedule.SupervisedWorker.heart_beat = stand_still
sys.argv = ["ordersync", "run"]
cli.main()
"""
"""The queue gives a sign once all of its workers have turned. After the last one that made it so, none turns again."""


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    made = Listener(str(tmp_path / "notify"))
    yield made
    made.socket.close()


def under_manager(folder: Path, *arguments: str, **settings: str) -> Program:
    return Program(
        folder, "env", f"NOTIFY_SOCKET={folder / 'notify'}", sys.executable, *arguments, **settings
    )


async def test_ready_alive_and_stopping(
    sandbox: SandboxServer, redis_url: str, tmp_path: Path, listener: Listener
) -> None:
    """READY when a worker is at work and not before, signs of life after it, the end with the time that it may take."""
    heard: list[str] = []

    def told(wanted: str, times: int = 1) -> bool:
        heard.extend(listener.heard())
        return sum(message.startswith(wanted) for message in heard) >= times

    settings = login_settings(sandbox, redis_url, tmp_path / "data", grace_seconds="7")
    with under_manager(tmp_path, *RUN, **settings) as program:
        await eventually(lambda: told("READY=1"))
        assert program.logs("worker_started")
        await eventually(lambda: told("STATUS=1 resources polled, none failing"))
        await eventually(lambda: told("WATCHDOG=1", 3))
        program.process.send_signal(signal.SIGHUP)
        await eventually(lambda: told("RELOADING=1\nMONOTONIC_USEC=") and told("READY=1", 2))
        program.process.send_signal(signal.SIGTERM)
        assert await program.ended() == 0
    assert heard[0].startswith("STATUS=starting")
    assert listener.heard()[-1] == "STOPPING=1\nEXTEND_TIMEOUT_USEC=17000000"


async def test_it_is_not_ready_while_redis_is_away(
    sandbox: SandboxServer, own_server: Server, tmp_path: Path, listener: Listener
) -> None:
    """What is ordered after the service must not start on the word of a worker that waits."""
    own_server.stop()
    heard: list[str] = []

    def told(wanted: str) -> bool:
        heard.extend(listener.heard())
        return wanted in heard

    with under_manager(
        tmp_path, *RUN, **login_settings(sandbox, own_server.url, tmp_path / "data")
    ) as program:
        await program.logged("waiting_for_redis")
        assert not told("READY=1")
        own_server.start()
        await eventually(lambda: told("READY=1"))


async def test_no_sign_of_life_while_the_queue_stands_still(
    sandbox: SandboxServer, redis_url: str, tmp_path: Path, listener: Listener
) -> None:
    """The event loop turns on, the heartbeat is written, but no job is taken: that is no progress.

    Our own watchdog then ends the process (70) and says what stood still, before the manager's would.
    """
    settings = login_settings(sandbox, redis_url, tmp_path / "data")
    with under_manager(tmp_path, "-c", STANDING_STILL, **settings) as program:
        heard: list[str] = []

        def ended() -> bool:
            heard.extend(listener.heard())
            return program.process.poll() is not None

        await eventually(ended)
        assert program.process.wait() == 70
        assert "queue" in program.logs("worker_hangs")[-1]["stuck"]
    mark = heard.index("STATUS=the queue's loop stands still")
    assert "WATCHDOG=1" in heard[:mark]
    # One more may come: for the last sign of the queue.
    assert heard[mark:].count("WATCHDOG=1") <= 1
