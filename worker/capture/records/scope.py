"""The scope of a resource: the records to publish, by merchant and by status. No I/O.

Records outside the scope are tracked but not published, so that a record is published when it enters the scope. The
change by which a record leaves the scope is published; later changes are not. A record without a merchant or status
is in the scope: no record is left out because a field is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import msgspec
from xxhash import xxh3_64_intdigest

from worker.surrogates import decode

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from worker.capture.resources import Resource


_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True)
class RecordScope:
    """The records of one resource to publish. Without merchants, or without statuses, all of them are in the scope.

    `final` contains the statuses in which a record is not expected to change.
    """

    merchant_field: str | None = None
    status_field: str | None = None
    merchants: frozenset[str] = frozenset()
    statuses: frozenset[str] = frozenset()
    final: frozenset[str] = frozenset()

    @cached_property
    def is_limited(self) -> bool:
        """True if there may be records outside the scope."""
        return bool((self.merchant_field and self.merchants) or (self.status_field and self.statuses))

    @cached_property
    def salt(self) -> int:
        """A hash of the scope, part of each fingerprint: when the scope changes, every record is compared again."""
        if not self.is_limited:
            return 0
        named = (self.merchant_field, self.status_field, sorted(self.merchants), sorted(self.statuses))
        return xxh3_64_intdigest(repr(named).encode())

    def includes(self, record: msgspec.Raw) -> bool:
        """True if a record is in the scope."""
        if not self.is_limited:
            return True
        merchant, status = self._fields_of(record)
        return _is_in(merchant, self.merchants) and _is_in(status, self.statuses)

    def statuses_of(self, records: Iterable[msgspec.Raw]) -> list[str | None]:
        """Return the statuses of records, in their order; None for a record without one."""
        return (
            [status for _, status in map(self._fields_of, records)]
            if self.status_field
            else [None for _ in records]
        )

    def is_open(self, status: str | None) -> bool:
        """True if a record in this status may change, and is in the scope."""
        return status is not None and status not in self.final and _is_in(status, self.statuses)

    def others_among(self, records: Iterable[msgspec.Raw]) -> set[str]:
        """Return the merchants of these records that are outside the scope."""
        merchants = {merchant for merchant, _ in map(self._fields_of, records) if merchant is not None}
        return merchants - self.merchants if self.merchants else set()

    def open_statuses(self, seen: Iterable[str]) -> Sequence[str]:
        """Return the statuses to read open records by: the configured ones, or those in `seen`, without final ones."""
        return sorted(filter(self.is_open, self.statuses or set(seen)))

    def _fields_of(self, record: msgspec.Raw) -> tuple[str | None, str | None]:
        try:
            fields = decode(_decoder(self.merchant_field or "", self.status_field or ""), record)
        except _UNREADABLE:
            return None, None
        return _text(fields.merchant), _text(fields.status)


EVERYTHING = RecordScope()


def scope_of(
    resource: Resource, *, merchants: Sequence[str], statuses: Sequence[str | int], final: Sequence[str | int]
) -> RecordScope:
    """Return the scope of one resource. Statuses may be numbers, as those of shipments are."""
    return RecordScope(
        resource.merchant_field,
        resource.status_field,
        frozenset(merchants),
        frozenset(map(str, statuses)),
        frozenset(map(str, final)),
    )


def _is_in(value: str | None, requested: frozenset[str]) -> bool:
    return value is None or not requested or value in requested


def _text(value: object) -> str | None:
    """Return a value as it is written in settings and in a query: statuses of shipments are numbers."""
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


@lru_cache(maxsize=64)
def _decoder(merchant_field: str, status_field: str) -> Any:
    fields = [("merchant", Any, None), ("status", Any, None)]
    # Placeholders for missing names: no record has a field whose name starts with a space.
    rename = {"merchant": merchant_field or " merchant", "status": status_field or " status"}
    return msgspec.json.Decoder(msgspec.defstruct("ScopeFields", fields, rename=rename, gc=False)).decode
