"""Splitting a page that is not quite JSON, so that one bad record does not take the good ones with it.

A raw control character, half of a surrogate pair or a NaN in one record makes a strict parser refuse the whole
page. Python's own parser is lenient enough to find where that record ends; whether a record can be read is
then judged one by one. It is slow, and used for nothing but a page that the strict parser has refused.
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
    """The records of a bare list, or of the list under one of `wrappers`, and the other fields, decoded.

    Raises:
        ValueError: There is no such list, or not even the end of a record can be found.
        RecursionError: It is nested too deeply.

    """
    text = body.decode("utf-8", "surrogateescape")
    at = _skip(text, 0)
    if _skip(text, _scan(text, at)[1]) != len(text):
        raise ValueError("data follows the JSON value")
    if text[at : at + 1] == "[":
        return [_raw(text, *span) for span in _elements(text, at)], {}
    records: list[msgspec.Raw] | None = None
    fields: dict[str, Any] = {}
    for name, start in _members(text, at):
        if name in wrappers and text[start : start + 1] == "[":
            records = [_raw(text, *span) for span in _elements(text, start)]
        else:
            fields[name] = _scan(text, start)[0]
    if records is None:
        raise ValueError("it contains no list")
    return records, fields


def _raw(text: str, start: int, end: int) -> msgspec.Raw:
    return msgspec.Raw(text[start:end].encode("utf-8", "surrogateescape"))


def _skip(text: str, at: int) -> int:
    result = _SPACE.match(text, at)
    return result.end() if result else at


def _elements(text: str, at: int) -> Iterator[tuple[int, int]]:
    """Where each element of the list that begins at `at` starts and ends."""
    at = _skip(text, at + 1)
    while text[at : at + 1] != "]":
        end = _scan(text, at)[1]
        yield at, end
        at = _after_comma(text, end, "]")


def _members(text: str, at: int) -> Iterator[tuple[str, int]]:
    """The name of each member of the object that begins at `at`, and where its value starts."""
    if text[at : at + 1] != "{":
        raise ValueError("it is neither a list nor an object")
    at = _skip(text, at + 1)
    while text[at : at + 1] != "}":
        name, end = _scan(text, at)
        start = _skip(text, _skip(text, end) + 1)  # behind the colon
        yield name, start
        at = _after_comma(text, _scan(text, start)[1], "}")


def _after_comma(text: str, at: int, closing: str) -> int:
    """Where the next item starts, or the closing bracket. That it is well formed is known by now."""
    at = _skip(text, at)
    return at if text[at : at + 1] == closing else _skip(text, at + 1)
