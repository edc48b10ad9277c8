"""How much of the event loop the pages of one account may take, so that no gateway slows another account down.

Splitting a page of 16 MiB holds the loop for some hundredths of a second. A gateway that serves nothing else would
hold it nearly all the time. So after a page that took long, the next page of the account waits four times as long.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.clock import Clock

LONG_SECONDS = 0.04
"""A page that holds the loop for less is not waited for: one of 100 records takes a few milliseconds."""
PAUSE = 4
"""Pause after a page that took long, in times as long: the account gets a fifth of the loop at most."""


class LoopShare:
    """Spaces those pages of an account that hold the event loop for long."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._free_at = float("-inf")

    async def wait(self) -> None:
        """Wait until the next page may be processed."""
        while (left := self._free_at - self._clock.monotonic()) > 0:
            await self._clock.sleep(left)

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Measure a block that processes a page, and does not await."""
        began = self._clock.monotonic()
        try:
            yield
        finally:
            ended = self._clock.monotonic()
            if (took := ended - began) > LONG_SECONDS:
                self._free_at = max(self._free_at, ended) + took * PAUSE
