"""Processes of `ordersync` that do not import the program first, which is most of what a start costs.

A server without threads imports the program once and forks for each start: a process of its own, which then runs
`python -m worker.cli` with its own environment, folder, streams, signals and children, and ends as any other does.
Where the environment differs in what counts before the program is imported (PYTHONPATH, LD_PRELOAD, a locale), a
process must import it itself: see `can_start`. That both are alike is tested in `tests/unit/support/test_prepared.py`.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import os
import random
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from worker.cli import COMMANDS

_ROOT = Path(__file__).parents[2]
_LARGEST = 1 << 17
_NUMBER = struct.Struct("i")
_ENVIRONMENT = dict(os.environ)
"""That of the server."""


class PreparedProcess:
    """A process of `ordersync` with these arguments. It reads nothing; its methods are those of `subprocess.Popen`."""

    def __init__(
        self, *words: str, cwd: Path, env: Mapping[str, str], stdout: IO[Any], stderr: IO[Any]
    ) -> None:
        self.returncode: int | None = None
        self._status, status = os.pipe()
        try:
            with Path(os.devnull).open("rb") as stdin:
                request = json.dumps([words, str(cwd), dict(env)]).encode()
                streams = [stdin.fileno(), stdout.fileno(), stderr.fileno(), status]
                socket.send_fds(_server(), [request], streams)
        finally:
            os.close(status)
        self.pid = _NUMBER.unpack(os.read(self._status, _NUMBER.size))[0]

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; the exit code."""
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("ordersync", timeout or 0)
        return code

    def _ended(self, seconds: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], seconds)[0]:
            self.returncode = _NUMBER.unpack(os.read(self._status, _NUMBER.size))[0]
            os.close(self._status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send it SIGKILL."""
        self.send_signal(signal.SIGKILL)


def can_start(env: Mapping[str, str]) -> bool:
    """Return whether a process with this environment would be as one that imports the program itself."""
    return _before_import(env) == _before_import(_ENVIRONMENT)


def _before_import(env: Mapping[str, str]) -> dict[str, str]:
    """What of an environment the interpreter and the modules read when they start. Settings are read later."""
    return {
        name: value
        for name, value in env.items()
        if name == "ORDERSYNC_COMPILED"
        or not name.startswith(("ORDERSYNC_", "PYTEST_", "XDG_", "NO_COLOR", "FORCE_COLOR"))
    }


@functools.cache
def _server() -> socket.socket:
    """Start the server, which ends with this process; the connection to it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.support.prepared", str(theirs.fileno())],
            cwd=_ROOT,
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
    atexit.register(server.wait)
    atexit.register(ours.close)  # before it is waited for
    return ours


def _next_start(channel: socket.socket) -> Sequence[str]:
    """Fork for each request until there is none; return in the new process alone, with its arguments."""
    watching: list[int] = []
    while True:
        request, streams, _, _ = socket.recv_fds(channel, _LARGEST, 4)
        watching = [each for each in watching if os.waitpid(each, os.WNOHANG)[0] == 0]
        if not request:
            os._exit(0)
        pid = os.fork()
        if pid == 0:
            channel.close()
            return _start(request, *streams)
        watching.append(pid)
        for descriptor in streams:
            os.close(descriptor)


def _start(request: bytes, stdin: int, stdout: int, stderr: int, status: int) -> Sequence[str]:
    """Fork once more: this process watches the other one, and says how it has ended."""
    pid = os.fork()
    if pid:
        try:
            for descriptor in (stdin, stdout, stderr):
                os.close(descriptor)
            os.write(status, _NUMBER.pack(pid))
            os.write(status, _NUMBER.pack(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
        finally:
            os._exit(0)  # also where the test has ended
    os.close(status)
    for number, descriptor in enumerate((stdin, stdout, stderr)):
        os.dup2(descriptor, number)
        os.close(descriptor)
    words, folder, environment = json.loads(request)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    random.seed()
    time.tzset()
    return [str(each) for each in words]


def main() -> None:
    """Import all commands, fork for each request, and in the new process be the program."""
    for module, _ in COMMANDS.values():
        importlib.import_module(module.partition(":")[0])
    assert threading.active_count() == 1, "a fork has one thread"
    sys.argv = ["ordersync", *_next_start(socket.socket(fileno=int(sys.argv[1])))]
    sys.path[0] = str(Path.cwd())
    runpy.run_module("worker.cli", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
