"""The results of the client: successful responses, as served and decoded.

The wrappers of single records and audit logs are documented only for orders and order items
(docs/reference/api-facts.md, 3.2, 3.3, 1.8), so a wrapper is removed where there is one, and is not required. The bytes
as served are always available.
"""

from __future__ import annotations

import email.utils
from dataclasses import dataclass, field
from datetime import UTC
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from ordersync_consumer.redaction import words_of
from worker.clock import parse_time
from worker.errors import UnreadableAnswer
from worker.ordermesh.contract.operations import OPERATIONS
from worker.ordermesh.http.body import body_of
from worker.ordermesh.http.pages import Page, split
from worker.ordermesh.http.refusals import property_errors
from worker.surrogates import decode, parts_of, value_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

    from worker.errors import PropertyError

AUDIT_WRAPPERS = ("auditLogs", "auditEvents", "events", "entries", "logs", "items")
"""Names that the list of entries of an audit log may have. The vendor documents none of them."""
AUDIT_IDS = ("id", "eventId", "auditId", "_id")
AUDIT_TIMES = (
    "timestamp",
    "createdAt",
    "createdDate",
    "dateCreated",
    "date",
    "time",
    "occurredAt",
    "eventDate",
)
"""Names that the id and the time of an audit entry may have. The vendor documents none of them."""

_as_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Reply:
    """A successful response to operation `key`. `raw` is its body, byte for byte.

    JSON in another charset than UTF-8 is the exception: it is converted, and a byte order mark is removed.
    """

    key: str
    status: int
    raw: bytes = field(repr=False)  # a customer's data
    media_type: str
    date: float | None
    """The server's time of the response in seconds since 1970; None if it has no such header."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False, kw_only=True)
    """The headers of the response; their names are in lower case, or case does not matter."""

    @property
    def value(self) -> Any:
        """The body decoded from JSON; None if it is empty.

        Raises:
            UnreadableAnswer: The body is not JSON.

        """
        return self._decode(self.raw) if self.raw.strip() else None

    @property
    def record(self) -> bytes:
        """The single record in the body as served, without its wrapper.

        A wrapper is an object that has the record under the name in the table of operations, or as its only member.

        Raises:
            UnreadableAnswer: The body is not a JSON object.

        """
        members, wrapper = _members(self.raw), OPERATIONS[self.key].record
        inner = members.get(wrapper) if wrapper else None
        if inner is None and len(members) == 1:
            (inner,) = members.values()
        if inner is not None and _is_object(inner):
            return bytes(inner)
        if not members or wrapper in members:
            raise UnreadableAnswer(self.key, f"no record in {self._description()}")
        return self.raw

    @property
    def fields(self) -> dict[str, Any]:
        """The record decoded.

        Raises:
            UnreadableAnswer: The body has no record.

        """
        decoded: dict[str, Any] = self._decode(self.record)
        return decoded

    @property
    def errors(self) -> tuple[PropertyError, ...]:
        """The parts of the request that failed although the status is a success.

        The field is `errors` in the vendor's only sample of this, adding variants of which some are unknown
        (docs/reference/api-facts.md, 1.6).

        Raises:
            UnreadableAnswer: The body is not JSON.

        """
        return property_errors(self.value)

    def _decode(self, text: bytes | msgspec.Raw) -> Any:
        try:
            return value_of(text)
        except _UNREADABLE as error:
            raise UnreadableAnswer(
                self.key, f"{self._description()} that are not valid JSON: {words_of(error)}"
            ) from None

    def _description(self) -> str:
        return f"{len(self.raw)} bytes of {self.media_type or 'unknown type'}"


@dataclass(frozen=True, slots=True)
class ListReply(Reply):
    """The response of a list operation, with its records as served."""

    records: tuple[msgspec.Raw, ...] = field(repr=False)
    total: int | None
    """The total number of records, if the server returns it."""

    @property
    def values(self) -> list[Any]:
        """The records decoded.

        Raises:
            UnreadableAnswer: One of the records is not JSON.

        """
        return [self._decode(record) for record in self.records]


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One entry of an audit log. Its fields are not documented, so the likeliest names are tried for id and time."""

    raw: bytes = field(repr=False)  # may contain a customer's data
    id: str | None
    time: str | None
    """The time as served; `worker.clock.parse_time` can parse it."""


@dataclass(frozen=True, slots=True)
class AuditReply(Reply):
    """The audit log of one record, in the order in which the server lists it."""

    entries: tuple[AuditEntry, ...]
    total: int | None
    """The total number of entries, if the server returns it. A server may return a part of a long log only."""


def reply_of(key: str, response: httpx.Response) -> Reply:
    """Return the reply of a successful response.

    Raises:
        UnreadableAnswer: The worker does not know the content encoding or the charset of its body.

    """
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return Reply(
        key,
        response.status_code,
        body_of(key, response),
        media_type,
        server_time(response),
        headers=response.headers,
    )


def list_of(reply: Reply, wrappers: tuple[str, ...], page: int | None = None) -> ListReply:
    """Return the response of a list operation.

    An object with an `id` and without a list is a list of one record: the vendor's sample of all shipments of an
    order has this form (docs/reference/api-facts.md, 6.1).

    Args:
        reply: The response.
        wrappers: The names that the list may have.
        page: The requested page number, for the error.

    Raises:
        UnreadableAnswer: The body has no list.

    """
    members = _members(reply.raw)
    if "id" in members and not any(_is_list(members[name]) for name in wrappers if name in members):
        result = Page([msgspec.Raw(reply.raw)], None)
    else:
        result = split(reply.key, reply.raw, wrappers, page=page)
    records, total = tuple(result.records), result.total
    return ListReply(reply.key, reply.status, reply.raw, reply.media_type, reply.date, records, total)


def audit_of(reply: Reply, wrappers: tuple[str, ...] = (), page: int | None = None) -> AuditReply:
    """Return the audit log in a response, or one page of it, with any wrapper.

    Args:
        reply: The response.
        wrappers: The names that the list of entries probably has.
        page: The requested page number, for the error.

    Raises:
        UnreadableAnswer: The body has no list, or it is not JSON, which the parameter `format` may cause.

    """
    inner = next(iter(members.values())) if len(members := _members(reply.raw)) == 1 else None
    # Unwrap a single outer object, as in `{"data": {"auditLogs": [...]}}`.
    body = bytes(inner) if inner is not None and _is_object(inner) else reply.raw
    result = split(reply.key, body, (*wrappers, *AUDIT_WRAPPERS), page=page)
    entries = tuple(entry_of(bytes(record)) for record in result.records)
    return AuditReply(reply.key, reply.status, reply.raw, reply.media_type, reply.date, entries, result.total)


def entry_of(raw: bytes) -> AuditEntry:
    """Return an entry of an audit log with its id and its time, where it has them."""
    try:
        fields = value_of(raw)
    except _UNREADABLE:
        fields = None
    if not isinstance(fields, dict):
        return AuditEntry(raw, None, None)
    identifiers = (fields.get(name) for name in AUDIT_IDS)
    times = (fields.get(name) for name in AUDIT_TIMES)
    return AuditEntry(
        raw,
        next((str(id_) for id_ in identifiers if isinstance(id_, str | int) and id_ != ""), None),
        next((time for time in times if isinstance(time, str) and parse_time(time) is not None), None),
    )


def _members(body: bytes) -> dict[str, msgspec.Raw]:
    """Return the members of an object; an empty dict for any other body."""
    try:
        members = decode(_as_object, body)
    except _UNREADABLE:
        return {}
    return dict(zip(members, parts_of(body, members.values()), strict=True))


def _is_object(raw: msgspec.Raw) -> bool:
    return bytes(raw).lstrip().startswith(b"{")


def _is_list(raw: msgspec.Raw) -> bool:
    return bytes(raw).lstrip().startswith(b"[")


def server_time(response: httpx.Response) -> float | None:
    """Return the `Date` header in seconds since 1970, None if it is absent. Its resolution is one second."""
    return _seconds(response.headers.get("date", ""))


@lru_cache(maxsize=16)
def _seconds(header: str) -> float | None:
    """Return the time in a `Date` header. The responses of one second have the same."""
    try:
        date = email.utils.parsedate_to_datetime(header)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
