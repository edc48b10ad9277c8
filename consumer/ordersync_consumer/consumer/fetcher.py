"""Fetching entries: first those of this consumer's earlier process, then idle ones, then new ones.

While it runs, it scans for idle entries once a second, so that is how soon replayed and returned entries are noticed.
After a lost response it scans the consumer's own entries again before it reads new ones: nothing that Redis has
delivered is forgotten, and no later event of an entity overtakes an earlier one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ordersync_consumer.clock import Clock
    from ordersync_consumer.consumer.group_client import GroupClient
    from ordersync_consumer.consumer.in_flight import InFlight
    from ordersync_consumer.consumer.options import ConsumerOptions
    from ordersync_consumer.consumer.retry import RetryForever

SCAN_SECONDS = 1.0
"""Between two scans for idle entries."""
_MAX_CALLS = 10
"""Calls without an idle entry after which a scan is interrupted and new entries are read."""


class Fetcher:
    """Fetches entries from Redis for a consumer and passes them to its `InFlight`."""

    def __init__(
        self,
        group: GroupClient,
        in_flight: InFlight,
        options: ConsumerOptions,
        retry: RetryForever,
        clock: Clock,
    ) -> None:
        self._group, self._in_flight, self._retry, self._clock = group, in_flight, retry, clock
        self._block, self._wait = options.block, options.wait
        self._batch = min(options.batch, options.prefetch)
        self._min_batch = min(self._batch, max(1, options.prefetch // 2))
        self._caught_up, self._drained = False, False
        self._next_scan, self._calls = 0.0, 0

    async def run(self) -> None:
        """Fetch entries until the consumer stops or, if it does not wait, until nothing is left.

        Raises:
            GroupGone: The group was dropped.

        """
        while not (self._in_flight.stopping or self._drained):
            await self._retry("read", self._step)

    async def _step(self) -> None:
        """Fetch once, or wait until there may be capacity."""
        if self._in_flight.stopping:  # while the step was being repeated
            return
        capacity = self._in_flight.capacity
        if capacity < self._min_batch:
            await self._in_flight.wait_for_capacity()
            return
        try:
            await self._fetch(min(capacity, self._batch))
        except Exception:
            for cursor in self._group.cursors:
                cursor.rescan_own()
            raise

    async def _fetch(self, count: int) -> None:
        for cursor in self._group.cursors:
            if cursor.own is not None:
                known = self._in_flight.entry_ids(cursor.resource)
                claimed = await self._group.claim_own(cursor, known, count)
                await self._in_flight.accept_claimed(cursor, claimed)
                return
        scanning = await self._claim_idle(count)
        if scanning and not self._caught_up:
            return
        self._caught_up = True
        block = min(self._block, max(0.0, self._next_scan - self._clock.monotonic()))
        found = await self._read_new(count, block if self._wait and not scanning else 0.0)
        self._drained = not (found or scanning or self._wait)

    async def _claim_idle(self, count: int) -> bool:
        """Go on with the scan for idle entries; begin a new one when it is time. True if the scan is not finished."""
        now, cursors = self._clock.monotonic(), self._group.cursors
        if now >= self._next_scan:
            self._next_scan, self._calls = now + SCAN_SECONDS, 0
            if self._caught_up:
                for cursor in cursors:
                    cursor.rescan_idle()
        if self._caught_up and self._wait and self._calls >= _MAX_CALLS:
            return False  # many entries are pending for consumers that work: go on at the next scan
        self._calls += 1
        for cursor in cursors:
            if cursor.idle is not None:
                claimed = await self._group.claim_idle(cursor, count)
                await self._in_flight.accept_claimed(cursor, claimed)
                if claimed:
                    self._calls = 0
                    return True
        return any(cursor.idle is not None for cursor in cursors)

    async def _read_new(self, count: int, block: float) -> bool:
        """Read entries that the group has not read. True if there were any."""
        result = await self._group.read_new(max(1, count // len(self._group.cursors)), block)
        for cursor, entries in result:
            self._in_flight.accept(cursor, entries)
        return bool(result)
