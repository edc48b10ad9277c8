"""A limit on how often the same message is logged."""

from __future__ import annotations


class Repeats:
    """Limits how often the same message is logged.

    `allow(key)` returns True the first time and then once in `seconds`. It counts the suppressed messages;
    `held_back(key)` returns that count and resets it.
    """

    def __init__(self, seconds: float = 60.0) -> None:
        self._seconds = seconds
        self._last: dict[str, float] = {}
        self._suppressed: dict[str, int] = {}

    def allow(self, key: str, now: float) -> bool:
        """Return True if the message may be logged now; `now` in seconds of a monotonic clock."""
        last = self._last.get(key)
        if last is not None and now - last < self._seconds:
            self._suppressed[key] = self._suppressed.get(key, 0) + 1
            return False
        self._last[key] = now
        return True

    def held_back(self, key: str) -> int:
        """Return how many messages were suppressed since the last one was logged."""
        return self._suppressed.pop(key, 0)

    def forget_all(self, prefix: str) -> None:
        """Forget every key that starts with `prefix`, so that its next message is logged."""
        for key in [key for key in self._last if key.startswith(prefix)]:
            self._last.pop(key)
            self._suppressed.pop(key, None)
