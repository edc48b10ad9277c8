"""Records of one kind: rendered bytes in creation order, rendered when they change and served as they stand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from worker.sandbox.data.record import Record

TIMES = ("updatedAt", "createdAt")
"""Where the time of the last change stands, then that of the creation: `updatedAt` is null until a change."""


class Source(ABC):
    """What a list is served from: rendered records in creation order, and their times."""

    @property
    @abstractmethod
    def lock(self) -> threading.RLock:
        """The sandbox's one lock; held for as long as work must not be seen half done, may be taken again."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def ids(self) -> list[str]:
        """Every id, in creation order."""

    @abstractmethod
    def window(self, start: int, stop: int) -> list[bytes]:
        """The records at positions `[start, stop)`."""

    @abstractmethod
    def rows(self, ids: Iterable[str]) -> list[bytes]:
        """The records with these ids."""

    @abstractmethod
    def times(self, record_id: str) -> tuple[object, object]:
        """When the record changed last, if ever else when it was made, and when it was made, as they stand there."""

    @abstractmethod
    def matching(self, filters: Mapping[str, str]) -> list[str]:
        """Ids of the records whose fields have these values; a record that cannot be read never matches."""


class UnknownRecordError(LookupError):
    """There is no record with this id."""

    def __init__(self, record_id: str) -> None:
        self.record_id = record_id
        super().__init__(f"the sandbox has no record {record_id!r}")


class Records(Source):
    """Records of one kind, each with its `id`; every method may be called from any thread and is atomic.

    Args:
        lock: The sandbox's one lock.
        times: Fields with the time of the last change and of the creation; null in the former means the latter.
        make: Makes a record that was announced, when it is asked for.
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
        # None stands for a record that was announced and not asked for yet.
        self._records: dict[str, bytes | None] = {}
        self._times: dict[str, tuple[object, object]] = {}
        self._encode = msgspec.json.Encoder().encode

    @property
    def lock(self) -> threading.RLock:
        """The sandbox's one lock."""
        return self._lock

    # One record

    def add(self, record: Record) -> None:
        """Adds a record as the newest one; an id that is there already is replaced as by `put`."""
        with self._lock:
            record_id: str = record["id"]
            if record_id not in self._records:
                self._ids.append(record_id)
            self._keep(record_id, record)

    def announce(self, announced: Iterable[tuple[str, str, str]]) -> None:
        """Adds records that are made only when they are asked for: ids, and the times that they will have."""
        with self._lock:
            for record_id, modified, created in announced:
                self._ids.append(record_id)
                self._records[record_id] = None
                self._times[record_id] = (modified, created)

    def is_announced(self, record_id: str) -> bool:
        """Whether the record was announced and nobody has asked for it yet."""
        return record_id in self._records and self._records[record_id] is None

    def get(self, record_id: str) -> Record | None:
        """A copy that may be changed and put back; None when there is no such record."""
        raw = self.raw(record_id)
        return None if raw is None else _decode(raw)

    def raw(self, record_id: str) -> bytes | None:
        """The record as served, compact JSON; None when there is none."""
        with self._lock:
            if record_id not in self._records:
                return None
            raw = self._records[record_id]
            if raw is None:
                assert self._make is not None, "announced without a function that creates it"  # noqa: S101
                raw = self._keep(record_id, self._make(record_id))
            return raw

    def put(self, record: Record) -> None:
        """Replaces the record with this id, at its place.

        Raises:
            UnknownRecordError: There is none.
        """
        with self._lock:
            record_id: str = record["id"]
            if record_id not in self._records:
                raise UnknownRecordError(record_id)
            self._keep(record_id, record)

    def remove(self, record_id: str) -> None:
        """Removes a record.

        Raises:
            UnknownRecordError: There is none.
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
        """Every id, in creation order."""
        with self._lock:
            return list(self._ids)

    def values(self) -> list[Record]:
        """Copies of all records, in creation order."""
        with self._lock:
            return [_decode(raw) for raw in self.rows(self._ids)]

    def truth(self) -> dict[str, bytes]:
        """Every record by its id, in creation order, as it would be served now."""
        with self._lock:
            return dict(zip(self._ids, self.rows(self._ids), strict=True))

    def window(self, start: int, stop: int) -> list[bytes]:
        """The records at positions `[start, stop)`, as served."""
        with self._lock:
            return self.rows(self._ids[start:stop])

    def rows(self, ids: Iterable[str]) -> list[bytes]:
        """The records with these ids, as served; an id that is not there is left out."""
        with self._lock:
            return [raw for raw in map(self.raw, ids) if raw is not None]

    def times(self, record_id: str) -> tuple[object, object]:
        """When the record changed last and when it was made, as they stand in it."""
        return self._times[record_id]

    def matching(self, filters: Mapping[str, str]) -> list[str]:
        """Ids of the records whose top-level fields have these values, compared as they stand in a query."""
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
    """Whether fields have these values, anything but text compared by its JSON: `4`, `true`."""
    return all(as_text(record.get(name)) == value for name, value in filters.items())


def as_text(value: object) -> str:
    """A value as it would stand in a query: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _decode(raw: bytes) -> Record:
    return msgspec.json.decode(raw, type=dict[str, Any])
