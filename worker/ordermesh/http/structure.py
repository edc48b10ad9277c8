"""Where the values of a JSON text begin and end, for text that a strict parser rejects.

A raw control character, half of a surrogate pair, a NaN, a byte that is not UTF-8 or a thousand brackets in one record
make a strict parser reject a whole page. Only strings and brackets have to be told apart to find where the record
ends. Each record is decoded separately later. Nothing here recurses, and the time grows with the length of the text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_TOKENS = 300_000
"""Most strings, escaped quotation marks and brackets of a text that is read so."""
_SPACE = re.compile(rb"[ \t\r\n]*+")
_TOKEN = re.compile(rb'["\[\]{}]')
_SCALAR = re.compile(rb"[-+.0-9A-Za-z]++")
_FEW = 64
_CLOSING = {b"[": b"]", b"{": b"}"}

_as_text = msgspec.json.Decoder(str).decode


def elements_of(text: bytes) -> list[msgspec.Raw]:
    """Return the elements of a list, as they stand in the text.

    Raises:
        ValueError: The text is not one list, or the end of an element cannot be found.

    """
    return [msgspec.Raw(text[start:end]) for start, end in _Reader(text).elements()]


def members_of(text: bytes) -> dict[str, msgspec.Raw]:
    """Return the members of an object, as they stand in the text; of a name that comes twice the last one.

    Raises:
        ValueError: The text is not one object, or the end of a member cannot be found.

    """
    return {name: msgspec.Raw(text[start:end]) for name, start, end in _Reader(text).members()}


class _Reader:
    """Reads one text."""

    def __init__(self, text: bytes) -> None:
        self._text, self._left = text, MAX_TOKENS

    def elements(self) -> Iterator[tuple[int, int]]:
        """Yield where each element of the list begins and ends."""
        position = self._open(b"[")
        while position is not None:
            end = self._end_of(position)
            yield position, end
            position = self._after_comma(end, b"]")

    def members(self) -> Iterator[tuple[str, int, int]]:
        """Yield the name of each member of the object, and where its value begins and ends."""
        position = self._open(b"{")
        while position is not None:
            end = self._end_of(position)
            name, colon = _name(self._text[position:end]), self._skip(end)
            if self._text[colon : colon + 1] != b":":
                raise ValueError("a name has no value")
            start = self._skip(colon + 1)
            end = self._end_of(start)
            yield name, start, end
            position = self._after_comma(end, b"}")

    def _skip(self, position: int) -> int:
        """Return the position of the next byte that is not white space."""
        found = _SPACE.match(self._text, position)
        return found.end() if found else position

    def _open(self, bracket: bytes) -> int | None:
        """Return the position of the first item of the text, which is a list or an object; None if it is empty."""
        position = self._skip(0)
        if self._text[position : position + 1] != bracket:
            raise ValueError("another kind of value")
        position = self._skip(position + 1)
        if self._text[position : position + 1] == _CLOSING[bracket]:
            self._check_end(position + 1)
            return None
        return position

    def _after_comma(self, position: int, closing: bytes) -> int | None:
        """Return the position of the item after the one that ends at `position`; None if it was the last one."""
        position = self._skip(position)
        if self._text[position : position + 1] == closing:
            self._check_end(position + 1)
            return None
        if self._text[position : position + 1] != b",":
            raise ValueError("the text ends early")
        return self._skip(position + 1)

    def _check_end(self, position: int) -> None:
        """Raise `ValueError` if anything follows the list or the object."""
        if self._skip(position) != len(self._text):
            raise ValueError("data follows the JSON value")

    def _end_of(self, position: int) -> int:
        """Return the end of the value that begins at `position`."""
        first = self._text[position : position + 1]
        if first == b'"':
            return self._end_of_string(position)
        if first not in _CLOSING:
            scalar = _SCALAR.match(self._text, position)
            if scalar is None:
                raise ValueError("the text ends early")
            return scalar.end()
        closing = bytearray()
        while found := _TOKEN.search(self._text, position):
            self._count()
            token, position = found[0], found.end()
            if token == b'"':
                position = self._end_of_string(found.start())
            elif token in _CLOSING:
                closing += _CLOSING[token]
            elif closing.pop() != token[0]:
                raise ValueError("brackets do not match")
            elif not closing:
                return position
        raise ValueError("the text ends early")

    def _end_of_string(self, position: int) -> int:
        """Return the end of the string whose first quotation mark is at `position`."""
        end = self._text.find(b'"', position + 1)
        while end >= 0:
            if not self._is_escaped(position + 1, end):
                return end + 1
            self._count()
            end = self._text.find(b'"', end + 1)
        raise ValueError("the text ends early")

    def _is_escaped(self, begin: int, end: int) -> bool:
        """Whether an odd number of backslashes is in front of `end`. The string begins at `begin`."""
        width = _FEW
        while True:
            before = self._text[max(begin, end - width) : end]
            rest = before.rstrip(b"\\")
            if rest or len(before) < width:
                return (len(before) - len(rest)) % 2 == 1
            width *= 2

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"more than {MAX_TOKENS} strings and brackets")


def _name(text: bytes) -> str:
    try:
        return _as_text(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        if text[:1] != b'"':
            raise ValueError("a name is not a string") from None
        return text[1:-1].decode(errors="backslashreplace")
