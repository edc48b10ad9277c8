"""What an answer of a receiver means for the events that were sent. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum
from http import HTTPStatus

MAX_RETRY_AFTER = 600.0
"""Seconds that a receiver may ask to wait at most."""
_ADDRESS_REFUSED = frozenset({401, 403, 404, 405, 407})
_UNAVAILABLE = frozenset({408, 425, 429, 502, 503, 504})


class Verdict(Enum):
    """What becomes of the events."""

    TAKEN = "taken"
    """The receiver has them."""
    REFUSED = "refused"
    """The receiver does not take these events, or fails at them."""
    UNAVAILABLE = "unavailable"
    """The receiver takes no events at the moment, or not at this address: no event is to blame."""
    GONE = "gone"
    """The receiver was removed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, or that there was none.

    Attributes:
        verdict: What it means.
        reason: The same in words, without any text of the receiver.
        retry_after: Seconds that the receiver asks to wait.

    """

    verdict: Verdict
    reason: str
    retry_after: float = 0.0


def judge(status: int, retry_after: str | None, now: float) -> Answer:
    """Return what an answer means.

    Args:
        status: Its status.
        retry_after: Its header of that name: seconds, or a time.
        now: Seconds since 1970.

    """
    if 200 <= status < 300:
        return Answer(Verdict.TAKEN, "")
    reason = f"HTTP {status} {_phrase(status)}".rstrip()
    if status == 410:
        return Answer(Verdict.GONE, reason)
    if status < 400 or status in _ADDRESS_REFUSED or status in _UNAVAILABLE:
        return Answer(Verdict.UNAVAILABLE, reason, _seconds(retry_after, now))
    return Answer(Verdict.REFUSED, reason, _seconds(retry_after, now))


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _seconds(retry_after: str | None, now: float) -> float:
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MAX_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return 0.0
    return min(max(moment - now, 0.0), MAX_RETRY_AFTER)


class BlameCount:
    """Counts the attempts that failed because of an event, and not because the receiver takes nothing.

    While the receiver takes no events at all, no attempt counts: otherwise a night without a receiver would turn events
    into dead letters. A refusal counts at once, unless every event is refused.
    """

    def __init__(self) -> None:
        self._taken = 0
        self._failed: dict[tuple[str, str], tuple[int, int]] = {}

    def taken(self, event: tuple[str, str]) -> None:
        """Record that the receiver took an event."""
        self._taken += 1
        self._failed.pop(event, None)

    def failed(self, event: tuple[str, str], verdict: Verdict, *, everything_fails: bool) -> int:
        """Record a failed attempt. Return how many attempts have failed because of this event."""
        count, taken = self._failed.get(event, (0, self._taken))
        if self._taken > taken or (verdict is Verdict.REFUSED and not everything_fails):
            count += 1
        self._failed[event] = count, self._taken
        return count

    def forget(self, event: tuple[str, str]) -> None:
        """Forget an event that is a dead letter now."""
        self._failed.pop(event, None)
