"""The site builds strictly, and its pages need nothing from the network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

EXTERNAL = re.compile(r'<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)="((?:https?:)?//[^"]+)"')
COMMANDS = ("ordersync run", "ordersync contract probe", "ordersync dead replay", "ordersync resyncs cancel")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make site` does. Strict: a bad link, a bad anchor or a page outside the navigation fails."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return folder


def test_every_page_is_built(site: Path) -> None:
    """Each page of `docs` has its HTML, and the index of the search is there."""
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert pages <= {path.relative_to(site) for path in site.rglob("*.html")}
    assert (site / "search" / "search_index.json").is_file()


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    """No fonts, scripts, styles or pictures of another host: the site works without a network."""
    loaded = {found for page in site.rglob("*.html") for found in EXTERNAL.findall(page.read_text("utf-8"))}
    assert loaded == set()


def test_every_command_has_its_section(site: Path) -> None:
    """The page of commands is rendered from the commands themselves, with the names that are typed."""
    page = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f'id="{name.replace(" ", "-")}"' not in page] == []
    assert "Sentinel." not in page  # which mkdocs-click prints in its tables where click has no default
