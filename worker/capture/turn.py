"""A turn: one read of one resource, or of one kind of audit log, and all that its parts share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from worker.capture.cursor import Cursor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.capture.lease import Lease
    from worker.capture.reading import Reading
    from worker.capture.resources import Captured
    from worker.capture.run import Run
    from worker.capture.store import Store
    from worker.clock import Clock


@dataclass(slots=True)
class Turn:
    """What is read, how, and what came of it. `cursor` is as it was loaded last; `lease` is had with `begin`."""

    captured: Captured
    reading: Reading
    run: Run
    store: Store
    clock: Clock
    cursor: Cursor = field(default_factory=Cursor)
    _lease: Lease | None = None

    @property
    def lease(self) -> Lease:
        """The lease under which is read."""
        if self._lease is None:
            raise ValueError("the turn has not begun: it has no lease")
        return self._lease

    async def begin(self, lease: Lease) -> None:
        """Read under this lease, where the cursor stands."""
        self._lease = lease
        await self.store.check_layout()
        await self.look()

    async def look(self) -> Cursor:
        """Load the cursor."""
        self.cursor = await self.store.load_cursor()
        return self.cursor

    async def note(self, fields: Mapping[str, str | int | float], *, record: bool = False) -> None:
        """Write fields of the cursor, and the record of the run if it has ended."""
        await self.store.commit(
            [],
            fence=self.lease.fence,
            buckets=self.cursor.buckets,
            reason=self.run.reason,
            observed_at=self.run.started_at,
            where="",
            cursor=fields,
            run=self.run.summary(self.clock.monotonic()) if record else None,
        )
