"""Splitting a page into raw records without decoding them.

The wrapper key of a list is not documented (docs/reference/api-facts.md, 1.5). A page with the expected key is split
in one pass; a bare list, and a body with a single list under another name, are accepted too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from worker.errors import ResponseTooLarge, UnreadableAnswer
from worker.ordermesh.http.refusals import reported_error
from worker.ordermesh.http.salvage import salvage
from worker.surrogates import parts_of, readable

if TYPE_CHECKING:
    from collections.abc import Callable

TOTAL_KEYS = ("total", "totalCount", "totalItems", "totalRecords", "totalResults")
"""Names that a list may use for the total number of records. The vendor documents none of them."""


MAX_VALUES = 2_000_000
"""Most values of a page: 20,000 records of 100 fields."""
_FEW_BYTES = 1 << 20  # not counted: fewer values than the limit, or nearly


@dataclass(frozen=True, slots=True)
class Page:
    """The records of one page as served, and the total number of records if the server returns it."""

    records: list[msgspec.Raw]
    total: int | None


NOT_RECORDS = frozenset(
    {"errors", "warnings", "messages", "facets", "aggregations", "filters", "links", "_links", "sort"}
)
"""Names of lists in the body of a page that do not contain its records."""

_as_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_as_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_as_total = msgspec.json.Decoder(int, strict=False).decode  # not strict: the total may be a string
_UNREADABLE = (
    msgspec.DecodeError,
    UnicodeDecodeError,
    RecursionError,  # for a body that is nested too deeply
)
_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")


def split(operation: str, body: bytes, wrappers: tuple[str, ...], *, page: int | None) -> Page:
    """Return the records of a page. An empty body, as of the status 204, is a page without records.

    Args:
        operation: The key of the operation, for the error.
        body: The body of the response.
        wrappers: The names that the list of records may have, the expected one first.
        page: The requested page number, for the error.

    Raises:
        UnreadableAnswer: The body is not JSON, has no list, has several lists and none with an expected name, or
            has no records and reports an error.
        ResponseTooLarge: It has more than `MAX_VALUES` values: split, they would take a hundred times their bytes.

    """
    if len(body) > _FEW_BYTES and body.count(b",") > MAX_VALUES:
        raise ResponseTooLarge(operation, f"{MAX_VALUES} values", page=page)
    try:
        fast = _fast_decoder(wrappers)(body)
    except _UNREADABLE:
        fast = None
    if fast is None or fast.records is msgspec.UNSET:
        result = _split_slowly(operation, body, wrappers, page)
    else:
        totals = (getattr(fast, name) for name in TOTAL_KEYS)
        result = Page(fast.records, next((total for total in totals if total is not None), None))
    if not result.records and (problem := reported_error(body)) is not None:
        raise UnreadableAnswer(
            operation,
            f"the response has no records and reports an error: {problem or 'without words'}",
            page=page,
        )
    return result


@lru_cache(maxsize=64)
def _fast_decoder(wrappers: tuple[str, ...]) -> Callable[[bytes], Any]:
    fields: list[tuple[str, Any, Any]] = [("records", list[msgspec.Raw] | msgspec.UnsetType, msgspec.UNSET)]
    fields += [(name, int | None, None) for name in TOTAL_KEYS]
    struct = msgspec.defstruct("PageBody", fields, rename={"records": wrappers[0]}, gc=False)
    return msgspec.json.Decoder(struct).decode


def _split_slowly(operation: str, body: bytes, wrappers: tuple[str, ...], page: int | None) -> Page:
    text = body.lstrip()
    if not text:
        return Page([], None)
    try:
        if text.startswith(b"["):
            return Page(_as_list(body), None)
        fields = _as_object(body)
    except _UNREADABLE as error:
        return _salvaged(operation, body, wrappers, page, error)
    lists = _starting_with(fields, b"[")
    name = next((name for name in wrappers if name in lists), None)
    if name is None and any(name in _starting_with(fields, b"null") for name in wrappers):
        return Page([], _total(fields))
    others = lists.keys() - NOT_RECORDS
    if name is None and len(others) == 1:
        name = next(iter(others))
    if name is None and not others and len(inner := _starting_with(fields, b"{")) == 1:
        # {"data": {"orders": [...]}}; the total may be in either object
        page_inside = split(operation, bytes(next(iter(inner.values()))), wrappers, page=page)
        return Page(page_inside.records, page_inside.total or _total(fields))
    if name is None:
        # A key may be personal data, as in a map by email address, so the message only quotes field names.
        keys = sorted(key if _FIELD_NAME.fullmatch(key) else "..." for key in fields)[:20]
        raise UnreadableAnswer(
            operation,
            f"no list under {' or '.join(wrappers)}; the response has the keys {', '.join(keys) or '(none)'}",
            page=page,
        )
    return Page(_as_list(lists[name]), _total(fields))


def _starting_with(fields: dict[str, msgspec.Raw], start: bytes) -> dict[str, msgspec.Raw]:
    return {name: raw for name, raw in fields.items() if bytes(raw).lstrip().startswith(start)}


def _salvaged(
    operation: str, body: bytes, wrappers: tuple[str, ...], page: int | None, cause: Exception
) -> Page:
    """Return the records of a page that cannot be decoded as a whole; some of them may be invalid."""
    if (other := readable(body)) != body:
        result = split(operation, other, wrappers, page=page)
        return Page(parts_of(body, result.records), result.total)
    try:
        records, fields = salvage(body, wrappers)
    except (ValueError, RecursionError):
        # The body may contain a customer's data, so the message only gives its size.
        raise UnreadableAnswer(
            operation, f"the response is not a JSON list ({len(body)} bytes: {cause})", page=page
        ) from None
    totals = (fields.get(name) for name in TOTAL_KEYS)
    return Page(records, next((total for total in totals if isinstance(total, int)), None))


def _total(fields: dict[str, msgspec.Raw]) -> int | None:
    for name in TOTAL_KEYS:
        if name in fields:
            try:
                return _as_total(fields[name])
            except msgspec.DecodeError:
                continue
    return None
