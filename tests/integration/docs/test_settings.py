"""Settings and paths in the documentation exist, and the values of its examples are accepted."""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from tests.support.documentation import PAGES, WRITTEN, block, codes, commands, prose, read
from tests.support.paths import ROOT
from worker.config import settings
from worker.config.resources import PRESETS
from worker.sandbox import parse_faults

NAMES = set(settings.variable_names())
_NAME = re.compile(r"\bORDERSYNC_[A-Z0-9_]+")
_SHORT = re.compile(r"`(ORDERSYNC_[A-Z0-9]+)__[A-Z0-9_]+`((?:(?:, |,\n *| and |,\n *and )`__[A-Z0-9_]+`)+)")
_PATH = re.compile(r"(?:\.ci|capture|deploy|docs|jobs|tests|tools|worker)/[\w./-]*[\w-]/?")
MADE = {"deploy/secrets", "deploy/settings.env"}
"""Files that their user writes, or that `deploy/make-secrets` makes."""


@pytest.mark.parametrize("page", PAGES)
def test_every_setting_exists(page: str) -> None:
    """Also those that are shortened: `ORDERSYNC_RECONCILE__EVERY`, `__SHARE`."""
    text = read(page)
    shortened = {
        f"{section}{name}"
        for section, names in _SHORT.findall(text)
        for name in re.findall(r"__[A-Z0-9_]+", names)
    }
    named = {name for name in _NAME.findall(text) if not name.endswith("_")}
    assert (named | shortened) - NAMES - {"ORDERSYNC_COMPLETE"} == set()


def examples() -> list[tuple[str, str, str]]:
    """Return each value that a page gives to a setting."""
    found = [
        (line.page, *shlex.split(line.text)[-1].partition("=")[::2])
        for line in commands()
        if "export" in line.text
    ]
    for page in WRITTEN:
        for code in codes(page):
            name, equals, value = code.partition("=")
            if equals and name in NAMES:
                found.append((page, name, value.strip("'")))
    return [
        (page, name, value) for page, name, value in found if not value.endswith("...") and value != "value"
    ]


@pytest.mark.parametrize(("page", "name", "value"), examples())
def test_every_value_is_accepted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, page: str, name: str, value: str
) -> None:
    """An example of a setting can be copied."""
    for each in [each for each in os.environ if each.startswith("ORDERSYNC_")]:
        monkeypatch.delenv(each)
    monkeypatch.chdir(tmp_path)
    if name.startswith("ORDERSYNC_PRIVACY__"):
        monkeypatch.setenv("ORDERSYNC_PRIVACY__KEY", "tU3kQ9vXz7LmN2pRs8Wy4BfGh6JcD1eA")
    monkeypatch.setenv(name, value)
    settings.load()


@pytest.mark.parametrize("page", WRITTEN)
def test_every_path_exists(page: str) -> None:
    """A file or folder of the repository that a page names is there."""
    named = {found for code in codes(page) for found in _PATH.findall(code) if code.startswith(found)}
    missing = {name for name in named if not (ROOT / name).exists() and not (ROOT / "worker" / name).exists()}
    assert {name for name in missing if not name.startswith(tuple(MADE))} == set()


def test_the_accounts_of_the_guide(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The example of an accounts file gives two accounts, with what its text says."""
    text = block("docs/guide/accounts.md", "toml").replace("/run/secrets/", "")
    (tmp_path / "accounts.toml").write_text(text)
    for name in ("acme", "globex"):
        (tmp_path / name).write_text("secret")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORDERSYNC_ACCOUNTS_FILE", "accounts.toml")
    acme, globex = settings.load().accounts()
    assert (acme.name, acme.contract_file, dict(acme.intervals)) == ("acme", None, PRESETS["standard"])
    assert (globex.contract_file, dict(globex.intervals)) == (Path("globex.toml"), {"orders": 60})
    assert globex.api.requests_per_second == 5


def test_the_fault_rule_of_the_reference() -> None:
    """The example of a fault file is one."""
    (rule,) = parse_faults(tomllib.loads(block("docs/reference/sandbox.md", "toml")))
    assert (rule.name, rule.times, rule.code) == ("busy", 2, 429)


def test_prose_and_code_are_told_apart() -> None:
    """What is in a fenced block is not prose."""
    assert "make run" in read("README.md")
    assert "$ make run" not in prose("README.md")
