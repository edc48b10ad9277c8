r"""Half a surrogate pair as a JSON escape, such as `"\ud83d"`: half an emoji. JSON permits it, msgspec refuses it.

Such a record is published as served. To be read, each half is replaced by a stand-in: one character of a private use
area for each of the 2,048 halves, written with as many bytes. So two records with different halves still differ, and
what is read from the text can be encoded, unlike a string with half a pair in it.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_T = TypeVar("_T")

_HALVES = range(0xD800, 0xE000)
_AREAS = (0xE000, 0xE800, 0xF000)
"""Parts of the private use area, each with as many characters as there are halves. The first that a text does not use
itself has the stand-ins."""
_USED = tuple(
    re.compile(pattern)
    for pattern in (
        rb"\\u[eE][0-7]|\xee[\x80-\x9f]",
        rb"\\u[eE][89a-fA-F]|\xee[\xa0-\xbf]",
        rb"\\u[fF][0-7]|\xef[\x80-\x9f]",
    )
)
"""What a text contains that uses characters of each area."""
MAX_READABLE = 1 << 21
"""Bytes of the longest text in which halves are looked for: each takes a microsecond or two."""
_PAIR = rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_CODE = re.compile(rb"%b|\\u([0-9a-fA-F]{4})|\\.|[\xee\xef][\x80-\xbf]{2}" % _PAIR, re.DOTALL)
"""An escape, or a character that may be of a private use area. The group is the code of an escape that is no pair."""


def readable(text: bytes) -> bytes:
    """Return JSON with a stand-in for each half of a pair, of the same length.

    `text` itself is returned if there is none, or if it has more than `MAX_READABLE` bytes.
    """
    if len(text) > MAX_READABLE or (b"\\ud" not in text and b"\\uD" not in text):
        return text
    area = _area(text)

    def replace(found: re.Match[bytes]) -> bytes:
        code = _code(found)
        return b"\\u%04x" % (area + code - _HALVES.start) if code in _HALVES else found[0]

    return _CODE.sub(replace, text)


def restored(text: bytes, served: bytes) -> bytes:
    """Return JSON that was made of `readable(served)`, with the halves in place of the stand-ins."""
    area = _area(served)

    def replace(found: re.Match[bytes]) -> bytes:
        half = _HALVES.start + _code(found) - area
        return b"\\u%04x" % half if half in _HALVES else found[0]

    return _CODE.sub(replace, text)


def parts_of(served: bytes, parts: Iterable[msgspec.Raw]) -> list[msgspec.Raw]:
    """Return the parts of `readable(served)`, given in their order, as they were served."""
    text, end, result = readable(served), 0, list[msgspec.Raw]()
    if text is served:
        return list(parts)
    for part in map(bytes, parts):
        start = text.index(part, end)
        end = start + len(part)
        result.append(msgspec.Raw(served[start:end]))
    return result


def decode(decoder: Callable[[Any], _T], text: bytes | msgspec.Raw) -> _T:
    """Return what a decoder of msgspec reads from JSON; if it refuses the text, from the text with stand-ins.

    Raises:
        msgspec.DecodeError: The decoder refuses both.

    """
    try:
        return decoder(text)
    except msgspec.DecodeError:
        served = bytes(text)
        other = readable(served)
        if other == served:
            raise
        return decoder(other)


def value_of(text: bytes | msgspec.Raw) -> Any:
    """Return the value of JSON, with the halves as they are: such a string can be compared, but not encoded.

    Raises:
        msgspec.DecodeError: The text is not JSON.

    """
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        served = bytes(text)
        if readable(served) == served:
            raise
        try:
            return json.loads(served)
        except ValueError as error:
            raise msgspec.DecodeError(str(error)) from None


def _area(text: bytes) -> int:
    """Return the first character of the area whose characters a text does not use."""
    free = (area for area, used in zip(_AREAS, _USED, strict=True) if not used.search(text))
    return next(free, _AREAS[0])


def _code(found: re.Match[bytes]) -> int:
    """Return the number of a character; 0 for a whole pair, and for an escape without a number."""
    if found[1]:
        return int(found[1], 16)
    return 0 if found[0].startswith(b"\\") else ord(found[0].decode())
