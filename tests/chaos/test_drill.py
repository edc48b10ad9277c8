"""What the drill expects exists, and a surface that is late, or silent without a reason, fails it."""

from __future__ import annotations

import re
import sys

import pytest
import yaml

from tests.chaos.drill import __main__ as program
from tests.chaos.drill.failures import FAILURES
from tests.chaos.drill.watching import Seen
from tests.support.documentation import read
from tests.support.prometheus import RULES


def test_the_alerts_and_causes_exist() -> None:
    """Each failure has an alert of the rules, or the reason why it has none; each cause has a section."""
    (group,) = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    known = {rule["alert"] for rule in group["rules"]}
    sections = set(re.findall(r"^### (\S+)$", read("docs/operate/runbook.md"), re.MULTILINE))
    assert len(FAILURES) == 12
    for failure in FAILURES:
        named = set(re.findall(r"Ordersync\w+", failure.alert))
        assert named <= known
        assert named or "alert" in failure.silent
        assert set(re.findall(r"#(\w+)", failure.alert)) <= sections


@pytest.mark.parametrize(
    ("seconds", "silent", "code"), [(59.0, "", 0), (61.0, "", 1), (None, "", 1), (None, "it is frozen", 0)]
)
def test_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, seconds: float | None, silent: str, code: int
) -> None:
    """0 if every surface was in time, or has a reason to be silent."""
    seen = Seen("Redis full", "log", seconds, 60.0, "words", silent=silent)
    monkeypatch.setattr(program, "_apart", lambda _: [seen])
    monkeypatch.setattr(sys, "argv", ["drill", "--only", "Redis full"])
    assert program.main() == code
