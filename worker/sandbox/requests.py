"""The log of the sandbox's requests: the last ones, and counts of all."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass

KEPT = 1_000
"""Requests that are kept individually."""


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request that has ended.

    Attributes:
        time: When it arrived, in seconds since 1970.
        operation: Key of the operation; `unknown` for a path without an operation.
        query: Query string as sent.
        status: HTTP status of the response; 0 if the connection was closed without one.
        fault: Action of the fault rule that acted on it.
    """

    time: float
    operation: str
    query: str
    status: int
    fault: str | None = None


class RequestLog:
    """Records requests; every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: deque[RequestRecord] = deque(maxlen=KEPT)
        self._counts: Counter[tuple[str, int]] = Counter()

    def add(self, record: RequestRecord) -> None:
        """Record a request that has ended."""
        with self._lock:
            self._last.append(record)
            self._counts[record.operation, record.status] += 1

    def last(self) -> list[RequestRecord]:
        """Return the last 1,000 requests, oldest first."""
        with self._lock:
            return list(self._last)

    def count(self, operation: str | None = None, status: int | None = None) -> int:
        """Return the number of requests, of all or of one operation, with any or with one status."""
        with self._lock:
            return sum(
                number
                for (key, code), number in self._counts.items()
                if operation in (None, key) and status in (None, code)
            )

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of requests by operation and status."""
        with self._lock:
            table: dict[str, dict[str, int]] = {}
            for (key, code), number in sorted(self._counts.items()):
                table.setdefault(key, {})[str(code)] = number
            return table

    def clear(self) -> None:
        """Remove everything."""
        with self._lock:
            self._last.clear()
            self._counts.clear()
