"""A command that is started for each batch of events; and how events are passed to commands in general."""

from __future__ import annotations

import asyncio
import select
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from worker.backoff import Backoff
from worker.cli.consume.process import CommandNotStartable, running
from ordersync_consumer.envelope import FIELDS
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.cli.consume.process import Command
    from ordersync_consumer import Batch, Consumer, Delivery

_DATA, _PREVIOUS = "data", "previous"
_ATTRIBUTES = tuple(name for name in FIELDS if name != _DATA)
_DEAD_LETTER_SECONDS = 1.0
"""How long to wait for a dead letter: while Redis is full it cannot be written, and other events go on."""


def line_of(delivery: Delivery) -> bytes:
    """Return a delivery as a line of JSON: resource, entry and attempt, then the event with its record as served."""
    event = delivery.event
    line: dict[str, Any] = {
        "resource": delivery.resource,
        "entry": delivery.entry_id,
        "attempt": delivery.attempt,
        "replayed": delivery.replayed,
    }
    line |= {name: getattr(event, name) for name in _ATTRIBUTES}
    line[_DATA] = msgspec.Raw(event.data)
    if event.previous:
        line[_PREVIOUS] = msgspec.Raw(event.previous.encode())
    # A line break in a record can only be white space between tokens.
    return msgspec.json.encode(line).replace(b"\r", b" ").replace(b"\n", b" ") + b"\n"


class CommandFeed:
    """Hands out the events of a consumer to commands, and answers them.

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

    async def failed(self, delivery: Delivery, reason: str) -> None:
        """Have the event retried after a pause, or make it a dead letter."""
        self._suspects.discard(_key(delivery))
        with anyio.move_on_after(_DEAD_LETTER_SECONDS):
            await delivery.fail(reason)


class FailureThrottle:
    """Slows down while every event fails: most likely the command, or a service that it needs, is broken.

    Otherwise an hour without a database would turn all events of that hour into dead letters.

    Args:
        stopping: Ends a pause.
        limit: Seconds of the longest pause; 0 disables pauses.

    """

    ENOUGH = 10
    """Different events that fail, with no success in between, until it slows down."""

    def __init__(self, stopping: asyncio.Event, limit: float) -> None:
        self._stopping, self._backoff = stopping, Backoff(most=limit)
        self._failed: set[tuple[str, str]] = set()

    def succeeded(self) -> None:
        """Record that an event was processed."""
        self._failed.clear()

    def failed(self, delivery: Delivery) -> None:
        """Record that an event could not be processed."""
        before = len(self._failed)
        self._failed.add(_key(delivery))
        if before < self.ENOUGH == len(self._failed) and self._backoff.most:
            get_logger().error(
                "command_broken",
                events=self.ENOUGH,
                advice="Every event fails, so events are retried more slowly until one succeeds. Read the output "
                "of the command.",
            )

    @property
    def pause(self) -> float:
        """Seconds to wait before the next attempt."""
        beyond = len(self._failed) - self.ENOUGH
        return self._backoff.ceiling(beyond + 1) if beyond >= 0 else 0.0

    async def wait(self) -> None:
        """Wait before the next attempt, or until the end."""
        if self.pause:
            with anyio.move_on_after(self.pause):
                await self._stopping.wait()


async def feed_batches(feed: CommandFeed, command: Command, limit: int, throttle: FailureThrottle) -> None:
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


async def _process(feed: CommandFeed, command: Command, batch: Batch, throttle: FailureThrottle) -> None:
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
    feed: CommandFeed, command: Command, batch: Batch, throttle: FailureThrottle
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
