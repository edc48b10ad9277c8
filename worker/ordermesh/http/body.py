"""The body of a response as UTF-8, whatever a gateway in front of OrderMesh has made of it."""

from __future__ import annotations

import codecs
import email.message
from functools import lru_cache
from typing import TYPE_CHECKING

from worker.errors import UnreadableAnswer
from worker.ordermesh.http.decoding import CODINGS

if TYPE_CHECKING:
    import httpx

_UNIVERSAL = frozenset({"utf-8", "ascii"})


def codings_of(header: str) -> list[str]:
    """Return the content codings that a header names, in the order in which they were applied, in lower case."""
    return [name for part in header.split(",") if (name := part.strip().lower())]


def body_of(key: str, response: httpx.Response) -> bytes:
    """Return the body of a response to operation `key`: text without a byte order mark, and JSON in UTF-8.

    Raises:
        UnreadableAnswer: The worker does not know the content encoding, or the charset of JSON.

    """
    headers = response.headers
    codings = codings_of(headers["content-encoding"]) if "content-encoding" in headers else []
    if unknown := [name for name in codings if name not in CODINGS]:
        raise UnreadableAnswer(
            key,
            f"the response has the content encoding {unknown[0]}, but the worker knows only gzip and deflate",
        )
    body = response.content.removeprefix(codecs.BOM_UTF8)
    charset = _charset_of(headers.get("content-type", ""))
    return body if charset is None else _in_utf8(key, body, charset)


@lru_cache(maxsize=16)
def _charset_of(content_type: str) -> str | None:
    """Return the charset of JSON; None if the header names none, or another type."""
    if "json" not in content_type.lower():
        return None
    message = email.message.Message()
    message["content-type"] = content_type
    return message.get_content_charset() or None


def _in_utf8(key: str, body: bytes, charset: str) -> bytes:
    try:
        name = codecs.lookup(charset).name
        # Some servers call UTF-8 ISO-8859-1. Text in a wide charset may be valid UTF-8 by accident.
        if name in _UNIVERSAL or (not name.startswith(("utf-16", "utf-32")) and _is_utf8(body)):
            return body
        return body.decode(name).lstrip("\ufeff").encode()
    except (LookupError, UnicodeError):
        raise UnreadableAnswer(
            key, f"the response is not in the charset that it names: {charset[:40]!r}"
        ) from None


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True
