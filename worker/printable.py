"""Text that others wrote, made fit to be shown: no character of it moves the cursor, hides or reorders text.

A record id, the name of a group or the message of a server may hold escape sequences of a terminal, line breaks that
look like a line of this program, characters that reverse the direction of writing, and halves of surrogate pairs.
"""

from __future__ import annotations

import re

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_FOREIGN = re.compile(r"[^ -~]")
"""Everything outside printable ASCII: only these characters need a closer look."""
_SPACE = re.compile(r"[\t\r\n]+")


def printable(text: str) -> str:
    r"""Return text on one line. Characters that are not printable become escapes, such as `\x1b` or `\u202e`."""
    return text if text.isprintable() else _FOREIGN.sub(_visible, text)


def printable_json(text: str) -> str:
    """Return JSON with the same value on one line. Characters that are not printable become escapes of JSON.

    A character that is not printable can only be part of a string; line breaks and tabs can only be between values.
    """
    return text if text.isprintable() else _FOREIGN.sub(_escaped, _SPACE.sub(" ", text))


def _visible(found: re.Match[str]) -> str:
    letter = found[0]
    if letter.isprintable():
        return letter
    if letter in _SHORT:
        return _SHORT[letter]
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _escaped(found: re.Match[str]) -> str:
    letter = found[0]
    if letter.isprintable():
        return letter
    code = ord(letter)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
