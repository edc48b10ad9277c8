"""Conclusions about a server from sample pages. No I/O: the probe sends the requests."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import msgspec

from worker.capture.records.audit import digest_of
from worker.clock import parse_time
from worker.errors import UnreadableAnswer
from worker.ordermesh.http.pages import NOT_RECORDS, TOTAL_KEYS, split
from worker.surrogates import decode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.capture.resources import Resource
    from worker.ordermesh.http.reply import AuditReply, Reply

FUTURE = "2100-01-01T00:00:00Z"
"""A time after every modification."""
_FUTURE_MS = 4_102_444_800_000
_WELL_AFTER_MS = 2_000
BAD_PAGE = frozenset({400, 404, 405, 410, 416, 422, 500})
"""Statuses with which servers answer a page number that does not exist."""
_ROUNDING_MS = 1_000
"""A service may round its times to seconds."""


class PageBase(Enum):
    """How a list is paged, according to its pages 0, 1 and 2."""

    FROM_0 = "pages are numbered from 0"
    FROM_1 = "pages are numbered from 1"
    NOT_TURNED = "every page is the same"
    EMPTY = "every page is empty"
    REFUSED = "page 1 is refused"


_as_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """One record of a sample page.

    Attributes:
        id: Its id, "" for none.
        modified: When it was modified (milliseconds since 1970), None for unknown.
        unchanged: The field with its last change is null, as it is until the first change
            (docs/reference/api-facts.md, 3.3).
        created: When it was created (milliseconds since 1970), None for unknown.
        names: Its top-level fields.
        parent: The id of the record that it belongs to, "" for none.
        status: Its status as written in a query, "" for none.
        merchant: Its merchant as written in a query, "" for none.

    """

    id: str
    modified: int | None
    unchanged: bool
    created: int | None = None
    names: frozenset[str] = frozenset()
    parent: str = ""
    status: str = ""
    merchant: str = ""


@dataclass(frozen=True, slots=True)
class SamplePage:
    """One page. `wrapper` is "" for a bare list, None if it cannot be determined.

    `after`: the continuation to the next page, where the profile on trial says how the list continues. `reply`: the
    response.
    """

    records: tuple[SampleRecord, ...]
    wrapper: str | None
    total_field: str | None
    total: int | None
    after: str = ""
    reply: Reply | None = None

    @property
    def ids(self) -> frozenset[str]:
        """The ids of its records."""
        return frozenset(record.id for record in self.records)

    @property
    def times(self) -> list[int]:
        """The modification times of its records, in their order, without unknown ones."""
        return [record.modified for record in self.records if record.modified is not None]


@dataclass(frozen=True, slots=True)
class ProbeRefusal:
    """A response that is not a list. `status` is 0 for a response that cannot be read."""

    status: int
    text: str

    @property
    def why(self) -> str:
        """The refusal in words."""
        return f"status {self.status}: {self.text}" if self.status else self.text


def sample(resource: Resource, operation: str, body: bytes, wrappers: tuple[str, ...]) -> SamplePage:
    """Return the page in a response.

    Raises:
        UnreadableAnswer: The response does not contain a list.

    """
    page = split(operation, body, wrappers, page=0)
    wrapper, total_field = _layout(body, wrappers)
    records = tuple(_sample_record(resource, raw) for raw in page.records)
    if wrapper not in {None, "", *wrappers} and not any(record.id for record in records) and records:
        raise UnreadableAnswer(operation, f"the entries of {wrapper} are not {resource.name}")
    return SamplePage(records, wrapper, total_field, page.total)


def sample_log(log: AuditReply) -> SamplePage:
    """Return the page of an audit log in a response."""
    records = tuple(
        SampleRecord(digest_of(entry).hex(), parse_time(entry.time), unchanged=False) for entry in log.entries
    )
    return SamplePage(records, None, None, log.total)


def same_page(one: SamplePage, other: SamplePage) -> bool:
    """True if two responses are the same page. Records may have been added or removed between them."""
    if not one.records or not other.records:
        return False
    shared = len(one.ids & other.ids)
    return shared * 2 > min(len(one.ids), len(other.ids))


def older(page: SamplePage, since: int) -> list[SampleRecord]:
    """Return the records that a filter by modification time should have omitted."""
    return [
        record
        for record in page.records
        if record.modified is not None and record.modified < since - _ROUNDING_MS
    ]


def why_not_future(answer: SamplePage | ProbeRefusal) -> str | None:
    """Return the problem of a filter, from the response for a time in the future; None if there is no problem."""
    if isinstance(answer, ProbeRefusal):
        return f"refused ({answer.why})"
    if any(record.modified is None or record.modified < _FUTURE_MS for record in answer.records):
        return "ignored"
    return "does not reduce the total" if answer.total and not answer.records else None


def last_changed(known: Sequence[SampleRecord]) -> SampleRecord | None:
    """Return the last changed record among those changed well after their creation."""
    changed = [
        record
        for record in known
        if record.modified is not None
        and record.created is not None
        and _FUTURE_MS > record.modified > record.created + _WELL_AFTER_MS
    ]
    return max(changed, key=lambda record: record.modified or 0, default=None)


def last_unchanged(known: Sequence[SampleRecord]) -> SampleRecord | None:
    """Return the newest record that was never changed: its last change is null, or equals its creation."""
    unchanged = [
        record
        for record in known
        if record.modified is not None and (record.unchanged or record.modified == record.created)
    ]
    return max(unchanged, key=lambda record: record.modified or 0, default=None)


def just_before(witness: SampleRecord, milliseconds: int) -> int:
    """Return a time shortly before a record was modified, and after its creation."""
    modified = witness.modified or 0
    if witness.unchanged or witness.created is None:
        return modified - milliseconds
    return max(modified - milliseconds, (witness.created + modified) // 2)


def judge_pages(
    zero: SamplePage | ProbeRefusal, one: SamplePage | ProbeRefusal, two: SamplePage | ProbeRefusal
) -> tuple[PageBase, str]:
    """Return how a list with these pages 0, 1 and 2 is paged, and why.

    A server may clamp page numbers to the existing pages, so that pages 1 and 2 are equal although page 0 differs.
    """
    if isinstance(one, ProbeRefusal):
        return PageBase.REFUSED, one.why
    if isinstance(zero, ProbeRefusal):
        return (PageBase.FROM_1, f"page 0 is refused ({zero.why})") if one.records else (PageBase.EMPTY, "")
    if not zero.records or not one.records:
        if zero.records:
            return PageBase.FROM_0, "page 0 contains records, page 1 is empty"
        return (PageBase.FROM_1, "page 0 is empty") if one.records else (PageBase.EMPTY, "")
    if not same_page(zero, one):
        return PageBase.FROM_0, "page 0 and page 1 contain different records"
    turned = not (isinstance(two, SamplePage) and same_page(one, two))
    return (PageBase.FROM_1, "page 0 returns the records of page 1") if turned else (PageBase.NOT_TURNED, "")


def has_records(answer: SamplePage | ProbeRefusal) -> bool:
    """True if a page was returned, with records."""
    return isinstance(answer, SamplePage) and bool(answer.records)


def past_end(answer: SamplePage | ProbeRefusal) -> str:
    """Return the response past the last page: `empty`, `repeats`, or the status of a refusal."""
    if isinstance(answer, ProbeRefusal):
        return str(answer.status) if answer.status in BAD_PAGE else ""
    return "repeats" if answer.records else "empty"


def is_sorted(page: SamplePage, *, descending: bool) -> bool:
    """True if a page is sorted by modification time. Each of its records must have one."""
    times = page.times
    if len(times) != len(page.records):
        return False
    return times == sorted(times, reverse=descending)


def shows_both_orders(rising: SamplePage, falling: SamplePage) -> bool:
    """True if two pages are sorted by modification time in opposite orders, with enough times to rule out chance."""
    return (
        (can_show_order(rising) or can_show_order(falling))
        and is_sorted(rising, descending=False)
        and is_sorted(falling, descending=True)
        and falling.times[0] > rising.times[0]
    )


def can_show_order(page: SamplePage) -> bool:
    """True if a page has enough different times to rule out that it is sorted by chance."""
    return len(set(page.times)) >= 3


def middle_time(page: SamplePage) -> int | None:
    """Return the median of the different modification times; None if there are fewer than two."""
    times = sorted(set(page.times))
    return times[len(times) // 2] if len(times) >= 2 else None


def shape(value: Any) -> str:
    """Describe the wrapper of an audit log and the fields of its entries."""
    wrapper, entries = "a bare list", value
    if isinstance(value, dict):
        lists = {name: inner for name, inner in value.items() if isinstance(inner, list)}
        if len(lists) != 1:
            return f"an object with the fields {_names(value)}"
        name, entries = next(iter(lists.items()))
        wrapper = f"a list under {name}"
    if not isinstance(entries, list):
        return f"a {type(value).__name__}"
    first = entries[0] if entries else None
    if isinstance(first, dict):
        return f"{wrapper}, entries with {_names(first)}"
    return f"{wrapper}, " + ("empty" if first is None else f"entries are of type {type(first).__name__}")


def _names(fields: dict[str, Any]) -> str:
    return ", ".join(list(fields)[:20]) or "(none)"


def _layout(body: bytes, wrappers: Sequence[str]) -> tuple[str | None, str | None]:
    try:
        fields = decode(_as_members, body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "", None
    total_field = next((name for name in TOTAL_KEYS if name in fields), None)
    known = next((name for name in wrappers if name in fields), None)
    lists = [name for name, raw in fields.items() if bytes(raw).lstrip().startswith(b"[")]
    others = [name for name in lists if name not in NOT_RECORDS]
    return known or (others[0] if len(others) == 1 else None), total_field


def _text(value: Any) -> str:
    """Return a value as it is written in a query; "" for none."""
    if value is None or isinstance(value, str):
        return value or ""
    return msgspec.json.encode(value).decode()


def _sample_record(resource: Resource, raw: msgspec.Raw) -> SampleRecord:
    try:
        record = decode(msgspec.json.decode, raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        record = None
    if not isinstance(record, dict):
        return SampleRecord("", None, unchanged=False)
    values = [record.get(name) for name in resource.modified_fields]
    modified = next((parse_time(value) for value in values if value is not None), None)
    created = parse_time(values[-1])
    identifier = record.get(resource.id_field)
    named = str(identifier) if isinstance(identifier, str | int) else ""
    known = modified if modified and modified > 0 else None
    parent = record.get(resource.parent_field) if resource.parent_field else None
    return SampleRecord(
        named, known, unchanged=values[0] is None, created=created, names=frozenset(record),
        parent=parent if isinstance(parent, str) else "",
        status=_text(record.get(resource.status_field)), merchant=_text(record.get(resource.merchant_field)),
    )  # fmt: skip
