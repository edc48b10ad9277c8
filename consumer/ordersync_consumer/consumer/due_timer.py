"""Lets deliveries that wait for their next attempt be handed out again when their pause is over."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable

    from ordersync_consumer.clock import Clock
    from ordersync_consumer.consumer.keyed_queue import KeyedQueue


class DueTimer:
    """Wakes a queue at the next due time of a delivery in it.

    Args:
        queue: The queue.
        clock: Time.
        on_due: Called when deliveries have become ready.

    """

    def __init__(self, queue: KeyedQueue, clock: Clock, *, on_due: Callable[[], None]) -> None:
        self._queue, self._clock, self._on_due = queue, clock, on_due
        self._changed = asyncio.Event()

    def look_again(self) -> None:
        """Look for the next due time again: the queue has changed."""
        if self._queue.next_due() is not None:
            self._changed.set()

    async def run(self) -> None:
        """Wake the queue each time that a pause is over, until cancelled."""
        while True:
            self._changed.clear()
            due, now = self._queue.next_due(), self._clock.monotonic()
            if due is None:
                await self._changed.wait()
            elif due <= now:
                self._queue.wake()
                self._on_due()
            else:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._sleep, due - now, tasks.cancel_scope)
                    await self._changed.wait()
                    tasks.cancel_scope.cancel()

    async def _sleep(self, seconds: float, scope: anyio.CancelScope) -> None:
        await self._clock.sleep(seconds)
        scope.cancel()
