"""What an answer with a bad status says: the server's words, property errors, when to come again.

One error body alone is documented, `errors[]` with `errorMessage` and `propertyName` (docs/reference/api-facts.md,
1.6), so other usual ones are read as well. Of a JSON body only what is meant as a message is repeated: the rest, such
as `attemptedValue`, may be a customer's data.
"""

from __future__ import annotations

import email.utils
from datetime import UTC
from typing import TYPE_CHECKING, Any

import msgspec

from worker.errors import ApiError, PropertyError, api_error_class

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

MAX_TEXT = 200
MAX_PROPERTIES = 10
MAX_PAUSE = 86_400.0
"""Seconds. A server that asks for more is asked again after a day."""

_MESSAGES = ("message", "error_description", "detail", "title", "error", "errorMessage")
_REQUEST_ID_HEADERS = ("x-request-id", "request-id", "x-azure-ref", "x-correlation-id")
_REQUEST_ID_FIELDS = ("requestId", "traceId", "correlationId")


def api_error(key: str, response: httpx.Response) -> ApiError:
    """The error for a refusal of operation `key`."""
    body = _decoded(response)
    return api_error_class(response.status_code)(
        key,
        response.status_code,
        words(response),
        properties=property_errors(body),
        request_id=_request_id(response, body),
    )


def property_errors(body: Any) -> tuple[PropertyError, ...]:
    """What the `errors` of a decoded body say, the first ten of them."""
    return tuple(_properties(body))[:MAX_PROPERTIES]


def words(response: httpx.Response) -> str:
    """The server's words: the message of a JSON body, else its text, in one short line."""
    body = _decoded(response)
    if isinstance(body, dict):
        messages = [body[name] for name in _MESSAGES if isinstance(body.get(name), str) and body[name]]
        messages += ["; ".join(item.message for item in _properties(body))]
        # {"error": {"code": ..., "message": ...}} as gateways write it
        inner = body.get("error")
        if isinstance(inner, dict) and isinstance(inner.get("message"), str):
            messages.insert(0, inner["message"])
        return _line(messages[0])
    if isinstance(body, str):
        return _line(body)
    if body is not None:
        return ""
    if response.content.lstrip()[:1] in {b"{", b"["}:
        return f"{len(response.content)} bytes of broken JSON"  # which may be a customer's record
    return "an HTML page" if "html" in response.headers.get("content-type", "") else _line(response.text)


def retry_after(response: httpx.Response, now: float) -> float | None:
    """Seconds to wait as the server says it: a number, or a date (RFC 9110, 10.2.3)."""
    value = response.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value), MAX_PAUSE)
    try:
        date = email.utils.parsedate_to_datetime(value)
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        return min(max(0.0, date.timestamp() - now), MAX_PAUSE)
    except (ValueError, OverflowError):
        return None


def _request_id(response: httpx.Response, body: Any) -> str | None:
    """What the vendor's support asks for: no page says where it stands, so the usual places are looked at."""
    named = [response.headers.get(name) for name in _REQUEST_ID_HEADERS]
    if isinstance(body, dict):
        named += [body.get(name) for name in _REQUEST_ID_FIELDS]
    return next((_line(text) for text in named if isinstance(text, str) and text), None)


def _decoded(response: httpx.Response) -> Any:
    try:
        return msgspec.json.decode(response.content)
    except (msgspec.DecodeError, RecursionError):
        return None


def _properties(body: Any) -> Iterator[PropertyError]:
    errors = body.get("errors") if isinstance(body, dict) else None
    if isinstance(errors, dict):  # {"propertyName": ["message", ...]}
        errors = [
            {"propertyName": name, "errorMessage": message}
            for name, messages in errors.items()
            for message in (messages if isinstance(messages, list) else [messages])
        ]
    for item in errors if isinstance(errors, list) else []:
        if isinstance(item, dict):
            yield PropertyError(_word(item, "errorMessage"), _word(item, "propertyName"))
        elif isinstance(item, str):
            yield PropertyError(_line(item), "")


def _word(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    return _line(value) if isinstance(value, str) else ""


def _line(text: str) -> str:
    printable = "".join(c if c.isprintable() else " " for c in text[: MAX_TEXT * 10])
    return " ".join(printable.split())[:MAX_TEXT]
