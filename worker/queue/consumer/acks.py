"""What a consumer tells Redis: that events have been dealt with, or that they cannot be.

Acknowledgements share calls: while one call is under way, all that is answered meanwhile waits for the next one.
So an answer waits for nothing when there is little to do, and costs next to nothing when there is much.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from worker.backoff import Backoff
from worker.cancellation import finish
from worker.clock import rfc3339
from worker.queue import envelope
from worker.queue.consumer.connection import DedicatedConnection, is_transient, with_timeout
from worker.redis import scripts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    import structlog
    from redis.asyncio import Redis

    from worker.clock import Clock
    from worker.queue.consumer.delivery import Delivery
    from worker.queue.consumer.group_client import StreamCursor

BACKOFF = Backoff(first=0.2, most=5.0)
"""Between two attempts while Redis is away or full."""


class RetryForever:
    """Tries a call again and again while what stands against it may pass, and says so in the log."""

    def __init__(self, clock: Clock, log: structlog.typing.FilteringBoundLogger) -> None:
        self._clock, self._log = clock, log

    async def __call__(self, what: str, call: Callable[[], Awaitable[object]]) -> None:
        """`call` until it succeeds.

        Raises:
            redis.exceptions.RedisError: One that does not pass by waiting.

        """
        failures = 0
        while True:
            try:
                await call()
            except Exception as error:
                if not is_transient(error):
                    raise
                failures += 1
                await self.pause(what, error, failures)
            else:
                return

    async def pause(self, what: str, error: Exception, failures: int) -> None:
        """Wait before the next try, longer each time."""
        if failures == 1 or BACKOFF.ceiling(failures) >= BACKOFF.most:
            self._log.warning("consumer_waits_for_redis", step=what, failures=failures, error=str(error))
        await self._clock.sleep(BACKOFF.pause(failures, self._clock))


class AckBatcher:
    """Deliveries to be acknowledged. `on_known` is called for those that Redis knows of."""

    def __init__(
        self,
        client: Redis,
        sources: Mapping[str, StreamCursor],
        group: str,
        persist: RetryForever,
        on_known: Callable[[list[Delivery]], None],
    ) -> None:
        self._redis, self._line, self._sources, self._group = (
            client,
            DedicatedConnection(client),
            sources,
            group,
        )
        self._persist, self._on_known = persist, on_known
        self._waiting: list[Delivery] = []
        self._callers: list[asyncio.Future[None]] = []
        self._work = asyncio.Event()
        self._busy = asyncio.Lock()

    def add(self, delivery: Delivery, *, soon: bool = True) -> None:
        """It has been dealt with. Without `soon`, whoever adds it calls `known` at once."""
        self._waiting.append(delivery)
        if soon:
            self._work.set()

    async def known(self) -> None:
        """Wait until Redis knows of all that was added so far."""
        if not self._busy.locked():
            await self.flush()
        else:
            told = asyncio.get_running_loop().create_future()
            self._callers.append(told)
            self._work.set()
            await told

    async def run(self) -> None:
        """Tell Redis, until cancelled."""
        while True:
            await self._work.wait()
            await self.flush()

    async def flush(self) -> None:
        """Tell Redis all that was added so far."""
        async with self._busy:
            self._work.clear()
            batch, callers = self._waiting, self._callers
            self._waiting, self._callers = [], []
            try:
                if batch:
                    await self._persist("acknowledge", lambda: finish(self._send(batch)))
            except BaseException:
                # Cut short: the next flush, at the latest the one at the end, tells it again, which does no harm.
                self._waiting, self._callers = batch + self._waiting, callers + self._callers
                self._work.set()
                raise
            if batch:
                self._on_known(batch)
            for caller in callers:
                if not caller.done():
                    caller.set_result(None)

    async def _send(self, batch: list[Delivery]) -> None:
        ids: dict[str, list[str]] = {}
        replayed: dict[str, list[str]] = {}
        for delivery in batch:
            ids.setdefault(delivery.resource, []).append(delivery.entry_id)
            if delivery.replayed:
                replayed.setdefault(delivery.resource, []).append(delivery.entry_id)
        if len(ids) == 1 and not replayed:
            ((resource, only),) = ids.items()
            await self._line.call("XACK", self._sources[resource].stream, self._group, *only)
            return
        async with self._redis.pipeline(transaction=bool(replayed)) as pipe:
            for resource, some in ids.items():
                pipe.xack(self._sources[resource].stream, self._group, *some)
            for resource, some in replayed.items():
                pipe.srem(self._sources[resource].replayed, *some)
            await with_timeout(pipe.execute())

    async def close(self) -> None:
        """Let go of the connection."""
        await self._line.close()


@dataclass(frozen=True, slots=True)
class PendingDeadLetter:
    """An entry that is to become a dead letter.

    `delivery` is None for one that was never handed out; `event` flat, as far as it is known.
    """

    source: StreamCursor
    entry_id: str
    subject: str
    attempts: int
    reason: str
    trace: str
    event: tuple[str | bytes, ...] = ()
    delivery: Delivery | None = None
    detached: bool = False

    @classmethod
    def of(cls, delivery: Delivery, source: StreamCursor, reason: str, trace: str) -> PendingDeadLetter:
        """Of one that was handed out."""
        event = delivery.event
        return cls(
            source,
            delivery.entry_id,
            event.subject,
            delivery.attempt,
            reason,
            trace,
            flat(event),
            delivery,
            delivery.detached,
        )


class DeadLetterWriter:
    """Entries that become dead letters. `on_buried` is called for each, and whether a letter was written.

    Redis may be full and refuse a letter. Then the entry stays pending, and the others go on meanwhile.
    """

    def __init__(
        self,
        client: Redis,
        *,
        group: str,
        name: str,
        clock: Clock,
        persist: RetryForever,
        on_buried: Callable[[PendingDeadLetter, bool], None],
    ) -> None:
        self._group, self._name, self._clock = group, name, clock
        self._persist, self._on_buried = persist, on_buried
        self._bury = scripts.load(client, "worker.queue", "bury")
        self._waiting: list[tuple[PendingDeadLetter, asyncio.Future[None]]] = []
        self._work = asyncio.Event()

    def add(self, burial: PendingDeadLetter) -> asyncio.Future[None]:
        """It is to become a dead letter. The future is done when the letter stands."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((burial, done))
        self._work.set()
        return done

    @property
    def busy(self) -> bool:
        """Whether there is one without its letter."""
        return bool(self._waiting)

    async def run(self) -> None:
        """Write letters, until cancelled."""
        while True:
            await self._work.wait()
            self._work.clear()
            await self.flush()

    async def flush(self) -> None:
        """Write all letters that are to be written."""
        while self._waiting:
            burial, done = self._waiting[0]
            written: list[bool] = []
            await self._persist("write a dead letter", partial(self._write, burial, written))
            self._waiting.pop(0)
            self._on_buried(burial, written[0])
            if not done.done():
                done.set_result(None)

    async def _write(self, burial: PendingDeadLetter, written: list[bool]) -> None:
        source = burial.source
        letter = [
            "kind", "delivery",
            "reason", burial.reason,
            "subject", burial.subject,
            "where", burial.entry_id,
            "time", rfc3339(self._clock.now()),
            "group", self._group,
            "consumer", self._name,
            "attempts", str(burial.attempts),
            "trace", burial.trace,
        ]  # fmt: skip
        words = [
            self._group,
            self._name,
            burial.entry_id,
            str(int(burial.detached)),
            str(len(letter)),
            *letter,
        ]
        keys = [source.stream, source.dead, source.replayed]
        written.append(bool(await finish(with_timeout(self._bury(keys=keys, args=[*words, *burial.event])))))


def flat(event: envelope.Event) -> tuple[str | bytes, ...]:
    """An event as flat fields, for a letter whose entry is gone from the stream."""
    return (
        "specversion", event.specversion,
        "id", event.id,
        "source", event.source,
        "type", event.type,
        "subject", event.subject,
        "time", event.time,
        "datacontenttype", event.datacontenttype,
        "dataschema", event.dataschema,
        "sequence", str(event.sequence),
        "version", str(event.version),
        "reason", event.reason,
        "changed", envelope.join_names(event.changed),
        "data", event.data,
        *(("previous", event.previous) if event.previous else ()),
    )  # fmt: skip
