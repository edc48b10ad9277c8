"""Servers of Redis or Valkey that a test may stop, kill and start again."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from tests.support.waiting import PATIENCE
from worker.redis.embedded.launch import binary as valkey_binary

_chance = random.Random()  # of its own: hypothesis lets the usual one begin anew for each example
_given: deque[int] = deque(maxlen=200)


def free_port() -> int:
    """A port that nothing listens on at the moment, and that no client is given for its end of a connection.

    Those that the system gives away by itself begin at 32768; one of them may be gone before it is used. Processes
    that run tests beside each other take from different ports, and none that this one was given lately.
    """
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 16
    while True:
        port = _chance.randrange(20_000 + process, 32_000, 16)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.append(port)
                return port


def free_ports(count: int, *, taken: Collection[int] = ()) -> list[int]:
    """Different ports that nothing listens on at the moment, and that are not `taken`."""
    found: list[int] = []
    while len(found) < count:
        port = free_port()
        if port not in (*found, *taken):
            found.append(port)
    return found


class Server:
    """A Redis or Valkey server of our own, which a test may stop, kill and start again."""

    def __init__(
        self, folder: Path, binary: str | None = None, *options: str, password: str = "", port: int = 0
    ) -> None:
        self.folder, self.port, self._options = folder, port or free_port(), options
        self._password = password
        if password:
            self._options = ("--requirepass", password, "--masterauth", password, *self._options)
        if "--cluster-enabled" in options and "--cluster-port" not in options:
            # Without it, nodes talk on a port that is higher by 10,000: one that the system gives to clients.
            self._options += ("--cluster-port", str(free_ports(1, taken=[self.port])[0]))
        self._binary = binary or os.environ.get("TEST_SERVER") or valkey_binary()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"redis://{f':{password}@' if password else ''}127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it on its port, with what its append-only file holds, and wait until it answers."""
        log = self.folder / "server.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [
                    *(
                        self._binary,
                        "--port",
                        str(self.port),
                        "--bind",
                        "127.0.0.1",
                        "--dir",
                        str(self.folder),
                    ),
                    *(
                        "--save",
                        "",
                        "--appendonly",
                        "yes",
                        "--hash-max-listpack-value",
                        "256",
                        *self._options,
                    ),
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + PATIENCE
        with redis.Redis(port=self.port, password=self._password or None) as client:
            while time.monotonic() < deadline:
                assert self._process.poll() is None, f"the server has ended:\n{log.read_text()[-2000:]}"
                try:
                    client.ping()
                except redis.ConnectionError:
                    time.sleep(0.01)
                else:
                    return
        raise AssertionError("the server did not start")

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def stop(self, *, kill: bool = False) -> None:
        """End it: in order, or with SIGKILL."""
        if self._process is not None:
            self._process.kill() if kill else self._process.terminate()
            self._process.wait(PATIENCE)
            self._process = None

    def freeze(self) -> None:
        """Let it answer no more; its connections stay open."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def back_up(self) -> Path:
        """Copy what it has written so far, for `go_back`."""
        copy = self.folder / f"copy-{time.monotonic_ns()}"
        shutil.copytree(self.folder / "appendonlydir", copy)
        return copy

    def go_back(self, copy: Path | None) -> None:
        """Kill it, and start it with what a copy holds; with None, with nothing."""
        self.stop(kill=True)
        shutil.rmtree(self.folder / "appendonlydir")
        if copy is not None:
            shutil.copytree(copy, self.folder / "appendonlydir")
        self.start()


class Servers(ABC):
    """Several servers that start and end together: a context manager that leaves nothing running.

    `binary`: of the servers; None for that of the tests.
    """

    def __init__(self, binary: str | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._binary = binary or os.environ.get("TEST_SERVER") or valkey_binary()

    def _folder_of(self, port: int) -> Path:
        """A new folder for the server of a port."""
        folder = Path(self._folder.name) / str(port)
        folder.mkdir()
        return folder

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        self._folder.cleanup()

    @abstractmethod
    def _start(self) -> None:
        """Start them, and wait until they know each other."""

    @abstractmethod
    def _end(self) -> None:
        """Kill those that run."""
