"""Runs commands of `ordersync` in the process of the test, as a process of their own would run.

Nearly all the time of a short command is the start of its process. A command in this process goes through
`worker.cli.main`, with its own arguments, environment, folder, standard streams and event loop. What only a process of
its own has (a signal that ends it, its time to start, a reader that goes away, a terminal) is tested with
`tests.support.programs`. That both give the same output is tested in `tests/unit/support/test_commands.py`.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path
from typing import IO
from unittest.mock import patch

import click
import structlog

from tests.support.programs import program_env
from tests.support.waiting import PATIENCE
from worker import app, reporting
from worker.cli import cli, doctor, main
from worker.cli.run import command as run_command
from worker.cli.run import serving
from worker.telemetry.log import NOISY, Redaction, redaction


def _commands(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if path:
        yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _commands(inner, (*path, name))


COMMANDS = dict(_commands(cli))
"""Every command, groups as well, by the words that lead to it."""
LEAVES = [" ".join(path) for path, command in COMMANDS.items() if not isinstance(command, click.Group)]
"""The commands that are no groups, as they are typed."""


def ordersync(*arguments: str, cwd: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command of `ordersync` to its end, in a folder without `.env`. The event loop of the test waits."""
    return in_process(main, "ordersync", *arguments, cwd=cwd, **settings)


def each_of(
    commands: Sequence[tuple[str, ...]], folder: Path, **settings: str
) -> list[subprocess.CompletedProcess[str]]:
    """Run several commands, one after the other."""
    return [ordersync(*words, cwd=folder, **settings) for words in commands]


def in_process(
    program: Callable[[], int | None], *words: str, cwd: Path, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run the main function of a program to its end. `words`: its name and its arguments."""
    assert threading.current_thread() is threading.main_thread(), "a command sets handlers for signals"
    with _text_file() as out, _text_file() as err:
        with (
            patch.dict(os.environ, program_env(**settings), clear=True),
            patch.object(sys, "argv", [*words]),
            chdir(cwd),
            _own_logs(),
            _own_worker_id(),
            patch.object(doctor, "MAX_SECONDS", PATIENCE),  # a busy machine takes longer to check all
            _own_signal_handlers(),
            _own_streams(out, err),
            _without_running_loop(),
        ):
            code = contextvars.Context().run(_exit_code, program)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(words, code, out.read(), err.read())


def _exit_code(program: Callable[[], int | None]) -> int:
    """Run a program; an exception that it lets through ends it as it would end a process."""
    try:
        return program() or 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
        return 1
    finally:
        gc.unfreeze()  # a command freezes what exists when it begins, which here is the whole test session


def _text_file() -> IO[str]:
    return tempfile.TemporaryFile("w+", encoding="utf-8")


@contextmanager
def _own_streams(out: IO[str], err: IO[str]) -> Iterator[None]:
    """Let descriptors 0, 1 and 2, which commands that it starts inherit, and the streams of Python lead elsewhere."""
    with ExitStack() as stack:
        null = stack.enter_context(Path(os.devnull).open("rb"))
        for number, target in enumerate((null.fileno(), out.fileno(), err.fileno())):
            kept = os.dup(number)
            stack.callback(os.close, kept)
            os.dup2(target, number)
            stack.callback(os.dup2, kept, number)
        for number, (name, mode, errors) in enumerate(
            (("stdin", "r", "strict"), ("stdout", "w", "strict"), ("stderr", "w", "backslashreplace"))
        ):
            stream = stack.enter_context(open(number, mode, encoding="utf-8", errors=errors, closefd=False))
            stack.enter_context(patch.object(sys, name, stream))
        yield


@contextmanager
def _own_logs() -> Iterator[None]:
    """Keep how the test logs, and which secrets it hides, from what the command configures."""
    root, levels = logging.getLogger(), {name: logging.getLogger(name).level for name in NOISY}
    handlers, level, configured = root.handlers[:], root.level, structlog.get_config()
    try:
        with patch.dict(vars(redaction), vars(Redaction())):
            yield
    finally:
        structlog.configure(**configured)
        root.handlers[:] = handlers
        root.setLevel(level)
        for name, its_level in levels.items():
            logging.getLogger(name).setLevel(its_level)


@contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Put back the handlers of the test: an event loop that ends puts back those of Python."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def _own_worker_id() -> Iterator[None]:
    """A worker that the test runs itself is another one."""
    own = functools.cache(reporting.worker_id.__wrapped__)
    with ExitStack() as stack:
        for module in (app, reporting, run_command, serving):
            stack.enter_context(patch.object(module, "worker_id", own))
        yield


@contextmanager
def _without_running_loop() -> Iterator[None]:
    """Let a command run an event loop in the thread of the test, whose own loop, if it has one, stands still."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        yield
        return
    task = asyncio.current_task(loop)
    if task is not None:
        asyncio.tasks._leave_task(loop, task)
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)
        if task is not None:
            asyncio.tasks._enter_task(loop, task)
