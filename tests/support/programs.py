"""Starts programs: commands of `ordersync`, the daemon, and programs of other people."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self

import psutil

from tests.support.log_lines import check_log
from tests.support.prepared import PreparedProcess, can_start
from tests.support.waiting import PATIENCE, eventually
from worker.sandbox import CLIENT_ID, CLIENT_SECRET, SandboxServer


def program_env(**settings: str) -> dict[str, str]:
    """The environment of a program under test: this one without settings of the worker, and with these."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ORDERSYNC_", "XDG_")) and name not in {"NO_COLOR", "FORCE_COLOR"}
    }
    return inherited | {f"ORDERSYNC_{name.upper()}": value for name, value in settings.items()}


def login_settings(sandbox: SandboxServer, redis_url: str, data_dir: Path, **more: str) -> dict[str, str]:
    """The settings of a worker at the sandbox that polls every second."""
    return {
        "api__base_url": sandbox.url,
        "api__client_id": CLIENT_ID,
        "api__client_secret": CLIENT_SECRET,
        "api__requests_per_second": "1000",
        "redis__url": redis_url,
        "poll__intervals": '{"orders": 1}',
        "data_dir": str(data_dir),
        **more,
    }


def ordersync_process(*arguments: str, cwd: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command of `ordersync` to its end in a process of its own, in a folder without `.env`."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = _start(arguments, cwd, program_env(**settings), out, err)
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(PATIENCE)
            raise
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(arguments, code, out.read(), err.read())


def _start(
    words: Sequence[str], cwd: Path, env: dict[str, str], out: IO[Any], err: IO[Any]
) -> subprocess.Popen[bytes] | PreparedProcess:
    """Start a command of `ordersync`, prepared if nothing in its environment forbids that."""
    if can_start(env):
        return PreparedProcess(*words, cwd=cwd, env=env, stdout=out, stderr=err)
    command = (sys.executable, "-m", "worker.cli", *words)
    return subprocess.Popen(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err)


def run_to_its_end(*command: str, cwd: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run any program to its end, and return what it has printed."""
    return subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


async def run_beside(*command: str, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run any program to its end, without holding up the loop."""
    return await asyncio.to_thread(run_to_its_end, *command, cwd=cwd, env=env)


class Program:
    """A program that runs beside the test; its output goes to files. A context manager that leaves nothing running."""

    def __init__(self, folder: Path, *command: str, **settings: str) -> None:
        self._folder, self._command, self._settings = folder, command, settings
        self._out, self._err = folder / f"out-{id(self)}", folder / f"err-{id(self)}"
        self.process: subprocess.Popen[bytes] | PreparedProcess

    def __enter__(self) -> Self:
        env = program_env(**self._settings)
        with self._out.open("wb") as out, self._err.open("wb") as err:
            if self._command:
                self.process = subprocess.Popen(
                    self._command,
                    cwd=self._folder,
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                )
            else:
                self.process = _start(["run"], self._folder, env, out, err)
        return self

    def __exit__(self, *exc: object) -> None:
        family = [self.process.pid, *(child.pid for child in self.children())]
        for pid in family:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait(PATIENCE)
        if exc[0] is None and self._command == ():
            check_log(self.logs())

    @property
    def out(self) -> str:
        """What it has written to standard output so far."""
        return self._out.read_text()

    @property
    def err(self) -> str:
        """What it has written to standard error so far."""
        return self._err.read_text()

    def logs(self, event: str | None = None) -> list[dict[str, Any]]:
        """The whole lines of its log; those of one event."""
        lines = [json.loads(line) for line in self.err.splitlines(keepends=True) if line.endswith("}\n")]
        return [line for line in lines if event in (None, line["event"])]

    async def logged(self, event: str, times: int = 1, seconds: float = PATIENCE) -> dict[str, Any]:
        """Wait for a line of the log; the last one so far."""
        await eventually(lambda: len(self.logs(event)) >= times or self.process.poll() is not None, seconds)
        assert len(self.logs(event)) >= times, self.err
        return self.logs(event)[-1]

    def children(self) -> list[psutil.Process]:
        """The processes that it has started and that still run."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    async def ended(self, seconds: float = PATIENCE) -> int:
        """Wait for its end; the exit code."""
        await eventually(lambda: self.process.poll() is not None, seconds)
        return self.process.wait()
