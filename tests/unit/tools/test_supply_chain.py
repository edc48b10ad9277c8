"""What the worker is installed with: licences, known vulnerabilities, the bill of materials."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from tools import audit, licenses, sbom
from tools.environments import ROOT
from tools.licenses import Package

WORKFLOWS = ROOT / ".github" / "workflows"


def test_the_page_of_licences_is_up_to_date() -> None:
    """`python -m tools.licenses` writes it."""
    assert licenses.page(licenses.packages()) == licenses.PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("package", licenses.packages(), ids=lambda package: package.name)
def test_every_licence_is_allowed(package: Package) -> None:
    """Each locked package declares a licence that is on the list."""
    assert package.is_allowed


@pytest.mark.parametrize(
    ("license_", "allowed"),
    [("MIT", True), ("GPL-3.0-only", False), ("MIT AND GPL-3.0-only", False), ("MIT OR GPL-3.0-only", True),
     ("(MIT OR GPL-2.0) AND Apache-2.0", True), ("", False), ("LGPL-3.0-only", False)],
)  # fmt: skip
def test_what_is_allowed(license_: str, allowed: bool) -> None:
    """All licences that hold together, one of those that may be chosen; an unknown one is not allowed."""
    assert Package("some", "1", license_).is_allowed is allowed


def report(*packages: dict[str, Any]) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


CLEAN = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
SKIPPED = {"name": "c", "skip_reason": "Dependency not found on PyPI and could not be audited: c (1)"}


@pytest.mark.parametrize(
    ("text", "error", "code", "required", "words"),
    [
        (report(CLEAN), "", 0, 0, "x.lock: 1 packages audited, 0 vulnerabilities"),
        (report(CLEAN, BAD), "", 1, 1, "x.lock: b 2: PYSEC-1, fixed in 3"),
        (report(SKIPPED), "", 0, 2, "x.lock: NOT audited, since the source does not know them: c"),
        (report(CLEAN, SKIPPED), "", 0, 2, "x.lock: NOT audited, since the source does not know them: c"),
        (report(), "", 0, 2, "x.lock: 0 packages audited, 0 vulnerabilities"),
        (
            "",
            "Traceback\nConnectionError: no route\n",
            0,
            2,
            "x.lock: NOT audited: ConnectionError: no route",
        ),
        ("", "", 0, 2, "x.lock: NOT audited: pip-audit has written no report"),
    ],
)
def test_an_audit_without_an_answer_is_none(
    text: str, error: str, code: int, required: int, words: str
) -> None:
    """pip-audit ends with success when its source knows no package; here it says so, and fails where required."""
    result = audit.parse(text, error)
    assert words in result.words("x.lock")
    assert audit.exit_code([result], required=False) == code
    assert audit.exit_code([result], required=True) == required


def test_the_bill_has_the_hashes_of_the_lock() -> None:
    """And no tool of the environment in which it was made."""
    hashes = sbom.locked_hashes((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    assert set(hashes) == {package.name for package in licenses.packages()}
    assert all(hashes.values())
    bill = {
        "components": [{"bom-ref": "p", "name": "pip"}, {"bom-ref": "y", "name": "PyYAML"}],
        "dependencies": [{"ref": "p"}, {"ref": "y"}],
    }
    made = sbom.with_hashes(bill, hashes)
    (component,) = made["components"]
    assert [item["value"] for item in component["properties"]] == hashes["pyyaml"]
    assert made["dependencies"] == [{"ref": "y"}]


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.yml")), ids=lambda path: path.name)
def test_workflows_run_nothing_of_others(path: Any) -> None:
    """No action of a third party is used, so none has to be pinned; rights are given one by one, and targets exist."""
    text = path.read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert all("uses" not in step for step in steps)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", text)) <= targets


def test_the_release_builds_on_a_digest() -> None:
    """Each stage of the image begins with a base that the release resolves to a digest, which it keeps."""
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE) == ["python:${BUILD}", "python:${PYTHON}"]
    names = re.findall(r"^ARG (\w+)=\S+$", dockerfile, re.MULTILINE)
    assert sorted(names) == ["BUILD", "PYTHON"]
    release = (WORKFLOWS / "release.yml").read_text(encoding="utf-8")
    assert {f"$(pinned {name})" in release for name in names} == {True}
    assert '--build-arg "BUILD=$build" --build-arg "PYTHON=$base"' in release
    assert "dist/base-image.txt" in release
