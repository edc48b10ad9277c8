"""The pages of the documentation, as the tests read them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.support.paths import ROOT

PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "deploy" / "README.md")
)
"""Every page, generated ones as well, by its path."""
NOTICE = "<!-- Written by `make docs`"
WRITTEN = [page for page in PAGES if NOTICE not in (ROOT / page).read_text(encoding="utf-8")]
"""The pages that people write."""
_BLOCK = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page."""

    page: str
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """A command in a console block, as it is typed: continued lines are joined, the prompt and comments left out."""

    page: str
    text: str


def read(page: str) -> str:
    """Return the text of a page."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, *languages: str) -> list[Block]:
    """Return the fenced blocks of a page in these languages, in all if none is given."""
    found = []
    for indent, language, text in _BLOCK.findall(read(page)):
        if not languages or language in languages:
            lines = [line.removeprefix(indent) for line in text.splitlines()]
            found.append(Block(page, language, "\n".join(lines) + "\n"))
    return found


def block(page: str, language: str, beginning: str = "") -> str:
    """Return the text of the one block of a page in a language that begins like this."""
    (found,) = [each for each in blocks(page, language) if each.text.startswith(beginning)]
    return found.text


def commands() -> Iterator[Line]:
    """Yield every command in a console block of a page that people write."""
    for page in WRITTEN:
        for each in blocks(page, "console"):
            text = each.text.replace("\\\n", " ")
            for line in text.splitlines():
                if line.startswith(("$ ", "# ")):
                    yield Line(page, re.sub(r"\s+# .*$", "", line[2:]).strip())


def prose(page: str) -> str:
    """Return a page without its fenced blocks."""
    return _BLOCK.sub("", read(page))


def codes(page: str) -> list[str]:
    """Return the code within the prose of a page."""
    return _CODE.findall(prose(page))
