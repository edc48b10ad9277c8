"""How far the backlog of audit logs has come: a position in the states of the records, as text."""

from __future__ import annotations

from typing import NamedTuple

from worker.capture.state.cursor import BACKLOG_DONE


class ScanPosition(NamedTuple):
    """The position of an iteration: in this bucket, after the record with this packed id in hex digits."""

    bucket: int = 0
    after: str = ""


def text_of(position: ScanPosition) -> str:
    """Return a position as the cursor keeps it."""
    return f"{position.bucket}:{position.after}"


def parse_position(text: str) -> ScanPosition:
    """Return a position from its text; the first one if there is none, or this program did not write it."""
    bucket, _, after = text.partition(":")
    try:
        bytes.fromhex(after)
        return ScanPosition(int(bucket), after)
    except ValueError:
        return ScanPosition()


def share_done(position: str, buckets: int) -> float | None:
    """Return how much of the backlog is done, from 0 to 1; None if none was begun."""
    if not position:
        return None
    return 1.0 if position == BACKLOG_DONE else min(1.0, parse_position(position).bucket / max(1, buckets))
