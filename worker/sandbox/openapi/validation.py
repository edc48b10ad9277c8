"""Checking request bodies against the table of schemas before the handler runs.

The response contains every invalid field, in the error format of the vendor's sample (see `answers.py`). The handlers
check what depends on the state, such as an id that must exist. They also check logins, whose fields may have several
spellings, and the envelope of bulk requests, and call `check_body` for each item.
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
"""Largest number of errors in one response."""

_ARTICLES = {"integer": "an integer", "array": "an array", "object": "an object", "null": "null"}


def takes_body(operation: Operation) -> bool:
    """True if the operation has a request body. The request schema of a GET describes its query."""
    return operation.request is not None and operation.method not in {"GET", "DELETE"}


def needs_body(operation: Operation) -> bool:
    """True if a request without a body is refused, because the body has a required field."""
    if operation.request is None or not takes_body(operation):
        return False
    return any(item.required for item in SCHEMAS[operation.request].fields)


def is_bulk(name: str) -> bool:
    """True if a schema is the envelope of a bulk request."""
    return [item.name for item in SCHEMAS[name].fields] == ["bulk"]


def check_body(operation: Operation, body: bytes) -> Answer | None:
    """Return the 400 that refuses a body; None if the body is valid.

    Args:
        operation: The requested operation.
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
        # A nullable field: the first branch has the error, the other one is null.
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
    """Return a path in the form `items[0].sku`."""
    text = "".join(f"[{item}]" if isinstance(item, int) else f".{item}" for item in path)
    return text.removeprefix(".")
