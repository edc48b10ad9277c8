"""The phases of a consumer's life."""

from __future__ import annotations

from enum import IntEnum


class Phase(IntEnum):
    """The life of a consumer; it only moves on."""

    CREATED = 0
    """It is not connected yet."""
    FETCHING = 1
    """Entries are fetched and handed out."""
    EXHAUSTED = 2
    """Nothing is left to fetch; what is in flight is handed out."""
    STOPPING = 3
    """Nothing is handed out any more; deliveries can still be answered."""
    ENDED = 4
    """Deliveries can no longer be answered."""
