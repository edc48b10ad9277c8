"""Acknowledging entries to Redis, many in one call.

While one call is under way, the acknowledgements that arrive meanwhile are collected for the next call. So an
acknowledgement does not wait when there is little to do, and costs next to nothing when there is much.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from worker.cancellation import finish
from worker.queue.consumer.connection import DedicatedConnection, with_timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from redis.asyncio import Redis

    from worker.queue.consumer.delivery import Delivery
    from worker.queue.consumer.group_client import StreamCursor
    from worker.queue.consumer.retry import RetryForever


class AckBatcher:
    """Collects acknowledgements and sends them in batches.

    Args:
        client: The caller's client, for batches of several resources.
        cursors: The streams by resource.
        group: Name of the group.
        retry: Repeats a call while Redis is away.
        on_acknowledged: Called with the deliveries of each batch once Redis has acknowledged them.

    """

    def __init__(
        self,
        client: Redis,
        cursors: Mapping[str, StreamCursor],
        group: str,
        retry: RetryForever,
        on_acknowledged: Callable[[list[Delivery]], None],
    ) -> None:
        self._redis, self._connection = client, DedicatedConnection(client)
        self._cursors, self._group = cursors, group
        self._retry, self._on_acknowledged = retry, on_acknowledged
        self._pending: list[Delivery] = []
        self._callers: list[asyncio.Future[None]] = []
        self._requested = asyncio.Event()
        self._sending = asyncio.Lock()

    def add(self, delivery: Delivery, *, flush: bool) -> None:
        """Add a delivery to the next batch. With `flush`, `run` sends it soon; without, the caller awaits `flushed`."""
        self._pending.append(delivery)
        if flush:
            self._requested.set()

    async def flushed(self) -> None:
        """Wait until Redis has acknowledged everything that was added so far."""
        if not self._sending.locked():
            await self.flush()
        else:
            done = asyncio.get_running_loop().create_future()
            self._callers.append(done)
            self._requested.set()
            await done

    async def run(self) -> None:
        """Send a batch whenever one is requested, until cancelled."""
        while True:
            await self._requested.wait()
            await self.flush()

    async def flush(self) -> None:
        """Send everything that was added so far."""
        async with self._sending:
            self._requested.clear()
            batch, callers = self._pending, self._callers
            self._pending, self._callers = [], []
            try:
                if batch:
                    await self._retry("acknowledge", lambda: finish(self._send(batch)))
            except BaseException:
                # Cut short: the next flush, at the latest the one of the close, sends it again, which is harmless.
                self._pending, self._callers = batch + self._pending, callers + self._callers
                self._requested.set()
                raise
            if batch:
                self._on_acknowledged(batch)
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
            ((resource, entry_ids),) = ids.items()
            await self._connection.call("XACK", self._cursors[resource].stream, self._group, *entry_ids)
            return
        async with self._redis.pipeline(transaction=bool(replayed)) as pipe:
            for resource, entry_ids in ids.items():
                pipe.xack(self._cursors[resource].stream, self._group, *entry_ids)
            for resource, entry_ids in replayed.items():
                pipe.srem(self._cursors[resource].replayed, *entry_ids)
            await with_timeout(pipe.execute())

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()
