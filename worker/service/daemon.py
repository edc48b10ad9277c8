"""The daemon: keep an arq worker running, and shut it down cleanly.

arq's worker ends when Redis restarts, so the daemon starts it again. A watchdog ends a process that hangs. A signal
lets the worker commit the current page, and then stops it or puts another configuration in force. The daemon is handed
the worker, the health report and the reload; it knows neither jobs nor resources.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import anyio
import redis.exceptions

from worker.backoff import Backoff
from worker.cancellation import end, plain_errors
from worker.errors import OrdersyncError
from worker.redis.refusals import explain, unusable
from worker.service import heartbeat, memory
from worker.service.systemd import ServiceManager
from worker.service.watchdog import Watchdog, flush_log
from worker.telemetry.log import Repeats, get_logger

if TYPE_CHECKING:
    from pathlib import Path

    from worker.clock import Clock
    from worker.service.watchdog import Supervised

HEARTBEAT_SECONDS = 3.0
REPORT_SECONDS = 5.0
"""Seconds that the health report may take; the heartbeat is written in any case."""
BACKOFF = Backoff(first=0.5, most=10.0)
"""Pause until the arq worker starts again. One that ran longer than the longest pause resets the count."""
MEMORY_SECONDS = 60.0
"""Pause between two times at which freed memory is given back."""
CLOSING_SECONDS = 10.0
"""Seconds beyond the grace period to close connections and the embedded server."""


Swap = Callable[[], Awaitable[None]]
"""Puts a configuration in force that was read and checked. Called while no job runs; it does not fail."""


def has_terminal() -> bool:
    """Return True while the process has a terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


class Daemon:
    """Runs an arq worker until a signal stops it.

    The first SIGTERM or SIGINT lets the jobs commit their current page; a second one ends the process at once. SIGHUP
    reloads the configuration: the jobs commit their current page as well, and the next worker has the new one. If the
    process was started in a terminal, and that is gone, SIGHUP stops it.

    Args:
        worker_id: Name of this worker.
        data_dir: Folder of the heartbeat file.
        make_worker: Returns a worker with fresh connections.
        wait_for_redis: Returns when Redis answers.
        report: Returns the health of the resources, for the heartbeat.
        reload: Reads and checks the configuration; returns what puts it in force, or None if it is the same. Raises an
            `OrdersyncError` if it cannot be used.
        in_terminal: Whether the process was started in a terminal, whose end sends SIGHUP.
        grace: Seconds that the jobs have to end after a signal.
        clock: The clock.
        watchdog: Ends a process that hangs.
        clock_offset: Returns by how many seconds the clock of this host is ahead of that of Redis.
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
        reload: Callable[[], Awaitable[Swap | None]],
        grace: float,
        clock: Clock,
        watchdog: Watchdog | None = None,
        manager: ServiceManager | None = None,
        clock_offset: Callable[[], float] = float,
        in_terminal: bool = False,
    ) -> None:
        self._worker_id, self._data_dir = worker_id, data_dir
        self._make_worker, self._wait_for_redis, self._report = make_worker, wait_for_redis, report
        self.grace, self._clock = grace, clock
        self._reload, self._in_terminal = reload, in_terminal
        self._watchdog = watchdog or Watchdog()
        self._manager = manager or ServiceManager()
        self._stopping = False
        self._reload_wanted = anyio.Event()
        self._swap: Swap | None = None
        self._swapped = anyio.Event()
        self._interrupted = anyio.Event()
        """Set when the worker is to end: the daemon stops, or another configuration is to be put in force."""
        self._started = clock.now()
        self._log, self._repeats = get_logger(), Repeats()
        self._clock_offset, self._clock_repeats = clock_offset, Repeats(3600)
        self.last_beat: heartbeat.Beat | None = None
        """The last heartbeat that was written."""

    def stopping(self) -> bool:
        """True once the worker was asked to stop."""
        return self._stopping

    def interrupted(self) -> bool:
        """True while jobs are to end after their current page: the worker stops, or gets another configuration."""
        return self._interrupted.is_set()

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
                    tasks.start_soon(self._give_memory_back)
                    tasks.start_soon(self._reload_when_asked)
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
        self._interrupted.set()
        self._manager.stopping(self.grace + CLOSING_SECONDS)

    def reload(self) -> None:
        """Read the configuration anew, as after SIGHUP."""
        self._reload_wanted.set()

    async def _listen_to_signals(self) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            async for number in signals:
                name = signal.Signals(number).name
                if number == signal.SIGHUP and not (self._in_terminal and not has_terminal()):
                    self.reload()
                    continue
                if self._stopping:
                    self._log.warning("stopped_at_once", signal=name)
                    flush_log()
                    os._exit(128 + number)
                self._log.info(
                    "stopping",
                    signal=name,
                    grace_s=self.grace,
                    advice="A second signal ends the worker immediately.",
                )
                self.stop()

    async def _reload_when_asked(self) -> None:
        """Read and check the configuration, let the worker end, and wait until the next one has it."""
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted = anyio.Event()
            self._manager.reloading()
            try:
                swap = await self._reload()
            except OrdersyncError as error:
                self._log.error(
                    "configuration_refused",
                    error=str(error),
                    error_code=error.code,
                    advice="The old configuration stays in force. Correct the new one and send SIGHUP again.",
                )
                swap = None
            except Exception as error:  # noqa: BLE001 - a reload must not end a daemon that works
                self._log.exception(
                    "configuration_refused",
                    error=str(error),
                    error_code=OrdersyncError.code,
                    advice="This is a defect of ordersync. Report it with this traceback. The old configuration stays "
                    "in force.",
                )
                swap = None
            if swap is not None and not self._stopping:
                self._swapped = anyio.Event()
                self._swap = swap
                self._interrupted.set()
                await self._swapped.wait()
            self._manager.reloaded()

    async def _put_in_force(self) -> None:
        """Call what the reload has returned, if it has, now that no job runs."""
        if self._swap is None or self._stopping:
            return
        swap, self._swap, self._interrupted = self._swap, None, anyio.Event()
        await swap()
        if self._stopping:  # asked for meanwhile
            self._interrupted.set()
        self._swapped.set()

    async def _keep_working(self) -> None:
        failures = 0
        while not self._stopping:
            await self._put_in_force()
            began = self._clock.monotonic()
            try:
                await self._until_interrupted(self._wait_for_redis())
                if not self._interrupted.is_set():
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
            if not self._interrupted.is_set():
                failures += 1
                await self._until_interrupted(self._clock.sleep(BACKOFF.pause(failures, self._clock)))

    async def _work(self) -> None:
        """Run one arq worker until it fails or is interrupted."""
        worker = self._make_worker()
        worker.beat = lambda: self._watchdog.beat("queue")
        self._watchdog.watched = worker
        running = asyncio.ensure_future(worker.async_run())
        interrupted = asyncio.ensure_future(self._interrupted.wait())
        self._log.info("worker_started", worker=self._worker_id)
        self._manager.ready()
        try:
            await asyncio.wait([running, interrupted], return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
            worker.allow_pick_jobs = False
            await self._let_jobs_end(worker)
        finally:
            interrupted.cancel()
            running.cancel()
            self._watchdog.forget("queue")
            self._watchdog.watched = None
            await self._close(worker, running)

    async def _let_jobs_end(self, worker: Supervised) -> None:
        under_way = [task for task in worker.tasks.values() if not task.done()]
        if under_way:
            _, late = await asyncio.wait(under_way, timeout=self.grace)
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

    async def _until_interrupted(self, work: Awaitable[None]) -> None:
        """Await `work`, at most until the worker is to end."""
        with plain_errors():
            async with anyio.create_task_group() as group:

                async def end_when_interrupted() -> None:
                    await self._interrupted.wait()
                    group.cancel_scope.cancel()

                group.start_soon(end_when_interrupted)
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
                except (redis.exceptions.RedisError, OSError) as error:
                    problem = unusable("Redis", error)
                self._write(resources, problem)
            await self._clock.sleep(1)

    async def _give_memory_back(self) -> None:
        while True:
            await self._clock.sleep(MEMORY_SECONDS)
            memory.give_back()

    def _tell_of_clock(self, offset: float) -> None:
        """Log that the clock of this host is off, and again after an hour; what is right may be off again at once."""
        if not (words := heartbeat.clock_words(self._worker_id, offset)):
            self._clock_repeats.forget_all("")
        elif self._clock_repeats.allow("host_clock_off", self._clock.monotonic()):
            self._log.warning("host_clock_off", host_offset_s=offset, cause=words)

    def _write(self, resources: list[heartbeat.ResourceBeat], problem: str) -> None:
        beat = heartbeat.Beat(
            worker=self._worker_id,
            pid=os.getpid(),
            at=self._clock.now(),
            started=self._started,
            resources=resources,
            problem=problem,
            clock_offset=self._clock_offset(),
        )
        self._tell_of_clock(beat.clock_offset)
        self.last_beat = beat
        wrong = "; ".join(heartbeat.diagnose(beat, beat.at))
        self._manager.status(wrong or f"{len(beat.polled)} resources polled, none failing")
        try:
            heartbeat.write(self._data_dir, beat)
        except OSError as error:
            if self._repeats.allow("heartbeat_not_written", self._clock.monotonic()):
                self._log.warning("heartbeat_not_written", folder=str(self._data_dir), error=str(error))
