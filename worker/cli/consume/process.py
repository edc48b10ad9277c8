"""A command that runs as a child of this process: its input is written here, its standard error passes through.

The reading end of its input stays open here as well, for two reasons: what the command has not read by its end can
be counted then, and a write to a command that has ended is given up instead of breaking.
"""

from __future__ import annotations

import array
import fcntl
import math
import os
import shutil
import signal
import subprocess
import sys
import termios
from collections import deque
from contextlib import ExitStack, asynccontextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from worker.cancellation import finish
from worker.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

TERMINATE_SECONDS = 3.0
"""Between SIGTERM and SIGKILL for a command that is to end."""
LAST_WORDS = 0.5
"""Seconds that the rest of what an ended command has written is waited for: a child of its own may hold the pipe."""
_LINES = 5
_MAX_LINE = 400
_MAX_REASON = 800
_CHUNK = 65_536


class CommandNotStartable(SettingsError):
    """A command cannot be started. Nothing is wrong with any event."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"the command {name!r} cannot be started: {reason}")


class CommandProcess:
    """One run of a command; made by `running`.

    `ended` is set when the process is gone; `code` is its exit code then, negative for a signal. `answers`: its
    standard output, where that is a pipe.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        name: str,
        *,
        read_end: FileIO,
        write_end: FileIO,
        answers: FileIO | None,
    ) -> None:
        self.name, self.answers, self.ended = name, answers, anyio.Event()
        self.code: int | None = None
        self._process, self._read_end, self._write_end = process, read_end, write_end
        self._silent = anyio.Event()
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._line = b""

    async def write(self, data: bytes) -> bool:
        """Write to its input. False if it ended before there was room for all."""
        rest = self._put(memoryview(data))
        if not rest:
            return True
        async with anyio.create_task_group() as tasks:

            async def go_on() -> None:
                nonlocal rest
                while rest:
                    await anyio.wait_writable(self._write_end)
                    rest = self._put(rest)
                tasks.cancel_scope.cancel()

            tasks.start_soon(go_on)
            await self.ended.wait()
            tasks.cancel_scope.cancel()
        return not rest

    def close_input(self) -> None:
        """It finds the end of its input behind what was written."""
        self._write_end.close()

    @property
    def unread(self) -> int:
        """Bytes that were written to its input and that nobody has read."""
        size = array.array("i", [0])
        fcntl.ioctl(self._read_end, termios.FIONREAD, size)
        return size[0]

    async def how_it_ended(self) -> str:
        """Wait for its end: exit code or signal, and its last words on standard error."""
        await self.ended.wait()
        with anyio.move_on_after(LAST_WORDS):
            await self._silent.wait()
        how = f"ended with exit code {self.code}"
        if self.code is not None and self.code < 0:
            with suppress(ValueError):  # a signal without a name
                how = f"was killed by {signal.Signals(-self.code).name}"
        lines = [*self._lines, self._line.decode("utf-8", "replace").strip()]
        # A reason is cut at its end, and the last words say most.
        words = " | ".join(line[:_MAX_LINE] for line in lines if line)[-_MAX_REASON:]
        return f"{self.name} {how}: {words}" if words else f"{self.name} {how}"

    async def end(self) -> None:
        """End it, and what it has started and left in its process group: SIGTERM, then SIGKILL."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.ended.is_set():
                return
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)
            with anyio.move_on_after(TERMINATE_SECONDS):
                await self.ended.wait()

    async def watch(self) -> None:
        """Notice its end. In a thread: a loop that starts processes itself lets them have copies of its pipes."""
        self.code = await anyio.to_thread.run_sync(
            self._process.wait, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(math.inf)
        )
        self.ended.set()

    async def pass_on(self, errors: FileIO) -> None:
        """Let its standard error through to ours, and remember the last lines."""
        async for chunk in chunks_of(errors):
            with suppress(OSError):  # nobody reads ours any more
                os.write(sys.stderr.fileno(), chunk)
            *lines, rest = (self._line + chunk).split(b"\n")
            self._line = rest[-_CHUNK:]
            self._lines += [told for line in lines if (told := line.decode("utf-8", "replace").strip())]
        self._silent.set()

    def _put(self, data: memoryview) -> memoryview:
        """Write what there is room for; the rest."""
        while data and (written := self._write_end.write(data)):
            data = data[written:]
        return data


@asynccontextmanager
async def running(words: Sequence[str], *, answers: bool = False) -> AsyncIterator[CommandProcess]:
    """Run a command while the block runs; it is ended when it still runs behind it.

    It gets a process group of its own, so that Ctrl-C reaches this process alone, which lets it finish. With
    `answers` its standard output is a pipe, else it is ours.

    Raises:
        Unstartable: The system refuses to start it.

    """
    with ExitStack() as files:
        read_end, write_end = _pipe(files)
        errors, its_errors = _pipe(files)
        said, its_said = _pipe(files) if answers else (None, None)
        for ours in (write_end, errors, said):
            if ours is not None:
                os.set_blocking(ours.fileno(), False)
        try:
            process = subprocess.Popen(  # noqa: S603, ASYNC220 - what the user asks for; it takes a millisecond
                words, stdin=read_end, stdout=its_said, stderr=its_errors, start_new_session=True
            )
        except OSError as error:
            raise CommandNotStartable(words[0], error.strerror or str(error)) from None
        its_errors.close()
        if its_said is not None:
            its_said.close()
        child = CommandProcess(
            process, Path(words[0]).name, read_end=read_end, write_end=write_end, answers=said
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(child.watch)
            tasks.start_soon(child.pass_on, errors)
            try:
                yield child
            finally:
                # The task that notices its end is cancelled as this one may be: it is waited for by another one.
                if not child.ended.is_set():
                    await finish(_end(child))
                tasks.cancel_scope.cancel()


async def _end(child: CommandProcess) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(child.watch)
        await child.end()
        tasks.cancel_scope.cancel()


async def chunks_of(source: FileIO) -> AsyncIterator[bytes]:
    """What is written to a pipe, as it comes, until nobody can write to it any more."""
    while True:
        await anyio.wait_readable(source)
        chunk = source.read(_CHUNK)
        if chunk:
            yield chunk
        elif chunk is not None:
            return


def check_startable(words: Sequence[str]) -> None:
    """Find out what can be known before a command is started.

    Raises:
        Unstartable: It is not there, may not be executed, or names an interpreter that is not there.

    """
    result = shutil.which(words[0])
    if result is None:
        there = "it is not executable" if Path(words[0]).exists() else "the program was not found"
        raise CommandNotStartable(words[0], there)
    try:
        with Path(result).open("rb") as file:
            first = file.readline(1024)
    except OSError:  # it may be executed, and not read
        return
    interpreter = first[2:].split()[:1]
    if first.startswith(b"#!") and interpreter:
        path = os.fsdecode(interpreter[0])
        if not os.access(path, os.X_OK):
            raise CommandNotStartable(words[0], f"its first line names {path}, which is not executable")
    elif b"\0" not in first:
        raise CommandNotStartable(words[0], "its first line names no interpreter, such as #!/bin/sh")


def _pipe(files: ExitStack) -> tuple[FileIO, FileIO]:
    read_end, write_end = os.pipe()
    return files.enter_context(FileIO(read_end, "r")), files.enter_context(FileIO(write_end, "w"))
