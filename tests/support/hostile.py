"""Text that a hostile record, gateway or neighbour sends, to be shown by commands and in the log."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

FAKED = "redis     ok       everything is fine"
"""What a line break in a value shall look like: a line of this program."""
TEXTS = (
    "\x1b[2J\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07\x1b]52;c;aGk=\x07",
    "\x9b31mC1\x9d0;t\x9c",
    "del\x7fback\x08\x0d\x00",
    f"a\n{FAKED}\n",
    "a\r\x0b\x0c\x85b",
    "line\u2028and\u2029paragraph",
    "\u202egnp.exe\u2066\u2069\u200f\u061c",
    "zero\u200bwidth\u200d\u2060\ufeff\u00ad",
    "half\ud83dpair\udc80",
    "tag\U000e0041\U000e007f",
)
ALL = "".join(TEXTS)

_OWN_STYLES = re.compile(r"\x1b\[[0-9;]*m")


def problems(shown: str, *, styles: bool = False) -> Iterable[str]:
    """Return what a terminal would obey in output: characters that are not printable, and faked lines.

    Args:
        shown: What was written.
        styles: The output may contain colours.

    """
    text = _OWN_STYLES.sub("", shown) if styles else shown
    found = sorted({f"U+{ord(letter):04X}" for letter in text if not letter.isprintable() and letter != "\n"})
    return found + [line for line in text.split("\n") if line.startswith(FAKED)]
