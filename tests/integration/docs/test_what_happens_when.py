"""Each row of the page names tests that exist, and log events, error codes and words that the program knows."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.support.documentation import read
from tests.support.paths import ROOT
from worker import errors
from worker.capture.health import Health
from worker.capture.records.actions import Action
from worker.capture.state.run import Outcome
from worker.telemetry.catalog import EVENTS, FIELDS

PAGE = "docs/operate/what-happens-when.md"
HEAD = ["fault", "seen", "what the worker does", "lost", "how long", "test"]
_WORD = re.compile(r"`([a-z_]+)`")
_TEST = re.compile(r"`((?:chaos|integration|unit)/[\w/]+\.py)::(\w+)`")


def rows() -> list[list[str]]:
    """Return the cells of each row of each table."""
    found = []
    for line in read(PAGE).splitlines():
        if line.startswith("| "):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if cells != HEAD:
                found.append(cells)
    return found


@cache
def defined_in(path: str) -> frozenset[str]:
    """Return the names of the tests in a module, methods of classes as well."""
    tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, functions))


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_each_row_names_a_test(row: list[str]) -> None:
    assert len(row) == len(HEAD), row
    assert all(row), row
    named = _TEST.findall(row[-1])
    assert named, row
    for path, name in named:
        assert name.startswith("test_")
        assert name in defined_in(path), f"tests/{path} has no {name}"


def codes() -> set[str]:
    """Return the codes of all errors."""
    return {each.code for each in vars(errors).values() if isinstance(each, type) and hasattr(each, "code")}


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_what_is_seen_exists(row: list[str]) -> None:
    """A word in code is a log event, a field of one, an error code, an outcome of a run or a health word."""
    known = {*EVENTS, *FIELDS, *codes(), *Outcome, *Health, *Action}
    assert set(_WORD.findall(row[HEAD.index("seen")])) - known == set()


def test_every_table_has_the_same_columns() -> None:
    heads = [line for line in read(PAGE).splitlines() if line.startswith("| fault")]
    assert heads == ["| " + " | ".join(HEAD) + " |"] * len(heads)
    assert read(PAGE).count("\n## ") == len(heads)


def test_no_fault_is_described_twice() -> None:
    faults = [row[0] for row in rows()]
    assert len(faults) == len(set(faults))
