"""Writes to a file, pipe or terminal without waiting for whoever reads it.

A pipe that nobody reads is full after 64 KiB. A write to it then waits, and with it all polls, and the signal that is
to end the process. So what cannot be written at once is kept, within a limit, and a thread writes it.
"""

from __future__ import annotations

import os
import select
import stat
import threading
from collections import deque
from typing import TextIO

import anyio

MOST_KEPT = 1_048_576
"""Bytes that are kept for a slow reader; what comes beyond them is lost, and counted."""
_POLL_SECONDS = 0.05


class Writer:
    """Writes to one descriptor, in order. The descriptor stays open."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._kept: deque[bytes] = deque()
        self._size = self._lost = 0
        self._changed = threading.Condition()
        self._has_thread = False
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    def offer(self, data: bytes) -> None:
        """Write, or keep what cannot be written yet. What there is no room for is lost as a whole.

        Raises:
            OSError: The reader is gone, or the disk is full.

        """
        with self._changed:
            rest = data if self._kept else self._write_some(data)
            if not rest:
                return
            if rest is data and self._size + len(data) > MOST_KEPT:
                self._lost += 1
                return
            self._kept.append(rest)
            self._size += len(rest)
            if not self._has_thread:
                self._has_thread = True
                threading.Thread(target=self._write_kept, name="writer", daemon=True).start()

    async def pass_on(self, data: bytes) -> None:
        """Write as soon as nothing is kept: who writes more than is read waits, and loses nothing.

        Raises:
            OSError: The reader is gone, or the disk is full.

        """
        while self._kept:  # noqa: ASYNC110 - a thread takes from it, and no event of a loop tells of that
            await anyio.sleep(_POLL_SECONDS)
        self.offer(data)

    def take_lost(self) -> int:
        """Return how many writes were lost since the last call; 0 as long as there is no room to say so."""
        with self._changed:
            lost = 0 if self._kept else self._lost
            self._lost -= lost
        return lost

    def drain(self, seconds: float) -> None:
        """Wait until everything is written, for so many seconds at most."""
        with self._changed:
            self._changed.wait_for(lambda: not self._kept, seconds)

    def _write_some(self, data: bytes) -> bytes:
        """Write as much as does not have to wait. Return the rest."""
        # A pipe that is ready has room for so much; a file takes everything, and keeps a line in one piece.
        is_file = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        most = len(data) if is_file else select.PIPE_BUF
        while data and self._poll.poll(0):
            data = data[os.write(self._descriptor, data[:most]) :]
        return data

    def _write_kept(self) -> None:
        while True:
            with self._changed:
                if not self._kept:
                    self._has_thread = False
                    self._changed.notify_all()
                    return
                data = self._kept[0]
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            except OSError:  # nobody will read it
                with self._changed:
                    self._kept.clear()
                    self._size = 0
            else:
                with self._changed:
                    self._size -= len(self._kept.popleft())


_writers: dict[int, Writer] = {}


def writer_of(stream: TextIO) -> Writer | None:
    """Return the writer to the descriptor of a stream: one for all that is written there. None if it has none."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):
        return None
    if not hasattr(select, "poll"):  # not there on every platform
        return None
    return _writers.setdefault(descriptor, Writer(descriptor))
