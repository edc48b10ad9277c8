"""The watchdog: a thread that ends the process when one of its loops hangs, or a job does not end."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from worker.clock import rfc3339
from worker.service import stacks
from worker.telemetry.log import get_logger
from worker.telemetry.writer import writer_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

HANG_SECONDS = 60.0
"""Seconds without a turn after which a loop counts as hung; longer than every timeout within a turn."""
HANG_JOB_SECONDS = 420.0
"""Seconds after which a job counts as hung; arq cancels it earlier, but a job may ignore that."""
HANG_STATUS = 70
LAST_LINE_SECONDS = 2.0
"""Seconds to write the last line of the log."""


class Supervised(Protocol):
    """An arq worker as the daemon uses it; `jobs.worker.SupervisedWorker` implements it."""

    beat: Callable[[], None]
    allow_pick_jobs: bool

    @property
    def tasks(self) -> Mapping[str, asyncio.Task[Any]]:
        """The running jobs by id."""

    @property
    def under_way(self) -> Mapping[str, float]:
        """When each running job began, by the monotonic clock."""

    async def async_run(self) -> None:
        """Run until cancelled."""

    async def close(self) -> None:
        """Cancel the jobs and close the connections."""


class Watchdog:
    """A thread that ends the process when one of its loops stops turning or a job does not end.

    `watched` is the worker whose jobs are watched, if there is one. The last line of the log names the hung loop or
    job, since when it hangs, and the position of every job in the code.
    """

    watched: Supervised | None = None

    def __init__(
        self,
        seconds: float = HANG_SECONDS,
        end: Callable[[int], object] = os._exit,
        job_seconds: float = HANG_JOB_SECONDS,
    ) -> None:
        self._seconds, self._end, self._job_seconds = seconds, end, job_seconds
        self._beats: dict[str, float] = {}
        self._stopped = threading.Event()
        self._asked = 0.0

    def beat(self, name: str) -> None:
        """Record a turn of a loop. The watchdog watches the loop from its first turn on."""
        self._beats[name] = time.monotonic()

    def forget(self, name: str) -> None:
        """Stop watching a loop, because it has ended."""
        self._beats.pop(name, None)

    def silent(self, seconds: float) -> dict[str, float]:
        """Return the loops that have not turned for `seconds` and the jobs that take too long, with their seconds."""
        now = time.monotonic()
        result = {name: now - at for name, at in list(self._beats.items()) if now - at > seconds}
        return result | {name: now - at for name, at in self._jobs().items() if now - at > self._job_seconds}

    def progress(self) -> bool:
        """True if every watched loop has turned since this was last true."""
        turned = all(at > self._asked for at in list(self._beats.values()))
        if turned:
            self._asked = time.monotonic()
        return turned

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Stop the thread."""
        self._stopped.set()

    def _watch(self) -> None:
        step = self._seconds / 20
        looked = awake_since = time.monotonic()
        while not self._stopped.wait(step):
            now = time.monotonic()
            if now - looked > step + self._seconds / 4:
                awake_since = now  # the whole process was frozen (Ctrl-Z, docker pause), so no loop hangs
                frozen = round(now - looked, 1)
                threading.Thread(target=_log_frozen, args=(frozen,), daemon=True).start()  # as below
            looked = now
            silent = {name: now - max(at, awake_since) for name, at in list(self._beats.items())}
            lasting = {name: now - max(at, awake_since) for name, at in self._jobs().items()}
            hung = {name: seconds for name, seconds in silent.items() if seconds > self._seconds}
            hung |= {name: seconds for name, seconds in lasting.items() if seconds > self._job_seconds}
            if hung:
                # A thread of its own: a loop that hangs while it writes a log line holds the lock of the log.
                logging = threading.Thread(target=self._log_hang, args=(hung, lasting), daemon=True)
                logging.start()
                logging.join(LAST_LINE_SECONDS)
                self._end(HANG_STATUS)
                return

    def _jobs(self) -> dict[str, float]:
        """Return the running jobs, and when each began."""
        return dict(self.watched.under_way) if self.watched else {}

    def _log_hang(self, hung: dict[str, float], jobs: dict[str, float]) -> None:
        tasks = dict(self.watched.tasks) if self.watched else {}
        seconds = max(hung.values())
        get_logger().critical(
            "worker_hangs",
            stuck=list(hung),
            stuck_since=rfc3339(time.time() - seconds),
            seconds=round(seconds, 1),
            stack=stacks.of_main_thread(),
            under_way=[
                f"{name} for {age:.0f} s at {stacks.of_task(tasks[name]) if name in tasks else 'an unknown line'}"
                for name, age in jobs.items()
            ],
        )
        flush_log()


def _log_frozen(seconds: float) -> None:
    get_logger().warning("worker_was_frozen", seconds=seconds)


def flush_log() -> None:
    """Write what is buffered of the log, if that is possible."""
    with contextlib.suppress(OSError, ValueError):  # a full disk
        sys.stderr.flush()
        if (writer := writer_of(sys.stderr)) is not None:
            writer.drain(LAST_LINE_SECONDS)
