"""What was asked of the sandbox: the last requests and counts of all of them."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass

KEPT = 1_000
"""Requests that are remembered one by one."""


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request that is over.

    Attributes:
        time: Seconds since 1970 at which it came.
        operation: Key of the operation; `unknown` for a path that none has.
        query: Query string as sent.
        status: HTTP status of the answer, 0 when the connection was closed without one.
        fault: Action of the fault rule that acted on it.
    """

    time: float
    operation: str
    query: str
    status: int
    fault: str | None = None


class RequestLog:
    """Remembers requests; every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: deque[RequestRecord] = deque(maxlen=KEPT)
        self._counts: Counter[tuple[str, int]] = Counter()

    def add(self, record: RequestRecord) -> None:
        """Notes a request that is over."""
        with self._lock:
            self._last.append(record)
            self._counts[record.operation, record.status] += 1

    def last(self) -> list[RequestRecord]:
        """The last 1,000 requests, oldest first."""
        with self._lock:
            return list(self._last)

    def count(self, operation: str | None = None, status: int | None = None) -> int:
        """How many requests there were, of all or of one operation, with any or with one status."""
        with self._lock:
            return sum(
                number
                for (key, code), number in self._counts.items()
                if operation in (None, key) and status in (None, code)
            )

    def counts(self) -> dict[str, dict[str, int]]:
        """Number of requests by operation and status."""
        with self._lock:
            table: dict[str, dict[str, int]] = {}
            for (key, code), number in sorted(self._counts.items()):
                table.setdefault(key, {})[str(code)] = number
            return table

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._last.clear()
            self._counts.clear()
