"""Stale records: shown with another content, and with an older time, than was published last. No I/O.

A record that another run has published since it was read is stale as well, unless it shows a later time.

The list may lag behind what was published, or the time of a record has really gone back: a clock was corrected, a
backup restored, a future date put right. So what is shown is not published at once, and not forgotten either. The
commit that finds a stale record stores which read has shown it, and makes it due for a read by its id. It is published
when that read shows an older state, too, or when a full scan that begins half a minute later shows the same bytes.
"""

from __future__ import annotations

from typing import NamedTuple

LAG_SECONDS = 30.0
"""A list that shows an older state for longer than this does not merely lag."""


class StaleMark(NamedTuple):
    """What is stored of a stale record.

    Attributes:
        raw: The fingerprint of its bytes as they were shown.
        scan: When the full scan began that has shown it last (seconds since 1970), which identifies the scan; 0 for
            another read.
        since: When these bytes were shown first.

    """

    raw: bytes
    scan: float
    since: float

    @staticmethod
    def of(raw: bytes, scan: float) -> str:
        """Return what a commit stores of a stale record; the script adds since when it is shown."""
        return f"{raw.hex()} {scan!r}"

    @classmethod
    def parse(cls, text: bytes) -> StaleMark | None:
        """Return the mark from its text; None if this program did not write it."""
        try:
            raw, scan, since = text.decode().split(" ")
            return cls(bytes.fromhex(raw), float(scan), float(since))
        except ValueError:
            return None

    def is_confirmed_by(self, raw: bytes, scan: float) -> bool:
        """Return whether a full scan, which began at `scan` and shows these bytes, confirms another read.

        A list that lags shows the older state in two scans that follow each other closely.
        """
        return scan >= self.since + LAG_SECONDS and raw == self.raw
