"""A stranger at the address of somebody else's server: it accepts everybody and writes down what they say."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from pathlib import Path
from typing import Self


class Impostor:
    """Listens on a Unix socket, again and again in place of whoever takes it back. A context manager.

    `heard`: the bytes that clients have sent. `visits`: how many clients came.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._over = path, threading.Event()
        self.heard, self.visits = b"", 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            with socket.socket(socket.AF_UNIX) as server, contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
                server.bind(str(self._path))
                inode = self._path.lstat().st_ino
                server.listen()
                server.settimeout(0.01)
                while not self._over.is_set() and self._path.lstat().st_ino == inode:
                    with contextlib.suppress(TimeoutError):
                        self._serve(server.accept()[0])
            time.sleep(0.001)

    def _serve(self, client: socket.socket) -> None:
        self.visits += 1
        with client:
            client.settimeout(0.05)
            with contextlib.suppress(OSError):
                while said := client.recv(65536):
                    self.heard += said
                    client.sendall(b"+OK\r\n")
