"""The daemon: keep an arq worker running, and shut it down cleanly.

arq's worker ends when Redis restarts, so the daemon starts it again. A watchdog ends a process that hangs. A signal
lets the worker commit the current page. The daemon is handed the worker and the health report; it knows neither jobs
nor resources.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import redis.exceptions

from worker.backoff import Backoff
from worker.cancellation import end, plain_errors
from worker.clock import rfc3339
from worker.errors import OrdersyncError
from worker.redis.refusals import explain
from worker.service import heartbeat, stacks
from worker.service.systemd import ServiceManager
from worker.telemetry.log import Repeats, get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from worker.clock import Clock

HEARTBEAT_SECONDS = 3.0
HANG_SECONDS = 60.0
"""Seconds without a turn after which a loop counts as hung; longer than every timeout within a turn."""
HANG_JOB_SECONDS = 420.0
"""Seconds after which a job counts as hung; arq cancels it earlier, but a job may ignore that."""
HANG_STATUS = 70
LAST_LINE_SECONDS = 2.0
"""Seconds to write the last line of the log."""
REPORT_SECONDS = 5.0
"""Seconds that the health report may take; the heartbeat is written in any case."""
BACKOFF = Backoff(first=0.5, most=10.0)
"""Pause until the arq worker starts again. One that ran longer than the longest pause resets the count."""
CLOSING_SECONDS = 10.0
"""Seconds beyond the grace period to close connections and the embedded server."""


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
        _flush_log()


class Daemon:
    """Runs an arq worker until a signal stops it.

    The first SIGTERM or SIGINT lets the jobs commit their current page; a second one ends the process at once.

    Args:
        worker_id: Name of this worker.
        data_dir: Folder of the heartbeat file.
        make_worker: Returns a worker with fresh connections.
        wait_for_redis: Returns when Redis answers.
        report: Returns the health of the resources, for the heartbeat.
        grace: Seconds that the jobs have to end after a signal.
        clock: The clock.
        watchdog: Ends a process that hangs.
        manager: The service manager. It gets notified when the first worker has started, when the shutdown begins, and
            while all loops turn, not just while the process exists.
    """

    def __init__(
        self,
        *,
        worker_id: str,
        data_dir: Path,
        make_worker: Callable[[], Supervised],
        wait_for_redis: Callable[[], Awaitable[None]],
        report: Callable[[], Awaitable[list[heartbeat.ResourceBeat]]],
        grace: float,
        clock: Clock,
        watchdog: Watchdog | None = None,
        manager: ServiceManager | None = None,
    ) -> None:
        self._worker_id, self._data_dir = worker_id, data_dir
        self._make_worker, self._wait_for_redis, self._report = make_worker, wait_for_redis, report
        self._grace, self._clock = grace, clock
        self._watchdog = watchdog or Watchdog()
        self._manager = manager or ServiceManager()
        self._stopping = False
        self._stop_event = anyio.Event()
        self._started = clock.now()
        self._log, self._repeats = get_logger(), Repeats()
        self.last_beat: heartbeat.Beat | None = None
        """The last heartbeat that was written."""

    def stopping(self) -> bool:
        """True once the worker was asked to stop."""
        return self._stopping

    def silent(self) -> dict[str, float]:
        """Return the loops and jobs of the worker that hang, each with its seconds."""
        return self._watchdog.silent(heartbeat.MAX_AGE)

    async def run(self) -> None:
        """Run until a signal arrives."""
        heartbeat.sweep_out(self._data_dir)
        self._watchdog.start()
        try:
            with plain_errors():
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._listen_to_signals)
                    tasks.start_soon(self._beat)
                    await self._keep_working()
                    tasks.cancel_scope.cancel()
        finally:
            self._watchdog.stop()
            heartbeat.remove(self._data_dir)
            self._manager.close()
        self._log.info("stopped")

    def stop(self) -> None:
        """Stop, as after a signal."""
        self._stopping = True
        self._stop_event.set()
        self._manager.stopping(self._grace + CLOSING_SECONDS)

    async def _listen_to_signals(self) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for number in signals:
                name = signal.Signals(number).name
                if self._stopping:
                    self._log.warning("stopped_at_once", signal=name)
                    _flush_log()
                    os._exit(128 + number)
                self._log.info(
                    "stopping",
                    signal=name,
                    grace_s=self._grace,
                    advice="A second signal ends the worker immediately.",
                )
                self.stop()

    async def _keep_working(self) -> None:
        failures = 0
        while not self._stopping:
            began = self._clock.monotonic()
            try:
                await self._until_stopped(self._wait_for_redis())
                if not self._stopping:
                    await self._work()
            except (redis.exceptions.RedisError, OSError, OrdersyncError) as error:
                self._log.warning(
                    "queue_lost",
                    error=explain(error),
                    advice="The worker starts again automatically when Redis answers.",
                )
            except Exception:  # noqa: BLE001 - whatever it was: a daemon starts its worker again and says so
                self._log.exception(
                    "worker_failed",
                    advice="This is a defect of ordersync. Report it with this traceback. The worker starts again "
                    "automatically.",
                )
            if self._clock.monotonic() - began > BACKOFF.most:
                failures = 0
            if not self._stopping:
                failures += 1
                await self._until_stopped(self._clock.sleep(BACKOFF.pause(failures, self._clock)))

    async def _work(self) -> None:
        """Run one arq worker until it fails or the daemon stops."""
        worker = self._make_worker()
        worker.beat = lambda: self._watchdog.beat("queue")
        self._watchdog.watched = worker
        running = asyncio.ensure_future(worker.async_run())
        stopping = asyncio.ensure_future(self._stop_event.wait())
        self._log.info("worker_started", worker=self._worker_id)
        self._manager.ready()
        try:
            await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
            worker.allow_pick_jobs = False
            await self._let_jobs_end(worker)
        finally:
            stopping.cancel()
            running.cancel()
            self._watchdog.forget("queue")
            self._watchdog.watched = None
            await self._close(worker, running)

    async def _let_jobs_end(self, worker: Supervised) -> None:
        under_way = [task for task in worker.tasks.values() if not task.done()]
        if under_way:
            _, late = await asyncio.wait(under_way, timeout=self._grace)
            if late:
                self._log.warning(
                    "jobs_cut_short",
                    jobs=len(late),
                    advice="The next worker continues from the last commit. If this repeats, raise "
                    "ORDERSYNC_GRACE_SECONDS.",
                )

    async def _close(self, worker: Supervised, running: asyncio.Future[None]) -> None:
        """Close a worker whose connections may be dead. Errors are ignored, since the worker is discarded."""
        with anyio.move_on_after(2, shield=True):
            await end(running)
            try:
                await worker.close()
            except asyncio.CancelledError:
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    raise
                # a cancelled job, which arq gathers, raised it
            except (redis.exceptions.RedisError, OSError) as error:
                self._log.debug("worker_not_closed", error=str(error))
        if running.done() and not running.cancelled():
            running.exception()  # retrieved, so that asyncio does not log it as never retrieved

    async def _until_stopped(self, work: Awaitable[None]) -> None:
        """Await `work`, at most until the daemon stops."""
        with plain_errors():
            async with anyio.create_task_group() as group:

                async def end_with_daemon() -> None:
                    await self._stop_event.wait()
                    group.cancel_scope.cancel()

                group.start_soon(end_with_daemon)
                await work
                group.cancel_scope.cancel()

    async def _beat(self) -> None:
        resources: list[heartbeat.ResourceBeat] = []
        due = 0.0
        while True:
            self._watchdog.beat("loop")
            if self._watchdog.progress():
                self._manager.alive()
            now = self._clock.monotonic()
            if now >= due:
                due, problem = now + HEARTBEAT_SECONDS, ""
                try:
                    with anyio.fail_after(REPORT_SECONDS):
                        resources = await self._report()
                except TimeoutError:
                    problem = f"Redis does not answer within {REPORT_SECONDS:g} s"
                except redis.exceptions.ResponseError as error:
                    problem = f"Redis cannot be used: {explain(error)}"
                except (redis.exceptions.RedisError, OSError) as error:
                    problem = f"Redis cannot be reached: {explain(error)}"
                self._write(resources, problem)
            await self._clock.sleep(1)

    def _write(self, resources: list[heartbeat.ResourceBeat], problem: str) -> None:
        beat = heartbeat.Beat(
            worker=self._worker_id,
            pid=os.getpid(),
            at=self._clock.now(),
            started=self._started,
            resources=resources,
            problem=problem,
        )
        self.last_beat = beat
        wrong = "; ".join(heartbeat.diagnose(beat, beat.at))
        self._manager.status(wrong or f"{len(beat.polled)} resources polled, none failing")
        try:
            heartbeat.write(self._data_dir, beat)
        except OSError as error:
            if self._repeats.allow("heartbeat_not_written", self._clock.monotonic()):
                self._log.warning("heartbeat_not_written", folder=str(self._data_dir), error=str(error))


def _flush_log() -> None:
    with contextlib.suppress(OSError, ValueError):  # a full disk
        sys.stderr.flush()
