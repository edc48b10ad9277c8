"""Feeding events to a command: which go together, how each is written, and a command that is started for each batch."""

from __future__ import annotations

import asyncio
import select
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from worker.backoff import Backoff
from worker.cli.consume.process import CommandNotStartable, running
from worker.queue import Batch, Consumer
from worker.queue.consumer.delivery import DeliveryState
from worker.queue.envelope import FIELDS
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from worker.queue import Delivery

_DATA, _PREVIOUS = "data", "previous"
_ATTRIBUTES = tuple(name for name in FIELDS if name != _DATA)
_LETTER_SECONDS = 1.0
"""How long a dead letter is waited for: a Redis that is full takes none, and all else goes on meanwhile."""


def line_of(delivery: Delivery) -> bytes:
    """A delivery as a line of JSON: where it stands and how it comes, then the event, its record as it was served."""
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
    # A line break can only stand between the tokens of a record, and would end our line.
    return msgspec.json.encode(line).replace(b"\r", b" ").replace(b"\n", b" ") + b"\n"


class CommandFeed(Consumer):
    """A consumer that hands out events for commands.

    `apart`: no two events of an entity are out at the same time, which several commands at once need. `ending` is
    set when it was told to stop.
    """

    def __init__(self, redis: Redis, *, apart: bool, **options: Any) -> None:
        super().__init__(redis, **options)
        self._desk.lanes.strict = apart
        self._doubtful: set[tuple[str, str]] = set()
        self.ending = asyncio.Event()

    def stop(self) -> None:
        """End in order."""
        super().stop()
        self.ending.set()

    async def next_batch(self, limit: int) -> Batch | None:
        """Up to `most` deliveries, at least one; None at the end.

        One that was begun before comes alone: if it is what brings down whatever works on it, no other event is
        blamed for it.
        """
        account, first = self._desk, await self._next()
        if first is None:
            return None
        more: list[Delivery] = []
        while len(more) < limit - 1 and not self.comes_alone(first):
            delivery = account.lanes.pop()
            if delivery is None:
                break
            if self.comes_alone(delivery):
                account.lanes.requeue(delivery, account.clock.monotonic())
                break
            more.append(delivery)
        return Batch(account, [first, *await account.begin(more)])

    def comes_alone(self, delivery: Delivery) -> bool:
        """Whether it may be what brings a command down."""
        return delivery.attempt > 1 or (delivery.resource, delivery.entry_id) in self._doubtful

    def isolate(self, delivery: Delivery) -> None:
        """A command ended with this event among others: it comes again, alone. That is no attempt."""
        self._doubtful.add((delivery.resource, delivery.entry_id))
        delivery.put_back()

    def taken(self, delivery: Delivery) -> None:
        """It has been dealt with; Redis is told soon."""
        self._doubtful.discard((delivery.resource, delivery.entry_id))
        if delivery.state is DeliveryState.OPEN:
            self._desk.ack(delivery)

    async def refused(self, delivery: Delivery, reason: str) -> None:
        """It could not be dealt with."""
        self._doubtful.discard((delivery.resource, delivery.entry_id))
        with anyio.move_on_after(_LETTER_SECONDS):
            await delivery.fail(reason)


class FailureThrottle:
    """Slows down while everything fails: most likely the command, or what it needs, is broken, and not the events.

    Otherwise an hour without a database would turn all events of that hour into dead letters. `most`: seconds
    between two tries at last; 0 does not slow down.
    """

    ENOUGH = 10
    """Different events that fail one after the other, with nothing that succeeds between them."""

    def __init__(self, ending: asyncio.Event, limit: float) -> None:
        self._ending, self._backoff = ending, Backoff(most=limit)
        self._failed: set[tuple[str, str]] = set()

    def worked(self) -> None:
        """An event was dealt with."""
        self._failed.clear()

    def failed(self, delivery: Delivery) -> None:
        """An event could not be dealt with."""
        before = len(self._failed)
        self._failed.add((delivery.resource, delivery.entry_id))
        if before < self.ENOUGH == len(self._failed) and self._backoff.most:
            get_logger().error(
                "command_broken",
                events=self.ENOUGH,
                advice="Every event fails, so events are retried more slowly until one succeeds. Read the output "
                "of the command.",
            )

    @property
    def pause(self) -> float:
        """Seconds to wait before the next try."""
        beyond = len(self._failed) - self.ENOUGH
        return self._backoff.ceiling(beyond + 1) if beyond >= 0 else 0.0

    async def wait(self) -> None:
        """Wait before the next try, or until the end."""
        if self.pause:
            with anyio.move_on_after(self.pause):
                await self._ending.wait()


async def feed_batches(feed: CommandFeed, words: Sequence[str], limit: int, pace: FailureThrottle) -> None:
    """Start a command for each batch, until the end. It has taken the batch when it reads all and exits with 0.

    Raises:
        Unstartable: The command cannot be started; the batch was not tried.
        BrokenPipeError: Nobody reads the output that the command shares with us (`| head -1`), for which no event is
            to blame.

    """
    while (batch := await feed.next_batch(limit)) is not None:
        try:
            await pace.wait()
            await _deal_with(feed, words, batch, pace)
        except (CommandNotStartable, BrokenPipeError):
            batch.put_back()
            raise


async def _deal_with(feed: CommandFeed, words: Sequence[str], batch: Batch, pace: FailureThrottle) -> None:
    reason = await _run(words, batch.deliveries)
    if reason is None:
        pace.worked()
        await batch.ack()
        return
    if len(batch) == 1:
        (delivery,) = batch
        pace.failed(delivery)
        await feed.refused(delivery, reason)
        return
    get_logger().warning(
        "batch_failed",
        events=len(batch),
        error=reason,
        advice="Retrying the events one at a time. This does not count as an attempt.",
    )
    await _one_by_one(feed, words, batch, pace)


async def _one_by_one(feed: CommandFeed, words: Sequence[str], batch: Batch, pace: FailureThrottle) -> None:
    """Find out which event of a batch it is. Later ones of the same entity wait behind it."""
    held_up: set[tuple[str, str]] = set()
    for delivery in batch:
        entity = (delivery.resource, delivery.event.subject)
        if entity in held_up:
            continue
        await pace.wait()
        if feed.ending.is_set():
            break
        reason = await _run(words, [delivery])
        if reason is None:
            pace.worked()
            await delivery.ack()
        else:
            held_up.add(entity)
            pace.failed(delivery)
            await feed.refused(delivery, reason)
    batch.put_back()


async def _run(words: Sequence[str], deliveries: Sequence[Delivery]) -> str | None:
    """Run the command for these events: None, or why it has not taken them."""
    async with running(words) as child:
        whole = await child.write(b"".join(map(line_of, deliveries)))
        child.close_input()
        await child.ended.wait()
        if child.code == 0 and whole and not child.unread:
            return None
        reason = await child.how_it_ended()
        if _output_is_broken():
            raise BrokenPipeError
        return reason if child.code else f"{reason}, without reading its whole input"


def _output_is_broken() -> bool:
    """Whether standard output is a pipe that nobody reads any more."""
    poll = select.poll()
    poll.register(1, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
