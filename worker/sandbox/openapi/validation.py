"""Checks request bodies against the table of schemas before an operation sees them.

The answer names every field at fault in the one error shape that the vendor shows (see `answers.py`). What can
only be known from the state, such as an id that must exist, is left to the operations; so are the logins, which
take their fields in more than one spelling, and the envelope of bulk requests, whose items are checked here
one by one.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
from jsonschema_rs import Draft202012Validator, ValidationErrorKind

from worker.ordermesh.schemas import SCHEMAS
from worker.sandbox.answers import Answer, error_answer, json_answer
from worker.sandbox.openapi.json_schemas import bundle

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jsonschema_rs import ValidationError

    from worker.ordermesh.contract.operations import Operation

MAX_ERRORS = 20
"""Errors that one answer names."""

_ARTICLES = {"integer": "an integer", "array": "an array", "object": "an object", "null": "null"}


def takes_body(operation: Operation) -> bool:
    """Whether it has a request body. The schema that a GET has is that of its query."""
    return operation.request is not None and operation.method not in {"GET", "DELETE"}


def needs_body(operation: Operation) -> bool:
    """Whether a request without a body is refused: where the body has a field that must be there."""
    if operation.request is None or not takes_body(operation):
        return False
    return any(item.required for item in SCHEMAS[operation.request].fields)


def is_bulk(name: str) -> bool:
    """Whether a schema is the envelope of a bulk request."""
    return [item.name for item in SCHEMAS[name].fields] == ["bulk"]


def check_body(operation: Operation, body: bytes) -> Answer | None:
    """The 400 that refuses a body, or None for one that may go on.

    Args:
        operation: The operation that is asked for.
        body: The body as sent.
    """
    if operation.request is None or not takes_body(operation):
        return None
    if operation.service == "user" or is_bulk(operation.request):
        return None
    if not body.strip():
        return error_answer(400, "The body must not be empty.") if needs_body(operation) else None
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return error_answer(400, "The body must be JSON.")
    problems: list[dict[str, Any]] = []
    for error in _validator(operation.request).iter_errors(document):
        problems += _problems(error)
    return json_answer({"errors": problems[:MAX_ERRORS]}, 400) if problems else None


@cache
def _validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(bundle(name))


def _problems(error: ValidationError) -> Iterator[dict[str, Any]]:
    kind, value = error.kind, error.instance
    if isinstance(kind, ValidationErrorKind.AnyOf) and value is not None:
        # A field that may be null: what is wrong is told by the branch that is not.
        for item in kind.context[0]:
            yield from _problems(item)
        return
    path = _place(error.instance_path)
    if isinstance(kind, ValidationErrorKind.Required):
        missing = f"{path}.{kind.property}" if path else kind.property
        yield _problem(f"'{missing}' must not be empty.", missing, None)
    elif isinstance(kind, ValidationErrorKind.Type):
        allowed = " or ".join(_ARTICLES.get(each, f"a {each}") for each in kind.types if each != "null")
        subject = f"'{path}'" if path else "The body"
        yield _problem(f"{subject} must be {allowed}.", path, value)
    else:
        yield _problem(f"{error.message}.", path, value)


def _problem(message: str, path: str, value: object) -> dict[str, Any]:
    plain = value if isinstance(value, str | int | float) else None
    return {"errorMessage": message, "propertyName": path or None, "attemptedValue": plain}


def _place(path: Sequence[str | int]) -> str:
    """A path as people write it: `items[0].sku`."""
    text = "".join(f"[{item}]" if isinstance(item, int) else f".{item}" for item in path)
    return text.removeprefix(".")
