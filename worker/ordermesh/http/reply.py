"""What the client gives back: an answer with a good status, as served and decoded.

How single records and audit logs are wrapped is documented for orders and order items alone
(docs/reference/api-facts.md, 3.2, 3.3, 1.8), so a wrapper is looked for and nothing depends on its being there. What
was served is always at hand.
"""

from __future__ import annotations

import email.utils
from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING, Any

import msgspec

from worker.clock import parse_time
from worker.errors import UnreadableAnswer
from worker.ordermesh.contract.operations import OPERATIONS
from worker.ordermesh.http.pages import Page, split
from worker.ordermesh.http.refusals import property_errors

if TYPE_CHECKING:
    import httpx

    from worker.errors import PropertyError

AUDIT_WRAPPERS = ("auditLogs", "auditEvents", "events", "entries", "logs", "items")
"""Names under which the entries of an audit log may stand. None is documented."""
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
"""Names under which an audit entry may tell its id and its time. None is documented."""

_as_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Reply:
    """One good answer to operation `key`. `raw` is its body, byte for byte."""

    key: str
    status: int
    raw: bytes = field(repr=False)  # a customer's data
    media_type: str
    date: float | None
    """The server's clock when it answered, seconds since 1970; None when it does not say."""

    @property
    def value(self) -> Any:
        """The body decoded from JSON; None for an empty one.

        Raises:
            UnreadableAnswer: It is not JSON.

        """
        return self._decode(self.raw) if self.raw.strip() else None

    @property
    def record(self) -> bytes:
        """The one record in it as served, out of its wrapper where it has one.

        A wrapper is an object that holds it under the name that the table of operations expects, or an object
        with nothing else in it.

        Raises:
            UnreadableAnswer: It is no JSON object.

        """
        members, wrapper = _members(self.raw), OPERATIONS[self.key].record
        held = members.get(wrapper) if wrapper else None
        if held is None and len(members) == 1:
            (held,) = members.values()
        if held is not None and _is_object(held):
            return bytes(held)
        if not members or wrapper in members:
            raise UnreadableAnswer(self.key, f"no record in {self._what()}")
        return self.raw

    @property
    def fields(self) -> dict[str, Any]:
        """The record decoded.

        Raises:
            UnreadableAnswer: There is none.

        """
        decoded: dict[str, Any] = self._decode(self.record)
        return decoded

    @property
    def errors(self) -> tuple[PropertyError, ...]:
        """What was left undone in spite of the good status: the one such answer that is shown has `errors`.

        Source: the vendor's sample of adding variants, of which some are unknown (docs/reference/api-facts.md, 1.6).

        Raises:
            UnreadableAnswer: It is not JSON.

        """
        return property_errors(self.value)

    def _decode(self, text: bytes | msgspec.Raw) -> Any:
        try:
            return msgspec.json.decode(text)
        except _UNREADABLE as error:
            raise UnreadableAnswer(self.key, f"{self._what()} that are not valid JSON: {error}") from None

    def _what(self) -> str:
        return f"{len(self.raw)} bytes of {self.media_type or 'unknown type'}"


@dataclass(frozen=True, slots=True)
class ListReply(Reply):
    """The answer of a list. `records` as served; `total` is the number of all records, if the server says it."""

    records: tuple[msgspec.Raw, ...] = field(repr=False)
    total: int | None

    @property
    def values(self) -> list[Any]:
        """The records decoded.

        Raises:
            UnreadableAnswer: One of them is not JSON.

        """
        return [self._decode(record) for record in self.records]


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One entry of an audit log. No field is documented: `id` and `time` are as served, under the likeliest names.

    `time` can be read by `worker.clock.parse_time`.
    """

    raw: bytes = field(repr=False)  # it may quote a customer's data
    id: str | None
    time: str | None


@dataclass(frozen=True, slots=True)
class AuditReply(Reply):
    """The audit log of one record, in the order of the server."""

    entries: tuple[AuditEntry, ...]


def reply_of(key: str, response: httpx.Response) -> Reply:
    """The reply in a good response."""
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return Reply(key, response.status_code, response.content, media_type, server_time(response))


def list_of(reply: Reply, wrappers: tuple[str, ...], page: int | None = None) -> ListReply:
    """The records of a list.

    An object with an `id` and without the list is a list of one: the stored sample of all shipments of an order
    looks like that (docs/reference/api-facts.md, 6.1).

    Raises:
        UnreadableAnswer: There is no list in it. `page`, as it was asked for, goes into the message.

    """
    members = _members(reply.raw)
    if "id" in members and not any(_is_list(members[name]) for name in wrappers if name in members):
        result = Page([msgspec.Raw(reply.raw)], None)
    else:
        result = split(reply.key, reply.raw, wrappers, page=page)
    records, total = tuple(result.records), result.total
    return ListReply(reply.key, reply.status, reply.raw, reply.media_type, reply.date, records, total)


def audit_of(reply: Reply) -> AuditReply:
    """The entries of an audit log, whatever it is wrapped in.

    Raises:
        UnreadableAnswer: There is no list in it, or it is not JSON, as a `format` may make it.

    """
    held = next(iter(members.values())) if len(members := _members(reply.raw)) == 1 else None
    # One object around the whole, as in `{"data": {"auditLogs": [...]}}`, is looked through.
    body = bytes(held) if held is not None and _is_object(held) else reply.raw
    records = split(reply.key, body, AUDIT_WRAPPERS, page=None).records
    entries = tuple(_entry(bytes(record)) for record in records)
    return AuditReply(reply.key, reply.status, reply.raw, reply.media_type, reply.date, entries)


def _entry(raw: bytes) -> AuditEntry:
    try:
        fields = msgspec.json.decode(raw)
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
    """The members of an object; none of anything else."""
    try:
        return _as_object(body)
    except _UNREADABLE:
        return {}


def _is_object(raw: msgspec.Raw) -> bool:
    return bytes(raw).lstrip().startswith(b"{")


def _is_list(raw: msgspec.Raw) -> bool:
    return bytes(raw).lstrip().startswith(b"[")


def server_time(response: httpx.Response) -> float | None:
    """The `Date` header in seconds since 1970. Its resolution is one second."""
    try:
        date = email.utils.parsedate_to_datetime(response.headers.get("date", ""))
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
