"""Lines folded to the width of a terminal, with the colours of their parts. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.cli.common.output import Line, Styled
from worker.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator


def folded(line: Line, width: int, *, indent: int = 2) -> list[Line]:
    """Return a line as lines of at most `width` columns, broken at spaces where there are any.

    The second and later ones begin with `indent` spaces.
    """
    parts = [
        Styled(printable(part.text), part.colour, part.bold) if isinstance(part, Styled) else printable(part)
        for part in ((line,) if isinstance(line, str) else line)
    ]
    text = "".join(part.text if isinstance(part, Styled) else part for part in parts)
    if len(text) <= width:
        return [line]
    lines: list[Line] = []
    for first, last in _slices(text, max(width, indent + 1), indent):
        lines.append((" " * indent if lines else "", *_between(parts, first, last)))
    return lines


def shortened(text: str, width: int | None) -> str:
    """Return text on one line, cut to `width` columns; None for no limit."""
    text = printable(text)
    return text if width is None or len(text) <= width else f"{text[: max(0, width - 3)]}..."


def _slices(text: str, width: int, indent: int) -> Iterator[tuple[int, int]]:
    start, room = 0, width
    while len(text) - start > room:
        space = text.rfind(" ", start + 1, start + room + 1)
        end = space if space > start else start + room
        yield start, end
        start, room = end + (space > start), width - indent
    yield start, len(text)


def _between(parts: list[str | Styled], first: int, last: int) -> Iterator[str | Styled]:
    """Yield what lies between two positions of the parts as one text."""
    begin = 0
    for part in parts:
        text = part.text if isinstance(part, Styled) else part
        cut = text[max(0, first - begin) : max(0, last - begin)]
        begin += len(text)
        if cut:
            yield Styled(cut, part.colour, part.bold) if isinstance(part, Styled) else cut
