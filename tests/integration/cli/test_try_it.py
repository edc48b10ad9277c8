"""The first thing that people type: `ordersync run --sandbox`, and the commands it names, as installed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import psutil
import pytest
from redis.asyncio import Redis

from tests.recorded.page import shape
from tests.support.documentation import blocks
from tests.support.programs import Program, program_env, run_beside
from tests.support.waiting import PATIENCE, eventually
from ordersync_consumer.envelope import FIELDS
from worker.redis import embedded

pytestmark = pytest.mark.anyio

ORDERSYNC = str(Path(sys.executable).with_name("ordersync"))
STREAM = "ordersync:{sandbox}:stream:orders"
IN_A_GROUP = "import os, sys; os.setpgid(0, 0); os.execv(sys.argv[1], sys.argv[1:])"
"""As a shell starts a command: Ctrl-C goes to all processes of its group."""


@contextmanager
def started(folder: Path, **settings: str) -> Iterator[Program]:
    """`ordersync run --sandbox` with a data folder of its own."""
    command = (sys.executable, "-c", IN_A_GROUP, ORDERSYNC, "run", "--sandbox", "--orders", "300")
    with Program(folder, *command, data_dir=str(folder / "data"), **settings) as program:
        yield program


@contextmanager
def nothing_left(processes: list[psutil.Process]) -> Iterator[None]:
    """Those that are meant to end within the block are gone after it, whatever happened."""
    try:
        yield
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


@pytest.fixture(scope="module")
def at_work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a daemon that has read its orders and goes on."""
    folder = tmp_path_factory.mktemp("at-work")
    with started(folder, poll__intervals='{"orders": 1}') as program:
        asyncio.run(program.logged("poll_done"))
        yield folder


async def command(folder: Path, *words: str) -> CompletedProcess[str]:
    """A command in a second terminal."""
    env = program_env(data_dir=str(folder / "data"))
    return await run_beside(*(words if words[0] == ORDERSYNC else (ORDERSYNC, *words)), cwd=folder, env=env)


async def events(folder: Path) -> int:
    """How many events stand in the embedded server; 0 before it runs."""
    running = embedded.find(folder / "data")
    if running is None:
        return 0
    async with Redis.from_url(running.url) as client:
        return int(await client.xlen(STREAM))


async def gone(processes: list[psutil.Process]) -> None:
    """All of them end."""
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, PATIENCE)
    assert alive == []


async def test_events_at_once_and_a_clean_end(tmp_path: Path) -> None:
    """Events come; Ctrl-C and SIGTERM end all, with exit 0 and no job cut short; then the folder serves a new start."""
    for number in (signal.SIGINT, signal.SIGTERM):
        with started(tmp_path) as program:
            await eventually(lambda: events(tmp_path))
            done = await program.logged("poll_done")
            assert done["outcome"] == "complete"
            assert done["snapshot"] >= 300  # also of the second sandbox: it starts from nothing
            assert program.logs("embedded_server_taken_over") == []
            running = embedded.find(tmp_path / "data")
            family = program.children()
            assert running is not None
            assert len(family) == 2
            assert running.pid in {process.pid for process in family}
            # Both are out of the reach of Ctrl-C: the daemon ends them when the last page is committed.
            assert program.process.pid not in {os.getpgid(process.pid) for process in family}
            with nothing_left(family):
                os.killpg(program.process.pid, number)  # to the whole group, as a terminal does
                assert await program.ended() == 0
                await gone(family)
            assert embedded.find(tmp_path / "data") is None
            assert "Traceback" not in program.err
            assert {line["level"] for line in program.logs()} == {"info"}


async def test_what_it_says_can_be_typed(tmp_path: Path) -> None:
    """It names `tail` and `status`, in a form that works when it is typed as it stands there."""
    with started(tmp_path) as program:
        await program.logged("poll_done")
        block = program.out.partition("In a second terminal:\n")[2].partition("\n\n")[0]
        typed = [shlex.split(re.split(r"\s{3,}", line.strip())[0]) for line in block.splitlines()]
        assert [words[1:] for words in typed] == [["tail", "orders"], ["status"]]
        status = await command(tmp_path, *typed[1])
        assert (status.returncode, status.stderr) == (0, "")
        assert "sandbox  orders" in status.stdout
        with Program(tmp_path, *typed[0], data_dir=str(tmp_path / "data")) as tail:
            await eventually(lambda: tail.out)
            tail.process.send_signal(signal.SIGINT)
            assert await tail.ended() == 0
            assert tail.err == ""


async def test_after_a_kill(tmp_path: Path) -> None:
    """The sandbox of a daemon killed by SIGKILL ends by itself; the next run takes over the Valkey and works."""
    with started(tmp_path) as first:
        await first.logged("poll_done")
        running = embedded.find(tmp_path / "data")
        assert running is not None
        family = first.children()
        others = [process for process in family if process.pid != running.pid]
        assert len(others) == 1
        with nothing_left(family):
            first.process.kill()
            assert await first.ended() == -signal.SIGKILL
            await gone(others)
            valkey = psutil.Process(running.pid)
            assert valkey.is_running()
            with started(tmp_path) as second:
                assert (await second.logged("embedded_server_taken_over"))["pid"] == running.pid
                # The orders of the new sandbox are new ones: all of them are published.
                assert (await second.logged("poll_done"))["snapshot"] >= 300
                shown = await command(tmp_path, "tail", "--no-follow", "-n", "1")
                assert (shown.returncode, len(shown.stdout.splitlines())) == (0, 1)
                second.process.send_signal(signal.SIGINT)
                assert await second.ended() == 0
                await gone([valkey])


async def test_once(tmp_path: Path) -> None:
    """`--once` reads all orders of the sandbox, says how many, and ends with exit 0; nothing is left running."""
    done = await command(tmp_path, "run", "--sandbox", "--once", "--json", "--orders", "40")
    assert done.returncode == 0
    (summary,) = json.loads(done.stdout)
    assert (summary["account"], summary["outcome"]) == ("sandbox", "complete")
    assert summary["snapshot"] >= 40
    assert embedded.find(tmp_path / "data") is None


# --- beside a daemon at work ------------------------------------------------------------------------------


async def test_tail_shows_changes_as_they_come(at_work: Path) -> None:
    """`tail` goes on: beyond what was there it shows what changes in the sandbox, in the order of `sequence`."""
    follow = (ORDERSYNC, "tail", "orders", "--json", "-n", "1")
    with Program(at_work, *follow, data_dir=str(at_work / "data")) as tail:

        def whole_lines() -> list[dict[str, Any]]:
            return [json.loads(line) for line in tail.out.splitlines(keepends=True) if line.endswith("\n")]

        await eventually(lambda: len(whole_lines()) >= 4)
        lines = whole_lines()
        tail.process.send_signal(signal.SIGINT)
        assert await tail.ended() == 0
    first = lines[0]["sequence"]
    assert [line["sequence"] for line in lines] == list(range(first, first + len(lines)))
    assert {line["type"].rpartition(".")[2] for line in lines[1:]} <= {"created", "updated"}
    assert {"entry_id", *FIELDS} == set(lines[0])


async def test_status_of_it(at_work: Path) -> None:
    """`status` finds the embedded server by the data folder alone, and tells that all is well."""
    (row,) = json.loads((await command(at_work, "status", "--json")).stdout)
    assert (row["account"], row["resource"], row["health"], row["dead"]) == ("sandbox", "orders", "ok", 0)
    assert row["records"] >= 300
    assert row["events"] >= row["records"]
    assert row["fresh_s"] < PATIENCE
    assert row["stream"] == STREAM


def quoted(page: str, command: str) -> str:
    """Return the output that a page quotes of a command."""
    (text,) = [each.text for each in blocks(page, "console") if each.text.startswith(f"$ {command}\n")]
    return text.partition("\n")[2]


def form(text: str) -> list[str]:
    """Return the form of an output: without numbers, times, hosts and folders."""
    text = re.sub(r"alive: \S+", "alive: WORKER", text)
    return shape(re.sub(r"data in [^)]+", "data in FOLDER", text).strip())


def greeting(folder: Path) -> str:
    """Return what `run --sandbox` has printed, up to what can be done in a second terminal."""
    (text,) = [text for path in folder.glob("out-*") if "OrderMesh" in (text := path.read_text())]
    return text.partition("\n\nIn a second")[0]


@pytest.mark.parametrize("page", ["README.md", "docs/start/try-it.md"])
async def test_what_the_documentation_quotes(at_work: Path, page: str) -> None:
    """The outputs of `status`, and of `run --sandbox` where it is quoted, have the form that is quoted."""
    status = (await command(at_work, "status")).stdout
    assert form(status) == form(quoted(page, ".venv/bin/ordersync status"))
    if page != "README.md":
        assert form(greeting(at_work)) == form(quoted(page, "make run"))


async def test_health_of_it(at_work: Path) -> None:
    """`health` is 0 and names the process that it has heard of."""
    done = await command(at_work, "health")
    assert (done.returncode, done.stdout) == (0, "healthy\n")
    found = json.loads((await command(at_work, "health", "--json")).stdout)
    assert psutil.pid_exists(found["heartbeat"]["pid"])
    assert [beat["resource"] for beat in found["heartbeat"]["resources"]] == ["orders"]


async def test_a_second_run_is_refused(at_work: Path) -> None:
    """It would empty the account of the first: exit 2, naming the setting; the first goes on."""
    before = embedded.find(at_work / "data")
    done = await command(at_work, "run", "--sandbox")
    assert (done.returncode, done.stdout) == (2, "")
    assert "ORDERSYNC_DATA_DIR" in done.stderr
    assert embedded.find(at_work / "data") == before
    assert (await command(at_work, "status")).returncode == 0


async def test_ctrl_c_during_the_start(tmp_path: Path) -> None:
    """It ends at once, with the shell's status for Ctrl-C, and leaves nothing running either."""
    with started(tmp_path) as program:
        await eventually(program.children)
        family = program.children()
        program.process.send_signal(signal.SIGINT)
        assert await program.ended() in {0, 130}
        await gone(family)
        assert "Traceback" not in program.err
