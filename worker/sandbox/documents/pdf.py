"""PDF files of text: A4 pages in Helvetica, drawn by fpdf2, which is imported when the first file is made."""

from __future__ import annotations

from dataclasses import dataclass

_MARGIN = 56
_LEADING = 1.4
_ENCODING = "cp1252"
"""The encoding of the built-in fonts. Other letters become question marks."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text; `size` in points, `indent` in points from the margin."""

    text: str
    size: int = 11
    bold: bool = False
    indent: int = 0


def render_pdf(title: str, lines: list[Line]) -> bytes:
    """Return a PDF file with these lines from top to bottom, on as many pages as they need."""
    from fpdf import FPDF  # noqa: PLC0415 - see above

    pdf = FPDF(unit="pt", format="A4")
    pdf.core_fonts_encoding = _ENCODING
    pdf.set_compression(False)  # so that its text can be searched
    pdf.c_margin = 0  # of a cell, beside its text
    pdf.set_title(title)
    pdf.set_margin(_MARGIN)
    pdf.set_auto_page_break(auto=True, margin=_MARGIN)
    pdf.add_page()
    for line in lines:
        pdf.set_font("helvetica", "B" if line.bold else "", line.size)
        pdf.set_x(_MARGIN + line.indent)
        pdf.multi_cell(
            0, line.size * _LEADING, _printable(line.text), align="L", new_x="LMARGIN", new_y="NEXT"
        )
    return bytes(pdf.output())


def _printable(text: str) -> str:
    """Replace line breaks and other control characters by spaces, and letters that the fonts lack."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return plain.encode(_ENCODING, "replace").decode(_ENCODING)
