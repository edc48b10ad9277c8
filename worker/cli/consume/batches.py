"""A command that is started for each batch of events; and how events are passed to commands in general."""

from __future__ import annotations

import asyncio
import select
from typing import TYPE_CHECKING

import anyio

from worker.backoff import Backoff
from worker.cli.consume.process import CommandNotStartable, running
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ordersync_consumer import Batch, Consumer, Delivery
    from worker.cli.consume.process import Command

MAX_PAUSE = 30.0
"""Seconds between two attempts at most while every event fails."""
_DEAD_LETTER_SECONDS = 1.0
"""How long to wait for a dead letter: while Redis is full it cannot be written, and other events go on."""


def line_of(delivery: Delivery) -> bytes:
    """Return a delivery as a line of JSON: the event, and how it was delivered."""
    return delivery.event.json_line(attempt=delivery.attempt, replayed=delivery.replayed) + b"\n"


class EventFeed:
    """Hands out the events of a consumer, and answers them.

    An event that may have ended a command is handed out alone, so that no other event is blamed if it does so again.

    Args:
        consumer: A running consumer.
        exclusive: Have at most one event of an entity handed out at a time, as several concurrent events need.

    Attributes:
        stopping: Set by `stop`.

    """

    def __init__(self, consumer: Consumer, *, exclusive: bool) -> None:
        self._consumer, self._exclusive = consumer, exclusive
        self._suspects: set[tuple[str, str]] = set()
        self.stopping = asyncio.Event()

    def stop(self) -> None:
        """Stop handing out events."""
        self._consumer.stop()
        self.stopping.set()

    async def next_batch(self, limit: int) -> Batch | None:
        """Wait for the next batch of up to `limit` events; None at the end."""
        return await self._consumer.next_batch(limit, exclusive=self._exclusive, alone=self.is_suspect)

    def is_suspect(self, delivery: Delivery) -> bool:
        """True if the event may have ended a command."""
        return delivery.attempt > 1 or _key(delivery) in self._suspects

    def isolate(self, delivery: Delivery) -> None:
        """Hand out the event again, alone: a command ended with it and others. This does not count as an attempt."""
        self._suspects.add(_key(delivery))
        delivery.put_back()

    async def succeeded(self, delivery: Delivery) -> None:
        """Acknowledge the event, without waiting for Redis."""
        self._suspects.discard(_key(delivery))
        await delivery.ack(wait=False)

    async def failed(self, delivery: Delivery, reason: str, *, retry: bool = True) -> None:
        """Have the event retried after a pause, or make it a dead letter; at once without `retry`."""
        self._suspects.discard(_key(delivery))
        with anyio.move_on_after(_DEAD_LETTER_SECONDS):
            await delivery.fail(reason, retry=retry)


class FailureThrottle:
    """Slows down while every event fails: most likely what takes them is broken, or a service that it needs.

    Otherwise an hour without a database would turn all events of that hour into dead letters.

    Args:
        stopping: Ends a pause.
        limit: Seconds of the longest pause.
        give_up: Called instead of slowing down.
        event: The event of the log that says so.
        advice: What the user can do then.

    """

    ENOUGH = 10
    """Different events that fail, with no success in between, until it slows down."""

    def __init__(
        self,
        stopping: asyncio.Event,
        limit: float = MAX_PAUSE,
        *,
        give_up: Callable[[], object] | None = None,
        event: str = "command_broken",
        advice: str = "Read the output of the command.",
    ) -> None:
        self._stopping, self._backoff, self._give_up = stopping, Backoff(most=limit), give_up
        self._event, self._advice = event, advice
        self._failed: set[tuple[str, str]] = set()

    def succeeded(self) -> None:
        """Record that an event was processed."""
        self._failed.clear()

    def failed(self, delivery: Delivery) -> None:
        """Record that an event could not be processed."""
        before = self.everything_fails
        self._failed.add(_key(delivery))
        if before or not self.everything_fails:
            return
        if self._give_up is not None:
            self._give_up()
        else:
            get_logger().error(
                self._event,
                events=self.ENOUGH,
                advice=f"Every event fails, so events are retried more slowly until one succeeds. {self._advice}",
            )

    @property
    def everything_fails(self) -> bool:
        """Whether enough different events have failed, with no success in between."""
        return len(self._failed) >= self.ENOUGH

    @property
    def pause(self) -> float:
        """Seconds to wait before the next attempt."""
        return self._backoff.ceiling(len(self._failed) - self.ENOUGH + 1) if self.everything_fails else 0.0

    async def wait(self) -> None:
        """Wait before the next attempt, or until the end."""
        if self.pause:
            with anyio.move_on_after(self.pause):
                await self._stopping.wait()


async def feed_batches(feed: EventFeed, command: Command, limit: int, throttle: FailureThrottle) -> None:
    """Start a command for each batch, until the end. It succeeds if it reads its whole input and exits with 0.

    Args:
        feed: The events.
        command: The command.
        limit: Events in a batch at most.
        throttle: Slows down while every event fails.

    Raises:
        CommandNotStartable: The command cannot be started; the batch was not tried.
        BrokenPipeError: The output that the command shares with this process is closed (`| head -1`). No event is to
            blame for that.

    """
    while (batch := await feed.next_batch(limit)) is not None:
        try:
            await throttle.wait()
            await _process(feed, command, batch, throttle)
        except (CommandNotStartable, BrokenPipeError):
            batch.put_back()
            raise


async def _process(feed: EventFeed, command: Command, batch: Batch, throttle: FailureThrottle) -> None:
    reason = await _run(command, batch.deliveries)
    if reason is None:
        throttle.succeeded()
        await batch.ack()
        return
    if len(batch) == 1:
        (delivery,) = batch
        throttle.failed(delivery)
        await feed.failed(delivery, reason)
        return
    get_logger().warning(
        "batch_failed",
        events=len(batch),
        error=reason,
        advice="Retrying the events one at a time. This does not count as an attempt.",
    )
    await _process_one_by_one(feed, command, batch, throttle)


async def _process_one_by_one(
    feed: EventFeed, command: Command, batch: Batch, throttle: FailureThrottle
) -> None:
    """Find out which events of a batch fail. Later events of their entities are put back."""
    failed: set[tuple[str, str]] = set()
    for delivery in batch:
        entity = (delivery.resource, delivery.event.subject)
        if entity in failed:
            continue
        await throttle.wait()
        if feed.stopping.is_set():
            break
        reason = await _run(command, [delivery])
        if reason is None:
            throttle.succeeded()
            await delivery.ack()
        else:
            failed.add(entity)
            throttle.failed(delivery)
            await feed.failed(delivery, reason)
    batch.put_back()


async def _run(command: Command, deliveries: Sequence[Delivery]) -> str | None:
    """Run the command for these events. Return None if it succeeded, else the reason."""
    async with running(command) as process:
        is_complete = await process.write(b"".join(map(line_of, deliveries)))
        process.close_input()
        await process.ended.wait()
        if process.code == 0 and is_complete and not process.unread:
            return None
        reason = await process.reason()
        if _output_is_closed():
            raise BrokenPipeError
        return reason if process.code else f"{reason}, without reading its whole input"


def _output_is_closed() -> bool:
    """True if standard output is a pipe whose reader has closed it."""
    poll = select.poll()
    poll.register(1, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _key(delivery: Delivery) -> tuple[str, str]:
    return delivery.resource, delivery.entry_id
