"""A command that keeps running: it reads events as lines, and answers each with a line."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio

from worker.backoff import Backoff
from worker.cancellation import plain_errors
from worker.cli.consume.batches import line_of
from worker.cli.consume.process import DRAIN_SECONDS, chunks_of, running
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskGroup, TaskStatus

    from ordersync_consumer import Batch, Delivery
    from worker.cli.consume.batches import EventFeed, FailureThrottle
    from worker.cli.consume.process import Command, CommandProcess

EXPECTED = (
    "expected `ok ENTRY` or `fail ENTRY reason`, with the entry of an unanswered event; write anything else to "
    "standard error"
)
BACKOFF = Backoff(first=0.2, most=10.0)
"""Pauses until a command that ended is started again, if it has answered no event since its last start."""
SILENCE_SECONDS = 60.0
"""Seconds without an answer, while events are unanswered, until a warning is logged."""
_MAX_LINE = 65_536


class _BrokenProtocol(Exception):
    """The command has written a line that is not an answer, or has closed its output."""


class LongRunningCommand:
    """Keeps one command running and passes events to it.

    If the command ends with one unanswered event, the event has failed. If it ends with several, each is handed out
    again alone, to find out which one fails. A command that breaks the protocol is ended.

    Args:
        feed: The events; it must be exclusive.
        command: The command.
        limit: Unanswered events at most.
        throttle: Slows down while every event fails.
        grace: Seconds that the command gets to exit at the end of its input.

    """

    def __init__(
        self,
        feed: EventFeed,
        command: Command,
        *,
        limit: int,
        throttle: FailureThrottle,
        grace: float,
    ) -> None:
        self._feed, self._command, self._limit = feed, command, limit
        self._throttle, self._grace = throttle, grace
        self._process: CommandProcess | None = None
        self._unanswered: dict[str, Delivery] = {}
        self._changed, self._writing = asyncio.Event(), anyio.Lock()
        self._closed = False
        self._answers = 0
        self._idle_starts = 0
        self._tasks: TaskGroup

    async def run(self) -> None:
        """Pass events to the command until the end. Then close its input and wait up to `grace` seconds for its exit.

        Raises:
            CommandNotStartable: The command cannot be started.

        """
        with plain_errors():
            async with anyio.create_task_group() as self._tasks:
                await self._running()
                self._tasks.start_soon(self._close_on_stop)
                self._tasks.start_soon(self._notice_silence)
                while True:
                    await self._until(lambda: len(self._unanswered) < self._limit)
                    batch = await self._feed.next_batch(self._limit - len(self._unanswered))
                    if batch is None:
                        break
                    await self._throttle.wait()
                    await self._pass_on(batch)
                with anyio.move_on_after(self._grace):
                    await self._close()
                    await self._until(lambda: self._process is None)
                self._tasks.cancel_scope.cancel()

    # Input

    async def _pass_on(self, batch: Batch) -> None:
        alone = self._feed.is_suspect(batch.deliveries[0])
        if alone:
            await self._until(lambda: not self._unanswered)
        for delivery in batch:
            if not await self._write(delivery):
                delivery.put_back()
        if alone:
            await self._until(lambda: not self._unanswered)

    async def _write(self, delivery: Delivery) -> bool:
        """Write an event to the command. False at the end: then the command gets no further events."""
        # Entries of two resources may have the same id, and an answer must refer to one of them.
        await self._until(lambda: delivery.entry_id not in self._unanswered)
        process = await self._running()
        async with self._writing:
            if process is None or self._closed:
                return False
            self._unanswered[delivery.entry_id] = delivery
            await process.write(line_of(delivery))
        return True

    async def _running(self) -> CommandProcess | None:
        """Return the running command, which is started if necessary; None at the end."""
        if self._process is not None and self._process.ended.is_set():
            await self._until(lambda: self._process is None)
        if self._process is None:
            if self._idle_starts:
                with anyio.move_on_after(BACKOFF.ceiling(self._idle_starts)):
                    await self._feed.stopping.wait()
            if self._feed.stopping.is_set():
                return None
            self._process = await self._tasks.start(self._run_once)
        return self._process

    async def _close_on_stop(self) -> None:
        await self._feed.stopping.wait()
        await self._close()

    async def _close(self) -> None:
        """Close the input of the command, after a complete line."""
        async with self._writing:
            self._closed = True
            if self._process is not None:
                self._process.close_input()

    # Output

    async def _run_once(self, *, task_status: TaskStatus[CommandProcess]) -> None:
        """Run the command until it ends."""
        answers = self._answers
        async with running(self._command, answers=True) as process:
            task_status.started(process)
            reason = await self._read_answers(process)
        self._process = None
        self._idle_starts = 0 if self._answers > answers else self._idle_starts + 1
        unanswered = list(self._unanswered.values())
        self._unanswered.clear()
        if self._closed:
            for delivery in unanswered:
                delivery.put_back()
        else:
            await self._handle_end(unanswered, reason)
        self._changed.set()

    async def _handle_end(self, unanswered: list[Delivery], reason: str) -> None:
        get_logger().warning("command_ended", unanswered=len(unanswered), error=reason)
        if len(unanswered) == 1:
            self._throttle.failed(unanswered[0])
            await self._feed.failed(unanswered[0], reason)
            return
        for delivery in unanswered:
            self._feed.isolate(delivery)

    async def _read_answers(self, process: CommandProcess) -> str:
        """Handle answers until the command ends. Return why it ended."""
        broken, finished = "", anyio.Event()

        async def read() -> None:
            nonlocal broken
            try:
                await self._read_lines(process)
            except _BrokenProtocol as error:
                broken = f"{process.name} {error}"
                await process.end()
            finished.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            reason = await process.reason()
            with anyio.move_on_after(DRAIN_SECONDS):
                await finished.wait()
            tasks.cancel_scope.cancel()
        return broken or reason

    async def _read_lines(self, process: CommandProcess) -> None:
        assert process.answers is not None  # noqa: S101 - it was asked for
        rest = b""
        async for chunk in chunks_of(process.answers):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                await self._handle_answer(line.decode("utf-8", "replace"))
            if len(rest) > _MAX_LINE:
                raise _BrokenProtocol(f"wrote a line of more than {_MAX_LINE} bytes; {EXPECTED}")
        if rest:
            await self._handle_answer(rest.decode("utf-8", "replace"))
        with anyio.move_on_after(DRAIN_SECONDS):
            await process.ended.wait()
        if not process.ended.is_set() and not self._closed:
            raise _BrokenProtocol("closed its standard output, so it can no longer answer")

    async def _handle_answer(self, line: str) -> None:
        word, _, rest = line.strip().partition(" ")
        entry_id, _, reason = rest.strip().partition(" ")
        if not word:
            return
        if word not in ("ok", "fail") or (word == "ok" and reason):
            # The line itself may contain data of a customer, and stays out of the log.
            raise _BrokenProtocol(f"wrote a line of {len(line)} characters that is not an answer; {EXPECTED}")
        delivery = self._unanswered.pop(entry_id, None)
        if delivery is None:
            raise _BrokenProtocol(
                f"answered entry {entry_id[:50]!r}, which is not an unanswered event; {EXPECTED}"
            )
        self._answers += 1
        if word == "ok":
            self._throttle.succeeded()
            await self._feed.succeeded(delivery)
        else:
            self._throttle.failed(delivery)
            self._tasks.start_soon(self._feed.failed, delivery, reason.strip() or "no reason given")
        self._changed.set()

    async def _notice_silence(self) -> None:
        while True:
            answers = self._answers
            await anyio.sleep(SILENCE_SECONDS)
            if self._unanswered and self._answers == answers:
                get_logger().warning(
                    "command_silent",
                    seconds=SILENCE_SECONDS,
                    unanswered=len(self._unanswered),
                    advice="The command has not answered. If it writes answers, make it flush its output after "
                    "each line.",
                )

    async def _until(self, check: Callable[[], bool]) -> None:
        while not check():
            self._changed.clear()
            await self._changed.wait()
