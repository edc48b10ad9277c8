"""Bulk answers, item by item.

Only the envelope of a request, `{"bulk": [...]}`, is documented (docs/reference/api-facts.md, 1.7). How many items
one may hold is not, nor what a BulkResponseItem looks like. So results are matched with what was sent by what they
tell (a position, else an id, else their order), and what cannot be told is said to be unknown, never to be done.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from worker.errors import UnreadableAnswer
from worker.ordermesh.http.pages import split
from worker.ordermesh.http.refusals import property_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from worker.errors import PropertyError
    from worker.ordermesh.http.reply import Reply

T = TypeVar("T")

MAX_IN_BULK = 50
"""Items in one request: the limit is not documented (docs/reference/api-facts.md, 7)."""

WRAPPERS = ("bulk", "items", "results", "responses", "data")
"""Names under which the results may stand. None is documented."""
_POSITIONS = ("index", "position", "itemIndex")
_IDS = ("id", "orderId", "shipmentId", "productId", "safeId", "externalId", "shortId", "sku")
_OWN_IDS = _IDS[:4]
_FLAGS = ("isSuccess", "isSuccessful", "success", "succeeded", "ok")
_STATUSES = ("statusCode", "status", "code", "responseCode")
_ERRORS = ("errorMessage", "error")
_RECORDS = ("data", "result", "response", "value", "model", "item", "order", "product", "shipment")
"""Names under which a result may tell these things, or hold the record that it is about. None is documented."""


@dataclass(frozen=True, slots=True)
class BulkItem:
    """What became of one item. `position` counts from 0 in the list that was given to the client.

    `id` and `status` (as in HTTP) are None where the server does not tell them; `ok` is None where it does not
    tell whether the item was done, as for an item that has no result: look the record up. `raw` is the result as
    served, None where there is none.
    """

    position: int
    id: str | None
    status: int | None
    ok: bool | None
    errors: tuple[PropertyError, ...]
    raw: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class BulkReply:
    """One item for each that was sent, in the same order, out of one or several requests.

    `unmatched`: results, as served, of which it cannot be told what they belong to.
    """

    items: tuple[BulkItem, ...]
    unmatched: tuple[bytes, ...] = field(repr=False)
    replies: tuple[Reply, ...]

    @property
    def failed(self) -> tuple[BulkItem, ...]:
        """Those that were refused."""
        return tuple(item for item in self.items if item.ok is False)

    @property
    def unknown(self) -> tuple[BulkItem, ...]:
        """Those of which the answer does not say what became of them."""
        return tuple(item for item in self.items if item.ok is None)


@dataclass(frozen=True, slots=True)
class _Result:
    raw: bytes
    fields: Mapping[str, Any]
    record: Mapping[str, Any]

    @property
    def position(self) -> int | None:
        """As told, from whatever base."""
        return _first(self.fields, _POSITIONS, lambda value: value if type(value) is int else None)

    @property
    def ids(self) -> frozenset[str]:
        """Everything by which it may say what it is about."""
        return _ids(self.fields) | _ids(self.record)


def envelope(items: Iterable[Any]) -> dict[str, list[Any]]:
    """The body of a bulk request. Source: vendor pages createordermodelbulkmodel and reroutebulkmodel."""
    return {"bulk": list(items)}


def chunks(items: Sequence[Any], limit: int) -> Iterator[Sequence[Any]]:
    """The items in portions of `most`, in order.

    Raises:
        ValueError: `most` is no positive number.

    """
    if limit < 1:
        raise ValueError(f"{limit} items per request are too few: use 1 or more")
    for first in range(0, len(items), limit):
        yield items[first : first + limit]


def results(reply: Reply, sent: Sequence[Mapping[str, Any]], *, first: int, reads: bool) -> BulkReply:
    """What a bulk answer says of the items that were `sent`, as fields, from position `first` on.

    `reads`: it was a question; then a result that is the record asked for is a success.

    Raises:
        UnreadableAnswer: A read's answer has no list in it. That of a write is never refused: all that was sent
            is unknown then.

    """
    try:
        raws = split(reply.key, reply.raw, WRAPPERS, page=None).records
    except UnreadableAnswer:
        if reads:
            raise
        raws = []
    result = [_result(bytes(raw)) for raw in raws]
    matched = _match(result, sent)
    items = [
        _item(first + at, result[matched[at]], reads=reads) if at in matched else _unknown(first + at)
        for at in range(len(sent))
    ]
    taken = set(matched.values())
    unmatched = tuple(item.raw for number, item in enumerate(result) if number not in taken)
    return BulkReply(tuple(items), unmatched, (reply,))


def joined(parts: Sequence[BulkReply]) -> BulkReply:
    """The replies of several requests as one."""
    return BulkReply(
        tuple(item for part in parts for item in part.items),
        tuple(raw for part in parts for raw in part.unmatched),
        tuple(reply for part in parts for reply in part.replies),
    )


def _match(result: Sequence[_Result], sent: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """Which result belongs to which item: by told positions, else by ids, else by their order."""
    told = _by_position(result, len(sent))
    if told is not None:
        return told
    named = _by_id(result, sent)
    if len(result) != len(sent):
        return named
    if all(at == number for at, number in named.items()):
        return {at: at for at in range(len(sent))}
    # They do not stand in the order in which they were sent, so those without an id are anybody's; but for one.
    items = [at for at in range(len(sent)) if at not in named]
    rest = sorted(set(range(len(result))) - set(named.values()))
    return named | dict(zip(items, rest, strict=True)) if len(items) == 1 else named


def _by_position(result: Sequence[_Result], count: int) -> dict[int, int] | None:
    """By the positions that the results tell; None where one does not, or where their base cannot be told."""
    told = [item.position for item in result]
    numbers = {number for number in told if number is not None}
    if not told or len(numbers) != len(result):
        return None
    bases = [base for base in (0, 1) if numbers <= set(range(base, base + count))]
    if len(bases) != 1:
        return None
    return {number - bases[0]: at for at, number in enumerate(told) if number is not None}


def _by_id(result: Sequence[_Result], sent: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """By ids that one item alone was sent with, and that one result alone tells."""
    items = _owners(_ids(fields) for fields in sent)
    answers = _owners(item.ids for item in result)
    pairs = {(items[id_], answers[id_]) for id_ in items.keys() & answers.keys()}
    once_left = _once(pair[0] for pair in pairs)
    once_right = _once(pair[1] for pair in pairs)
    return {left: right for left, right in pairs if left in once_left and right in once_right}


def _owners(ids: Iterable[frozenset[str]]) -> dict[str, int]:
    """Which one alone has an id."""
    owners: dict[str, list[int]] = {}
    for number, names in enumerate(ids):
        for name in names:
            owners.setdefault(name, []).append(number)
    return {name: numbers[0] for name, numbers in owners.items() if len(numbers) == 1}


def _once(numbers: Iterable[int]) -> set[int]:
    return {number for number, times in Counter(numbers).items() if times == 1}


def _result(raw: bytes) -> _Result:
    try:
        fields = msgspec.json.decode(raw)
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
    """An error that is a text, or an object with a message."""
    given = [fields.get(name) for name in names]
    given = [item.get("message") if isinstance(item, dict) else item for item in given]
    return property_errors({"errors": [each for each in given if isinstance(each, str) and each][:1]})


def _ids(fields: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(id_ for name in _IDS if (id_ := _as_id(fields.get(name))))


def _first(fields: Mapping[str, Any], names: tuple[str, ...], read: Callable[[Any], T | None]) -> T | None:
    """The first of the named fields that `read` makes something of."""
    made = (read(fields.get(name)) for name in names)
    return next((item for item in made if item is not None), None)


def _as_id(value: Any) -> str | None:
    is_id = isinstance(value, str | int) and not isinstance(value, bool)
    return str(value) or None if is_id else None


def _as_status(value: Any) -> int | None:
    """A status of HTTP, as a number or as text; nothing else that goes by such a name."""
    text = _as_id(value) or ""
    return (
        int(text) if len(text) == 3 and text.isascii() and text.isdigit() and "1" <= text[0] <= "5" else None
    )
