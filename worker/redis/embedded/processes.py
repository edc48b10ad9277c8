"""Processes, told apart by their start time and program: a number alone is given to another process in time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec


class Process(msgspec.Struct, frozen=True):
    """A process. `started`: when it started, in a form that is only compared. `program`: the file that it executes."""

    pid: int
    started: str
    program: str


def look(pid: int) -> Process | None:
    """Return the process with this number; None if there is none, or this user may not look at it."""
    if sys.platform != "linux":
        return _ask_ps(pid)
    place = Path("/proc", str(pid))
    try:
        # The name in brackets may contain spaces and brackets.
        fields = (place / "stat").read_text(errors="replace").rpartition(")")[2].split()
        program = str((place / "exe").readlink()).removesuffix(" (deleted)")
    except (OSError, IndexError):
        return None
    if fields[0] in {"Z", "X"}:
        return None
    return Process(pid, fields[19], program)


def is_alive(process: Process) -> bool:
    """Return True while the process runs, and not another process with its number."""
    return look(process.pid) == process


def send(process: Process, number: signal.Signals) -> bool:
    """Send a signal to a process, and to no other process that was given its number. Return False if it has ended."""
    if not hasattr(os, "pidfd_open"):
        if not is_alive(process):
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
        return True
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        if not is_alive(process):  # after the descriptor was opened, which stays with the process
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def works_in(pid: int, folder: Path) -> bool:
    """Return True if the working folder of a process is this one, and the process belongs to this user.

    Only Linux can tell; elsewhere the answer is always True.
    """
    if sys.platform != "linux":
        return True
    place = Path("/proc", str(pid))
    try:
        return place.stat().st_uid == os.geteuid() and (place / "cwd").samefile(folder)
    except OSError:
        return False


def _ask_ps(pid: int) -> Process | None:
    done = subprocess.run(  # noqa: S603 - only a number is passed
        ["ps", "-o", "lstart=,comm=", "-p", str(pid)],  # noqa: S607 - the system's own
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/bin:/usr/bin", "LC_ALL": "C"},
    )
    words = done.stdout.split()
    return Process(pid, " ".join(words[:5]), " ".join(words[5:])) if len(words) > 5 else None
