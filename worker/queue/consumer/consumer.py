"""The consumer: reads events for a group, so that none is lost between a crash and a trim.

    async with Consumer(redis, group="warehouse", resources=["orders"]) as consumer:
        async for delivery in consumer:
            ...                      # work on delivery.event
            await delivery.ack()

What it promises:

- Every event comes at least once to the group, whoever crashes whenever. With `worker.queue.idempotency` the
  effect of each happens once.
- It takes up its own unfinished events first, then those that others have left, then new ones.
- The events of one entity come in order, also while one of them is tried again; other entities go on
  meanwhile. This holds within a consumer. Several consumers of a group share the events of an entity: where
  two processes must not work on the same entity, let one consume, with `parallel`, or compare `event.version`.
- What fails is tried again, with pauses, and becomes a dead letter after `max_deliveries`.
- What is being worked on is not given to anyone else, however long it takes, as long as the loop runs: a
  handler must not block it (`anyio.to_thread.run_sync` takes blocking work).
- An entry whose data somebody has removed is told of as `Trimmed` and never looks like an empty event.
- When it ends, in order or by cancellation, it gives back what it has not finished, for others to take at once.
- While Redis is away, or full, it waits, and goes on by itself.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import anyio
import anyio.lowlevel

from worker.backoff import Backoff
from worker.cancellation import finish, plain_errors
from worker.clock import SystemClock
from worker.errors import SettingsError
from worker.queue.consumer.connection import with_timeout
from worker.queue.consumer.delivery import Batch, Delivery, DeliveryState, Reject, explain
from worker.queue.consumer.fetcher import Fetcher
from worker.queue.consumer.in_flight import InFlight
from worker.queue.consumer.options import ConsumerOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from types import TracebackType

    from redis.asyncio import Redis

    from worker.clock import Clock
    from worker.queue.consumer.delivery import Trimmed

_TURN = 16
"""Events that a worker handles before it lets others run, where the handler itself never waits."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a consumer has done since it began, and what it holds.

    `recovered`: of those `taken`, how many had been taken before, by whomever. `failed`: attempts. `lost`: taken
    over by another consumer, since this one stood still for too long. `held`: taken, and not acknowledged as far
    as Redis knows: `working` of them are handed out, `waiting` are not.
    """

    taken: int
    recovered: int
    acknowledged: int
    failed: int
    dead: int
    trimmed: int
    lost: int
    given_back: int
    held: int
    working: int
    waiting: int


class Consumer:
    """One consumer of a group. An async context manager; see the module for what it promises.

    Args:
        redis: A client of redis-py. The consumer makes connections of its own like those of the client, and
            neither closes nor disturbs it.
        group: Name of the group. Each group gets every event once. It is made if there is none.
        resources: Names of one or more resources, such as `orders`.
        account: Name of the account.
        name: Name of this consumer within the group; the name of the host by default. It must be its own while
            it runs, and the same after a restart: what it had not finished comes first then.
        begin: Where a group that is made begins: "0" with the oldest event that is kept, "$" with the next new one.
        batch: Entries that one call takes at most.
        prefetch: Entries that are taken and not acknowledged at most; twice `batch` by default. Less is better
            where an event takes long and several consumers share the work. Those that only wait for an earlier
            one of their entity do not count, up to ten times as many.
        claim_after: Seconds without a sign of life after which the entries of another consumer are taken over.
        max_deliveries: Attempts until an event becomes a dead letter. With 1, an event during which a consumer
            was killed becomes one, too.
        backoff: The pauses between attempts.
        block: Seconds that a call waits for new events; also how long a stop may take.
        wait: Whether to wait for ever. Without, the end is where there is nothing left.
        on_trimmed: Awaited for each entry whose data is gone.
        clock: Time and chance.

    Raises:
        SettingsError: A name or a number cannot be used.
        ConsumerReplaced: Out of `async with`, whose block is cancelled: another process consumes under this name.
        GroupGone: The same way: the group was dropped.

    """

    def __init__(
        self,
        redis: Redis,
        *,
        group: str,
        resources: Sequence[str],
        account: str = "default",
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
        clock: Clock | None = None,
    ) -> None:
        self.options = ConsumerOptions(
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
        self._desk = InFlight(redis, self.options, clock or SystemClock())
        self._intake = Fetcher(self._desk)
        self._tasks: anyio.abc.TaskGroup | None = None

    # Life

    async def __aenter__(self) -> Self:
        if self._tasks is not None:
            raise RuntimeError("a consumer is used once; make a new one")
        account = self._desk
        await account.persist(
            "join the group", lambda: finish(with_timeout(account.claims.join(self.options.begin)))
        )
        account.said.started(self.options.resources)
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        for work in (self._take, account.acks.run, account.burials.run, account.renew, account.remind):
            self._tasks.start_soon(work)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._tasks is not None  # noqa: S101 - it was entered
        self.stop()
        self._desk.ended = True
        self._tasks.cancel_scope.cancel()
        try:
            with plain_errors():
                return await self._tasks.__aexit__(kind, error, trace)
        finally:
            await finish(self._desk.leave())

    def stop(self) -> None:
        """End in order: what is being worked on is finished, the rest is given back. May be called by a signal."""
        self._intake.stopping = True
        self._desk.changed()

    def statistics(self) -> Statistics:
        """What it has done and holds."""
        account, counts = self._desk, self._desk.counts
        return Statistics(
            taken=counts.taken,
            recovered=counts.recovered,
            acknowledged=counts.acknowledged,
            failed=counts.failed,
            dead=counts.dead,
            trimmed=counts.trimmed,
            lost=counts.lost,
            given_back=counts.given_back,
            held=account.size,
            working=account.lanes.out,
            waiting=account.lanes.waiting,
        )

    # Three ways to work

    def __aiter__(self) -> AsyncIterator[Delivery]:
        """Deliveries, one by one: answer each. Ends after `stop`, or with nothing left if it does not wait."""
        return self

    async def __anext__(self) -> Delivery:
        delivery = await self._next()
        if delivery is None:
            raise StopAsyncIteration
        return delivery

    async def batches(self, limit: int) -> AsyncIterator[Batch]:
        """Batches of up to `most` deliveries: what is there, and at least one."""
        while (first := await self._next()) is not None:
            more: list[Delivery] = []
            while len(more) < limit - 1 and (delivery := self._desk.lanes.pop()) is not None:
                more.append(delivery)
            yield Batch(self._desk, [first, *await self._desk.begin(more)])

    async def run(self, handler: Callable[[Delivery], Awaitable[None]], *, parallel: int = 8) -> None:
        """Await `handler` for each delivery, up to `parallel` at once, never two of one entity at once.

        It is acknowledged when the handler returns, and fails when the handler raises; `Reject` makes it a dead
        letter at once. Returns after `stop`, when what was begun is done, or with nothing left if it does not wait.

        Raises:
            SettingsError: `parallel` is less than 1.

        """
        if parallel < 1:
            raise SettingsError(f"parallel of a consumer must be more than 0, not {parallel}")
        self._desk.lanes.strict = True
        with plain_errors():
            async with anyio.create_task_group() as tasks:
                for _ in range(parallel):
                    tasks.start_soon(self._work, handler)

    async def _work(self, handler: Callable[[Delivery], Awaitable[None]]) -> None:
        account, handled = self._desk, 0
        while (delivery := await self._next()) is not None:
            try:
                await handler(delivery)
            except Exception as error:  # noqa: BLE001 - whatever a handler raises is its answer
                if delivery.state is DeliveryState.OPEN:
                    reason, trace = explain(error)
                    _ = account.fail(delivery, reason, trace, retry=not isinstance(error, Reject))
            else:
                if delivery.state is DeliveryState.OPEN:
                    account.ack(delivery)
            handled += 1
            if handled % _TURN == 0:
                await anyio.lowlevel.checkpoint()

    async def _next(self) -> Delivery | None:
        """The next delivery, handed out and counted; None at the end."""
        account = self._desk
        if self._tasks is None or account.ended:
            raise RuntimeError("a consumer works inside `async with` only")
        while not self._intake.stopping:
            delivery = account.lanes.pop()
            if delivery is not None:
                if not delivery.uncounted:
                    delivery.state = DeliveryState.OPEN
                    return delivery
                if await account.begin([delivery]):
                    return delivery
            elif self._drained():
                break
            else:
                account.wake.clear()
                await account.wake.wait()
        return None

    def _drained(self) -> bool:
        """Nothing is left, nor can anything come back."""
        lanes, busy = self._desk.lanes, self._desk.burials.busy
        return self._intake.drained and not (lanes.waiting or busy or (lanes.strict and lanes.out))

    async def _take(self) -> None:
        """Take entries until the end; then let others have at once what was not begun."""
        await self._intake.run()
        if self._intake.stopping:
            await self._desk.give_back()
