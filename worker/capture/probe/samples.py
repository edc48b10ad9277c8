"""What pages say of the server that gave them. Pure: the probe asks, this judges."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import msgspec

from worker.clock import parse_time
from worker.errors import UnreadableAnswer
from worker.ordermesh.http.pages import NOT_RECORDS, TOTAL_KEYS, split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.capture.resources import Resource

FUTURE = "2100-01-01T00:00:00Z"
"""Nothing was modified after it."""
_FUTURE_MS = 4_102_444_800_000
_WELL_AFTER_MS = 2_000
BAD_PAGE = frozenset({400, 404, 405, 410, 416, 422, 500})
"""How servers answer to the number of a page that they do not have."""
_ROUNDING_MS = 1_000
"""A service may keep its times by the second."""


class PageBase(Enum):
    """What pages 0, 1 and 2 say of how a list is paged."""

    FROM_0 = "pages are numbered from 0"
    FROM_1 = "pages are numbered from 1"
    NOT_TURNED = "every page is the same"
    EMPTY = "every page is empty"
    REFUSED = "page 1 is refused"


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """One record: when it was made and modified (milliseconds since 1970), None if it does not say so.

    `unchanged`: the field that names its last change is null, as it is until the first one
    (docs/reference/api-facts.md, 3.3). `names`: its top-level fields; `parent`: the id of the record that it belongs
    to, `status` and `merchant` as they stand in a query, "" for none.
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
    """One page. `wrapper` is "" for a bare list, None where it cannot be told."""

    records: tuple[SampleRecord, ...]
    wrapper: str | None
    total_field: str | None
    total: int | None

    @property
    def ids(self) -> frozenset[str]:
        """Who is on it."""
        return frozenset(one.id for one in self.records)

    @property
    def times(self) -> list[int]:
        """When its records were modified, in their order; those that say it."""
        return [one.modified for one in self.records if one.modified is not None]


@dataclass(frozen=True, slots=True)
class ProbeRefusal:
    """A request that was answered, but not with a list. `status` is 0 for an answer that cannot be read."""

    status: int
    text: str

    @property
    def why(self) -> str:
        """It in words."""
        return f"status {self.status}: {self.text}" if self.status else self.text


def sample(resource: Resource, operation: str, body: bytes, wrappers: tuple[str, ...]) -> SamplePage:
    """Read a page.

    Raises:
        UnreadableAnswer: There is no list in it.

    """
    page = split(operation, body, wrappers, page=0)
    wrapper, total_field = _layout(body, wrappers)
    records = tuple(_sample_record(resource, raw) for raw in page.records)
    if wrapper not in {None, "", *wrappers} and not any(one.id for one in records) and records:
        raise UnreadableAnswer(operation, f"the entries of {wrapper} are not {resource.name}")
    return SamplePage(records, wrapper, total_field, page.total)


def same_page(one: SamplePage, other: SamplePage) -> bool:
    """Whether two answers are the same page. Records may have come or gone between them."""
    if not one.records or not other.records:
        return False
    shared = len(one.ids & other.ids)
    return shared * 2 > min(len(one.ids), len(other.ids))


def older(page: SamplePage, since: int) -> list[SampleRecord]:
    """Records that a filter by modification should have left out."""
    return [one for one in page.records if one.modified is not None and one.modified < since - _ROUNDING_MS]


def why_not_future(answer: SamplePage | ProbeRefusal) -> str | None:
    """What speaks against a filter, given what it answers to a date in the future; None for nothing."""
    if isinstance(answer, ProbeRefusal):
        return f"refused ({answer.why})"
    if any(one.modified is None or one.modified < _FUTURE_MS for one in answer.records):
        return "ignored"
    return "does not reduce the total" if answer.total and not answer.records else None


def last_changed(known: Sequence[SampleRecord]) -> SampleRecord | None:
    """The record that was changed last, of those that were changed well after they were made."""
    changed = [
        one
        for one in known
        if one.modified is not None
        and one.created is not None
        and _FUTURE_MS > one.modified > one.created + _WELL_AFTER_MS
    ]
    return max(changed, key=lambda one: one.modified or 0, default=None)


def last_unchanged(known: Sequence[SampleRecord]) -> SampleRecord | None:
    """The newest record that was never changed: its change is null, or was when it was made."""
    unchanged = [
        one for one in known if one.modified is not None and (one.unchanged or one.modified == one.created)
    ]
    return max(unchanged, key=lambda one: one.modified or 0, default=None)


def just_before(witness: SampleRecord, milliseconds: int) -> int:
    """A time shortly before a record was modified, and after it was made."""
    modified = witness.modified or 0
    if witness.unchanged or witness.created is None:
        return modified - milliseconds
    return max(modified - milliseconds, (witness.created + modified) // 2)


def judge_pages(
    zero: SamplePage | ProbeRefusal, one: SamplePage | ProbeRefusal, two: SamplePage | ProbeRefusal
) -> tuple[PageBase, str]:
    """How a list is paged whose pages 0, 1 and 2 these are, and why.

    A server may clamp the number of a page to the pages that it has, so that pages 1 and 2 are alike where
    page 0 is not.
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


def past_end(answer: SamplePage | ProbeRefusal) -> str:
    """What lies beyond the last page: `empty`, `repeats`, or the status of a refusal."""
    if isinstance(answer, ProbeRefusal):
        return str(answer.status) if answer.status in BAD_PAGE else ""
    return "repeats" if answer.records else "empty"


def is_sorted(page: SamplePage, *, descending: bool) -> bool:
    """Whether a page stands in the order of modification. All its records must say when that was."""
    times = page.times
    if len(times) != len(page.records):
        return False
    return times == sorted(times, reverse=descending)


def shows_both_orders(rising: SamplePage, falling: SamplePage) -> bool:
    """Whether two pages stand in opposite orders of modification, with enough times to tell that from chance."""
    return (
        (can_show_order(rising) or can_show_order(falling))
        and is_sorted(rising, descending=False)
        and is_sorted(falling, descending=True)
        and falling.times[0] > rising.times[0]
    )


def can_show_order(page: SamplePage) -> bool:
    """Whether there are enough different times for an order to be told from chance."""
    return len(set(page.times)) >= 3


def middle_time(page: SamplePage) -> int | None:
    """A time of modification with records on both sides, None if there is none."""
    times = sorted(set(page.times))
    return times[len(times) // 2] if len(times) >= 2 else None


def shape(value: Any) -> str:
    """Wrapper and fields of the entries of an audit log, in words."""
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
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "", None
    total_field = next((name for name in TOTAL_KEYS if name in fields), None)
    known = next((name for name in wrappers if name in fields), None)
    lists = [name for name, raw in fields.items() if bytes(raw).lstrip().startswith(b"[")]
    others = [name for name in lists if name not in NOT_RECORDS]
    return known or (others[0] if len(others) == 1 else None), total_field


def _text(value: Any) -> str:
    """A value as it stands in a query; "" for none."""
    if value is None or isinstance(value, str):
        return value or ""
    return msgspec.json.encode(value).decode()


def _sample_record(resource: Resource, raw: msgspec.Raw) -> SampleRecord:
    try:
        record = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        record = None
    if not isinstance(record, dict):
        return SampleRecord("", None, unchanged=False)
    values = [record.get(name) for name in resource.modified_fields]
    modified = next((parse_time(value) for value in values if value is not None), None)
    created = parse_time(values[-1])
    identifier = record.get(resource.id_field)
    named = str(identifier) if isinstance(identifier, str | int) else ""
    told = modified if modified and modified > 0 else None
    parent = record.get(resource.parent_field) if resource.parent_field else None
    return SampleRecord(
        named, told, unchanged=values[0] is None, created=created, names=frozenset(record),
        parent=parent if isinstance(parent, str) else "",
        status=_text(record.get(resource.status_field)), merchant=_text(record.get(resource.merchant_field)),
    )  # fmt: skip
