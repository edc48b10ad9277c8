"""The command line: answers on stdout, reasons on stderr, exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.commands import each_of, ordersync
from tests.support.programs import Program, program_env, run_beside
from tests.support.servers import free_port
from tests.support.waiting import PATIENCE
from tests.support.worker import Bench
from worker import __version__
from worker.cli import COMMANDS
from worker.service import heartbeat

pytestmark = pytest.mark.anyio


STREAM = "ordersync:{default}:stream:orders"


def loaded_by(folder: Path, *arguments: str, **settings: str) -> set[str]:
    """The modules that a command has imported."""
    script = (
        f"import sys; sys.argv = ['ordersync', *{list(arguments)!r}]\n"
        "from worker.cli import main\n"
        "try: main()\n"
        "finally: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=program_env(**settings),
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    return set(done.stderr.split())


def test_version(tmp_path: Path) -> None:
    done = ordersync("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"ordersync {__version__}\n")


def test_help_names_every_command_and_the_exit_codes(tmp_path: Path) -> None:
    """With examples; `-h` is the same."""
    done = ordersync("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert all(f"  {name} " in done.stdout for name in COMMANDS)
    assert "Exit codes: 0 success, 1 failure, 2 wrong usage or settings, 3 Redis or" in done.stdout
    assert "ordersync run --sandbox" in done.stdout
    assert ordersync("-h", cwd=tmp_path).stdout == done.stdout


def test_help_of_each_command_has_an_example(tmp_path: Path) -> None:
    """And needs no settings."""
    commands = [("config", "show") if name == "config" else (name,) for name in COMMANDS]
    for words, done in zip(commands, each_of([(*c, "--help") for c in commands], tmp_path), strict=True):
        assert done.returncode == 0
        assert "Example" in done.stdout
        assert f"ordersync {' '.join(words)}" in done.stdout.replace('", "', " ")


def test_help_and_health_import_nothing_heavy(tmp_path: Path) -> None:
    """They answer at once: `--help` to a person, `health` to a container that asks every few seconds."""
    heavy = {"pydantic", "pydantic_settings", "aiohttp", "httpx", "redis", "arq", "structlog", "starlette"}
    for arguments in (("--help",), ("health", "--json")):
        loaded = loaded_by(tmp_path, *arguments, data_dir=str(tmp_path))
        assert "worker.cli" in loaded
        assert not heavy & loaded


def test_status_imports_neither_engine_nor_log(tmp_path: Path, redis_url: str) -> None:
    """Also while it runs: it writes no line of the log, and takes the shape of no record."""
    loaded = loaded_by(tmp_path, "status", redis__url=redis_url)
    assert "worker.admin.status" in loaded
    assert not {"structlog", "worker.telemetry.catalog", "aiohttp", "httpx", "arq", "worker.app"} & loaded


def test_wrong_use_is_exit_2(tmp_path: Path) -> None:
    """A sentence on stderr, nothing on stdout, no traceback."""
    commands = [
        ("nosuch",), ("run", "--nosuch"), ("tail", "parcels"), ("tail", "--from", "soon"), ("tail", "-n", "-1"),
        ("tail", "--from", "9" * 30), ("sandbox", "--port", "99999"), ("status", "extra"),
    ]  # fmt: skip
    for done in each_of(commands, tmp_path):
        assert (done.returncode, done.stdout) == (2, ""), done.args
        assert done.stderr
        assert "Traceback" not in done.stderr


def test_looking_where_nothing_runs_is_exit_3(tmp_path: Path) -> None:
    """Without a worker the way to start one is named, without Redis its address, never the password."""
    commands = [("status",), ("tail",)]
    for done in each_of(commands, tmp_path, data_dir=str(tmp_path)):
        assert done.returncode == 3
        assert "ordersync run --sandbox" in done.stderr
    url = f"redis://:hunter2-hunter2@127.0.0.1:{free_port()}/0"
    for done in each_of(commands, tmp_path, redis__url=url):
        assert done.returncode == 3
        assert "redis://:***@127.0.0.1" in done.stderr
        assert "hunter2" not in done.stderr + done.stdout


def test_a_bad_setting_is_exit_2(tmp_path: Path) -> None:
    """Whatever command meets it."""
    for done in each_of([("status",), ("tail",), ("run",)], tmp_path, api__page_size="x"):
        assert done.returncode == 2
        assert "ORDERSYNC_API__PAGE_SIZE" in done.stderr


async def test_status(first_read: Bench, redis_url: str, tmp_path: Path) -> None:
    """A table for people, objects for programs, with the same facts."""
    (row,) = json.loads(ordersync("status", "--json", cwd=tmp_path, redis__url=redis_url).stdout)
    assert row.items() >= {
        "account": "default", "resource": "orders", "health": "ok", "records": 50, "events": 50, "dead": 0,
        "stream": STREAM,
    }.items()  # fmt: skip
    assert 0 <= row["fresh_s"] < 60
    words, _, head, line, *_ = ordersync("status", cwd=tmp_path, redis__url=redis_url).stdout.splitlines()
    assert words == "No worker is alive for default: nothing is read."
    assert head.split() == [
        "account",
        "resource",
        "health",
        "lane",
        "records",
        "events",
        "dead",
        "unread",
        "fresh",
        "last",
        "success",
        "records/min",
        "events/min",
    ]
    assert line.split()[:7] == ["default", "orders", "ok", "polls", "50", "50", "0"]


async def test_status_tells_the_cause(first_read: Bench, redis_url: str, tmp_path: Path) -> None:
    """A resource that is ill says why below the table."""
    await first_read.redis.hset(
        first_read.account.keys.cursor("orders"), mapping={"failures": "2", "error": "status 503"}
    )
    shown = ordersync("status", cwd=tmp_path, redis__url=redis_url).stdout
    assert "default/orders is degraded: the poll failed 2 times in a row: status 503" in shown


def test_status_of_an_empty_redis(redis_url: str, tmp_path: Path) -> None:
    done = ordersync("status", cwd=tmp_path, redis__url=redis_url)
    assert (done.returncode, done.stdout) == (
        0,
        "No worker has used this Redis yet. To start one: ordersync run\n",
    )
    assert ordersync("status", "--json", cwd=tmp_path, redis__url=redis_url).stdout == "[]\n"


def test_health(tmp_path: Path) -> None:
    """0 while fresh, 1 with the reason else; the folder may come from `.env`, and an empty variable counts as none."""
    done = ordersync("health", cwd=tmp_path, data_dir=str(tmp_path))
    assert (done.returncode, done.stdout) == (
        1, "no worker has written a heartbeat. To start one: ordersync run\n",
    )  # fmt: skip
    heartbeat.write(tmp_path / "data", heartbeat.Beat("w", os.getpid(), time.time(), 1.0))
    done = ordersync("health", cwd=tmp_path, data_dir=str(tmp_path / "data"))
    assert (done.returncode, done.stdout) == (0, "healthy\n")
    (tmp_path / ".env").write_text(f"ORDERSYNC_DATA_DIR={tmp_path / 'data'}\n")
    for values in ({}, {"data_dir": ""}):
        found = ordersync("health", "--json", cwd=tmp_path, **values)
        assert found.returncode == 0
        assert json.loads(found.stdout)["heartbeat"]["worker"] == "w"


@pytest.mark.parametrize("arguments", ["tail --json --from 0 --no-follow", "status", "config show", "--help"])
async def test_a_reader_that_has_gone_is_no_failure(
    first_read: Bench, redis_url: str, tmp_path: Path, arguments: str
) -> None:
    """`ordersync tail --json | head -1`: exit 0, and not a word."""
    ordersync_ = f"{sys.executable} -m worker.cli {arguments}"
    env = program_env(redis__url=redis_url)
    shell = f"{ordersync_} | head -c 1 > /dev/null; echo ${{PIPESTATUS[0]}}"
    done = await run_beside("bash", "-c", shell, cwd=tmp_path, env=env)
    assert (done.stdout, done.stderr) == ("0\n", "")
    shell = f"(sleep 0.3; {ordersync_}; echo $? >&2) | true"  # the reader is gone before anything was written
    done = await run_beside("bash", "-c", shell, cwd=tmp_path, env=env)
    assert done.stderr == "0\n"


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
async def test_colours(
    first_read: Bench, redis_url: str, tmp_path: Path, no_color: str, *, coloured: bool
) -> None:
    """On a terminal, unless NO_COLOR is set; never off one."""
    ours, theirs = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "worker.cli", "status"),
            cwd=tmp_path,
            env=program_env(redis__url=redis_url) | {"NO_COLOR": no_color, "TERM": "xterm"},
            stdout=theirs,
        )
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
        shown = os.read(ours, 10_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "default" in shown
    assert ("\x1b[" in shown) is coloured
    assert "\x1b[" not in ordersync("status", cwd=tmp_path, redis__url=redis_url).stdout


async def test_the_sandbox_command(tmp_path: Path) -> None:
    """It says where it listens and how to log in, works, and ends in order."""
    still = ("--orders", "5", "--changes-per-second", "0")
    command = (sys.executable, "-m", "worker.cli", "sandbox", "--port", "0", *still, "--json")
    with Program(tmp_path, *command) as program:
        while not program.out.endswith("\n"):
            assert program.process.poll() is None, program.err
            await asyncio.sleep(0.02)
        ready: dict[str, Any] = json.loads(program.out)
        async with httpx.AsyncClient() as client:
            stats = (await client.get(f"{ready['url']}/_sandbox/stats")).json()
        assert (ready["orders"], stats["orders"]) == (5, 5)
        port = ready["url"].rpartition(":")[2]
        done = ordersync("sandbox", "--port", port, cwd=tmp_path)
        assert done.returncode == 3
        assert f"port {port}" in done.stderr
        program.process.send_signal(signal.SIGINT)
        assert await program.ended() == 0
    (tmp_path / "faults.toml").write_text("[[rule]]\naction = 'nosuch'\n")
    done = ordersync("sandbox", "--faults", "faults.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert "--faults" in done.stderr
