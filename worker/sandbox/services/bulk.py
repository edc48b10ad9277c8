"""Bulk operations: every item is done or refused by itself, and the answer has one result for each.

Only the envelope of the request, `{"bulk": [...]}`, is documented; the fields of a `BulkResponseItem` are made up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from worker.ordermesh.contract.operations import OPERATIONS
from worker.sandbox.answers import Answer, Refusal, json_answer, refusal
from worker.sandbox.openapi.validation import check_body

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from worker.sandbox.calls import Call
    from worker.sandbox.data.record import Record

Item = TypeVar("Item")

MAX_AT_ONCE = 100
"""Items that one request may have; what the vendor allows is not documented."""


@dataclass(frozen=True, slots=True)
class Done:
    """What became of an item that was done: the id of the record, a status as in HTTP, and the record if asked for."""

    id: str
    status: int = 200
    data: Any = None


def answer(call: Call, work: Callable[[Record], str | Done]) -> Answer:
    """Does `work` on every item of the envelope in turn; it gives the id of the record, or refuses the item.

    Each item is checked against the schema of the operation for a single one, `orders.create` for
    `orders.create_many`.

    Raises:
        Refusal: 400, the body has no list under `bulk`, an empty one, or one that is too long.
    """
    single = OPERATIONS[call.key.removesuffix("_many")]

    def checked(item: object) -> str | Done:
        if not isinstance(item, dict):
            raise refusal(400, "The item must be a JSON object.")
        try:
            wrong = check_body(single, msgspec.json.encode(item))
        except OverflowError:
            raise refusal(400, "The item has a number that is too large.") from None
        if wrong is not None:
            raise Refusal(wrong)
        return work(item)

    return results(_items(call), checked)


def results(items: Iterable[Item], work: Callable[[Item], str | Done]) -> Answer:
    """Does `work` on every item in turn and gives one result for each."""
    return json_answer({"items": [_result(index, item, work) for index, item in enumerate(items)]})


def _items(call: Call) -> list[object]:
    result = call.fields().get("bulk")
    if not isinstance(result, list):
        raise refusal(400, "'bulk' must be a list.", "bulk")
    if not 1 <= len(result) <= MAX_AT_ONCE:
        raise refusal(400, f"'bulk' must have from 1 to {MAX_AT_ONCE} items.", "bulk", len(result))
    return result


def _result(index: int, item: Item, work: Callable[[Item], str | Done]) -> Record:
    try:
        made = work(item)
    except Refusal as refused:
        errors = msgspec.json.decode(refused.answer.body, type=dict[str, Any])["errors"]
        named = item.get("id") if isinstance(item, dict) else item
        known = named if isinstance(named, str) else None
        return _line(index, known, refused.answer.status, errors)
    done = made if isinstance(made, Done) else Done(made)
    line = _line(index, done.id, done.status, [])
    return line if done.data is None else line | {"data": done.data}


def _line(index: int, record_id: object, status: int, errors: list[Any]) -> Record:
    """One result. `index` is the position in the request, from 0."""
    return {
        "index": index,
        "id": record_id,
        "isSuccess": status < 400,
        "statusCode": status,
        "errors": errors,
    }
