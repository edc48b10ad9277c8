"""Stale records: shown with another content, and with an older time, than was published last. No I/O.

The list may lag behind what was published, or the time of a record has really gone back: a clock was corrected, a
backup restored, a future date put right. So what is shown is not published at once, and not forgotten either. The
commit that finds a stale record stores which read has shown it, and makes it due for a read by its id. It is published
when that read shows an older state, too, or when a later full scan shows the same bytes again.
"""

from __future__ import annotations

from typing import NamedTuple


class StaleMark(NamedTuple):
    """What is stored of a stale record.

    Attributes:
        raw: The fingerprint of its bytes as they were shown.
        scan: When the full scan began that has shown it (seconds since 1970), which identifies the scan; 0 for
            another read.

    """

    raw: bytes
    scan: float

    @property
    def text(self) -> str:
        """The mark as it is stored."""
        return f"{self.raw.hex()} {self.scan!r}"

    @classmethod
    def parse(cls, text: bytes) -> StaleMark | None:
        """Return the mark from its text; None if this program did not write it."""
        raw, _, scan = text.partition(b" ")
        try:
            return cls(bytes.fromhex(raw.decode()), float(scan))
        except ValueError:
            return None

    def is_confirmed_by(self, raw: bytes, scan: float) -> bool:
        """Return whether a full scan, which began at `scan` and shows these bytes, confirms another read."""
        return scan > 0 and scan != self.scan and raw == self.raw
