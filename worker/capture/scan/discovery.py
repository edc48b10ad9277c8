"""What a full scan has found that nobody knew, and whether that proves that no record is still unknown. No I/O.

A known record that a full scan did not show is read by its id. One that nobody knows yet cannot be: pages that move may
hide it, and nothing would ever ask for it. So the first full scans go on until one is evidence that none is hidden:

- As many records are known as the total of the first page counted, of those that existed then. It does not matter how
  the pages moved since: records that come in at the front of the list, for example, only repeat others.
- Nothing has moved or changed while the list was read, in one go, and it has shown as many as the total says, if any.
- A repeated pass has found no record that was unknown, except those created since the first scan began. Where the total
  still counts more than are known, or, without one, records changed during that pass as well, a third one has to agree.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.capture.records.diff import Change
    from worker.capture.state.cursor import Cursor, CursorUpdate

DOUBTED_SCANS = 2
"""Full scans without evidence after which one that finds nothing is believed, whatever its total says."""


@dataclass(frozen=True, slots=True)
class Discovery:
    """How many records are known of those that a list had when the full scan began.

    Attributes:
        listed: The total of the first page; 0 for none.
        known: Records that were known when the scan began, and those that it has found which existed then.
        found: Records that this pass has found, and that existed when the first full scan began.
        moved: Records that this pass has shown as changed since the scan began, other than those created since.

    """

    listed: int = 0
    known: int = 0
    found: int = 0
    moved: int = 0

    @classmethod
    def of(cls, cursor: Cursor, *, resumed: bool) -> Discovery:
        """Return that of the scan under way, or of one that begins."""
        scan = cursor.scan
        if not resumed:
            return cls(known=cursor.tracked)
        return cls(scan.listed, scan.known, scan.found, scan.moved)

    @property
    def fields(self) -> CursorUpdate:
        """What the cursor keeps of it."""
        return {
            "sweep_listed": self.listed,
            "sweep_known": self.known,
            "sweep_found": self.found,
            "sweep_moved": self.moved,
        }

    def at_first_page(self, total: int | None, count: int) -> Discovery:
        """Return it at the beginning of a pass, whose first page has `count` records and this total."""
        # A total below what is served with it means nothing: 0 and -1 are ways to say "not known".
        means_something = total is not None and total >= max(count, 1)
        return replace(self, listed=self.listed or (means_something and total) or 0, found=0, moved=0)

    def after(self, changes: Iterable[Change], *, began_at: int, first_scan_at: int) -> Discovery:
        """Return it after a page with these changes.

        Args:
            changes: Those of the page.
            began_at: When the list was first requested, or earlier, by the clock that stamps its records (milliseconds
                since 1970).
            first_scan_at: When the first scan began, by the clock of the server (likewise).

        """
        known, found, moved = self.known, self.found, self.moved
        for change in changes:
            is_new = change.grows > 0
            known += is_new and (change.created or change.modified) < began_at
            found += is_new and change.created < first_scan_at
            moved += began_at <= change.modified and not (is_new and change.created >= began_at)
        return replace(self, known=known, found=found, moved=moved)

    def is_proof(
        self,
        cursor: Cursor,
        *,
        seen: int,
        again: bool,
        is_still: bool,
        believes_total: bool,
        missing: int = 0,
    ) -> bool:
        """Whether no record is unknown that existed when the first full scan began.

        Args:
            cursor: The cursor before the end of the scan.
            seen: Records on its pages.
            again: This was the second pass of the scan.
            is_still: The list was read in one go, and nothing in it has moved or changed.
            believes_total: The list has not ended before its total.
            missing: Known records that the scan did not find: the total may not count them, but unknown ones instead.

        """
        hidden = self.listed - self.known + missing if self.listed and believes_total else -1
        if is_still and (
            hidden <= 0 or seen == self.listed
        ):  # records that are known exceed a total of the page alone
            return True
        if not cursor.baseline and hidden == 0:
            return True
        if self.found or not (again or cursor.baseline):
            return False
        return not (self.moved if hidden < 0 else hidden) or cursor.unclean_scans >= DOUBTED_SCANS
