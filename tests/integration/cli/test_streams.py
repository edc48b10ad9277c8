"""Standard streams that are not those of a modern terminal: other encodings, closed, full."""

from __future__ import annotations

import ast
import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from tests.support.commands import ordersync
from tests.support.paths import ROOT
from tests.support.programs import login_settings, program_env, run_to_its_end
from tests.support.waiting import PATIENCE, wait_for
from tests.support.worker import BenchMaker
from worker.app import announce
from worker.cli.common.streams import _PLAIN
from worker.reporting import reporter
from worker.sandbox import SandboxServer

CLI = (sys.executable, "-m", "worker.cli")
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


def run_in_shell(words: str, cwd: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `ordersync` with arguments and redirections, as typed in a shell."""
    command = ("sh", "-c", f'"{sys.executable}" -m worker.cli {words}')
    return run_to_its_end(*command, cwd=cwd, env=program_env(**settings))


@pytest.mark.anyio
@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
@pytest.mark.parametrize("words", ["status", "status --json", "coverage", "runs", "tail orders --no-follow"])
async def test_a_terminal_without_unicode(
    bench: BenchMaker, redis_url: str, tmp_path: Path, encoding: str, words: str
) -> None:
    """Every command prints what the encoding has, and something plain in place of the rest."""
    async with bench() as b:
        await announce(b.services)
        b.sandbox.store.change(1, user={"firstName": "Łukasz"})
        await b.poll()
        await reporter(b.services)()
    env = program_env(redis__url=redis_url) | {"PYTHONIOENCODING": encoding}
    done = await asyncio.to_thread(
        subprocess.run, (*CLI, *words.split()), cwd=tmp_path, env=env, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout


def test_every_symbol_has_a_plain_substitute() -> None:
    """No string that a command shows has a symbol that a Latin-1 terminal would lose."""
    shown = {
        letter
        for folder in ("cli", "admin")
        for file in (ROOT / "worker" / folder).rglob("*.py")
        if file.name != "streams.py"
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for letter in node.value
        if ord(letter) > 127
    }
    assert shown
    assert shown == set(_PLAIN)


@needs_full
def test_a_daemon_whose_output_is_full_works(sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> None:
    """The greeting and the log are lost; the events are not, and SIGTERM ends it with 0."""
    with daemon_in_shell(">/dev/full 2>&1", sandbox, redis_url, tmp_path):
        pass


def test_a_daemon_without_streams_works(sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> None:
    """Started with all three closed, none of its sockets takes their place."""
    with daemon_in_shell("<&- >&- 2>&-", sandbox, redis_url, tmp_path) as program:
        descriptors = Path(f"/proc/{program.pid}/fd")
        if descriptors.exists():
            assert {str((descriptors / f"{number}").readlink()) for number in range(3)} == {os.devnull}


@contextmanager
def daemon_in_shell(
    redirections: str, sandbox: SandboxServer, redis_url: str, folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon that has published all orders; at the end SIGTERM ends it with 0. Its output is buffered, as usual."""
    environment = program_env(**login_settings(sandbox, redis_url, folder / "data"))
    environment.pop("PYTHONUNBUFFERED", None)
    program = subprocess.Popen(
        ("sh", "-c", f'exec "{sys.executable}" -m worker.cli run {redirections}'),
        cwd=folder,
        env=environment,
    )
    try:
        with redis.Redis.from_url(redis_url) as client:
            wait_for(lambda: client.xlen("ordersync:{default}:stream:orders") == 50)
        yield program
        program.terminate()
        assert program.wait(PATIENCE) == 0
    finally:
        program.kill()
        program.wait()


@needs_full
def test_a_command_whose_output_is_full_says_so(tmp_path: Path) -> None:
    """One line and exit 1; an error on a full standard error keeps its exit code."""
    done = run_in_shell("config show >/dev/full", tmp_path)
    assert (done.returncode, done.stderr) == (
        1,
        "ordersync: the output cannot be written: No space left on device\n",
    )
    assert run_in_shell("config show --nosuch 2>/dev/full", tmp_path).returncode == 2
    assert run_in_shell("status 2>/dev/full", tmp_path, redis__url="redis://127.0.0.1:1/0").returncode == 3


def test_closed_streams_end_no_command(tmp_path: Path) -> None:
    """Nobody reads, so nothing is said; the exit code is the same."""
    assert run_in_shell("config show >&-", tmp_path).returncode == 0
    done = run_in_shell("status 2>&-", tmp_path, redis__url="redis://127.0.0.1:1/0")
    assert (done.returncode, done.stdout) == (3, "")


def test_a_secret_with_a_line_end_logs_in(sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> None:
    """`$(cat file)` takes it off, `--env-file` and editors do not."""
    settings = login_settings(sandbox, redis_url, tmp_path / "data")
    secret = settings.pop("api__client_secret")
    done = ordersync("run", "--once", cwd=tmp_path, **settings, api__client_secret=f"{secret}\r\n")
    assert done.returncode == 0, done.stderr
