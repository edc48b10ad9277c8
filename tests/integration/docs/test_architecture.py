"""The page on the architecture says of imports what import-linter checks, and cited facts exist."""

from __future__ import annotations

import re
import tomllib

from tests.support.documentation import blocks, read
from tests.support.paths import ROOT

_CITED = re.compile(r"docs/reference/api-facts\.md,\s+(?:#\s+)?([\d.]+\d|\d)")


def test_the_layers_are_those_of_import_linter() -> None:
    """Each contract of layers is in the page, with the same packages in the same order."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (block,) = [each for each in blocks("docs/architecture.md") if "->" in each.text]
    chains = block.text.replace("\n    ->", " ->").splitlines()
    shown = [re.findall(r"\w+", chain.partition(":")[2] or chain) for chain in chains if "->" in chain]
    layers = [
        [name.strip().rpartition(".")[2] for layer in contract["layers"] for name in layer.split("|")]
        for contract in contracts
        if contract["type"] == "layers"
    ]
    assert [sorted(names) for names in shown] == [sorted(names) for names in layers]
    assert [names[0] for names in shown] == [names[0] for names in layers]
    assert [names[-1] for names in shown] == [names[-1] for names in layers]


def test_cited_facts_exist() -> None:
    """A comment that cites a section of the page on the API names one that is there, and some do."""
    sections = set(re.findall(r"^#+ ([\d.]*\d)\.? ", read("docs/reference/api-facts.md"), re.MULTILINE))
    cited = {
        number
        for folder in ("consumer", "worker", "jobs", "tests")
        for path in (ROOT / folder).rglob("*.py")
        for number in _CITED.findall(path.read_text(encoding="utf-8"))
    }
    assert {"1.4", "3.3", "6.1", "7"} <= cited <= sections
