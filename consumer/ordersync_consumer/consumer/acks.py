"""Acknowledging entries to Redis, many in one call.

While one call is under way, the acknowledgements that arrive meanwhile are collected for the next call, and a call
waits for as long as each turn of the event loop brings more of them. So an acknowledgement does not wait when there is
little to do, and costs next to nothing when there is much.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ordersync_consumer.cancellation import finish
from ordersync_consumer.consumer.connection import DedicatedConnection, with_timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from redis.asyncio import Redis

    from ordersync_consumer.consumer.delivery import Delivery
    from ordersync_consumer.consumer.group_client import StreamCursor
    from ordersync_consumer.consumer.retry import RetryForever


class AckBatcher:
    """Collects acknowledgements and sends them in batches.

    Args:
        client: The caller's client, for batches of several resources.
        cursors: The streams by resource.
        group: Name of the group.
        enough: Acknowledgements for which a call is worth its while: it does not wait for more.
        retry: Repeats a call while Redis is away.
        on_acknowledged: Called with the deliveries of each batch once Redis has acknowledged them.

    """

    def __init__(
        self,
        client: Redis,
        cursors: Mapping[str, StreamCursor],
        group: str,
        *,
        enough: int,
        retry: RetryForever,
        on_acknowledged: Callable[[list[Delivery]], None],
    ) -> None:
        self._redis, self._connection = client, DedicatedConnection(client)
        self._cursors, self._group, self._enough = cursors, group, enough
        self._retry, self._on_acknowledged = retry, on_acknowledged
        self._pending: list[Delivery] = []
        self._callers: list[asyncio.Future[None]] = []
        self._requested = asyncio.Event()
        self.request = self._requested.set
        """Lets `run` send soon what was added."""
        self._sending = asyncio.Lock()

    def add(self, delivery: Delivery) -> None:
        """Add a delivery to the next batch; call `request` or await `flushed` afterwards."""
        self._pending.append(delivery)

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
            size = 0
            while size < len(self._pending) < self._enough:
                size = len(self._pending)
                await asyncio.sleep(0)
            await self.flush()

    async def flush(self) -> None:
        """Send everything that was added so far."""
        async with self._sending:
            self._requested.clear()
            batch, callers = self._pending, self._callers
            self._pending, self._callers = [], []
            try:
                if batch:
                    await self._retry("acknowledge", lambda: self._send(batch))
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
            # A cancellation closes this connection; that is cheaper than a task for each call.
            await self._connection.call("XACK", self._cursors[resource].stream, self._group, *entry_ids)
        else:
            await finish(self._send_pipeline(ids, replayed))

    async def _send_pipeline(self, ids: Mapping[str, list[str]], replayed: Mapping[str, list[str]]) -> None:
        async with self._redis.pipeline(transaction=bool(replayed)) as pipe:
            for resource, entry_ids in ids.items():
                pipe.xack(self._cursors[resource].stream, self._group, *entry_ids)
            for resource, entry_ids in replayed.items():
                pipe.srem(self._cursors[resource].replayed, *entry_ids)
            await with_timeout(pipe.execute())

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()
