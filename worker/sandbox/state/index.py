"""Search indexes that lag behind, or lose changes: lists show what there was, single reads what there is."""

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

_LOOKS = 4
"""How often the index is brought up to date within its lag, if it is asked that often."""


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """What there was at a moment."""

    at: float
    rows: dict[str, bytes]
    times: dict[str, tuple[object, object]]


class Index(Source):
    """Shows a change `lag` seconds after it was made, or somewhat later where nobody asks in between.

    Args:
        lag: Seconds.
        clock: Seconds that never go back.
    """

    def __init__(self, lag: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._lag, self._clock = lag, clock
        self._snapshots: list[_Snapshot] = []
        self._lock: threading.RLock

    def of(self, source: Source) -> Source:
        """What the index shows of `source` now; the caller holds the lock."""
        self._lock = source.lock
        now, kept = self._clock(), self._snapshots
        if not kept or now - kept[-1].at >= self._lag / _LOOKS:
            ids = source.ids()
            rows = dict(zip(ids, source.rows(ids), strict=True))
            kept.append(_Snapshot(now, rows, {item: source.times(item) for item in ids}))
        while len(kept) > 1 and now - kept[1].at >= self._lag:
            kept.pop(0)
        return self

    @property
    def lock(self) -> threading.RLock:
        """The sandbox's one lock."""
        return self._lock

    def __len__(self) -> int:
        return len(self._snapshots[0].rows)

    def ids(self) -> list[str]:
        """Every id, in creation order."""
        return list(self._snapshots[0].rows)

    def window(self, start: int, stop: int) -> list[bytes]:
        """The records at positions `[start, stop)`."""
        return list(self._snapshots[0].rows.values())[start:stop]

    def rows(self, ids: Iterable[str]) -> list[bytes]:
        """The records with these ids."""
        rows = self._snapshots[0].rows
        return [rows[item] for item in ids]

    def times(self, record_id: str) -> tuple[object, object]:
        """When the record changed last, and when it was made."""
        return self._snapshots[0].times[record_id]

    def matching(self, filters: Mapping[str, str]) -> list[str]:
        """Ids of the records whose top-level fields have these values."""
        return [item for item, raw in self._snapshots[0].rows.items() if has_values(_read(raw), filters)]


class Stale(Source):
    """Shows some records as they were when they were last `keep`-t, and the others as they are."""

    def __init__(self) -> None:
        self._rows: dict[str, bytes] = {}
        self._times: dict[str, tuple[object, object]] = {}
        self._source: Source

    def keep(self, source: Source, ids: Iterable[str]) -> None:
        """Remember these records as they are; the caller holds the lock."""
        for item in ids:
            (self._rows[item],) = source.rows([item])
            self._times[item] = source.times(item)

    def over(self, source: Source) -> Source:
        """What is shown of `source` now; the caller holds the lock."""
        self._source = source
        return self

    @property
    def lock(self) -> threading.RLock:
        """The sandbox's one lock."""
        return self._source.lock

    def __len__(self) -> int:
        return len(self._source)

    def ids(self) -> list[str]:
        """Every id, in creation order. What is gone is shown no more."""
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
        """When the record changed last, and when it was made, as far as is shown."""
        return self._times.get(record_id) or self._source.times(record_id)

    def matching(self, filters: Mapping[str, str]) -> list[str]:
        """Ids of the records whose top-level fields have these values, as far as is shown."""
        result = {item for item in self._source.matching(filters) if item not in self._rows}
        result.update(each for each, raw in self._rows.items() if has_values(_read(raw), filters))
        return [each for each in self._source.ids() if each in result]


def _read(raw: bytes) -> Record:
    try:
        return msgspec.json.decode(raw, type=Record)
    except UNREADABLE:
        return {}
