"""The content of a commit. No I/O: `Committer` sends it, `commit.lua` carries it out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from worker.capture.records.audit import AuditDelta
from worker.capture.records.diff import Change
from worker.capture.records.erasing import Erasure
from worker.capture.state.cursor import Cursor, CursorUpdate


class RefreshResult(msgspec.Struct, frozen=True):
    """The results of reads by id and of full scans that a commit records.

    Attributes:
        at: When the reads of `done` began, by the clock of Redis.
        done: Members of the refresh queue that were read. A member that became due again after `at` stays.
        later: Members to read again, and in how many seconds.
        absent: Ids, and how often OrderMesh has answered that the record does not exist.
        present: Ids of records that exist again, whose counts are removed.
        scan: When the full scan began that has seen the records of this commit (seconds since 1970); 0 for another
            read.
        stale_in: Seconds until a record of this commit that is stale is read by its id.
        settled: Packed ids of records that are no longer stale: what was published last is confirmed.
        shown_in: The bitmap of a resync in which the records of this commit are marked; "" for another read.
        places: The places of further records that are marked there.

    """

    at: str = ""
    done: Sequence[str] = ()
    later: Mapping[str, float] = msgspec.field(default_factory=dict)
    absent: Mapping[str, int] = msgspec.field(default_factory=dict)
    present: Sequence[str] = ()
    scan: float = 0.0
    stale_in: float = 0.0
    settled: Sequence[bytes] = ()
    shown_in: str = ""
    places: Sequence[int] = ()

    @property
    def is_empty(self) -> bool:
        """Whether a commit without changes writes nothing of it."""
        return not (self.done or self.later or self.absent or self.present or self.settled or self.places)


NOTHING = RefreshResult()


class Checkpoint(msgspec.Struct, frozen=True):
    """The progress that a commit writes in addition to the records; see `Commit` for the fields."""

    cursor: CursorUpdate = msgspec.field(default_factory=CursorUpdate)
    bookmarks: Mapping[str, str] = msgspec.field(default_factory=dict)
    refresh: RefreshResult = NOTHING


class Packed(msgspec.Struct, frozen=True):
    """Changes, their events, the data of each event, and dead letters, as the script takes them."""

    changes: bytes
    events: bytes
    data: Sequence[bytes | memoryview]
    dead: Sequence[Sequence[object]]


class Commit(msgspec.Struct, frozen=True):
    """The content of one commit, which is written completely or not at all.

    Attributes:
        fence: Fencing number of the lease under which the commit is written.
        buckets: Number of hashes that keep the states of the resource.
        generation: The generation in which the changes are numbered.
        first_scan_at: When the first full scan began, if it has not ended (milliseconds since 1970): the records of
            the past that it finds are not followed up; else 0.
        after_loss: Redis has lost something of the resource: a snapshot may be a change, whose audit log is to be read.
        reason: Why the records were read; it goes into each event.
        observed_at: Time of an event whose record has no time of its own (seconds since 1970).
        where: Operation and page, for dead letters.
        changes: Changed records, with the states that they had when they were looked up.
        recorded: New entries of audit logs.
        erased: Records that are erased, or no longer marked as erased.
        letters: Dead letters of records of which no state is kept.
        cursor: Fields of the cursor that change.
        bookmarks: Fields of the same hash that belong to resyncs, by name.
        refresh: The results of reads by id and of full scans.
        run: The run record, where the run has ended.
        packed: The changes as the script takes them, if that was made ready before.
        release: The session ends with this commit, which releases the lease if it is progress only.
        as_of: The cursor that this commit goes by, if a state that was changed since speaks against it. It is checked
            if the commit is progress only.
        opened: Ids of records that were shown as open, which are added to those of the last read of open records.

    """

    fence: int
    buckets: int
    reason: str
    observed_at: float
    generation: int = 0
    first_scan_at: int = 0
    after_loss: bool = False
    where: str = ""
    changes: Sequence[Change] = ()
    recorded: Sequence[AuditDelta] = ()
    erased: Sequence[Erasure] = ()
    letters: Sequence[Change] = ()
    cursor: CursorUpdate = msgspec.field(default_factory=CursorUpdate)
    bookmarks: Mapping[str, str] = msgspec.field(default_factory=dict)
    refresh: RefreshResult = NOTHING
    run: Mapping[str, str | int | float] = msgspec.field(default_factory=dict)
    packed: Packed | None = None
    release: bool = False
    as_of: Cursor | None = None
    opened: Collection[str] = ()

    @property
    def ends_scan(self) -> bool:
        """Whether no full scan is under way after it, so that nobody asks what it has seen."""
        return self.cursor.get("sweep_started") == 0

    @property
    def is_progress(self) -> bool:
        """Whether it changes no record and no refresh queue."""
        return self.refresh.is_empty and not (self.changes or self.recorded or self.erased or self.letters)
