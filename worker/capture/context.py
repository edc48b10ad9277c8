"""A turn: one read of one resource, or of one kind of audit log, and all that its parts share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from worker.capture.state.commit import Checkpoint, Commit
from worker.capture.state.cursor import Cursor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.capture.records.audit import AuditDelta
    from worker.capture.records.diff import Change
    from worker.capture.records.privacy import RecordPolicy
    from worker.capture.records.scope import RecordScope
    from worker.capture.resources import Captured, Resource
    from worker.capture.state.cursor import CursorUpdate
    from worker.capture.state.lease import Lease
    from worker.capture.state.run import Run
    from worker.capture.state.store import StateStore
    from worker.clock import Clock
    from worker.queue.streams.backpressure import BackpressureGate

PAUSE_SECONDS = 5.0
"""Until a resource that is paused is looked at again. It costs a lookup in Redis, and no request."""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How a resource is read in this run, whatever the parts of it. It ends early when `stop()` is true.

    `scope`: which of its records are published. `single`: it was seen that a single record can be read by its id.
    """

    resource: Resource
    scope: RecordScope
    page_size: int
    window: int
    interval: float
    ignored: frozenset[str]
    stop: Callable[[], bool]
    gate: BackpressureGate
    seconds: float = float("inf")
    single: bool = False
    privacy: RecordPolicy | None = None


@dataclass(slots=True)
class PollContext:
    """State of one poll: its source, its options, the counts of its run.

    `cursor` is the copy that was loaded last; `lease` is set by `begin`. `buckets`: number of hashes that keep the
    states of the source; 0 for one that was never read, until the reader knows how many it takes.
    """

    captured: Captured
    options: ReadOptions
    run: Run
    store: StateStore
    clock: Clock
    cursor: Cursor = field(default_factory=Cursor)
    buckets: int = 0
    _lease: Lease | None = None

    @property
    def lease(self) -> Lease:
        """The lease under which is read."""
        if self._lease is None:
            raise ValueError("the poll has not begun: it has no lease")
        return self._lease

    async def begin(self, lease: Lease) -> None:
        """Read under this lease, where the cursor stands."""
        self._lease = lease
        await self.store.check_layout()
        await self.load_cursor()

    async def load_cursor(self) -> Cursor:
        """Load the cursor."""
        self.cursor = await self.store.load_cursor()
        self.buckets = self.cursor.buckets or self.buckets
        return self.cursor

    async def update(self, fields: CursorUpdate, *, record: bool = False) -> None:
        """Write fields of the cursor, and the record of the run if it has ended."""
        await self.commit(Checkpoint(fields), record=record)

    async def commit(
        self,
        checkpoint: Checkpoint,
        *,
        changes: Sequence[Change] = (),
        recorded: Sequence[AuditDelta] = (),
        where: str = "",
        record: bool = False,
    ) -> bool:
        """Publish, and move to the checkpoint, in one commit; with the record of the run if it has ended.

        False if nothing was written, since another run has committed one of these records since it was looked up.

        Raises:
            LeaseLost: Another worker has taken over; nothing was written.

        """
        return await self.store.commit(
            Commit(
                fence=self.lease.fence,
                buckets=self.buckets,
                reason=self.run.reason,
                observed_at=self.clock.now(),
                where=where,
                changes=changes,
                recorded=recorded,
                cursor=checkpoint.cursor,
                bookmarks=checkpoint.bookmarks,
                refresh=checkpoint.refresh,
                run=self.run.summary(self.clock.monotonic()) if record else {},
            )
        )
