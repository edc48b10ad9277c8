"""The tables of tools: each row names the version that the tests run, and a test that runs it."""

from __future__ import annotations

import re

from tests.support import generators
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "consume" / "tools.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| tool ")
]


def test_versions_are_those_that_run() -> None:
    """Each version of the table is the one that is installed for the tests, and every tool of the tests is in it."""
    said = {
        (name.strip(), version.strip())
        for tools, versions, *_ in ROWS
        for name, version in zip(tools.split(", "), versions.split(", "), strict=False)
    }
    npm = generators.NPM | generators.NPM_LARGE
    npm.pop("@types/node")  # no tool, only its types
    for name, version in [*npm.items(), *generators.PYPI.items()]:
        assert {(name, version), (f"{name} (npm)", version), (f"{name} (PyPI)", version)} & said, name


def test_each_row_names_a_test() -> None:
    """The result of a row is what a test of that name asserts."""
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    defined = {name for text in sources for name in re.findall(r"def (test_\w+)\(", text)}
    for *_, tests in ROWS:
        names = re.findall(r"`(test_\w+)`", tests)
        assert names, tests
        assert set(names) <= defined
