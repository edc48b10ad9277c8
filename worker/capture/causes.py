"""The names of the causes that the health of a resource may have.

The words of a cause say figures and may change; its name stays, so that an alert can lead to the section of
docs/operate/runbook.md that has the name as its title. A poll that fails has the code of its error as the name.
"""

from __future__ import annotations

from enum import StrEnum


class Cause(StrEnum):
    """Why a resource is not healthy, or is not polled."""

    PAUSED = "paused"
    WITHDRAWN = "withdrawn"
    FIRST_SCAN = "first_scan"
    EMPTY_FIRST_SCAN = "empty_first_scan"
    UNPROVEN_SCAN = "unproven_scan"
    NO_POLL = "no_poll"
    OLD_READ = "old_read"
    OLD_FULL_SCAN = "old_full_scan"
    OLD_PARENT_READ = "old_parent_read"
    UNREAD_LOGS = "unread_logs"
    CLOCK_PUT_BACK = "clock_put_back"
    BACKPRESSURE = "backpressure"
    GROUP_LATE = "group_late"
    REDIS_LOST_DATA = "redis_lost_data"
    EVICTED_KEYS = "evicted_keys"
    UNUSABLE_KEYS = "unusable_keys"
    SUSPECT_READ = "suspect_read"
    UNREAD_RECORDS = "unread_records"
    HELD_BACK_DELETIONS = "held_back_deletions"
    MOVING_LIST = "moving_list"
    UNANSWERED_RECORDS = "unanswered_records"
    OPEN_GAPS = "open_gaps"
    STALE_RECORDS = "stale_records"
    UNREADABLE_RECORDS = "unreadable_records"
    CAPABILITY_WITHDRAWN = "capability_withdrawn"
