"""The cursor of a resource: where its next poll starts, and how the last ones went. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from worker.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where the next poll of a resource starts, and how the last ones went. Times in seconds since 1970.

    `sweep_page` is the first page that the sweep under way has not committed; a sweep is under way when it
    or `sweep_started` is not 0. `sweep_size`: records asked for in a page of it; `sweep_width`: those that a
    full one held; `sweep_total`: the total that the server gave it; `sweep_unreadable`: records
    before that page that cannot be read; `sweep_pages`, `sweep_seconds`: pages with records that the last
    sweep found, and how long it took. `sweep_seen`, `sweep_changed`: records that it has shown so far, and those that
    had changed; `sweep_again`: its pages moved, and are read for the second time; `sweep_since`: where one that goes by
    time has come to (milliseconds since 1970). `capped`: the server shows no more than a number of records of a list.
    `swept_records`: records that the last sweep has shown that was believed, `suspect_records` the last that was not.
    `suspicious`: why the last read is not believed, in words. `bare`: the `newest` behind which a window was empty,
    and a complete read has shown that it may be. `statuses`: those that the records of the last
    complete read were in, a line each; `sweep_statuses`: likewise of the one under way, behind an empty line, and
    empty where it does not learn them.
    `tracked`: records that are known and not deleted; `places`: places given to records so far.
    `mark`: every change of a record up to then (milliseconds since 1970, by the records' own times) has been
    read, and a read of what is newer may begin there; 0 for none. `swept_at`: when the last
    complete sweep began; `swept_mark`: the mark at its end.
    `fresh_as_of`: everything that changed before then has been published.
    `paused`: why polling pauses (backpressure), in words. `held_back`: so many records, at least, were not shown by
    the last complete read, which are too many to be believed deleted. `gaps`: records whose audit logs tell of what
    could not be shown to be published; written by reconciliation alone.
    """

    baseline: bool = False
    sweep_page: int = 0
    sweep_size: int = 0
    sweep_width: int = 0
    sweep_started: float = 0.0
    sweep_total: int = 0
    sweep_pages: int = 0
    sweep_unreadable: int = 0
    sweep_seconds: float = 0.0
    sweep_seen: int = 0
    sweep_changed: int = 0
    sweep_again: int = 0
    sweep_since: int = 0
    capped: int = 0
    swept_records: int = 0
    suspect_records: int = 0
    suspicious: str = ""
    bare: int = 0
    statuses: str = ""
    sweep_statuses: str = ""
    buckets: int = 0
    sequence: int = 0
    tracked: int = 0
    places: int = 0
    newest: int = 0
    mark: int = 0
    swept_at: float = 0.0
    swept_mark: int = 0
    fresh_as_of: float = 0.0
    last_success: float = 0.0
    last_started: float = 0.0
    due_at: float = 0.0
    interval: float = 0.0
    failures: int = 0
    unreadable: int = 0
    error: str = ""
    error_code: str = ""
    paused: str = ""
    held_back: int = 0
    gaps: int = 0

    @classmethod
    def parse(cls, fields: Mapping[bytes, bytes]) -> Cursor:
        """Read the hash as Redis gives it.

        Raises:
            DataError: A value is not one that this program writes.

        """
        try:
            text = {name.decode(): value.decode() for name, value in fields.items()}
            return msgspec.convert(text, cls, strict=False)
        except (msgspec.ValidationError, UnicodeDecodeError) as error:
            raise DataError(
                f"the cursor cannot be read: {error}. If somebody edited it, put the old value back; "
                "deleting the whole key starts the sequence at 1 again and may publish known records once more."
            ) from None
