"""Splitting a page into raw records without decoding them.

The wrapper key of a list is not documented (docs/reference/api-facts.md, 1.5). A page with the expected key is split
in one pass; a bare list, and a body with a single list under another name, are accepted too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from ordersync_consumer.redaction import words_of
from worker.errors import ResponseTooLarge, UnreadableAnswer
from worker.ordermesh.http.refusals import reported_error
from worker.ordermesh.http.structure import elements_of, members_of

if TYPE_CHECKING:
    from collections.abc import Callable

TOTAL_KEYS = ("total", "totalCount", "totalItems", "totalRecords", "totalResults")
"""Names that a list may use for the total number of records. The vendor documents none of them."""

MAX_RECORDS = 10_000
"""Most records of a page, and most entries of a page of an audit log, if the settings do not say otherwise."""
MAX_VALUES = 500_000
"""Most values of a page: 1,000 records of 500 fields. They take up to a hundred times their bytes."""
MAX_FIELDS = 1_000
"""Most fields beside the list of records."""
MAX_DEPTH = 4
"""Most objects around the one with the list."""
_FEW_BYTES = 1 << 19  # not counted: fewer values than the limit, or nearly


@dataclass(frozen=True, slots=True)
class Page:
    """The records of one page as served, and the total number of records if the server returns it.

    `may_be_invalid`: the page is not valid JSON as a whole, so some of its records may not be.
    """

    records: list[msgspec.Raw]
    total: int | None
    may_be_invalid: bool = False


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


def split(
    operation: str, body: bytes, wrappers: tuple[str, ...], *, page: int | None, most: int | None = None
) -> Page:
    """Return the records of a page. An empty body, as of the status 204, is a page without records.

    Args:
        operation: The key of the operation, for the error.
        body: The body of the response.
        wrappers: The names that the list of records may have, the expected one first.
        page: The requested page number, for the error.
        most: Most records of a page, by the settings; None for `MAX_RECORDS`.

    Raises:
        UnreadableAnswer: The body is not JSON, has no list, has several lists and none with an expected name, or
            has no records and reports an error.
        ResponseTooLarge: It has more records than `most`, more values than `MAX_VALUES`, or more fields beside its
            list than `MAX_FIELDS`.

    """
    if len(body) > _FEW_BYTES and sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise ResponseTooLarge(operation, f"{MAX_VALUES} values", page=page)
    result = _split(operation, body, wrappers, page)
    if len(result.records) > (limit := most or MAX_RECORDS):
        advice = ". If the gateway is right to send as many, raise ORDERSYNC_API__MAX_PAGE_RECORDS"
        raise ResponseTooLarge(operation, f"{limit} records{advice if most else ''}", page=page)
    return result


def _split(operation: str, body: bytes, wrappers: tuple[str, ...], page: int | None, depth: int = 0) -> Page:
    """Split a page, or the object at this depth in which it is."""
    try:
        fast = _fast_decoder(wrappers)(body)
    except _UNREADABLE:
        fast = None
    if fast is None or fast.records is msgspec.UNSET:
        result = _split_slowly(operation, body, wrappers, page, depth)
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
    try:
        struct = msgspec.defstruct("PageBody", fields, rename={"records": wrappers[0]}, gc=False)
    except (
        ValueError
    ):  # a gateway may use any name; no field of a struct has one with quotation or control marks
        return lambda _body: None
    return msgspec.json.Decoder(struct).decode


def _split_slowly(
    operation: str, body: bytes, wrappers: tuple[str, ...], page: int | None, depth: int
) -> Page:
    text = body.lstrip()
    if not text:
        return Page([], None)
    try:
        if text.startswith(b"["):
            return _page(body, None)
        fields = _members(body)
        if len(fields) > MAX_FIELDS:
            raise ResponseTooLarge(operation, f"{MAX_FIELDS} fields", page=page)
        lists = _starting_with(fields, b"[")
        name = next((name for name in wrappers if name in lists), None)
        if name is None and any(name in _starting_with(fields, b"null") for name in wrappers):
            return Page([], _total(fields))
        others = lists.keys() - NOT_RECORDS
        if name is None and len(others) == 1:
            name = next(iter(others))
        inner = _starting_with(fields, b"{")
        if name is None and not others and len(inner) == 1 and depth < MAX_DEPTH:
            # {"data": {"orders": [...]}}; the total may be in either object
            inside = _split(operation, bytes(next(iter(inner.values()))), wrappers, page, depth + 1)
            return replace(inside, total=inside.total or _total(fields))
        if name is not None:
            return _page(bytes(lists[name]), _total(fields))
    except ValueError as error:
        # The body may contain a customer's data, so the message only gives its size.
        raise UnreadableAnswer(
            operation, f"the response is not a JSON list ({len(body)} bytes: {words_of(error)})", page=page
        ) from None
    # A key may be personal data, as in a map by email address, so the message only quotes field names.
    keys = sorted(key if _FIELD_NAME.fullmatch(key) else "..." for key in fields)[:20]
    raise UnreadableAnswer(
        operation,
        f"no list under {' or '.join(wrappers)}; the response has the keys {', '.join(keys) or '(none)'}",
        page=page,
    )


def _page(body: bytes, total: int | None) -> Page:
    """Return the page whose records are the elements of a list.

    Raises:
        ValueError: It is not a list, or the end of an element cannot be found.

    """
    try:
        return Page(_as_list(body), total)
    except _UNREADABLE:
        return Page(elements_of(body), total, may_be_invalid=True)


def _members(body: bytes) -> dict[str, msgspec.Raw]:
    """Return the members of an object; some of them may be invalid.

    Raises:
        ValueError: It is not an object, or the end of a member cannot be found.

    """
    try:
        return _as_object(body)
    except _UNREADABLE:
        return members_of(body)


def _starting_with(fields: dict[str, msgspec.Raw], start: bytes) -> dict[str, msgspec.Raw]:
    return {name: raw for name, raw in fields.items() if bytes(raw).lstrip().startswith(start)}


def _total(fields: dict[str, msgspec.Raw]) -> int | None:
    for name in TOTAL_KEYS:
        if name in fields:
            try:
                return _as_total(fields[name])
            except msgspec.DecodeError:
                continue
    return None
