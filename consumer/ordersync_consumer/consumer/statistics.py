"""The counters of a consumer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counts:
    """What a consumer has done so far; `Statistics` describes the fields."""

    taken: int = 0
    recovered: int = 0
    acknowledged: int = 0
    failed: int = 0
    dead: int = 0
    trimmed: int = 0
    lost: int = 0
    given_back: int = 0


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a consumer has done since its start, and what is in flight. All are numbers of deliveries.

    Attributes:
        taken: Fetched from Redis.
        recovered: Of those, fetched before by a consumer that did not acknowledge them.
        acknowledged: Acknowledged in Redis.
        failed: Failed attempts.
        dead: Written as dead letters.
        trimmed: Removed from the stream before they were acknowledged.
        lost: Claimed by another consumer, because this one did not renew its claim in time.
        given_back: Returned to the group when the consumer stopped.
        held: In flight: fetched and not acknowledged in Redis.
        working: Handed out and not answered.
        waiting: Not handed out.

    """

    taken: int
    recovered: int
    acknowledged: int
    failed: int
    dead: int
    trimmed: int
    lost: int
    given_back: int
    held: int
    working: int
    waiting: int
