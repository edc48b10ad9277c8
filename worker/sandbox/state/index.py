"""Search indexes that lag, or lose changes: lists show an older state, single reads the current one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from worker.sandbox.data.order_fields import UNREADABLE
from worker.sandbox.data.record import Record
from worker.sandbox.state.records import Source, has_values

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Mapping

_SNAPSHOTS = 4
"""Snapshots that are taken within the lag, if the list is read that often."""


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """The records at one time."""

    at: float
    rows: dict[str, bytes]
    times: dict[str, tuple[object, object]]


class Index(Source):
    """Shows a change `lag` seconds after it was made, or somewhat later if the list is not read in between.

    Args:
        lag: Seconds.
        clock: Monotonic clock, in seconds.
    """

    def __init__(self, lag: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._lag, self._clock = lag, clock
        self._snapshots: list[_Snapshot] = []
        self._lock: threading.RLock

    def of(self, source: Source) -> Source:
        """Return the records of `source` as the index shows them now; the caller holds the lock."""
        self._lock = source.lock
        now, snapshots = self._clock(), self._snapshots
        if not snapshots or now - snapshots[-1].at >= self._lag / _SNAPSHOTS:
            ids = source.ids()
            rows = dict(zip(ids, source.rows(ids), strict=True))
            snapshots.append(_Snapshot(now, rows, {item: source.times(item) for item in ids}))
        while len(snapshots) > 1 and now - snapshots[1].at >= self._lag:
            snapshots.pop(0)
        return self

    @property
    def lock(self) -> threading.RLock:
        """The sandbox's one lock."""
        return self._lock

    def __len__(self) -> int:
        return len(self._snapshots[0].rows)

    def ids(self) -> list[str]:
        """Return every id, in creation order."""
        return list(self._snapshots[0].rows)

    def window(self, start: int, stop: int) -> list[bytes]:
        """The records at positions `[start, stop)`."""
        return list(self._snapshots[0].rows.values())[start:stop]

    def rows(self, ids: Iterable[str]) -> list[bytes]:
        """The records with these ids."""
        rows = self._snapshots[0].rows
        return [rows[item] for item in ids]

    def times(self, record_id: str) -> tuple[object, object]:
        """Return the times of the last change and of the creation."""
        return self._snapshots[0].times[record_id]

    def matching(self, filters: Mapping[str, str]) -> list[str]:
        """Return the ids of the records whose top-level fields have these values."""
        return [item for item, raw in self._snapshots[0].rows.items() if has_values(_read(raw), filters)]


class Stale(Source):
    """Shows some records as they were at the last call of `keep`, and the others as they are."""

    def __init__(self) -> None:
        self._rows: dict[str, bytes] = {}
        self._times: dict[str, tuple[object, object]] = {}
        self._source: Source

    def keep(self, source: Source, ids: Iterable[str]) -> None:
        """Keep these records as they are; the caller holds the lock."""
        for item in ids:
            (self._rows[item],) = source.rows([item])
            self._times[item] = source.times(item)

    def over(self, source: Source) -> Source:
        """Return the records of `source` with the kept ones in place of theirs; the caller holds the lock."""
        self._source = source
        return self

    @property
    def lock(self) -> threading.RLock:
        """The sandbox's one lock."""
        return self._source.lock

    def __len__(self) -> int:
        return len(self._source)

    def ids(self) -> list[str]:
        """Return every id, in creation order. Deleted records are not shown."""
        return self._source.ids()

    def window(self, start: int, stop: int) -> list[bytes]:
        """The records at positions `[start, stop)`."""
        return self.rows(self._source.ids()[start:stop])

    def rows(self, ids: Iterable[str]) -> list[bytes]:
        """The records with these ids."""
        requested = list(ids)
        rows = self._source.rows(requested)
        return [self._rows.get(item, row) for item, row in zip(requested, rows, strict=True)]

    def times(self, record_id: str) -> tuple[object, object]:
        """Return the times of the last change and of the creation, as shown."""
        return self._times.get(record_id) or self._source.times(record_id)

    def matching(self, filters: Mapping[str, str]) -> list[str]:
        """Return the ids of the records whose top-level fields have these values, as shown."""
        result = {item for item in self._source.matching(filters) if item not in self._rows}
        result.update(each for each, raw in self._rows.items() if has_values(_read(raw), filters))
        return [each for each in self._source.ids() if each in result]


def _read(raw: bytes) -> Record:
    try:
        return msgspec.json.decode(raw, type=Record)
    except UNREADABLE:
        return {}
