"""Aligned columns for text output."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from worker.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def columns(rows: Iterable[Sequence[str]]) -> list[str]:
    """Return rows as aligned lines, with each cell made printable."""
    clean = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip_longest(*clean, fillvalue="")]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)).rstrip()
        for row in clean
    ]
