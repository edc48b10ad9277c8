"""Bulk requests, and the result of each of their items.

Only the envelope of a request, `{"bulk": [...]}`, is documented (docs/reference/api-facts.md, 1.7). The largest number
of items is not, nor are the fields of a BulkResponseItem. So a result is matched with the item that was sent by its
position, or else by its id, or else by its order, and an item without a certain result is unknown, never done.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from worker.errors import UnreadableAnswer
from worker.ordermesh.http.pages import split
from worker.ordermesh.http.refusals import property_errors
from worker.surrogates import value_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from worker.errors import PropertyError
    from worker.ordermesh.http.reply import Reply

T = TypeVar("T")

MAX_IN_BULK = 50
"""Items in one request. The server's limit is not documented (docs/reference/api-facts.md, 7)."""

WRAPPERS = ("bulk", "items", "results", "responses", "data")
"""Names that the list of results may have. The vendor documents none of them."""
_POSITIONS = ("index", "position", "itemIndex")
_IDS = ("id", "orderId", "shipmentId", "productId", "safeId", "externalId", "shortId", "sku")
_OWN_IDS = _IDS[:4]
_FLAGS = ("isSuccess", "isSuccessful", "success", "succeeded", "ok")
_STATUSES = ("statusCode", "status", "code", "responseCode")
_ERRORS = ("errorMessage", "error")
_RECORDS = ("data", "result", "response", "value", "model", "item", "order", "product", "shipment")
"""Names that the fields of a result, and the record in it, may have. The vendor documents none of them."""


@dataclass(frozen=True, slots=True)
class BulkItem:
    """The result of one item."""

    position: int
    """The position in the list that was passed to the client, from 0."""
    id: str | None
    """The id in the result, if it has one."""
    status: int | None
    """The HTTP status in the result, if it has one."""
    ok: bool | None
    """True if the item was done; None if that is unknown, as without a result: read the record to find out."""
    errors: tuple[PropertyError, ...]
    raw: bytes | None = field(repr=False)
    """The result as served; None if the item has no result."""


@dataclass(frozen=True, slots=True)
class BulkReply:
    """The results of all items of one or several requests."""

    items: tuple[BulkItem, ...]
    """One result for each item that was sent, in the same order."""
    unmatched: tuple[bytes, ...] = field(repr=False)
    """Results, as served, that could not be matched with an item."""
    replies: tuple[Reply, ...]
    """The responses of the requests."""

    @property
    def failed(self) -> tuple[BulkItem, ...]:
        """The items that the server refused."""
        return tuple(item for item in self.items if item.ok is False)

    @property
    def unknown(self) -> tuple[BulkItem, ...]:
        """The items whose result is unknown."""
        return tuple(item for item in self.items if item.ok is None)


@dataclass(frozen=True, slots=True)
class _Result:
    raw: bytes
    fields: Mapping[str, Any]
    record: Mapping[str, Any]

    @property
    def position(self) -> int | None:
        """The position in the result, counted from 0 or from 1."""
        return _first(self.fields, _POSITIONS, lambda value: value if type(value) is int else None)

    @property
    def ids(self) -> frozenset[str]:
        """All ids in the result and in its record."""
        return _ids(self.fields) | _ids(self.record)


def envelope(items: Iterable[Any]) -> dict[str, list[Any]]:
    """Return the body of a bulk request. Source: the vendor's pages createordermodelbulkmodel and reroutebulkmodel."""
    return {"bulk": list(items)}


def chunks(items: Sequence[Any], limit: int) -> Iterator[Sequence[Any]]:
    """Yield the items in portions of at most `limit`, in order.

    Raises:
        ValueError: `limit` is not positive.

    """
    if limit < 1:
        raise ValueError(f"{limit} items per request are too few: use 1 or more")
    for first in range(0, len(items), limit):
        yield items[first : first + limit]


def results(reply: Reply, sent: Sequence[Mapping[str, Any]], *, first: int, reads: bool) -> BulkReply:
    """Return the results in the response to one bulk request.

    Args:
        reply: The response.
        sent: The items of the request, as fields.
        first: The position of the first of them in the whole list.
        reads: True for a request that reads; a result that is the requested record is then a success.

    Raises:
        UnreadableAnswer: The response to a read has no list. With a write, all items are then unknown instead.

    """
    try:
        raws = split(reply.key, reply.raw, WRAPPERS, page=None).records
    except UnreadableAnswer:
        if reads:
            raise
        raws = []
    parsed = [_result(bytes(raw)) for raw in raws]
    matched = _match(parsed, sent)
    items = [
        _item(first + index, parsed[matched[index]], reads=reads)
        if index in matched
        else _unknown(first + index)
        for index in range(len(sent))
    ]
    used = set(matched.values())
    unmatched = tuple(item.raw for number, item in enumerate(parsed) if number not in used)
    return BulkReply(tuple(items), unmatched, (reply,))


def joined(parts: Sequence[BulkReply]) -> BulkReply:
    """Return the replies of several requests as one."""
    return BulkReply(
        tuple(item for part in parts for item in part.items),
        tuple(raw for part in parts for raw in part.unmatched),
        tuple(reply for part in parts for reply in part.replies),
    )


def _match(parsed: Sequence[_Result], sent: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """Map the index of each item to that of its result: by position, else by id, else by order."""
    by_position = _by_position(parsed, len(sent))
    if by_position is not None:
        return by_position
    by_id = _by_id(parsed, sent)
    if len(parsed) != len(sent):
        return by_id
    if all(index == number for index, number in by_id.items()):
        return {index: index for index in range(len(sent))}
    # The results are in another order than the items, so a result without an id may belong to any item. A single one
    # is certain.
    items = [index for index in range(len(sent)) if index not in by_id]
    rest = sorted(set(range(len(parsed))) - set(by_id.values()))
    return by_id | dict(zip(items, rest, strict=True)) if len(items) == 1 else by_id


def _by_position(parsed: Sequence[_Result], count: int) -> dict[int, int] | None:
    """Match by the positions in the results; None if one has no position, or the first position is uncertain."""
    positions = [item.position for item in parsed]
    numbers = {number for number in positions if number is not None}
    if not positions or len(numbers) != len(parsed):
        return None
    bases = [base for base in (0, 1) if numbers <= set(range(base, base + count))]
    if len(bases) != 1:
        return None
    return {number - bases[0]: index for index, number in enumerate(positions) if number is not None}


def _by_id(parsed: Sequence[_Result], sent: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """Match by the ids that only one item and only one result have."""
    item_of = _owners(_ids(fields) for fields in sent)
    result_of = _owners(item.ids for item in parsed)
    pairs = {(item_of[id_], result_of[id_]) for id_ in item_of.keys() & result_of.keys()}
    unique_items = _unique(pair[0] for pair in pairs)
    unique_results = _unique(pair[1] for pair in pairs)
    return {item: index for item, index in pairs if item in unique_items and index in unique_results}


def _owners(ids: Iterable[frozenset[str]]) -> dict[str, int]:
    """Map each id that occurs in only one of the sets to the index of that set."""
    owners: dict[str, list[int]] = {}
    for number, names in enumerate(ids):
        for name in names:
            owners.setdefault(name, []).append(number)
    return {name: numbers[0] for name, numbers in owners.items() if len(numbers) == 1}


def _unique(numbers: Iterable[int]) -> set[int]:
    """Return the numbers that occur exactly once."""
    return {number for number, times in Counter(numbers).items() if times == 1}


def _result(raw: bytes) -> _Result:
    try:
        fields = value_of(raw)
    except (msgspec.DecodeError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        fields = {}
    record: dict[str, Any] = next(
        (fields[name] for name in _RECORDS if isinstance(fields.get(name), dict)), {}
    )
    return _Result(raw, fields, record)


def _unknown(position: int) -> BulkItem:
    return BulkItem(position, None, None, None, (), None)


def _item(position: int, result: _Result, *, reads: bool) -> BulkItem:
    fields = result.fields
    status = _first(fields, _STATUSES, _as_status)
    errors = property_errors(fields) or _texts(fields, _ERRORS)
    ok = _first(fields, _FLAGS, lambda value: value if isinstance(value, bool) else None)
    if ok is None and status is not None:
        ok = 200 <= status < 300
    if ok is None and errors:
        ok = False
    if ok is None and reads and (result.record or "id" in fields):
        ok = True
    if ok is False:
        errors = errors or _texts(fields, ("message",))
    id_ = _first(fields, _OWN_IDS, _as_id) or _first(result.record, _OWN_IDS, _as_id)
    return BulkItem(position, id_, status, ok, errors, result.raw)


def _texts(fields: Mapping[str, Any], names: tuple[str, ...]) -> tuple[PropertyError, ...]:
    """Return the first error that is a text, or an object with a message."""
    values = [fields.get(name) for name in names]
    values = [value.get("message") if isinstance(value, dict) else value for value in values]
    return property_errors({"errors": [value for value in values if isinstance(value, str) and value][:1]})


def _ids(fields: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(id_ for name in _IDS if (id_ := _as_id(fields.get(name))))


def _first(fields: Mapping[str, Any], names: tuple[str, ...], read: Callable[[Any], T | None]) -> T | None:
    """Return the first result of `read` for the named fields that is not None."""
    results = (read(fields.get(name)) for name in names)
    return next((result for result in results if result is not None), None)


def _as_id(value: Any) -> str | None:
    is_id = isinstance(value, str | int) and not isinstance(value, bool)
    return str(value) or None if is_id else None


def _as_status(value: Any) -> int | None:
    """Return an HTTP status given as a number or as text; None for any other value."""
    text = _as_id(value) or ""
    return (
        int(text) if len(text) == 3 and text.isascii() and text.isdigit() and "1" <= text[0] <= "5" else None
    )
