"""Links of the pages that are read in the repository. Those within the site are checked by its strict build."""

from __future__ import annotations

import re

import pytest

from tests.support.documentation import PAGES, prose, read
from tests.support.paths import ROOT

_LINK = re.compile(r"\[[^\]\n]+\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)


def anchors(page: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    found: set[str] = set()
    for heading in _HEADING.findall(read(page)):
        text = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    """A relative link names a file of the repository, and a section of it where it has an anchor."""
    broken = []
    for target in _LINK.findall(prose(page)):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        path = ((ROOT / page).parent / name).resolve() if name else ROOT / page
        rendered = path.name == "commands.md"  # its sections are rendered with the site
        if not path.exists() or (
            anchor and not rendered and anchor not in anchors(path.relative_to(ROOT).as_posix())
        ):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/")])
def test_no_page_of_the_site_leaves_it(page: str) -> None:
    """A link out of `docs` would be broken in the site: other files are named as code."""
    outside = [
        target
        for target in _LINK.findall(prose(page))
        if not target.startswith(("http", "#"))
        and not ((ROOT / page).parent / target).resolve().is_relative_to(ROOT / "docs")
    ]
    assert outside == []
