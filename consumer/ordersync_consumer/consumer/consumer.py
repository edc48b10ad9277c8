"""The consumer: reads the events of a group and makes sure that each is processed.

    async with Consumer(redis, group="warehouse", resources=["orders"]) as consumer:
        async for delivery in consumer:
            ...                      # process delivery.event
            await delivery.ack()

Guarantees:

- At least once: the group gets every event, whichever process crashes at whichever moment. With
  `ordersync_consumer.idempotency` the effect of an event happens once.
- A consumer takes its own unfinished events first, then those that other consumers left, then new ones.
- The events of one entity come in order, also while one of them is retried; other entities go on meanwhile. This is
  a guarantee of one consumer. Several consumers of a group share the events of an entity: where two processes must
  not work on the same entity, run one consumer with `parallel`, or compare `event.position`.
- An event that fails is retried after a pause, and becomes a dead letter after `max_deliveries` attempts.
- No other consumer gets an event while a handler works on it, however long that takes, as long as the event loop runs:
  run blocking work in a thread (`anyio.to_thread.run_sync`).
- An entry that was removed from the stream before it was acknowledged is reported as `Trimmed`, not as an empty event.
- When the consumer ends, also by cancellation, other consumers can take at once what it has not finished.
- While Redis is away or full the consumer waits, and then goes on. If Redis loses the group, it is created again.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Self, cast

import anyio
import anyio.lowlevel
from redis.asyncio import RedisCluster

from ordersync_consumer.backoff import Backoff
from ordersync_consumer.cancellation import finish, plain_errors
from ordersync_consumer.client import check_host_name
from ordersync_consumer.clock import SystemClock
from ordersync_consumer.consumer.connection import with_timeout
from ordersync_consumer.consumer.delivery import Batch, Delivery, Reject
from ordersync_consumer.consumer.fetcher import Fetcher
from ordersync_consumer.consumer.group_client import GroupClient
from ordersync_consumer.consumer.in_flight import InFlight
from ordersync_consumer.consumer.log import ConsumerLog
from ordersync_consumer.consumer.options import ConsumerOptions
from ordersync_consumer.consumer.retry import RetryForever
from ordersync_consumer.errors import SettingsError
from ordersync_consumer.keys import PREFIX, Keys
from ordersync_consumer.servers.cluster import at
from ordersync_consumer.servers.connect import like

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from types import TracebackType

    from redis.asyncio import Redis

    from ordersync_consumer.clock import Clock
    from ordersync_consumer.consumer.delivery import Trimmed
    from ordersync_consumer.consumer.statistics import Statistics
    from ordersync_consumer.log import EventLog

_MAX_STREAK = 16
"""Events that a worker handles before it lets other tasks run, if the handler itself never waits."""


class Consumer:
    """One consumer of a group: an async context manager. The module describes its guarantees.

    Args:
        redis: A client of redis-py, also a `RedisCluster`, or one of `connect`. The consumer opens connections of its
            own, configured like those of the client, and does not close the client.
        group: Name of the group. Each group gets every event. Created if it does not exist.
        resources: Names of one or more resources, such as `orders`.
        account: Name of the account.
        name: Name of this consumer within the group [default: the host name]. It must be unique among the running
            consumers of the group, and the same after a restart, so that the consumer finds its unfinished events.
        begin: Where a new group begins: "0" with the oldest event that is kept, "$" with the next new one.
        batch: Entries per call to Redis at most.
        prefetch: Entries that are fetched and not acknowledged at most [default: twice `batch`]. Use less if an
            event takes long and several consumers share the work. Entries that wait for an earlier one of their
            entity do not count, up to ten times as many.
        claim_after: Seconds without a sign of life after which the entries of another consumer are claimed.
        max_deliveries: Attempts after which an event becomes a dead letter. With 1, so does an event during which
            the consumer was killed.
        backoff: The pauses between attempts.
        block: Seconds for which a call waits for new events. A stop may take as long.
        wait: Whether to wait for new events. Without, the consumer ends when nothing is left.
        on_trimmed: Awaited for each entry that was removed from the stream before it was acknowledged.
        log: Logger of events with fields, such as one of structlog [default: the logger `ordersync` of `logging`].
        clock: Time and random numbers.

    Raises:
        SettingsError: An option is invalid.
        ConsumerReplaced: From `async with`, whose block is cancelled: another process consumes under this name.
        GroupGone: From `async with`, whose block is cancelled: the group was dropped. A group that Redis has
            lost is created again instead.

    """

    def __init__(
        self,
        redis: Redis | RedisCluster,
        *,
        group: str,
        resources: Sequence[str],
        account: str = "default",
        prefix: str = PREFIX,
        name: str | None = None,
        begin: str = "0",
        batch: int = 100,
        prefetch: int | None = None,
        claim_after: float = 30.0,
        max_deliveries: int = 5,
        backoff: Backoff | None = None,
        block: float = 1.0,
        wait: bool = True,
        on_trimmed: Callable[[Trimmed], Awaitable[None]] | None = None,
        log: EventLog | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.options = options = ConsumerOptions(
            group=group,
            name=name or socket.gethostname(),
            resources=tuple(dict.fromkeys([resources] if isinstance(resources, str) else resources)),
            account=account,
            begin=begin,
            batch=batch,
            prefetch=batch * 2 if prefetch is None else prefetch,
            claim_after=claim_after,
            max_deliveries=max_deliveries,
            backoff=backoff or Backoff(),
            block=block,
            wait=wait,
            on_trimmed=on_trimmed,
        )
        self._own = like(redis) if isinstance(redis, RedisCluster) else None
        given = self._own if isinstance(redis, RedisCluster) else redis
        redis = at(cast("Redis", given), Keys(account, prefix).base)
        check_host_name(redis.connection_pool)
        clock = clock or SystemClock()
        self._log = ConsumerLog(options, clock, log)
        self._retry = RetryForever(redis, clock, self._log.logger)
        self._group = GroupClient(redis, Keys(account, prefix), options)
        self._retry.rejoin = lambda: finish(with_timeout(self._group.rejoin()))
        self._in_flight = InFlight(redis, self._group, options, retry=self._retry, log=self._log, clock=clock)
        self._fetcher = Fetcher(self._group, self._in_flight, options, self._retry, clock)
        self._tasks: anyio.abc.TaskGroup | None = None

    async def __aenter__(self) -> Self:
        if self._tasks is not None:
            raise RuntimeError("A consumer can be used once only. Create a new one.")
        await self._retry("join the group", lambda: finish(with_timeout(self._group.join())))
        self._log.started()
        self._in_flight.start()
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        for work in (self._fetch, *self._in_flight.background):
            self._tasks.start_soon(work)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._tasks is not None  # noqa: S101 - it was entered
        self._in_flight.end()
        self._tasks.cancel_scope.cancel()
        try:
            with plain_errors():
                return await self._tasks.__aexit__(kind, error, trace)
        finally:
            await finish(self._close())

    async def _close(self) -> None:
        try:
            await self._in_flight.close()
        finally:
            await self._group.close()
            if self._own is not None:
                await self._own.aclose()

    async def _fetch(self) -> None:
        await self._fetcher.run()
        await self._in_flight.end_of_input()

    def stop(self) -> None:
        """Stop handing out deliveries and give back the rest. May be called by a signal handler."""
        self._in_flight.stop()

    def statistics(self) -> Statistics:
        """Return what the consumer has done and what is in flight."""
        return self._in_flight.statistics()

    # Ways to consume

    def __aiter__(self) -> AsyncIterator[Delivery]:
        """Return deliveries one by one; answer each. Ends after `stop` or, without `wait`, when nothing is left."""
        return self

    async def __anext__(self) -> Delivery:
        delivery = await self._in_flight.next()
        if delivery is None:
            raise StopAsyncIteration
        return delivery

    async def batches(
        self, limit: int, *, exclusive: bool = False, alone: Callable[[Delivery], bool] | None = None
    ) -> AsyncIterator[Batch]:
        """Yield the batches of `next_batch`. Ends after `stop` or, without `wait`, when nothing is left."""
        while (batch := await self.next_batch(limit, exclusive=exclusive, alone=alone)) is not None:
            yield batch

    async def next_batch(
        self, limit: int, *, exclusive: bool = False, alone: Callable[[Delivery], bool] | None = None
    ) -> Batch | None:
        """Wait until at least one event is ready, and return those that are.

        Args:
            limit: Deliveries in the batch at most.
            exclusive: From now on, have at most one delivery of an entity handed out at a time, so that several
                batches can be processed concurrently.
            alone: A delivery for which it returns true comes in a batch of its own.

        Returns:
            The batch; None after `stop` or, without `wait`, when nothing is left.

        """
        if exclusive:
            self._in_flight.hand_out_exclusively()
        deliveries = await self._in_flight.next_batch(limit, alone=alone)
        return Batch(self._in_flight, deliveries) if deliveries else None

    async def run(self, handler: Callable[[Delivery], Awaitable[None]], *, parallel: int = 8) -> None:
        """Await `handler` for each delivery, and answer the delivery with the outcome.

        When the handler returns, the delivery is acknowledged. When it raises, the delivery has failed; `Reject` makes
        it a dead letter at once. Returns after `stop`, when the running handlers have returned; or, without `wait`,
        when nothing is left.

        Args:
            handler: Processes one delivery. It is never called for two deliveries of one entity at the same time.
            parallel: Calls at the same time at most.

        Raises:
            SettingsError: `parallel` is less than 1.

        """
        if parallel < 1:
            raise SettingsError(f"Invalid parallel of a consumer: {parallel}. It must be greater than 0.")
        self._in_flight.hand_out_exclusively()
        with plain_errors():
            async with anyio.create_task_group() as tasks:
                for _ in range(parallel):
                    tasks.start_soon(self._work, handler)

    async def _work(self, handler: Callable[[Delivery], Awaitable[None]]) -> None:
        handled = 0
        while (delivery := await self._in_flight.next()) is not None:
            try:
                await handler(delivery)
            except Exception as error:  # noqa: BLE001 - any error of a handler is a failed attempt
                retry = not isinstance(error, Reject)
                await self._in_flight.fail(delivery, error, retry=retry, wait=False)
            else:
                self._in_flight.acknowledge(delivery)
                self._in_flight.request_acks()
            handled += 1
            if handled % _MAX_STREAK == 0:
                await anyio.lowlevel.checkpoint()
