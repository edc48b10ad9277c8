"""Which of the records that existed before the first full scan are remembered without an event. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from worker.capture.records.actions import Action

if TYPE_CHECKING:
    from worker.capture.records.diff import Change


@dataclass(frozen=True, slots=True)
class History:
    """The part of the past that is not published.

    Attributes:
        since: Records that were modified before it are not published (milliseconds since 1970); 0 for no limit.
        silent: No record that existed before the first full scan is published, unless it was modified since that began.

    """

    since: int = 0
    silent: bool = False

    @property
    def is_published(self) -> bool:
        """Whether all of the past is published."""
        return not self.silent and self.since <= 0

    def without_event(self, change: Change, first_scan_at: int) -> Change:
        """Return the change; that of a record of the past as one that is remembered and not published.

        Its later changes are `updated` and `deleted`, since the record was there before. A first full scan may take
        long: what was created or modified while it reads is not of the past, and nothing else would tell of it.

        `first_scan_at`: when the first full scan began, by the clock of the server (milliseconds since 1970).
        """
        if change.action is not Action.SNAPSHOT:
            return change
        undated = self.silent and not change.modified
        if undated or 0 < change.modified < self.before(first_scan_at):
            return msgspec.structs.replace(change, action=Action.SILENT)
        return change

    def before(self, first_scan_at: int) -> int:
        """Return the time before which changes are of the past (milliseconds since 1970; 0: none are).

        `first_scan_at`: when the first full scan of the records began.
        """
        return max(self.since, first_scan_at) if self.silent else self.since
