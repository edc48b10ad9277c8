"""Splitting a page that is not valid JSON, so that one invalid record does not block the valid ones.

A raw control character, half of a surrogate pair or a NaN in one record makes a strict parser reject the whole
page. Python's own parser is lenient enough to find where that record ends. Each record is decoded separately later.
This parser is slow, and used only for a page that the strict parser has rejected.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

_SPACE = re.compile(r"[ \t\r\n]*")
_scan = json.JSONDecoder(strict=False).raw_decode


def salvage(body: bytes, wrappers: tuple[str, ...]) -> tuple[list[msgspec.Raw], dict[str, Any]]:
    """Return the records of a bare list, or of the list under one of `wrappers`, and the other fields, decoded.

    Raises:
        ValueError: The body has no such list, or the end of a record cannot be found.
        RecursionError: The body is nested too deeply.

    """
    text = body.decode("utf-8", "surrogateescape")
    begin = _skip(text, 0)
    if _skip(text, _scan(text, begin)[1]) != len(text):
        raise ValueError("data follows the JSON value")
    if text[begin : begin + 1] == "[":
        return [_raw(text, *span) for span in _elements(text, begin)], {}
    records: list[msgspec.Raw] | None = None
    fields: dict[str, Any] = {}
    for name, start in _members(text, begin):
        if name in wrappers and text[start : start + 1] == "[":
            records = [_raw(text, *span) for span in _elements(text, start)]
        else:
            fields[name] = _scan(text, start)[0]
    if records is None:
        raise ValueError("it contains no list")
    return records, fields


def _raw(text: str, start: int, end: int) -> msgspec.Raw:
    return msgspec.Raw(text[start:end].encode("utf-8", "surrogateescape"))


def _skip(text: str, position: int) -> int:
    """Return the position of the next character that is not white space."""
    result = _SPACE.match(text, position)
    return result.end() if result else position


def _elements(text: str, position: int) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of each element of the list that begins at `position`."""
    position = _skip(text, position + 1)
    while text[position : position + 1] != "]":
        end = _scan(text, position)[1]
        yield position, end
        position = _after_comma(text, end, "]")


def _members(text: str, position: int) -> Iterator[tuple[str, int]]:
    """Yield the name of each member of the object that begins at `position`, and the start of its value."""
    if text[position : position + 1] != "{":
        raise ValueError("it is neither a list nor an object")
    position = _skip(text, position + 1)
    while text[position : position + 1] != "}":
        name, end = _scan(text, position)
        start = _skip(text, _skip(text, end) + 1)  # after the colon
        yield name, start
        position = _after_comma(text, _scan(text, start)[1], "}")


def _after_comma(text: str, position: int, closing: str) -> int:
    """Return the position of the next item or of the closing bracket. The text is known to be well formed."""
    position = _skip(text, position)
    return position if text[position : position + 1] == closing else _skip(text, position + 1)
