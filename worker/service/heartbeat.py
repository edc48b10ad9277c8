"""The heartbeat of a worker: a small file in the data folder with its time and the health of its resources.

`ordersync health` reads it. That needs the data folder only: no other setting, no network, and no package that is slow
to import, so a container can run it every few seconds.

The folder must belong to the user of the worker, and is opened once for each use: whoever put another folder or a link
in its place would otherwise be believed, or have files elsewhere overwritten and removed.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_AGE = 15.0
"""Seconds without a heartbeat after which a worker counts as dead."""
DISK_FULL = "the disk of the data folder is full. Make room on it"
"""The problem of a worker that cannot write its heartbeat anew."""
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
MAX_CLOCK_OFFSET = 5.0
"""Seconds by which the clock of a host may differ from that of Redis before people are told."""


WITHDRAWN = "withdrawn"
"""The health of a resource that was polled once, and that this worker does not poll."""


class ResourceBeat(msgspec.Struct, frozen=True):
    """The health of one resource of one account. Times in seconds since 1970.

    `code`: the name of the cause. `unrecorded`: only this worker knows of it, since the cursor in Redis does not show
    it.
    """

    account: str
    resource: str
    health: str
    cause: str = ""
    code: str = ""
    fresh_as_of: float = 0.0
    last_success: float = 0.0
    unrecorded: bool = False


class Beat(msgspec.Struct, frozen=True):
    """A heartbeat. Times in seconds since 1970.

    `clock_offset`: seconds by which the clock of the host is ahead of that of Redis.
    """

    worker: str
    pid: int
    at: float
    started: float
    resources: list[ResourceBeat] = []
    problem: str = ""
    clock_offset: float = 0.0

    @property
    def polled(self) -> set[str]:
        """The resources that the worker polls."""
        return {item.resource for item in self.resources if item.health != WITHDRAWN}


def folder(data_dir: Path) -> Path:
    """Return the folder of the heartbeats."""
    return data_dir / "heartbeat"


def write(data_dir: Path, beat: Beat) -> None:
    """Replace the heartbeat of this worker atomically.

    On a full disk there is no room for another file: the last heartbeat is then written over, and names the full disk.

    Raises:
        OSError: It cannot be replaced; `PermissionError` also if the folder belongs to another user.

    """
    folder(data_dir).mkdir(parents=True, exist_ok=True, mode=0o700)
    with _opened(data_dir) as place:
        try:
            _replace(place, beat)
        except OSError as error:
            if error.errno in _NO_ROOM:
                _write_over(place, beat)
            raise


def _replace(place: int, beat: Beat) -> None:
    new = f".{beat.pid}.new"
    with suppress(FileNotFoundError):  # of a worker that was killed
        os.unlink(new, dir_fd=place)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(new, flags, 0o600, dir_fd=place), "wb") as file:  # noqa: PTH123 - a descriptor
        file.write(msgspec.json.encode(beat))
    os.replace(new, f"{beat.pid}.json", src_dir_fd=place, dst_dir_fd=place)


def _write_over(place: int, beat: Beat) -> None:
    """Write over the last heartbeat, whose room on the disk is there; without the resources if that is too little."""
    beat = msgspec.structs.replace(beat, problem="; ".join(filter(None, (beat.problem, DISK_FULL))))
    file = os.open(f"{beat.pid}.json", os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
    try:
        for told in (beat, msgspec.structs.replace(beat, resources=[])):
            data = msgspec.json.encode(told)
            with suppress(OSError):
                if os.pwrite(file, data, 0) == len(data):
                    os.ftruncate(file, len(data))
                    return
    finally:
        os.close(file)


def remove(data_dir: Path) -> None:
    """Remove the heartbeat of this worker, which ends."""
    with suppress(OSError), _opened(data_dir) as place:
        os.unlink(f"{os.getpid()}.json", dir_fd=place)


def sweep_out(data_dir: Path) -> None:
    """Remove the heartbeats of workers that were killed."""
    with suppress(OSError), _opened(data_dir) as place:
        for name in _names(place):
            try:
                os.kill(int(name.removesuffix(".json")), 0)
            except (ProcessLookupError, ValueError):
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=place)
            except (PermissionError, OverflowError):
                continue


def newest(data_dir: Path) -> Beat | None:
    """Return the latest heartbeat in the data folder, None if it has none.

    Raises:
        OSError: The folder cannot be read; `PermissionError` also if another user could have written into it.

    """
    beats = []
    with suppress(FileNotFoundError), _opened(data_dir, reading=True) as place:
        owner = os.fstat(place).st_uid
        for name in _names(place):
            # A pipe in place of the file would hold up whoever opens it.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with suppress(OSError, msgspec.DecodeError):
                file = os.open(name, flags, dir_fd=place)
                with open(file, "rb") as source:  # noqa: PTH123 - a descriptor
                    if os.fstat(file).st_uid in {owner, 0}:
                        beats.append(msgspec.json.decode(source.read(), type=Beat))
    return max(beats, key=lambda beat: beat.at, default=None)


@contextmanager
def _opened(data_dir: Path, *, reading: bool = False) -> Iterator[int]:
    """Open the folder of the heartbeats. It must belong to this user; root may read that of every user."""
    path, me = folder(data_dir), os.geteuid()
    place = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(place)
        if status.st_uid != me and not (reading and 0 in {me, status.st_uid}):
            raise PermissionError(1, f"it belongs to another user (uid {status.st_uid})", str(path))
        if status.st_mode & stat.S_IWOTH:
            raise PermissionError(1, "every user may write it", str(path))
        yield place
    finally:
        os.close(place)


def _names(place: int) -> list[str]:
    return [name for name in os.listdir(place) if name.endswith(".json")]


def clock_words(worker: str, offset: float) -> str:
    """Return by how many seconds the clock of the host of a worker is off, and what to do; "" if it is right."""
    if abs(offset) < MAX_CLOCK_OFFSET:
        return ""
    way = "ahead of" if offset > 0 else "behind"
    return (
        f"the clock of {worker} is {abs(offset):.0f} s {way} that of Redis; nothing is missed, but set up time "
        "synchronisation"
    )


def diagnose(beat: Beat | None, now: float | None = None, *, live: bool = False) -> list[str]:
    """Return the problems, one sentence each; empty if the worker is alive and its resources are fresh.

    `live`: ask only whether the worker is alive. A restart would not bring back Redis, or make a gateway answer.
    """
    if beat is None:
        return ["no worker has written a heartbeat. To start one: ordersync run"]
    age = (time.time() if now is None else now) - beat.at
    if age < -MAX_AGE:
        return [
            f"the clock was put back since the last heartbeat of worker {beat.worker}: wait for the next one"
        ]
    if age > MAX_AGE:
        return [
            f"worker {beat.worker} wrote its last heartbeat {age:.0f} s ago: the worker hangs or was killed"
        ]
    if live:
        return []
    problems = [beat.problem] if beat.problem else []
    problems += [f"{r.account}/{r.resource}: {r.cause}" for r in beat.resources if r.health == "failing"]
    return problems
