"""The heartbeat of a worker: a small file in the data folder with its time and the health of its resources.

`ordersync health` reads it. That needs the data folder only: no other setting, no network, and no package that is slow
to import, so a container can run it every few seconds.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

MAX_AGE = 15.0
"""Seconds without a heartbeat after which a worker counts as dead."""


WITHDRAWN = "withdrawn"
"""The health of a resource that was polled once, and that this worker does not poll."""


class ResourceBeat(msgspec.Struct, frozen=True):
    """The health of one resource of one account. Times in seconds since 1970.

    `unrecorded`: only this worker knows of it, since the cursor in Redis does not show it.
    """

    account: str
    resource: str
    health: str
    cause: str = ""
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
    """Replace the heartbeat of this worker atomically."""
    directory = folder(data_dir)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = directory / f".{beat.pid}.new"
    new.write_bytes(msgspec.json.encode(beat))
    new.replace(directory / f"{beat.pid}.json")


def remove(data_dir: Path) -> None:
    """Remove the heartbeat of this worker, which ends."""
    (folder(data_dir) / f"{os.getpid()}.json").unlink(missing_ok=True)


def sweep_out(data_dir: Path) -> None:
    """Remove the heartbeats of workers that were killed."""
    for file in folder(data_dir).glob("*.json"):
        try:
            os.kill(int(file.stem), 0)
        except (ProcessLookupError, ValueError):
            file.unlink(missing_ok=True)
        except PermissionError:
            continue


def newest(data_dir: Path) -> Beat | None:
    """Return the latest heartbeat in the data folder, None if it has none."""
    beats = []
    for file in folder(data_dir).glob("*.json"):
        try:
            beats.append(msgspec.json.decode(file.read_bytes(), type=Beat))
        except (OSError, msgspec.DecodeError):
            continue
    return max(beats, key=lambda beat: beat.at, default=None)


def diagnose(beat: Beat | None, now: float | None = None) -> list[str]:
    """Return the problems, one sentence each; empty if the worker is alive and its resources are fresh."""
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
    problems = [beat.problem] if beat.problem else []
    problems += [f"{r.account}/{r.resource}: {r.cause}" for r in beat.resources if r.health == "failing"]
    return problems
