"""Freed memory is given back to the system. The C library keeps most of what a full read took, for ever."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def give_back() -> None:
    """Give freed memory back. Only glibc has a function for that; with another C library, nothing happens."""
    _trim()(0)


@functools.cache
def _trim() -> Callable[[int], int]:
    if sys.platform != "linux":
        return int
    import ctypes  # noqa: PLC0415 - only the daemon needs it

    trim: Callable[[int], int] = getattr(ctypes.CDLL(None), "malloc_trim", int)
    return trim
