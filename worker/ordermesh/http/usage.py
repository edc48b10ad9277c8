"""The requests of one run."""

from __future__ import annotations

import msgspec

from worker.ordermesh.http.waits import WaitTime


class Usage(msgspec.Struct):
    """The requests of one run."""

    requests: int = 0
    """All requests, with retries."""
    retries: int = 0
    bytes: int = 0
    clock_offset: float | None = None
    """Seconds by which the server's clock was ahead of ours at the last page; None if the server sends no time."""
    waited: WaitTime = msgspec.field(default_factory=WaitTime)
    """How long requests have waited for the budget. Figures of parts of a run share it."""

    @property
    def budget_wait(self) -> float:
        """Seconds during which at least one request waited for the budget."""
        return self.waited.seconds
