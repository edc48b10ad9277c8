"""A command that runs as a child process: this process writes its input and passes on its standard error.

This process keeps the reading end of the input open as well, for two reasons: it can count what the command has not
read when it ends, and a write to a command that has ended does not raise.
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
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from ordersync_consumer.redaction import words
from worker.cancellation import finish
from worker.errors import SettingsError
from worker.telemetry.writer import writer_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

TERMINATE_SECONDS = 3.0
"""Between SIGTERM and SIGKILL."""
DRAIN_SECONDS = 0.5
"""How long to read the rest of the output of a command that has ended: a child of its own may keep the pipe open."""
_LINES = 5
_MAX_LINE = 400
_MAX_REASON = 800
_CHUNK = 65_536


class CommandNotStartable(SettingsError):
    """A command cannot be started."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"the command {name!r} cannot be started: {reason}")


@dataclass(frozen=True, slots=True)
class Command:
    """A command of the user: its words, and the environment that it gets."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)


class CommandProcess:
    """One run of a command. `running` creates it.

    Attributes:
        name: Name of the command.
        ended: Set when the process has ended.
        code: Its exit code then, negative for a signal.
        answers: Its standard output, if that is a pipe.

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
        self._errors_ended = anyio.Event()
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._line = b""

    async def write(self, data: bytes) -> bool:
        """Write to its input. False if it ended before everything was written."""
        rest = self._write_some(memoryview(data))
        if not rest:
            return True
        async with anyio.create_task_group() as tasks:

            async def write_rest() -> None:
                nonlocal rest
                while rest:
                    await anyio.wait_writable(self._write_end)
                    rest = self._write_some(rest)
                tasks.cancel_scope.cancel()

            tasks.start_soon(write_rest)
            await self.ended.wait()
            tasks.cancel_scope.cancel()
        return not rest

    def close_input(self) -> None:
        """Close its input, after what was written."""
        self._write_end.close()

    @property
    def unread(self) -> int:
        """Number of bytes of its input that it has not read."""
        size = array.array("i", [0])
        fcntl.ioctl(self._read_end, termios.FIONREAD, size)
        return size[0]

    async def reason(self) -> str:
        """Wait for its end. Return the exit code or signal, and the last lines of its standard error."""
        await self.ended.wait()
        with anyio.move_on_after(DRAIN_SECONDS):
            await self._errors_ended.wait()
        how = f"ended with exit code {self.code}"
        if self.code is not None and self.code < 0:
            with suppress(ValueError):  # a signal without a name
                how = f"was killed by {signal.Signals(-self.code).name}"
        lines = [*self._lines, self._line.decode("utf-8", "replace").strip()]
        # The end of an error message says most.
        errors = " | ".join(words(line, _MAX_LINE) for line in lines if line)[-_MAX_REASON:]
        return f"{self.name} {how}: {errors}" if errors else f"{self.name} {how}"

    async def end(self) -> None:
        """End it and its process group: SIGTERM, then SIGKILL after `TERMINATE_SECONDS`."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.ended.is_set():
                return
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)
            with anyio.move_on_after(TERMINATE_SECONDS):
                await self.ended.wait()

    async def watch(self) -> None:
        """Wait for its end, in a thread: processes that asyncio starts would inherit the pipes of other commands."""
        self.code = await anyio.to_thread.run_sync(
            self._process.wait, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(math.inf)
        )
        self.ended.set()

    async def pass_on(self, errors: FileIO) -> None:
        """Keep the last lines of its standard error, and copy it to that of this process.

        If nobody reads that, the command waits, as it would if it wrote there itself.
        """
        writer = writer_of(sys.stderr)
        async for chunk in chunks_of(errors):
            *lines, rest = (self._line + chunk).split(b"\n")
            self._line = rest[-_CHUNK:]
            self._lines += [text for line in lines if (text := line.decode("utf-8", "replace").strip())]
            if writer is not None:
                with suppress(OSError):  # the standard error of this process is closed
                    await writer.pass_on(chunk)
        self._errors_ended.set()

    def _write_some(self, data: memoryview) -> memoryview:
        """Write as much as possible without waiting. Return the rest."""
        while data and (written := self._write_end.write(data)):
            data = data[written:]
        return data


@asynccontextmanager
async def running(command: Command, *, answers: bool = False) -> AsyncIterator[CommandProcess]:
    """Run a command. It is ended after the block, if it still runs.

    It gets a process group of its own, so that Ctrl-C reaches only this process, which lets the command finish.

    Args:
        command: The command.
        answers: Make its standard output a pipe; by default it shares that of this process.

    Raises:
        CommandNotStartable: The system refuses to start it.

    """
    with ExitStack() as files:
        read_end, write_end = _pipe(files)
        errors, its_errors = _pipe(files)
        output, its_output = _pipe(files) if answers else (None, None)
        for pipe in (write_end, errors, output):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
        try:
            popen = subprocess.Popen(  # noqa: S603, ASYNC220 - the command is the user's; it takes a millisecond
                command.argv,
                stdin=read_end,
                stdout=its_output,
                stderr=its_errors,
                env=command.environment,
                start_new_session=True,
            )
        except OSError as error:
            raise CommandNotStartable(command.argv[0], error.strerror or str(error)) from None
        its_errors.close()
        if its_output is not None:
            its_output.close()
        process = CommandProcess(
            popen, Path(command.argv[0]).name, read_end=read_end, write_end=write_end, answers=output
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(process.watch)
            tasks.start_soon(process.pass_on, errors)
            try:
                yield process
            finally:
                # If this task was cancelled, so was the one that watches for the end: another one does it.
                if not process.ended.is_set():
                    await finish(_end(process))
                tasks.cancel_scope.cancel()


async def _end(process: CommandProcess) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(process.watch)
        await process.end()
        tasks.cancel_scope.cancel()


async def chunks_of(source: FileIO) -> AsyncIterator[bytes]:
    """Yield what is written to a pipe as it arrives, until all writers have closed it."""
    while True:
        await anyio.wait_readable(source)
        chunk = source.read(_CHUNK)
        if chunk:
            yield chunk
        elif chunk is not None:
            return


def check_startable(argv: Sequence[str]) -> None:
    """Check a command as far as possible without starting it.

    Raises:
        CommandNotStartable: It does not exist, is not executable, or names an interpreter that is not.

    """
    result = shutil.which(argv[0])
    if result is None:
        there = "it is not executable" if Path(argv[0]).exists() else "the program was not found"
        raise CommandNotStartable(argv[0], there)
    try:
        with Path(result).open("rb") as file:
            first = file.readline(1024)
    except OSError:  # it is executable, and not readable
        return
    interpreter = first[2:].split()[:1]
    if first.startswith(b"#!") and interpreter:
        path = os.fsdecode(interpreter[0])
        if not os.access(path, os.X_OK):
            raise CommandNotStartable(argv[0], f"its first line names {path}, which is not executable")
    elif b"\0" not in first:
        raise CommandNotStartable(argv[0], "its first line names no interpreter, such as #!/bin/sh")


def _pipe(files: ExitStack) -> tuple[FileIO, FileIO]:
    read_end, write_end = os.pipe()
    return files.enter_context(FileIO(read_end, "r")), files.enter_context(FileIO(write_end, "w"))
