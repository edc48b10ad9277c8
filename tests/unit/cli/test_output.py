"""What the commands print: by one module, which lets no value of others have an effect on a terminal."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from tests.support.hostile import ALL, FAKED, problems
from worker.cli.common import output

WORKER = Path(output.__file__).parents[2]
OWN = {"worker/cli/common/output.py"}
"""The only module that writes to the standard streams."""
ELSEWHERE = ("worker/sandbox/", "worker/contracts/")
"""Programs of their own: a server for tests, and the generators of files."""
PASSED_ON = {"worker/cli/consume/process.py"}
"""Passes on the bytes that the COMMAND of the user writes to its stderr."""
_CLICK = {"echo", "secho", "style", "confirm", "prompt", "echo_via_pager", "pause", "getchar"}


def _prints(tree: ast.AST) -> list[int]:
    """Return the lines of a module that print: by print, click, a console, or the standard streams."""
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="print" | "input")):
                found.append(node.lineno)
            case ast.Attribute(value=ast.Name(id="click"), attr=name) if name in _CLICK:
                found.append(node.lineno)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="console" | "live"), attr="print" | "log")):
                found.append(node.lineno)
            case ast.Call(
                func=ast.Attribute(
                    value=ast.Attribute(value=ast.Name(id="sys"), attr="stdout" | "stderr"),
                    attr="write" | "writelines" | "buffer",
                )
            ):
                found.append(node.lineno)
            case ast.Attribute(
                value=ast.Attribute(value=ast.Name(id="sys"), attr="stdout" | "stderr"), attr="buffer"
            ):
                found.append(node.lineno)
            case _:
                pass
    return found


def test_only_one_module_prints() -> None:
    """Whatever a command shows has gone through it."""
    printing = set()
    for folder in (WORKER, WORKER.parent / "jobs"):
        for file in folder.rglob("*.py"):
            name = str(file.relative_to(WORKER.parent))
            if not name.startswith(ELSEWHERE) and _prints(ast.parse(file.read_text(encoding="utf-8"))):
                printing.add(name)
    assert printing <= OWN
    assert printing >= OWN, "the search finds nothing any more"


def test_verbatim_text_is_of_this_program() -> None:
    """`say_own` prints without a look at the text: a script of click, the table of operations, and schemas."""
    users = {
        file.name
        for file in (WORKER / "cli").rglob("*.py")
        if "say_own" in file.read_text(encoding="utf-8") and file.name != "output.py"
    }
    assert users == {"completion.py", "schema.py", "show.py"}


def test_a_value_has_no_effect(capsys: pytest.CaptureFixture[str]) -> None:
    """On one line, with every character that is not printable as an escape; JSON keeps its value."""
    output.say(f"id {ALL}", output.styled(ALL, "red"))
    output.say_lines([ALL, (ALL, output.styled(ALL, bold=True))])
    output.say_json({ALL: ALL})
    output.say_json_text(json.dumps({"a": "\u202e\x9b\x7f"}, ensure_ascii=False))
    shown = capsys.readouterr().out
    assert not problems(shown)
    assert len(shown.splitlines()) == 5
    assert json.loads(shown.splitlines()[3]) == {ALL: ALL}
    assert json.loads(shown.splitlines()[4]) == {"a": "\u202e\x9b\x7f"}


def test_an_error_fakes_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Further lines of an error are indented."""
    output.complain(f"ordersync: two\n  {FAKED}\n{ALL}")
    shown = capsys.readouterr().err
    assert not problems(shown)
    assert all(line.startswith("  ") for line in shown.splitlines()[1:])


def test_styles_are_the_only_sequences() -> None:
    """A style of our own is kept around a value, and those in the value are not."""
    assert output.rendered((output.styled("\x1b[1mx", "red"),)) == "\x1b[31m\\x1b[1mx\x1b[0m"
