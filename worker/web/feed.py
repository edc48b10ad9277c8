"""What is shown, collected for all viewers together: at most once a second, and never without a viewer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from redis.exceptions import RedisError

from worker.admin.group_lag import SAMPLE_SECONDS, GroupLag
from worker.errors import DataError
from worker.redis.refusals import explain

if TYPE_CHECKING:
    from worker.admin.overview import Overview
    from worker.admin.status import Row
    from worker.clock import Clock

COLLECT_SECONDS = 1.0
"""Least time between two collections."""
PATIENCE = 4.0
"""Seconds for a collection; after them Redis counts as silent."""


class Source(Protocol):
    """Collects what is shown; `worker.admin.overview.OverviewCollector` does."""

    async def collect(self) -> Overview:
        """Return everything."""

    async def rows(self) -> list[Row]:
        """Return the rows of the status."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was collected last.

    Attributes:
        overview: What is shown; None if nothing could be collected yet.
        error: Why it could not be collected again; "" if it is current.
        number: Counts the collections: a later one has a greater number.

    """

    overview: Overview | None
    error: str
    number: int


class Feed:
    """Collects for all viewers.

    Args:
        source: What collects.
        clock: The clock.

    Attributes:
        source: What collects; may be replaced when the settings change.
        lag: The samples of the consumer groups.
        collections: How often it has collected.

    """

    def __init__(self, source: Source, clock: Clock) -> None:
        self.source, self._clock = source, clock
        self.lag = GroupLag()
        self.collections = 0
        self._lock = asyncio.Lock()
        self._snapshot, self._taken = Snapshot(None, "", 0), float("-inf")

    async def latest(self) -> Snapshot:
        """Return what was collected within the last second, or collect anew."""
        async with self._lock:
            if self._clock.monotonic() - self._taken >= COLLECT_SECONDS:
                self._snapshot = await self._collect()
                self._taken = self._clock.monotonic()
            return self._snapshot

    async def sample(self) -> None:
        """Sample the consumer groups, again and again. Does not return."""
        while True:
            try:
                async with asyncio.timeout(PATIENCE):
                    rows = await self.source.rows()
            except (RedisError, DataError, OSError):
                pass  # there is no sample while Redis is away
            else:
                self.lag.add(self._clock.now(), rows)
            await self._clock.sleep(SAMPLE_SECONDS)

    async def _collect(self) -> Snapshot:
        self.collections += 1
        try:
            async with asyncio.timeout(PATIENCE):
                return Snapshot(await self.source.collect(), "", self.collections)
        except TimeoutError:
            error = f"Redis did not answer within {PATIENCE:.0f} s"
        except (RedisError, DataError, OSError) as failure:
            error = explain(failure).rstrip(".")
        return Snapshot(self._snapshot.overview, error, self.collections)
