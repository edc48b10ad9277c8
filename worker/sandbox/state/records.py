"""Records of one kind as JSON bytes in creation order. A record is encoded when it changes and served unchanged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from worker.sandbox.data.record import Record

TIMES = ("updatedAt", "createdAt")
"""The fields with the times of the last change and of the creation. `updatedAt` is null until the first change."""


class Source(ABC):
    """The source of a list: encoded records in creation order, and their times."""

    @property
    @abstractmethod
    def lock(self) -> threading.RLock:
        """The lock of the sandbox. Hold it while a change is incomplete; it is reentrant."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def ids(self) -> list[str]:
        """Return every id, in creation order."""

    @abstractmethod
    def window(self, start: int, stop: int) -> list[bytes]:
        """Return the records at positions `[start, stop)`."""

    @abstractmethod
    def rows(self, ids: Iterable[str]) -> list[bytes]:
        """Return the records with these ids."""

    @abstractmethod
    def times(self, record_id: str) -> tuple[object, object]:
        """Return the time of the last change (of an unchanged record, of its creation) and of the creation, as text."""

    @abstractmethod
    def matching(self, filters: Mapping[str, str]) -> list[str]:
        """Return the ids of the records whose fields have these values; an unreadable record never matches."""


class UnknownRecordError(LookupError):
    """No record has this id."""

    def __init__(self, record_id: str) -> None:
        self.record_id = record_id
        super().__init__(f"the sandbox has no record {record_id!r}")


class Records(Source):
    """Records of one kind, each with its `id`; every method may be called from any thread and is atomic.

    Args:
        lock: The lock of the sandbox.
        times: Fields with the times of the last change and of the creation. If the first is null, the second is used.
        make: Creates an announced record when it is first read.
    """

    def __init__(
        self,
        lock: threading.RLock,
        *,
        times: tuple[str, str] = TIMES,
        make: Callable[[str], Record] | None = None,
    ) -> None:
        self._lock = lock
        self._fields = times
        self._make = make
        self._ids: list[str] = []
        # None for a record that was announced and not read yet.
        self._records: dict[str, bytes | None] = {}
        self._times: dict[str, tuple[object, object]] = {}
        self._encode = msgspec.json.Encoder().encode

    @property
    def lock(self) -> threading.RLock:
        """The sandbox's one lock."""
        return self._lock

    # One record

    def add(self, record: Record) -> None:
        """Add a record as the newest one; if its id exists, replace that record as `put` does."""
        with self._lock:
            record_id: str = record["id"]
            if record_id not in self._records:
                self._ids.append(record_id)
            self._keep(record_id, record)

    def announce(self, announced: Iterable[tuple[str, str, str]]) -> None:
        """Add records that are created when they are first read: their ids, and the times that they will have."""
        with self._lock:
            for record_id, modified, created in announced:
                self._ids.append(record_id)
                self._records[record_id] = None
                self._times[record_id] = (modified, created)

    def is_announced(self, record_id: str) -> bool:
        """True if the record was announced and not read yet."""
        return record_id in self._records and self._records[record_id] is None

    def get(self, record_id: str) -> Record | None:
        """Return a copy that may be changed and passed to `put`; None if the record does not exist."""
        raw = self.raw(record_id)
        return None if raw is None else _decode(raw)

    def raw(self, record_id: str) -> bytes | None:
        """Return the record as served, in compact JSON; None if it does not exist."""
        with self._lock:
            if record_id not in self._records:
                return None
            raw = self._records[record_id]
            if raw is None:
                assert self._make is not None, "announced without a function that creates it"  # noqa: S101 - a defect of ours
                raw = self._keep(record_id, self._make(record_id))
            return raw

    def put(self, record: Record) -> None:
        """Replace the record with this id, at its position.

        Raises:
            UnknownRecordError: No record has this id.
        """
        with self._lock:
            record_id: str = record["id"]
            if record_id not in self._records:
                raise UnknownRecordError(record_id)
            self._keep(record_id, record)

    def remove(self, record_id: str) -> None:
        """Remove a record.

        Raises:
            UnknownRecordError: No record has this id.
        """
        with self._lock:
            if record_id not in self._records:
                raise UnknownRecordError(record_id)
            del self._records[record_id]
            del self._times[record_id]
            self._ids.remove(record_id)

    def __contains__(self, record_id: object) -> bool:
        return record_id in self._records

    # All of them

    def __len__(self) -> int:
        return len(self._ids)

    def ids(self) -> list[str]:
        """Return every id, in creation order."""
        with self._lock:
            return list(self._ids)

    def values(self) -> list[Record]:
        """Return copies of all records, in creation order."""
        with self._lock:
            return [_decode(raw) for raw in self.rows(self._ids)]

    def truth(self) -> dict[str, bytes]:
        """Return every record by id, in creation order, as it would be served now."""
        with self._lock:
            return dict(zip(self._ids, self.rows(self._ids), strict=True))

    def window(self, start: int, stop: int) -> list[bytes]:
        """Return the records at positions `[start, stop)`, as served."""
        with self._lock:
            return self.rows(self._ids[start:stop])

    def rows(self, ids: Iterable[str]) -> list[bytes]:
        """Return the records with these ids, as served; unknown ids are omitted."""
        with self._lock:
            return [raw for raw in map(self.raw, ids) if raw is not None]

    def times(self, record_id: str) -> tuple[object, object]:
        """Return the times of the last change and of the creation, as in the record."""
        return self._times[record_id]

    def matching(self, filters: Mapping[str, str]) -> list[str]:
        """Return the ids of the records whose top-level fields have these values, compared in their query form."""
        with self._lock:
            return [record_id for record_id, record in self._decoded() if has_values(record, filters)]

    def _decoded(self) -> Iterator[tuple[str, Record]]:
        for record_id in self._ids:
            raw = self.raw(record_id)
            if raw is not None:
                yield record_id, _decode(raw)

    def _keep(self, record_id: str, record: Record) -> bytes:
        raw = self._encode(record)
        self._records[record_id] = raw
        modified, created = map(record.get, self._fields)
        self._times[record_id] = (created if modified is None else modified, created)
        return raw


def has_values(record: Record, filters: Mapping[str, str]) -> bool:
    """True if fields have these values. Values other than text are compared as JSON: `4`, `true`."""
    return all(as_text(record.get(name)) == value for name, value in filters.items())


def as_text(value: object) -> str:
    """Return a value in its query form: text unchanged, any other value as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _decode(raw: bytes) -> Record:
    return msgspec.json.decode(raw, type=dict[str, Any])
