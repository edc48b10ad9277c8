"""Programs whose standard error or output nobody reads: they go on, and a signal ends them in time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.consuming import Stage
from tests.support.programs import login_settings, program_env
from tests.support.streams import KEYS
from tests.support.waiting import eventually
from tests.support.webhooks import webhook_receiver
from worker.redis.connections import connect
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio

GRACE = "0.3"
STUCK = "cat > /dev/null; echo >> began; head -c 300000 /dev/zero {}; echo >> done"


@contextmanager
def full_pipe() -> Iterator[int]:
    """A pipe that is full and stays so, as of a reader that hangs."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    try:
        while True:
            os.write(write_end, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(write_end, True)
    try:
        yield write_end
    finally:
        os.close(write_end)
        os.close(read_end)


@contextmanager
def program(*words: str, cwd: Path, full: str, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command; `full`: which of its standard streams leads into a full pipe. It is gone afterwards."""
    streams: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with full_pipe() as pipe:
        process = subprocess.Popen(
            [sys.executable, "-m", "worker.cli", *words],
            cwd=cwd,
            env=program_env(**settings),
            stdin=subprocess.DEVNULL,
            **{**streams, full: pipe},
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


async def ended(process: subprocess.Popen[bytes]) -> int:
    """Send SIGTERM, and wait for the end; the exit code."""
    process.send_signal(signal.SIGTERM)
    await eventually(lambda: process.poll() is not None)
    return process.wait()


@pytest.fixture
async def stage(redis_url: str) -> AsyncIterator[Stage]:
    client = connect(redis_url)
    yield Stage(client)
    await client.aclose()


@pytest.mark.parametrize(("full", "way"), [("stderr", "batch"), ("stderr", "stay"), ("stdout", "batch")])
async def test_consume(stage: Stage, redis_url: str, tmp_path: Path, full: str, way: str) -> None:
    """The command that writes there waits; its event is given back, and is not taken for done."""
    await stage.add("a", "b")
    command = STUCK.format(">&2" if full == "stderr" else "")
    if way == "stay":
        command = f"read -r line; echo >> began; {command}"
    words = ["consume", "--group", "g", "--batch", "1", "--grace", GRACE]
    words += ["--stay"] if way == "stay" else []
    with program(*words, "--", "sh", "-c", command, cwd=tmp_path, full=full, redis__url=redis_url) as process:
        await eventually((tmp_path / "began").exists)
        assert await ended(process) == 0
    assert not (tmp_path / "done").exists()
    pending = await stage.pending()
    assert pending
    assert {owner for owner, _ in pending.values()} == {"ordersync-returned"}
    assert await stage.redis.xlen(KEYS.dead("orders")) == 0


async def test_forward(stage: Stage, redis_url: str, tmp_path: Path) -> None:
    """It says at its start that requests are not signed, and goes on although nobody reads that."""
    await stage.add("a")
    with webhook_receiver() as receiver:
        words = ("forward", "--group", "g", "--to", receiver.url, "--grace", GRACE)
        with program(*words, cwd=tmp_path, full="stderr", redis__url=redis_url) as process:
            await eventually(lambda: receiver.subjects() == ["a1"])
            assert await ended(process) == 0
    assert await stage.pending() == {}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_tail(stage: Stage, redis_url: str, tmp_path: Path, number: signal.Signals) -> None:
    """It acknowledges nothing, so it may end in the middle of a line."""
    await stage.add("a")
    with program("tail", "--json", cwd=tmp_path, full="stdout", redis__url=redis_url) as process:
        await eventually(lambda: _is_writing(process.pid))
        process.send_signal(number)
        await eventually(lambda: process.poll() is not None)


async def test_the_daemon(stage: Stage, redis_url: str, tmp_path: Path, sandbox: SandboxServer) -> None:
    """It polls and publishes as always, and ends in order."""
    settings = login_settings(sandbox, redis_url, tmp_path, log__level="debug")
    with program("run", cwd=tmp_path, full="stderr", **settings) as process:
        await eventually(lambda: stage.redis.xlen(KEYS.stream("orders")))
        sandbox.store.change(1, note="x")
        await eventually(lambda: _has(stage, 51))
        assert await ended(process) == 0


async def _has(stage: Stage, events: int) -> bool:
    return bool(await stage.redis.xlen(KEYS.stream("orders")) == events)


def _is_writing(pid: int) -> bool:
    """Whether the process waits in a write to a pipe."""
    return "pipe" in Path(f"/proc/{pid}/wchan").read_text()
