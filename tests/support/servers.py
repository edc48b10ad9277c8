"""Servers of Redis or Valkey that a test may stop, kill and start again."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import time
from pathlib import Path

import redis

from tests.support.waiting import PATIENCE
from worker.redis.embedded import _binary


def free_port() -> int:
    """A port that nothing listens on at the moment, and that no client is given for its end of a connection.

    Those that the system gives away by itself begin at 32768; one of them may be gone before it is used.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Server:
    """A Redis or Valkey server of our own, which a test may stop, kill and start again."""

    def __init__(self, folder: Path, binary: str | None = None, *options: str) -> None:
        self.folder, self.port, self._options = folder, free_port(), options
        self._binary = binary or os.environ.get("TEST_SERVER") or _binary()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it on its port, with what its append-only file holds, and wait until it answers."""
        self._process = subprocess.Popen(
            [
                *(self._binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
                *("--save", "", "--appendonly", "yes", "--hash-max-listpack-value", "256", *self._options),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + PATIENCE
        with redis.Redis(port=self.port) as client:
            while time.monotonic() < deadline:
                assert self._process.poll() is None, "the server has ended"
                try:
                    client.ping()
                except redis.ConnectionError:
                    time.sleep(0.01)
                else:
                    return
        raise AssertionError("the server did not start")

    def stop(self, *, kill: bool = False) -> None:
        """End it: in order, or with SIGKILL."""
        if self._process is not None:
            self._process.kill() if kill else self._process.terminate()
            self._process.wait(PATIENCE)
            self._process = None

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
