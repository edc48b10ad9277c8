"""Bulk operations: every item succeeds or fails independently, and the response has one result for each.

Only the envelope of the request, `{"bulk": [...]}`, is documented; the fields of a `BulkResponseItem` are invented.
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
"""Largest number of items in a request. The vendor's limit is not documented."""


@dataclass(frozen=True, slots=True)
class Done:
    """The result of an item that succeeded: the id of the record, an HTTP status, and the record if requested."""

    id: str
    status: int = 200
    data: Any = None


def answer(call: Call, work: Callable[[Record], str | Done]) -> Answer:
    """Call `work` with every item of the envelope, in order, and return the response.

    Each item is checked against the schema of the operation for a single record: `orders.create` for
    `orders.create_many`.

    Args:
        call: The request.
        work: Returns the id of the record, or raises `Refusal`.

    Raises:
        Refusal: 400, the body has no list `bulk`, or it is empty or too long.
    """
    single = OPERATIONS[call.key.removesuffix("_many")]

    def checked(item: object) -> str | Done:
        if not isinstance(item, dict):
            raise refusal(400, "The item must be a JSON object.")
        try:
            rejection = check_body(single, msgspec.json.encode(item))
        except OverflowError:
            raise refusal(400, "The item has a number that is too large.") from None
        if rejection is not None:
            raise Refusal(rejection)
        return work(item)

    return results(_items(call), checked)


def results(items: Iterable[Item], work: Callable[[Item], str | Done]) -> Answer:
    """Call `work` with every item, in order, and return a response with one result for each."""
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
        result = work(item)
    except Refusal as error:
        errors = msgspec.json.decode(error.answer.body, type=dict[str, Any])["errors"]
        item_id = item.get("id") if isinstance(item, dict) else item
        return _line(index, item_id if isinstance(item_id, str) else None, error.answer.status, errors)
    done = result if isinstance(result, Done) else Done(result)
    line = _line(index, done.id, done.status, [])
    return line if done.data is None else line | {"data": done.data}


def _line(index: int, record_id: object, status: int, errors: list[Any]) -> Record:
    """Return one result; `index` is the position in the request, from 0."""
    return {
        "index": index,
        "id": record_id,
        "isSuccess": status < 400,
        "statusCode": status,
        "errors": errors,
    }
