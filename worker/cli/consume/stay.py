"""A command that runs on: it gets events as lines, and answers each with a line."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio

from worker.backoff import Backoff
from worker.cancellation import plain_errors
from worker.cli.consume.batches import line_of
from worker.cli.consume.process import LAST_WORDS, chunks_of, running
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anyio.abc import TaskGroup, TaskStatus

    from worker.cli.consume.batches import CommandFeed, FailureThrottle
    from worker.cli.consume.process import CommandProcess
    from worker.queue import Batch, Delivery

EXPECTED = (
    "expected `ok ENTRY` or `fail ENTRY reason`, with the entry of an unanswered event; write anything else to "
    "standard error"
)
BACKOFF = Backoff(first=0.2, most=10.0)
"""Until a command that ended is started again, if it has taken no event since its last start."""
SILENCE_SECONDS = 60.0
"""Without any answer to what it was given, until that is told."""
_MAX_LINE = 65_536


class _BrokenProtocol(Exception):
    """The command has written what is no answer, or can write no more."""


class LongRunningCommand:
    """Keeps one command running and gives it events, of which it has not answered more than `most` at a time.

    The feed must keep the events of an entity apart. When the command ends, the one event that it had not answered
    has failed. If there are several, none of them has: each comes again alone, so that it is found which one it is.
    A command that breaks the protocol is ended.
    """

    def __init__(
        self, feed: CommandFeed, words: Sequence[str], *, limit: int, pace: FailureThrottle, grace: float
    ) -> None:
        self._feed, self._words, self._most, self._pace, self._grace = feed, words, limit, pace, grace
        self._child: CommandProcess | None = None
        self._unanswered: dict[str, Delivery] = {}
        self._changed, self._writing = asyncio.Event(), anyio.Lock()
        self._closed = False
        self._answers = 0
        self._idle_lives = 0
        self._tasks: TaskGroup

    async def run(self) -> None:
        """Feed it until the end; then it finds the end of its input, and has `grace` seconds to exit.

        Raises:
            Unstartable: It cannot be started.

        """
        with plain_errors():
            async with anyio.create_task_group() as self._tasks:
                await self._running()
                self._tasks.start_soon(self._close_when_asked)
                self._tasks.start_soon(self._notice_silence)
                while True:
                    await self._until(lambda: len(self._unanswered) < self._most)
                    portion = await self._feed.next_batch(self._most - len(self._unanswered))
                    if portion is None:
                        break
                    await self._pace.wait()
                    await self._hand_over(portion)
                with anyio.move_on_after(self._grace):
                    await self._close()
                    await self._until(lambda: self._child is None)
                self._tasks.cancel_scope.cancel()

    # What it is given

    async def _hand_over(self, portion: Batch) -> None:
        alone = self._feed.comes_alone(portion.deliveries[0])
        if alone:
            await self._until(lambda: not self._unanswered)
        for delivery in portion:
            if not await self._give(delivery):
                delivery.put_back()
        if alone:
            await self._until(lambda: not self._unanswered)

    async def _give(self, delivery: Delivery) -> bool:
        """Let the command have an event. False at the end, when it gets no more."""
        # Entries of two resources may have the same id, and an answer must be that to one of them.
        await self._until(lambda: delivery.entry_id not in self._unanswered)
        child = await self._running()
        async with self._writing:
            if child is None or self._closed:
                return False
            self._unanswered[delivery.entry_id] = delivery
            await child.write(line_of(delivery))
        return True

    async def _running(self) -> CommandProcess | None:
        """The command, started if need be; None at the end."""
        if self._child is not None and self._child.ended.is_set():
            await self._until(lambda: self._child is None)
        if self._child is None:
            if self._idle_lives:
                with anyio.move_on_after(BACKOFF.ceiling(self._idle_lives)):
                    await self._feed.ending.wait()
            if self._feed.ending.is_set():
                return None
            self._child = await self._tasks.start(self._live)
        return self._child

    async def _close_when_asked(self) -> None:
        await self._feed.ending.wait()
        await self._close()

    async def _close(self) -> None:
        """Let it find the end of its input, behind a whole line."""
        async with self._writing:
            self._closed = True
            if self._child is not None:
                self._child.close_input()

    # What it says

    async def _live(self, *, task_status: TaskStatus[CommandProcess]) -> None:
        """One life of the command."""
        answers = self._answers
        async with running(self._words, answers=True) as child:
            task_status.started(child)
            reason = await self._listen(child)
        self._child = None
        self._idle_lives = 0 if self._answers > answers else self._idle_lives + 1
        unanswered = list(self._unanswered.values())
        self._unanswered.clear()
        if self._closed:
            for delivery in unanswered:
                delivery.put_back()
        else:
            await self._blame(unanswered, reason)
        self._changed.set()

    async def _blame(self, unanswered: list[Delivery], reason: str) -> None:
        get_logger().warning("command_ended", unanswered=len(unanswered), error=reason)
        if len(unanswered) == 1:
            self._pace.failed(unanswered[0])
            await self._feed.refused(unanswered[0], reason)
            return
        for delivery in unanswered:
            self._feed.isolate(delivery)

    async def _listen(self, child: CommandProcess) -> str:
        """Take answers until its end; why it ended."""
        broken, heard = "", anyio.Event()

        async def hear() -> None:
            nonlocal broken
            try:
                await self._hear(child)
            except _BrokenProtocol as error:
                broken = f"{child.name} {error}"
                await child.end()
            heard.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hear)
            reason = await child.how_it_ended()
            with anyio.move_on_after(LAST_WORDS):
                await heard.wait()
            tasks.cancel_scope.cancel()
        return broken or reason

    async def _hear(self, child: CommandProcess) -> None:
        assert child.answers is not None  # noqa: S101 - it was asked for
        rest = b""
        async for chunk in chunks_of(child.answers):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._take_answer(line.decode("utf-8", "replace"))
            if len(rest) > _MAX_LINE:
                raise _BrokenProtocol(f"wrote a line of more than {_MAX_LINE} bytes; {EXPECTED}")
        if rest:
            self._take_answer(rest.decode("utf-8", "replace"))
        with anyio.move_on_after(LAST_WORDS):
            await child.ended.wait()
        if not child.ended.is_set() and not self._closed:
            raise _BrokenProtocol("closed its standard output, so it can no longer answer")

    def _take_answer(self, line: str) -> None:
        word, _, rest = line.strip().partition(" ")
        entry_id, _, reason = rest.strip().partition(" ")
        if not word:
            return
        if word not in ("ok", "fail") or (word == "ok" and reason):
            # The line itself may hold the data of a customer, and stays out of the log.
            raise _BrokenProtocol(f"wrote a line of {len(line)} characters that is not an answer; {EXPECTED}")
        delivery = self._unanswered.pop(entry_id, None)
        if delivery is None:
            raise _BrokenProtocol(
                f"answered entry {entry_id[:50]!r}, which is not an unanswered event; {EXPECTED}"
            )
        self._answers += 1
        if word == "ok":
            self._pace.worked()
            self._feed.taken(delivery)
        else:
            self._pace.failed(delivery)
            self._tasks.start_soon(self._feed.refused, delivery, reason.strip() or "no reason given")
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
