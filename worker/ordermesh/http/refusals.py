"""Parsing of error responses: the server's message and property errors.

Only one error body is documented, `errors[]` with `errorMessage` and `propertyName` (docs/reference/api-facts.md,
1.6), so other common ones are accepted too. Only the message fields of a JSON body are repeated: the other fields, such
as `attemptedValue`, may contain a customer's data. A server may echo what was sent to it, so secrets are hidden here,
before a message becomes part of an error, a run record or a status.
"""

from __future__ import annotations

import codecs
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from ordersync_consumer.redaction import words as foreign_words
from worker.errors import ApiError, PropertyError, api_error_class

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

MAX_TEXT = 200
MAX_PROPERTIES = 10
MAX_REPORT = 1 << 18
"""Bytes of a page up to which it is searched for an error."""

_MESSAGES = ("message", "error_description", "detail", "title", "error", "errorMessage")
_SUCCESS = ("success", "isSuccess", "succeeded", "ok")
_FAILED = frozenset({"error", "failed", "failure", "fail"})
_REQUEST_ID_HEADERS = ("x-request-id", "request-id", "x-azure-ref", "x-correlation-id")
_REQUEST_ID_FIELDS = ("requestId", "traceId", "correlationId")


def api_error(key: str, response: httpx.Response, retry_after: float | None = None) -> ApiError:
    """Return the exception for an error response to operation `key`. `retry_after`: the pause that it asks for."""
    body = _decoded(response.content)
    return api_error_class(response.status_code)(
        key,
        response.status_code,
        words(response),
        properties=property_errors(body),
        request_id=_request_id(response, body),
        retry_after=retry_after,
    )


def property_errors(body: Any) -> tuple[PropertyError, ...]:
    """Return the first ten of the `errors` of a decoded body."""
    return tuple(islice(_properties(body), MAX_PROPERTIES))


def words(response: httpx.Response) -> str:
    """Return the message of a JSON body, or the text of another body, as one short line."""
    body = _decoded(response.content)
    if isinstance(body, dict):
        return _message(body)
    if isinstance(body, str):
        return _line(body)
    if body is not None:
        return ""
    if response.content.lstrip()[:1] in {b"{", b"["}:
        return f"{len(response.content)} bytes of broken JSON"  # the text may be a customer's record
    return "an HTML page" if "html" in response.headers.get("content-type", "") else _line(response.text)


def reported_error(body: bytes) -> str | None:
    """Return the message of an error that a response with a good status reports; None if it reports none.

    Some gateways answer 200 while their search is not available, with `errors`, `error` or `success: false`.
    """
    fields = _decoded(body) if len(body) <= MAX_REPORT else None
    if not isinstance(fields, dict):
        return None
    failed = (
        any(fields.get(name) for name in ("errors", "error"))
        or any(fields.get(name) is False for name in _SUCCESS)
        or str(fields.get("status")).lower() in _FAILED
    )
    return _message(fields) if failed else None


def _request_id(response: httpx.Response, body: Any) -> str | None:
    """Return the id that the vendor's support asks for. Its place is not documented, so the usual ones are tried."""
    values = [response.headers.get(name) for name in _REQUEST_ID_HEADERS]
    if isinstance(body, dict):
        values += [body.get(name) for name in _REQUEST_ID_FIELDS]
    return next((_line(text) for text in values if isinstance(text, str) and text), None)


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body.removeprefix(codecs.BOM_UTF8))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _message(fields: dict[str, Any]) -> str:
    """Return the message of a decoded body, as one short line."""
    messages = [fields[name] for name in _MESSAGES if isinstance(fields.get(name), str) and fields[name]]
    messages += ["; ".join(item.message for item in islice(_properties(fields), MAX_PROPERTIES))]
    # {"error": {"code": ..., "message": ...}}, common with gateways
    inner = fields.get("error")
    if isinstance(inner, dict) and isinstance(inner.get("message"), str):
        messages.insert(0, inner["message"])
    return _line(messages[0])


def _properties(body: Any) -> Iterator[PropertyError]:
    errors = body.get("errors") if isinstance(body, dict) else None
    if isinstance(errors, dict):  # {"propertyName": ["message", ...]}
        errors = (
            {"propertyName": name, "errorMessage": message}
            for name, messages in errors.items()
            for message in (messages if isinstance(messages, list) else [messages])
        )
    elif not isinstance(errors, list):
        return
    for item in errors:
        if isinstance(item, dict):
            yield PropertyError(_text(item, "errorMessage"), _text(item, "propertyName"))
        elif isinstance(item, str):
            yield PropertyError(_line(item), "")


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    return _line(value) if isinstance(value, str) else ""


def _line(text: str) -> str:
    return foreign_words(text, MAX_TEXT)
