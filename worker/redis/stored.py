"""Reading what stands in Redis, which another program may have written. No I/O."""

from __future__ import annotations

import math

import msgspec

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Errors of decoding JSON that another program has written."""
MOST = 1e15
"""Largest number that the worker writes, and more: 30,000 years in milliseconds."""


def text_of(value: bytes | None) -> str:
    r"""Return a stored value as text, "" for none. Bytes that are not UTF-8 become escapes, as in `\xff`."""
    return (value or b"").decode("utf-8", "backslashreplace")


def number_of(value: bytes | str | None, default: float = 0.0) -> float:
    """Return a stored number; `default` for none, and for what the worker does not write."""
    try:
        number = float(value or default)
    except ValueError:
        return default
    return number if math.isfinite(number) and abs(number) <= MOST else default
