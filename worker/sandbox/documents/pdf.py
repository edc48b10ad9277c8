"""A PDF with lines of text: as much of the format as a packing slip needs, so that no library is.

PDF 1.4, A4 pages, the built-in font Helvetica. Letters beyond Windows-1252 become question marks.
"""

from __future__ import annotations

from dataclasses import dataclass

_WIDTH, _HEIGHT, _MARGIN = 595, 842, 56
_LEADING = 1.4


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text; `size` in points, `indent` in points from the margin."""

    text: str
    size: int = 11
    bold: bool = False
    indent: int = 0


def render_pdf(title: str, lines: list[Line]) -> bytes:
    """A document with these lines from top to bottom, on as many pages as they need."""
    pages = _paginate(lines)
    first_page = 5
    kids = " ".join(f"{first_page + 2 * number} 0 R" for number in range(len(pages)))
    bodies = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica-Bold /Encoding /WinAnsiEncoding >>",
    ]
    for number, content in enumerate(pages):
        bodies.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {_WIDTH} {_HEIGHT}] "
            f"/Resources << /Font << /F1 3 0 R /F2 4 0 R >> >> /Contents {first_page + 1 + 2 * number} 0 R >>".encode()
        )
        bodies.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content))
    bodies.append(b"<< /Title " + _string(title) + b" /Producer (OrderMesh sandbox) >>")

    document = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    offsets = []
    for number, body in enumerate(bodies, start=1):
        offsets.append(len(document))
        document += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(document)
    document += b"xref\n0 %d\n0000000000 65535 f \n" % (len(bodies) + 1)
    document += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    document += b"trailer\n<< /Size %d /Root 1 0 R /Info %d 0 R >>\n" % (len(bodies) + 1, len(bodies))
    document += b"startxref\n%d\n%%%%EOF\n" % table
    return bytes(document)


def _paginate(lines: list[Line]) -> list[bytes]:
    """The content streams of the pages."""
    pages: list[list[bytes]] = [[]]
    height = _HEIGHT - _MARGIN
    for line in lines:
        height -= int(line.size * _LEADING)
        if height < _MARGIN:
            pages.append([])
            height = _HEIGHT - _MARGIN - int(line.size * _LEADING)
        font = b"F2" if line.bold else b"F1"
        position = b"%d %d" % (_MARGIN + line.indent, height)
        pages[-1].append(b"BT /%s %d Tf %s Td %s Tj ET" % (font, line.size, position, _string(line.text)))
    return [b"\n".join(page) for page in pages]


def _string(text: str) -> bytes:
    """A text as a PDF string; line breaks and other control characters become spaces."""
    plain = "".join(item if item.isprintable() else " " for item in text)
    raw = plain.encode("cp1252", "replace")
    return b"(" + raw.replace(b"\\", rb"\\").replace(b"(", rb"\(").replace(b")", rb"\)") + b")"
