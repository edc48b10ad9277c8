"""Which records are of interest: by merchant and by status. No I/O.

What is outside is known and not published, so that it is published when it comes in. A record that goes outside is
published once more, with the change by which it goes, and then no longer. One that does not say its merchant or
status is of interest: nothing is hidden for want of a field.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import msgspec
from xxhash import xxh3_64_digest

from worker.capture.records.fingerprint import raw_fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from worker.capture.resources import Resource


_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True)
class RecordScope:
    """What of one resource is published. Without merchants, or without statuses, all of them are.

    `final`: statuses in which a record is not expected to change any more.
    """

    merchant_field: str | None = None
    status_field: str | None = None
    merchants: frozenset[str] = frozenset()
    statuses: frozenset[str] = frozenset()
    final: frozenset[str] = frozenset()

    @cached_property
    def is_limited(self) -> bool:
        """Whether there are records that are not of interest."""
        return bool((self.merchant_field and self.merchants) or (self.status_field and self.statuses))

    @cached_property
    def salt(self) -> bytes:
        """What tells this interest from others: with another one, every record is looked at anew, once."""
        if not self.is_limited:
            return b""
        named = (self.merchant_field, self.status_field, sorted(self.merchants), sorted(self.statuses))
        return xxh3_64_digest(repr(named).encode())

    @cached_property
    def fingerprint(self) -> Callable[[bytes | msgspec.Raw], bytes]:
        """The fingerprint of a record's bytes, which is another one under another interest."""
        if not self.is_limited:
            return raw_fingerprint
        salt = int.from_bytes(self.salt, "big")
        return lambda record: (int.from_bytes(raw_fingerprint(record), "big") ^ salt).to_bytes(8, "big")

    def includes(self, record: msgspec.Raw) -> bool:
        """Whether a record is of interest."""
        if not self.is_limited:
            return True
        merchant, status = self._fields_of(record)
        return _is_in(merchant, self.merchants) and _is_in(status, self.statuses)

    def statuses_of(self, records: Iterable[msgspec.Raw]) -> list[str | None]:
        """The statuses of records, in their order; None where there is none."""
        return (
            [status for _, status in map(self._fields_of, records)]
            if self.status_field
            else [None for _ in records]
        )

    def is_open(self, status: str | None) -> bool:
        """Whether a record in this status may change, and is of interest."""
        return status is not None and status not in self.final and _is_in(status, self.statuses)

    def others_among(self, records: Iterable[msgspec.Raw]) -> set[str]:
        """Merchants that are not of interest and that have one of these records."""
        merchants = {merchant for merchant, _ in map(self._fields_of, records) if merchant is not None}
        return merchants - self.merchants if self.merchants else set()

    def open_statuses(self, seen: Iterable[str]) -> Sequence[str]:
        """Those in which a record may change, of the ones that were seen."""
        return sorted(filter(self.is_open, self.statuses or set(seen)))

    def _fields_of(self, record: msgspec.Raw) -> tuple[str | None, str | None]:
        try:
            fields = _decoder(self.merchant_field or "", self.status_field or "")(record)
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
    """A value as it stands in settings and in a query: statuses of shipments are numbers."""
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


@lru_cache(maxsize=64)
def _decoder(merchant_field: str, status_field: str) -> Any:
    fields = [("merchant", Any, None), ("status", Any, None)]
    # No record has a field with these names, which stand for none.
    rename = {"merchant": merchant_field or " merchant", "status": status_field or " status"}
    return msgspec.json.Decoder(msgspec.defstruct("Told", fields, rename=rename, gc=False)).decode
